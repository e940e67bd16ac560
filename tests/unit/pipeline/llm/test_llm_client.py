import asyncio
import gzip
import json
import logging

import httpx2
import psutil
import pytest

from pytest_tradeperf.pipeline import virtual_time
from pytest_tradeperf.pipeline.llm.client import OpenAiModel
from pytest_tradeperf.pipeline.llm.errors import (
    MalformedError,
    RateLimitedError,
    RefusedError,
    TimeoutExceededError,
    UnreachableError,
)
from pytest_tradeperf.pipeline.llm.messages import Draft

KEY = "sk-secret-0123456789"
EVENTS = "Content-Type: text/event-stream\r\nConnection: close"


def model_at(endpoint, **more):
    settings = {"base_url": endpoint.base_url, "model": "tiny", "timeout": 5.0, "trust_env": False, **more}
    return OpenAiModel(**settings)


def complete(http, replies, request, **settings):
    """Return (answer or error, endpoint) of one request against scripted replies."""

    async def main():
        async with http.serve(*replies) as endpoint, model_at(endpoint, **settings) as model:
            try:
                return await model.complete(request), endpoint
            except Exception as error:  # noqa: BLE001 - the tests look at whatever came
                return error, endpoint

    return asyncio.run(main())


def events(*chunks, done=True):
    lines = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks]
    return b"".join(lines) + (b"data: [DONE]\n\n" if done else b"")


def delta(text):
    return {"choices": [{"delta": {"content": text}}]}


def test_an_answer_in_one_piece_with_its_usage(http, ask):
    got, endpoint = complete(http, [http.ok("hello", prompt=12, completion=3)], ask("question", label="x"))
    assert (got.text, got.usage.total_tokens, got.usage.is_reported) == ("hello", 15, True)
    assert got.first_token_seconds is None
    assert endpoint.seen[0]["model"] == "tiny"
    assert endpoint.seen[0]["messages"] == [{"role": "user", "content": "question"}]
    assert "label" not in endpoint.seen[0]


def test_a_schema_travels_as_the_protocol_says(http, ask):
    schema = {"type": "object"}
    _, endpoint = complete(http, [http.ok()], ask(schema=schema, schema_name="vote"))
    assert endpoint.seen[0]["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "vote", "strict": True, "schema": schema},
    }


def test_a_stream_gives_the_text_the_usage_and_the_time_to_first_token(http, ask):
    async def reply(writer):
        writer.write(f"HTTP/1.1 200 OK\r\n{EVENTS}\r\n\r\n".encode())
        writer.write(b": a comment\n\n" + events({"choices": []}, delta(""), done=False))
        await writer.drain()
        await asyncio.sleep(0.05)
        rest = events(
            delta("he"), delta("llo"), {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}
        )
        for place in range(0, len(rest), 7):  # chunks cut anywhere
            writer.write(rest[place : place + 7])
            await writer.drain()
        writer.close()

    got, endpoint = complete(http, [reply], ask())
    assert endpoint.seen[0]["stream"] is True
    assert (got.text, got.usage.prompt_tokens, got.usage.completion_tokens) == ("hello", 9, 2)
    assert 0.04 < got.first_token_seconds <= got.wall_seconds


def test_usage_nobody_told_is_estimated_and_marked(http, ask):
    body = json.dumps({"choices": [{"message": {"content": "hello you"}}]}).encode()
    got, _ = complete(http, [http.answer(body)], ask())
    assert not got.usage.is_reported
    assert got.usage.completion_tokens == 2


def test_a_rate_limit_is_retried_after_the_told_wait(http, ask):
    busy = http.answer(b"{}", status="429 Too Many Requests", headers="Retry-After: 0.05")
    got, endpoint = complete(http, [busy, http.ok("then")], ask())
    assert (got.text, len(endpoint.seen)) == ("then", 2)


def test_a_rate_limit_that_stays_is_one_error_after_the_attempts(http, ask):
    busy = http.answer(b"slow down", status="429 Too Many Requests", headers="Retry-After: 0")
    got, endpoint = complete(http, [busy], ask(), attempts=2)
    assert isinstance(got, RateLimitedError)
    assert "429: slow down" in str(got)
    assert len(endpoint.seen) == 2


