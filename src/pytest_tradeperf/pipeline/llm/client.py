"""The client for any OpenAI-compatible endpoint: Ollama, vLLM, llama.cpp, hosted ones.

It adds what the HTTP library lacks for this: a deadline over the *whole* attempt (a slow drip beats
any read timeout), a bound on the answer's size, redirects refused, retries that obey ``Retry-After``,
and errors that never hold the key.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from pytest_tradeperf.pipeline.llm.errors import (
    LlmError,
    MalformedError,
    RateLimitedError,
    RefusedError,
    TimeoutExceededError,
    UnreachableError,
)
from pytest_tradeperf.pipeline.llm.messages import Completion, Request, Usage
from pytest_tradeperf.pipeline.llm.tokens import count_tokens, prompt_tokens
from pytest_tradeperf.pipeline.masking import quoted

if TYPE_CHECKING:
    import httpx2

_RETRIED_STATUSES: Final = frozenset({429, 500, 502, 503, 504})
_READ_ERROR_BYTES: Final = 4000
_SHOWN_ERROR_CHARACTERS: Final = 300  # far fewer than are read, so that no key is cut before it is redacted
_LONGEST_CONNECT_SECONDS: Final = 5.0
_CONNECT_SHARE: Final = 0.5
"""Of an attempt's time: a connection not made until then is told apart from an answer that is late."""


class _RetryableError(Exception):
    """An attempt that may be repeated; ``cause`` is what to raise when it may not any more."""

    def __init__(self, cause: LlmError, wait_seconds: float | None = None) -> None:
        super().__init__(str(cause))
        self.cause, self.wait_seconds = cause, wait_seconds


