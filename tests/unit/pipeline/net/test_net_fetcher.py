from __future__ import annotations

import asyncio
import gzip
import logging
import sys
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from pytest_tradeperf.pipeline import virtual_time
from pytest_tradeperf.pipeline.net.body import parse_json
from pytest_tradeperf.pipeline.net.errors import (
    CircuitOpenError,
    DeadlineError,
    MalformedError,
    NetworkError,
    NotFoundError,
    RateLimitedError,
    RedirectRefusedError,
    RefusedError,
    ServerFailedError,
    SourceTimeoutError,
    TooLargeError,
    UnreachableError,
)
from pytest_tradeperf.pipeline.net.fetcher import Fetcher
from pytest_tradeperf.pipeline.net.gate import retry_after_s
from pytest_tradeperf.pipeline.net.policy import HostPolicy, RateRule, RetryPolicy
from pytest_tradeperf.pipeline.world.core import largest_window
from pytest_tradeperf.pipeline.world.server import World
from pytest_tradeperf.pipeline.world.settings import LatencyRange, WorldSettings, parse_faults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

POLICY = HostPolicy(
    name="unit",
    transit_s=0.0,
    attempt_timeout_s=1.0,
    deadline_s=5.0,
    retry=RetryPolicy(attempts=3, wait_initial_s=0.0, wait_max_s=0.0, wait_jitter_s=0.0),
)
ONCE = replace(POLICY, retry=RetryPolicy(attempts=1))
STREAM = "/api/2/streams/symbol/AAPL.json"


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def messages(body: bytes) -> list[Any]:
    found = parse_json(body)["messages"]
    assert isinstance(found, list)
    return found


@asynccontextmanager
async def world_and(
    policy: HostPolicy, faults: str = "", **options: Any
) -> AsyncIterator[tuple[World, Fetcher, str]]:
    now = options.pop("now", None)
    settings = WorldSettings(faults=parse_faults(faults), retry_after_s=0.0, drip_interval_s=0.3, **options)
    clock = {} if now is None else {"now": now}
    async with World(settings) as world, Fetcher(policy, trust_env=False, **clock) as fetcher:
        yield world, fetcher, world.url_of("stocktwits") + STREAM


@asynccontextmanager
async def raw_server(respond: Callable[[str], bytes]) -> AsyncIterator[tuple[str, list[str]]]:
    """Answer every connection's first request line with the bytes `respond` gives."""
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        seen.append(head.split("\r\n")[0])
        writer.write(respond(seen[-1]))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(head).encode() + body


@pytest.mark.asyncio
async def test_a_hundred_same_requests_make_one_upstream_call() -> None:
    async with world_and(POLICY, latency={"stocktwits": LatencyRange(low_s=0.05, high_s=0.05)}) as (
        world,
        fetcher,
        url,
    ):
        answers = await asyncio.gather(*(fetcher.get(url, messages) for _ in range(100)))
        again = await fetcher.get(url, messages)
        requests = len(world.entries("stocktwits"))
    assert requests == 1
    assert len({id(one.value) for one in answers}) == 1
    assert (again.from_cache, again.value) == (True, answers[0].value)
    statistics = fetcher.statistics
    assert (statistics.requests, statistics.joined, statistics.cache_hits) == (101, 99, 1)
    assert statistics.upstream == 1


@pytest.mark.asyncio
async def test_an_unchanged_body_is_read_once_however_it_is_served() -> None:
    read = 0

    def counted(body: bytes) -> list[Any]:
        nonlocal read
        read += 1
        return messages(body)

    async with world_and(replace(ONCE, fresh_s=0.5), now=lambda: datetime(2026, 3, 2, tzinfo=UTC)) as (
        world,
        fetcher,
        url,
    ):
        world.core.settings = replace(world.settings, now=datetime(2026, 3, 2, tzinfo=UTC))
        first = await fetcher.get(url, counted)
        revalidated = await fetcher.get(url, counted)
        world.core.faults = parse_faults("stocktwits=500")
        stale = await fetcher.get(url, counted)
        other = await fetcher.get(url, len)
    assert read == 1
    assert first.value is revalidated.value is stale.value
    assert isinstance(other.value, int)