@pytest.mark.parametrize(
    ("wait", "least", "most"),
    [
        ("nan", 0.1, 2),
        ("-5", 0.1, 2),
        ("soon", 0.1, 2),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.1, 2),
        ("0", 0, 0),
        ("3.5", 3.5, 3.5),
    ],
)
def test_a_wait_that_is_no_number_of_seconds_is_the_usual_pause(http, ask, wait, least, most):
    answers = [
        httpx2.Response(503, headers={"Retry-After": wait}, stream=httpx2.ByteStream(b"")),
        httpx2.Response(200, stream=httpx2.ByteStream(http.body("then"))),
    ]

    class Busy(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request):
            return answers.pop(0)

    async def main():
        async with OpenAiModel(base_url="http://x/v1", model="tiny", transport=Busy()) as model:
            return await model.complete(ask()), asyncio.get_running_loop().time()

    got, seconds = virtual_time.run(main())
    assert got.text == "then"
    assert least <= seconds <= most


def test_a_wait_longer_than_the_timeout_is_not_waited_for(http, ask):
    busy = http.answer(b"", status="429 Too Many Requests", headers="Retry-After: 600")
    got, endpoint = complete(http, [busy], ask())
    assert isinstance(got, RateLimitedError)
    assert len(endpoint.seen) == 1


@pytest.mark.parametrize("status", ["400 Bad Request", "401 Unauthorized", "404 Not Found"])
def test_a_refusal_is_not_repeated(http, ask, status):
    got, endpoint = complete(http, [http.answer(b'{"error": "no"}', status=status)], ask())
    assert isinstance(got, RefusedError)
    assert status[:3] in str(got)
    assert len(endpoint.seen) == 1


def test_a_wrong_key_is_in_no_message_repr_or_log(http, ask, caplog):
    caplog.set_level(logging.DEBUG)
    echo = http.answer(f"Incorrect API key provided: {KEY}".encode(), status="401 Unauthorized")
    got, endpoint = complete(http, [echo], ask(), api_key=KEY)
    assert f"Bearer {KEY}" in endpoint.heads[0]
    assert "provided: ***" in str(got)
    assert KEY not in str(got) + repr(got) + caplog.text
    model = OpenAiModel(base_url="http://127.0.0.1:1/v1", model="m", api_key=KEY)
    assert KEY not in repr(model)
    asyncio.run(model.aclose())


@pytest.mark.parametrize(
    "body", [f'{{"{KEY}"', json.dumps({"choices": [{KEY: 1}], "usage": {"prompt_tokens": KEY}})]
)
def test_a_key_echoed_in_a_malformed_answer_is_hidden(http, ask, body):
    got, _ = complete(http, [http.answer(body.encode())], ask(), api_key=KEY)
    assert isinstance(got, MalformedError)
    assert KEY not in str(got) + repr(got)


def test_a_key_echoed_in_the_answer_is_hidden_from_tapes_too(http, ask):
    got, _ = complete(http, [http.ok(f"your key is {KEY}")], ask(), api_key=KEY)
    assert got.text == "your key is ***"


def test_a_redirect_is_refused_and_the_key_goes_nowhere(http, ask):
    async def main():
        async with http.serve(http.ok()) as other:
            moved = http.answer(b"", status="307 Temporary Redirect", headers=f"Location: {other.base_url}/x")
            async with http.serve(moved) as endpoint, model_at(endpoint, api_key=KEY) as model:
                with pytest.raises(RefusedError, match="redirects are never followed"):
                    await model.complete(ask())
            return other.seen

    assert asyncio.run(main()) == []


def test_a_hang_ends_at_the_timeout(http, ask):
    async def hang(writer):
        await asyncio.sleep(60)

    got, endpoint = complete(http, [hang], ask(), timeout=0.2)
    assert isinstance(got, TimeoutExceededError)
    assert "within 0.2 s" in str(got)
    assert len(endpoint.seen) == 1


@pytest.mark.parametrize("is_streaming", [True, False])
def test_a_slow_drip_ends_at_the_timeout_although_bytes_keep_coming(http, ask, is_streaming):
    async def drip(writer):
        kind = "text/event-stream" if is_streaming else "application/json"
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: 99999\r\n\r\n".encode())
        for _ in range(500):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    got, _ = complete(http, [drip], ask(), timeout=0.3, is_streaming=is_streaming)
    assert isinstance(got, TimeoutExceededError)