class OpenAiModel:
    """A chat model behind ``POST {base_url}/chat/completions``.

    Parameters
    ----------
    base_url
        Up to and including ``/v1``.
    model
        The name the endpoint knows; a request may name another.
    api_key
        Sent as a bearer token; in no message, no ``repr``, no log.
    timeout
        Seconds for one attempt, whatever the endpoint does. An attempt that times out is not repeated.
    attempts
        How often at most a 429, a 5xx or a broken connection is tried.
    max_answer_bytes
        An answer that grows beyond it is cut off and malformed.
    is_streaming
        Ask for server-sent events, which gives the time to the first token. Endpoints that answer in
        one piece all the same are understood.
    trust_env
        Whether proxy variables of the environment apply.
    """

    def __init__(
        self,
        *,
        base_url: str,
        model: str,
        api_key: str = "",
        timeout: float = 20.0,
        attempts: int = 3,
        max_answer_bytes: int = 1_000_000,
        max_connections: int = 16,
        is_streaming: bool = True,
        trust_env: bool = True,
        transport: "httpx2.AsyncBaseTransport | None" = None,
    ) -> None:
        import httpx2

        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"base_url must be like 'http://127.0.0.1:11434/v1', not {quoted(base_url)}")
        if not timeout > 0 or attempts < 1:
            raise ValueError(
                f"timeout must be above 0 and attempts at least 1, not {timeout!r}, {attempts!r}"
            )
        if not api_key.isascii() or any(c.isspace() for c in api_key):
            raise ValueError("the API key holds white space or non-ASCII characters: check how it was pasted")
        self.model, self.timeout, self.attempts = model, timeout, attempts
        self.max_answer_bytes, self.is_streaming = max_answer_bytes, is_streaming
        self._endpoint = base_url.rstrip("/") + "/chat/completions"
        self._shown_host = f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname
        self._api_key = api_key
        self._connect_seconds = min(_CONNECT_SHARE * timeout, _LONGEST_CONNECT_SECONDS)
        headers = {"Accept-Encoding": "identity", "Content-Type": "application/json"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        self._client = httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(timeout, connect=self._connect_seconds),
            limits=httpx2.Limits(max_connections=max_connections, max_keepalive_connections=max_connections),
            follow_redirects=False,
            trust_env=trust_env,
            transport=transport,
        )

    def __repr__(self) -> str:
        return f"OpenAiModel({self.model!r} at {self._shown_host})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def complete(self, request: Request) -> Completion:
        """Return the endpoint's answer; raises a subclass of LlmError, sent if any attempt was."""
        import stamina

        was_sent = False
        try:
            async for attempt in stamina.retry_context(
                on=_how_long_to_wait,
                attempts=self.attempts,
                timeout=None,
                wait_initial=0.2,
                wait_max=2.0,
                wait_jitter=0.3,
            ):
                with attempt:
                    try:
                        return await self._attempt(request)
                    except _RetryableError as error:
                        was_sent |= error.cause.was_sent
                        raise
        except _RetryableError as error:
            raise type(error.cause)(self._redacted(error.cause), was_sent=was_sent) from None
        except LlmError as error:
            raise type(error)(self._redacted(error), was_sent=was_sent or error.was_sent) from None
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _attempt(self, request: Request) -> Completion:
        import httpx2

        loop = asyncio.get_running_loop()
        start = loop.time()
        body = request.body | {"model": request.model or self.model}
        if self.is_streaming:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        answer = _Answer(self._without_key)
        if request.draft is not None:
            request.draft.follow(answer.said)
        try:
            async with (
                asyncio.timeout(self.timeout),
                self._client.stream("POST", self._endpoint, content=json.dumps(body)) as response,
            ):
                await self._refuse_bad_status(response)
                if response.headers.get("content-type", "").startswith("text/event-stream"):
                    await _read_events(answer, self._pieces(response), loop, start)
                else:
                    whole = b"".join([piece async for piece in self._pieces(response)])
                    answer.add(_parse(whole), "message")
        except httpx2.ConnectTimeout as error:
            raise TimeoutExceededError(
                f"{self._shown_host} took no connection within {self._connect_seconds:g} s", was_sent=False
            ) from error
        except (httpx2.ConnectError, httpx2.ProxyError, httpx2.UnsupportedProtocol) as error:
            raise _RetryableError(self._unreachable(error, was_sent=False)) from error
        except (TimeoutError, httpx2.TimeoutException) as error:
            raise TimeoutExceededError(
                f"{self._shown_host} gave no complete answer within {self.timeout:g} s"
            ) from error
        except httpx2.TransportError as error:
            raise _RetryableError(self._unreachable(error, was_sent=True)) from error
        except httpx2.HTTPError as error:
            raise MalformedError(f"{self._shown_host}: {error}") from error
        return answer.completion(request, loop.time() - start)

    def _unreachable(self, error: Exception, *, was_sent: bool) -> UnreachableError:
        words = self._redacted(error) or type(error).__name__
        return UnreachableError(f"{self._shown_host}: {words}", was_sent=was_sent)

    async def _refuse_bad_status(self, response: "httpx2.Response") -> None:
        """Raise unless the status is 200."""
        status = response.status_code
        if status == 200:  # noqa: PLR2004
            return
        if response.has_redirect_location:
            target = urlsplit(response.headers.get("location", "")).hostname or "elsewhere"
            raise RefusedError(
                f"{self._shown_host} redirects to {target!r}: redirects are never followed with a key"
            )
        shown = b""
        with contextlib.suppress(MalformedError):
            async for piece in self._pieces(response):
                shown += piece
                if len(shown) > _READ_ERROR_BYTES:
                    break
        text = self._redacted(shown.decode("utf-8", "replace"))[:_SHOWN_ERROR_CHARACTERS]
        kind = RateLimitedError if status == 429 else RefusedError  # noqa: PLR2004
        error = kind(f"{self._shown_host} answered {status}: {text}")
        if status in _RETRIED_STATUSES:
            wait = _seconds(response.headers.get("retry-after"))
            if wait is not None and wait > self.timeout:
                raise error  # told to stay away for longer than anybody waits
            raise _RetryableError(error, wait)
        raise error

    async def _pieces(self, response: "httpx2.Response") -> AsyncIterator[bytes]:
        """Yield the body as it comes, refusing compressed ones (we asked for none) and oversized ones."""
        encoding = response.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise MalformedError(f"{self._shown_host} sent a {encoding!r} body although none was accepted")
        size = 0
        async for piece in response.aiter_raw():
            size += len(piece)
            if size > self.max_answer_bytes:
                raise MalformedError(f"{self._shown_host} sent more than {self.max_answer_bytes:,} bytes")
            yield piece

    def _redacted(self, text: object) -> str:
        """Return one printable line without the key, which endpoints like to quote."""
        return "".join(c if c.isprintable() else " " for c in self._without_key(str(text)))

    def _without_key(self, text: str) -> str:
        return text.replace(self._api_key, "***") if self._api_key else text