@pytest.mark.asyncio
async def test_a_copy_past_its_freshness_is_revalidated_without_a_body() -> None:
    now = datetime(2026, 3, 2, tzinfo=UTC)
    async with world_and(replace(POLICY, fresh_s=0.5)) as (world, fetcher, url):
        world.core.settings = replace(world.settings, now=now)
        first = await fetcher.get(url, messages)
        second = await fetcher.get(url, messages)
        statuses = [entry.status for entry in world.entries("stocktwits")]
    assert statuses == [200, 304]
    assert second.value == first.value
    assert (second.from_cache, second.age_s, fetcher.statistics.revalidated) == (True, 0.0, 1)


@pytest.mark.parametrize("faults", ["500@1,429@2", "reset@1,html@2", "truncated@1,schema@2"])
@pytest.mark.asyncio
async def test_passing_faults_are_retried(faults: str) -> None:
    async with world_and(POLICY, f"stocktwits={faults}") as (world, fetcher, url):
        assert (await fetcher.get(url, messages)).value
        assert len(world.entries("stocktwits")) == 3
    assert (fetcher.statistics.retries, fetcher.statistics.errors) == (2, {})


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("429", RateLimitedError),
        ("500", ServerFailedError),
        ("reset", UnreachableError),
        ("truncated", UnreachableError),
        ("html", MalformedError),
        ("schema", MalformedError),
        ("empty", MalformedError),
        ("deep", MalformedError),
        ("redirect", RedirectRefusedError),
        ("huge", TooLargeError),
    ],
)
@pytest.mark.asyncio
async def test_every_fault_has_its_place_in_the_taxonomy(fault: str, error: type[NetworkError]) -> None:
    async with world_and(ONCE, f"stocktwits={fault}") as (_, fetcher, url):
        with pytest.raises(error) as caught:
            await fetcher.get(url, messages)
    assert type(caught.value) is error
    assert "stocktwits" in str(caught.value)
    assert fetcher.statistics.errors == {error.kind: 1}


@pytest.mark.parametrize("fault", ["hang", "drip"])
@pytest.mark.asyncio
async def test_silence_and_dripping_end_at_the_attempt_s_time(fault: str) -> None:
    async with world_and(replace(ONCE, attempt_timeout_s=0.1), f"stocktwits={fault}") as (_, fetcher, url):
        with pytest.raises(SourceTimeoutError, match=r"within 0\.1 s"):
            await fetcher.get(url, messages)


@pytest.mark.asyncio
async def test_the_deadline_bounds_all_attempts_together() -> None:
    policy = replace(POLICY, attempt_timeout_s=0.1, deadline_s=0.15)
    loop = asyncio.get_running_loop()
    async with world_and(policy, "stocktwits=hang") as (_, fetcher, url):
        started = loop.time()
        with pytest.raises(DeadlineError, match=r"0\.15 s"):
            await fetcher.get(url, messages)
        assert loop.time() - started < 10.0, "the server itself never answers"


@pytest.mark.asyncio
async def test_a_retry_after_beyond_the_deadline_is_not_waited_for() -> None:
    async with world_and(POLICY, rules={"stocktwits": RateRule(limit=1, period_s=3600.0)}) as (
        world,
        fetcher,
        url,
    ):
        await fetcher.get(url, messages)
        with pytest.raises(RateLimitedError) as caught:
            await fetcher.get(f"{url}?other=1", messages)
        assert len(world.entries("stocktwits")) == 2
    assert caught.value.retry_after_s == pytest.approx(3600, abs=2)


@pytest.mark.parametrize(("path", "error"), [("/nowhere/", NotFoundError), ("/sec/files/x", RefusedError)])
@pytest.mark.asyncio
async def test_answers_that_asking_again_cannot_change_are_not_retried(
    path: str, error: type[NetworkError]
) -> None:
    async with world_and(POLICY) as (world, fetcher, _):
        with pytest.raises(error):
            await fetcher.get(world.url + path, messages)
    assert fetcher.statistics.upstream == 1