def test_a_broken_connection_is_tried_again(http, ask):
    async def reset(writer):
        writer.transport.abort()

    got, endpoint = complete(http, [reset, http.ok("second")], ask())
    assert (got.text, len(endpoint.seen)) == ("second", 2)


def test_a_truncated_stream_is_no_answer(http, ask):
    cut = f"HTTP/1.1 200 OK\r\n{EVENTS}\r\n\r\n".encode() + events(delta("half"), done=False)

    async def reply(writer):
        writer.write(cut)
        await writer.drain()
        writer.close()

    got, _ = complete(http, [reply], ask(), attempts=1)
    assert isinstance(got, UnreachableError)
    assert "before it was complete" in str(got)
    assert got.was_sent


def test_nobody_listening_is_unreachable(ask):
    async def main():
        async with OpenAiModel(
            base_url="http://127.0.0.1:1/v1", model="m", attempts=1, trust_env=False
        ) as model:
            await model.complete(ask())

    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1") as caught:
        asyncio.run(main())
    assert not caught.value.was_sent


@pytest.mark.parametrize(
    ("failures", "kind", "was_sent"),
    [
        ([httpx2.ConnectError], UnreachableError, False),
        ([httpx2.ProxyError], UnreachableError, False),
        ([httpx2.ConnectTimeout], TimeoutExceededError, False),
        ([httpx2.ReadTimeout], TimeoutExceededError, True),
        ([httpx2.ReadError], UnreachableError, True),
        ([httpx2.ReadError, httpx2.ConnectError], UnreachableError, True),
        ([httpx2.ReadError, httpx2.ConnectTimeout], TimeoutExceededError, True),
        ([httpx2.ReadError, None], RateLimitedError, True),
        ([None], RateLimitedError, False),
    ],
)
def test_what_no_attempt_could_send_was_not_sent(ask, failures, kind, was_sent):
    left = list(failures)

    class Failing(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request):
            failure = left.pop(0)
            if failure is None:
                return httpx2.Response(429, stream=httpx2.ByteStream(b""))
            raise failure("no luck")

    async def main():
        async with OpenAiModel(
            base_url="http://x/v1", model="tiny", transport=Failing(), attempts=len(failures)
        ) as model:
            await model.complete(ask())

    with pytest.raises(kind) as caught:
        virtual_time.run(main())
    assert caught.value.was_sent is was_sent


@pytest.mark.parametrize("base_url", ["bob:s3cret@host/v1", "ftp://bob:s3cret@host", "host?key=s3cret"])
def test_an_address_that_cannot_be_used_is_named_without_its_password(base_url):
    with pytest.raises(ValueError, match="base_url must be like") as caught:
        OpenAiModel(base_url=base_url, model="m")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("is_streaming", [True, False])
def test_a_hundred_megabytes_are_cut_off(http, ask, is_streaming):
    sent = 0

    async def flood(writer):
        nonlocal sent
        kind = "text/event-stream" if is_streaming else "application/json"
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: 100000000\r\n\r\n".encode())
        block = b"x" * 100_000
        while sent < 100_000_000:
            writer.write(block)
            sent += len(block)
            await writer.drain()

    got, _ = complete(http, [flood], ask(), max_answer_bytes=1_000_000, is_streaming=is_streaming)
    assert isinstance(got, MalformedError)
    assert "more than 1,000,000 bytes" in str(got)
    assert sent < 20_000_000


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>please log in</html>",
        b"[1]",
        b"null",
        b'{"choices": []}',
        b'{"choices": [{}]}',
        b'{"choices": {"a": 1}}',
        b'{"choices": [{"message": {"content": {"a": 1}}}]}',
        b'{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": -5}}',
        b'{"choices": [{"message": {"content": "x"}}], "usage": 7}',
        b'{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": 1e400}}',
        b'{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": ' + b"9" * 5000 + b"}}",
        b'{"a":' * 100_000,
        b"\xff\xfe\x00",
    ],
)
def test_what_is_not_a_chat_completion_is_malformed(http, ask, body):
    got, _ = complete(http, [http.answer(body)], ask())
    assert isinstance(got, MalformedError)