class _Answer:
    """An answer while it is read; ``clean`` takes out what must not be in it."""

    def __init__(self, clean: Callable[[str], str]) -> None:
        self.text: list[str] = []
        self.usage: Usage | None = None
        self.first_token: float | None = None
        self.finish_reason = "stop"
        self._clean = clean

    def said(self) -> str:
        """Return the text so far; lone surrogates, which break later, are replaced."""
        return self._clean("".join(self.text)).encode("utf-8", "replace").decode()

    def add(self, chunk: Any, part: str) -> bool:
        """Take in one object of the protocol; return whether it held text."""
        try:
            if chunk.get("usage"):
                self.usage = _usage(chunk["usage"])
            choices = chunk.get("choices") or []
            if not choices:
                if part == "message":
                    raise MalformedError("the answer has no choices")
                return False
            self.finish_reason = str(choices[0].get("finish_reason") or self.finish_reason)
            content = choices[0][part].get("content") or ""
            if not isinstance(content, str):
                raise MalformedError(f"the answer's content is {type(content).__name__}, expected text")
        except (AttributeError, KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
            raise MalformedError(f"the answer is not a chat completion: {error!r}") from error
        self.text.append(content)
        return bool(content)

    def completion(self, request: Request, wall: float) -> Completion:
        """Return the whole answer; usage the endpoint did not tell is estimated and marked."""
        text = self.said()
        estimated = Usage(
            prompt_tokens=prompt_tokens(request), completion_tokens=count_tokens(text), is_reported=False
        )
        return Completion(
            text=text,
            usage=self.usage or estimated,
            wall_seconds=wall,
            first_token_seconds=self.first_token,
            finish_reason=self.finish_reason,
        )


async def _read_events(
    answer: _Answer, pieces: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop, start: float
) -> None:
    """Take in what server-sent events spell; a stream that stops before ``[DONE]`` is an error."""
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                return
            if answer.add(_parse(data), "delta") and answer.first_token is None:
                answer.first_token = loop.time() - start
    raise _RetryableError(UnreachableError("the stream of events ended before it was complete"))


def _parse(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"the answer is not JSON ({error})") from error


def _usage(raw: Any) -> Usage:
    prompt, completion = int(raw.get("prompt_tokens") or 0), int(raw.get("completion_tokens") or 0)
    if prompt < 0 or completion < 0:
        raise ValueError(f"negative usage {raw!r}")
    return Usage(prompt_tokens=prompt, completion_tokens=completion)


def _seconds(header: str | None) -> float | None:
    """Return a ``Retry-After`` in seconds; dates and nonsense give None, the usual backoff."""
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return seconds if seconds >= 0 else None  # "nan" is not


def _how_long_to_wait(error: Exception) -> bool | float:
    """Tell stamina whether to retry, and after how many seconds where the endpoint said so."""
    if not isinstance(error, _RetryableError):
        return False
    return True if error.wait_seconds is None else error.wait_seconds