@pytest.mark.asyncio
async def test_an_old_copy_stands_in_and_says_how_old_it_is_and_why() -> None:
    now = datetime(2026, 3, 2, 12, tzinfo=UTC)
    policy = replace(ONCE, fresh_s=0.5, stale_s=600.0)
    async with world_and(policy, now=lambda: now) as (world, fetcher, url):
        first = await fetcher.get(url, messages)
        world.core.faults = parse_faults("stocktwits=500")
        now += timedelta(seconds=500)
        second = await fetcher.get(url, messages)
        now += timedelta(seconds=101)
        with pytest.raises(ServerFailedError):
            await fetcher.get(url, messages)
    assert second.value == first.value
    assert (second.age_s, second.fetched_at) == (500.0, first.fetched_at)
    assert isinstance(second.stale, ServerFailedError)
    assert (fetcher.statistics.stale, fetcher.statistics.errors) == (1, {"server_failed": 2})


@pytest.mark.asyncio
async def test_what_is_gone_is_gone_and_no_old_copy_stands_in() -> None:
    async def serve_then_404() -> None:
        bodies = iter([answer(b'{"messages": []}'), answer(b"", status="404 Not Found")])
        async with (
            raw_server(lambda _: next(bodies)) as (url, _),
            Fetcher(replace(ONCE, fresh_s=0.5)) as fetcher,
        ):
            await fetcher.get(url, messages)
            with pytest.raises(NotFoundError):
                await fetcher.get(url, messages)

    await serve_then_404()


@pytest.mark.asyncio
async def test_an_invalid_answer_is_never_kept() -> None:
    async with world_and(ONCE, "stocktwits=html@1") as (_, fetcher, url):
        with pytest.raises(MalformedError):
            await fetcher.get(url, messages)
        good = await fetcher.get(url, messages)
    assert not good.from_cache