def test_a_compressed_body_is_refused_unread(http, ask):
    bomb = gzip.compress(b" " * 10_000_000)
    reply = http.answer(bomb, headers="Content-Type: application/json\r\nContent-Encoding: gzip")
    got, endpoint = complete(http, [reply], ask())
    assert isinstance(got, MalformedError)
    assert "gzip" in str(got)
    assert "accept-encoding: identity" in endpoint.heads[0].lower()


def test_lone_surrogates_do_not_travel_on(http, ask):
    body = b'{"choices": [{"message": {"content": "a\\ud800b"}}]}'
    got, _ = complete(http, [http.answer(body)], ask())
    assert got.text == "a?b"
    again, _ = complete(http, [http.ok("fine")], ask("\ud800"))
    assert again.text == "fine"


def test_proxies_of_the_environment_are_used_when_trusted(http, ask, monkeypatch):
    async def main():
        async with http.serve(http.ok("through the proxy")) as proxy:
            monkeypatch.setenv("HTTP_PROXY", proxy.base_url.removesuffix("/v1"))
            monkeypatch.delenv("NO_PROXY", raising=False)
            monkeypatch.delenv("no_proxy", raising=False)
            async with OpenAiModel(base_url="http://model.invalid/v1", model="m", timeout=5) as model:
                return (await model.complete(ask())).text, proxy.heads[0].splitlines()[0]

    text, line = asyncio.run(main())
    assert text == "through the proxy"
    assert line == "POST http://model.invalid/v1/chat/completions HTTP/1.1"


@pytest.mark.parametrize("base_url", ["", "localhost:11434", "ftp://x/v1", "http:///v1"])
def test_an_address_that_is_none_is_refused_at_once(base_url):
    with pytest.raises(ValueError, match="base_url must be like"):
        OpenAiModel(base_url=base_url, model="m")


@pytest.mark.parametrize(
    ("more", "message"),
    [({"timeout": 0}, "timeout"), ({"attempts": 0}, "attempts"), ({"api_key": "sk abc"}, "white space")],
)
def test_settings_that_cannot_work_are_refused(more, message):
    with pytest.raises(ValueError, match=message):
        OpenAiModel(base_url="http://127.0.0.1/v1", model="m", **more)


@pytest.mark.parametrize("after", [0.0, 0.001, 0.005, 0.02, 0.05, 0.1])
def test_cancelling_at_any_moment_leaves_no_task_and_no_connection(http, ask, after):
    async def slow(writer):
        writer.write(f"HTTP/1.1 200 OK\r\n{EVENTS}\r\n\r\n".encode() + events(delta("a"), done=False))
        await writer.drain()
        await asyncio.sleep(0.03)
        writer.write(events(delta("b"), done=False))
        await writer.drain()
        await asyncio.sleep(30)

    async def main():
        async with http.serve(slow) as endpoint:
            async with model_at(endpoint) as model:
                asking = asyncio.create_task(model.complete(ask()))
                await asyncio.sleep(after)
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
                names = {t.get_coro().__qualname__ for t in asyncio.all_tasks() - {asyncio.current_task()}}
            return asking.cancelled(), names - {"Endpoint.serve", "BaseSelectorEventLoop._accept_connection2"}

    open_files = psutil.Process().num_fds()
    assert asyncio.run(main()) == (True, set())
    assert psutil.Process().num_fds() == open_files


def test_a_draft_shows_what_has_come_of_each_attempt_without_the_key(http, ask):
    draft = Draft()

    async def broken(writer):
        writer.write(f"HTTP/1.1 200 OK\r\n{EVENTS}\r\n\r\n".encode() + events(delta("first"), done=False))
        await writer.drain()
        writer.transport.abort()

    async def slow(writer):
        writer.write(f"HTTP/1.1 200 OK\r\n{EVENTS}\r\n\r\n".encode())
        writer.write(events(delta(f"said {KEY[:5]}"), delta(KEY[5:]), done=False))
        await asyncio.sleep(60)

    error, _ = complete(http, [broken, slow], ask(draft=draft), timeout=0.8, api_key=KEY)
    assert isinstance(error, TimeoutExceededError)
    assert draft.text == "said ***"