@pytest.mark.asyncio
async def test_the_circuit_opens_spares_the_source_and_closes_after_a_probe(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0

    class Clock:
        @staticmethod
        def time() -> float:
            return now

    monkeypatch.setattr("purgatory.domain.model.time", Clock)
    policy = replace(ONCE, breaker_threshold=2, breaker_reset_s=30.0)
    async with world_and(policy, "stocktwits=500") as (world, fetcher, url):
        for number in range(2):
            with pytest.raises(ServerFailedError):
                await fetcher.get(f"{url}?n={number}", messages)
        with pytest.raises(CircuitOpenError, match="2 times in a row; asked again after 30 s"):
            await fetcher.get(url, messages)
        assert len(world.entries("stocktwits")) == 2
        world.core.faults = {}
        now += 31
        assert (await fetcher.get(url, messages)).value
        assert (await fetcher.get(f"{url}?n=9", messages)).value


@pytest.mark.asyncio
async def test_unknown_things_do_not_open_the_circuit() -> None:
    async with world_and(replace(ONCE, breaker_threshold=1)) as (world, fetcher, url):
        for number in range(3):
            with pytest.raises(NotFoundError):
                await fetcher.get(f"{world.url}/nowhere/{number}", messages)
        assert (await fetcher.get(url, messages)).value


@pytest.mark.asyncio
async def test_the_server_never_sees_more_than_the_rule_in_any_window() -> None:
    rule = RateRule(limit=10, period_s=0.4)
    policy = replace(POLICY, rules=(rule,), transit_s=1.0, max_in_flight=50)  # as long as a machine may stall
    policy = replace(policy, attempt_timeout_s=10.0, deadline_s=30.0)
    async with world_and(policy, rules={"stocktwits": rule}) as (world, fetcher, url):
        await asyncio.gather(*(fetcher.get(f"{url}?n={number}", messages) for number in range(30)))
        entries = world.entries("stocktwits")
    assert len(entries) == 30
    assert {entry.status for entry in entries} == {200}
    assert largest_window([entry.at_s for entry in entries], 0.4) <= 10


@pytest.mark.asyncio
async def test_no_more_requests_are_in_flight_than_allowed() -> None:
    latency = {"stocktwits": LatencyRange(low_s=0.02, high_s=0.02)}
    async with world_and(replace(POLICY, max_in_flight=3), latency=latency) as (world, fetcher, url):
        await asyncio.gather(*(fetcher.get(f"{url}?n={number}", messages) for number in range(12)))
        assert world.core.peak_in_flight["stocktwits"] == 3


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files in /proc")
@pytest.mark.asyncio
async def test_cancelling_at_any_step_leaves_no_task_and_no_socket() -> None:
    await asyncio.sleep(0)
    tasks = asyncio.all_tasks()
    async with World(WorldSettings(latency={"stocktwits": LatencyRange(low_s=0.001, high_s=0.001)})) as world:
        handles = open_files()
        for steps in range(0, 120, 3):
            async with Fetcher(POLICY, trust_env=False) as fetcher:
                request = asyncio.ensure_future(fetcher.get(world.url_of("stocktwits") + STREAM, messages))
                for _ in range(steps):
                    await asyncio.sleep(0)
                request.cancel()
                await asyncio.gather(request, return_exceptions=True)
        await asyncio.gather(*world._connections, return_exceptions=True)
        assert open_files() == handles
    assert asyncio.all_tasks() == tasks


@pytest.mark.asyncio
async def test_a_compressed_body_is_bounded_by_what_it_unfolds_to() -> None:
    bomb = gzip.compress(b"0" * 30_000_000)
    reply = answer(bomb, "Content-Encoding: gzip")
    async with (
        raw_server(lambda _: reply) as (url, _),
        Fetcher(replace(ONCE, max_body_bytes=1_000_000)) as fetcher,
    ):
        with pytest.raises(TooLargeError, match="1000000 bytes"):
            await fetcher.get(url, messages)


@pytest.mark.asyncio
async def test_a_body_that_claims_to_be_compressed_and_is_not_is_malformed() -> None:
    reply = answer(b"plain", "Content-Encoding: gzip")
    async with raw_server(lambda _: reply) as (url, _), Fetcher(ONCE) as fetcher:
        with pytest.raises(MalformedError, match="cannot be decoded"):
            await fetcher.get(url, messages)


@pytest.mark.parametrize(
    ("location", "error"),
    [
        ("/there", None),
        ("/again", RedirectRefusedError),
        ("//elsewhere.invalid/there", RedirectRefusedError),
        ("http://127.0.0.1:9/there", RedirectRefusedError),
        ("file:///etc/passwd", RedirectRefusedError),
    ],
)
@pytest.mark.asyncio
async def test_redirects_are_followed_on_the_same_host_only(
    location: str, error: type[NetworkError] | None
) -> None:
    def respond(line: str) -> bytes:
        if "/there" in line:
            return answer(b'{"messages": [1]}')
        return answer(b"", f"Location: {location}", status="302 Found")

    async with raw_server(respond) as (url, seen), Fetcher(ONCE, trust_env=False) as fetcher:
        if error is None:
            assert (await fetcher.get(url, messages)).value == [1]
        else:
            with pytest.raises(error):
                await fetcher.get(url, messages)
        assert len(seen) <= 4


def test_of_many_endless_bodies_one_at_a_time_grows_large() -> None:
    held: Counter[int] = Counter()
    most: list[int] = []

    class Endless(httpx2.AsyncBaseTransport):
        def __init__(self) -> None:
            self.made = 0

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            self.made += 1
            number = self.made

            async def body() -> AsyncIterator[bytes]:
                while True:
                    await asyncio.sleep(0.001)
                    held[number] += 65_536
                    most.append(sum(held.values()))
                    yield b" " * 65_536

            return httpx2.Response(200, content=body(), request=request)

    async def one(fetcher: Fetcher, place: int) -> None:
        with pytest.raises(TooLargeError):
            await fetcher.get(f"http://127.0.0.1:9/{place}", messages)
        held[place] = 0

    async def main() -> None:
        policy = replace(ONCE, max_body_bytes=16 * 2**20, attempt_timeout_s=60, deadline_s=60)
        async with Fetcher(policy, transport=Endless()) as fetcher, asyncio.TaskGroup() as group:
            for place in range(1, 11):
                group.create_task(one(fetcher, place))

    virtual_time.run(main())
    # ten of 2 MiB, and one that goes on to 16; the pieces on their way beside them
    assert 16 * 2**20 < max(most) < (10 * 2 + 16 + 2) * 2**20


@pytest.mark.asyncio
async def test_unchanged_is_no_answer_to_a_request_without_a_condition() -> None:
    async with (
        raw_server(lambda _: answer(b"", status="304 Not Modified")) as (url, _),
        Fetcher(ONCE, trust_env=False) as fetcher,
    ):
        with pytest.raises(MalformedError, match="304 although it was asked without a condition"):
            await fetcher.get(url, messages)


@pytest.mark.parametrize(
    ("trusted", "bypass", "through_proxy"), [(True, "", True), (True, "*", False), (False, "", False)]
)
@pytest.mark.asyncio
async def test_proxies_of_the_environment_are_respected(
    monkeypatch: pytest.MonkeyPatch, trusted: bool, bypass: str, through_proxy: bool
) -> None:
    for name in (
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
        "NO_PROXY",
        "no_proxy",
        "REQUEST_METHOD",
    ):
        monkeypatch.delenv(name, raising=False)
    body = answer(b'{"messages": [1]}')
    async with (
        raw_server(lambda _: body) as (proxy, by_proxy),
        raw_server(lambda _: body) as (target, direct),
    ):
        monkeypatch.setenv("http_proxy", proxy)
        if bypass:
            monkeypatch.setenv("no_proxy", bypass)
        async with Fetcher(ONCE, trust_env=trusted) as fetcher:
            await fetcher.get(f"{target}/path", messages)
    assert (len(by_proxy), len(direct)) == ((1, 0) if through_proxy else (0, 1))
    if through_proxy:
        assert by_proxy == [f"GET {target}/path HTTP/1.1"]


@pytest.mark.parametrize(
    "url", ["not a url", "http://", "ftp://host.example/x", "http://[::1", "http://host:99999/"]
)
@pytest.mark.asyncio
async def test_what_is_no_address_is_unreachable_and_not_a_traceback(url: str) -> None:
    async with Fetcher(ONCE, trust_env=False) as fetcher:
        with pytest.raises(UnreachableError):
            await fetcher.get(url, messages)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/x?apikey=hunter2",
        "http://bob:hunter2@127.0.0.1:1/x",
        "http://bob:hunter2/et@127.0.0.1:1/x",
        "bob:hunter2@127.0.0.1:1/x",
    ],
)
@pytest.mark.asyncio
async def test_a_secret_in_the_address_is_in_no_message_and_no_log(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with Fetcher(POLICY, trust_env=False) as fetcher:
        with pytest.raises(UnreachableError) as caught:
            await fetcher.get(url, messages)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    ("breaks", "shown"),
    [
        (lambda body: {0: body}[1], "KeyError"),
        (lambda _: int("x"), "ValueError"),
        (lambda body: body[10**9], "IndexError"),
    ],
)
@pytest.mark.asyncio
async def test_a_parser_that_stumbles_makes_the_answer_malformed(
    breaks: Callable[[bytes], Any], shown: str
) -> None:
    async with world_and(ONCE) as (_, fetcher, url):
        with pytest.raises(MalformedError, match=shown):
            await fetcher.get(url, breaks)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("7", 7.0),
        ("99999999999", 86_400.0),
        ("Sun, 01 Mar 2026 00:00:00 GMT", 0.0),
        ("Mon, 02 Mar 2026 00:01:00 GMT", 60.0),
        ("-5", None),
    ],
)
def test_retry_after_is_read_in_both_of_its_forms(text: str | None, expected: float | None) -> None:
    assert retry_after_s(text, datetime(2026, 3, 2, tzinfo=UTC)) == expected
