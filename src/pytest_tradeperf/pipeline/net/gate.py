"""The last door before the network: pace, concurrency, circuit, size, status and validity of each attempt.

It stands below the cache, so that a hit costs no permission, and an answer that is not valid is never stored.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from email.utils import format_datetime, parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import httpx2
from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import OpenedState

from pytest_tradeperf.pipeline.masking import redacted
from pytest_tradeperf.pipeline.net.errors import (
    CircuitOpenError,
    MalformedError,
    NetworkError,
    NotFoundError,
    RateLimitedError,
    RefusedError,
    ServerFailedError,
    SourceTimeoutError,
    TooLargeError,
    UnreachableError,
)
from pytest_tradeperf.pipeline.net.metrics import NetCounters
from pytest_tradeperf.pipeline.net.pacer import Pacer
from pytest_tradeperf.pipeline.net.policy import HostPolicy, utc_now

ACCEPT = "tradeperf.accept"
VALUE = "tradeperf.value"
FRESH_S = "tradeperf.fresh_s"
FETCHED_AT = "x-tradeperf-fetched-at"
_KEPT_HEADERS = ("content-type", "etag", "last-modified", "location", "cache-control", "expires")
_CONDITIONS = ("if-none-match", "if-modified-since")
_WRITE_EVENT = "send_request_headers.started"
# Of bodies that grow beyond this, one at a time is read to its end: twenty of the largest allowed at once
# would be 640 MiB for each source.
_LARGE_BYTES = 2 * 1024 * 1024
_CANNOT_WAIT_S = 24 * 3600.0


class Gate(httpx2.AsyncBaseTransport):
    """Sends requests of one source under its policy; every failure leaves as a :class:`NetworkError`.

    Parameters
    ----------
    inner
        What really sends.
    policy
        The source's limits.
    counters
        Where attempts and bytes are counted.
    writes_late
        True if `inner` reports the moment of writing through httpx2's ``trace`` extension. The pace is then
        kept at that moment, after connecting, so that a slow handshake cannot push two requests together.
    now
        Wall clock that stamps answers.
    """

    def __init__(
        self,
        inner: httpx2.AsyncBaseTransport,
        policy: HostPolicy,
        counters: NetCounters,
        *,
        writes_late: bool,
        now: Callable[[], datetime],
    ) -> None:
        self._inner = inner
        self._policy = policy
        self._counters = counters
        self._writes_late = writes_late
        self._now = now
        self._pacer = Pacer(policy.rules, transit_s=policy.transit_s)
        self._places = asyncio.Semaphore(policy.max_in_flight)
        self._large = asyncio.Lock()
        self._circuits = AsyncCircuitBreakerFactory(
            default_threshold=policy.breaker_threshold, default_ttl=policy.breaker_reset_s
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Make one attempt and return the checked, fully read answer.

        Raises
        ------
        NetworkError
            For every way this can fail.
        """
        async with self._places, self._circuit(request):
            return await self._attempt(request)

    async def aclose(self) -> None:
        """Close what really sends."""
        await self._inner.aclose()

    @asynccontextmanager
    async def _circuit(self, request: httpx2.Request) -> AsyncIterator[None]:
        breaker = await self._circuits.get_breaker(self._policy.name)
        try:
            await breaker.__aenter__()
        except OpenedState as error:
            policy = self._policy
            raise CircuitOpenError(
                f"{policy.name} was not asked for {redacted(str(request.url))}: it failed "
                f"{policy.breaker_threshold} times in a row; asked again after {policy.breaker_reset_s:g} s"
            ) from error
        try:
            yield
        except NetworkError as error:
            if error.is_host_failure:
                await breaker.__aexit__(type(error), error, error.__traceback__)
            else:
                await breaker.__aexit__(None, None, None)
            raise
        else:
            await breaker.__aexit__(None, None, None)
        # A cancelled attempt says nothing about the host: purgatory is told nothing.

    async def _attempt(self, request: httpx2.Request) -> httpx2.Response:
        loop = asyncio.get_running_loop()
        where = redacted(str(request.url))
        try:
            async with asyncio.timeout(None) as limit:
                passed = False

                async def pass_once() -> None:
                    nonlocal passed
                    if not passed:
                        passed = True
                        await self._pacer.acquire()
                        self._counters.counts["upstream"] += 1
                        limit.reschedule(loop.time() + self._policy.attempt_timeout_s)

                async def on_trace(event: str, _: dict[str, Any]) -> None:
                    if event.endswith(_WRITE_EVENT):
                        await pass_once()

                if self._writes_late:
                    request.extensions = {**request.extensions, "trace": on_trace}
                else:
                    await pass_once()
                response = await self._inner.handle_async_request(request)
                try:
                    return await self._checked(request, response, where)
                finally:
                    await response.aclose()
        except (TimeoutError, httpx2.TimeoutException) as error:
            seconds = self._policy.attempt_timeout_s
            raise SourceTimeoutError(f"{where} did not answer within {seconds:g} s") from error
        except httpx2.DecodingError as error:
            raise MalformedError(f"{where} sent a body that cannot be decoded: {error}") from error
        except (httpx2.TransportError, httpx2.InvalidURL, OSError) as error:
            raise UnreachableError(f"{where}: {type(error).__name__} {error}".rstrip()) from error

    async def _checked(
        self, request: httpx2.Request, response: httpx2.Response, where: str
    ) -> httpx2.Response:
        status = response.status_code
        if status == HTTPStatus.NOT_MODIFIED and not any(name in request.headers for name in _CONDITIONS):
            raise MalformedError(f"{where} answered 304 although it was asked without a condition")
        if status == HTTPStatus.NOT_MODIFIED or response.has_redirect_location:
            return self._answer(request, response, b"")
        if status != HTTPStatus.OK:
            raise self._failure(status, response.headers, where)
        body = await self._read(response, where)
        accept = request.extensions[ACCEPT]
        try:
            value = accept(body)
        except MalformedError as error:
            raise MalformedError(f"{where}: {error}") from error
        answer = self._answer(request, response, body)
        answer.extensions[VALUE] = value
        return answer

    async def _read(self, response: httpx2.Response, where: str) -> bytes:
        limit = self._policy.max_body_bytes
        told = response.headers.get("content-length", "")
        if told.isdecimal() and int(told) > limit:
            raise TooLargeError(f"{where} announces {int(told)} bytes; at most {limit} are read")
        parts = bytearray()
        async with AsyncExitStack() as stack:
            is_large = False
            async for part in response.aiter_bytes():
                parts += part
                if len(parts) > limit:
                    parts.clear()  # the error's traceback keeps this frame until the next collection
                    raise TooLargeError(f"{where} sent more than the {limit} bytes that are read at most")
                if len(parts) > _LARGE_BYTES and not is_large:
                    is_large = True
                    await stack.enter_async_context(self._large)
            self._counters.counts["body_bytes"] += len(parts)
            return bytes(parts)

    def _answer(self, request: httpx2.Request, response: httpx2.Response, body: bytes) -> httpx2.Response:
        headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
        # hishel reckons freshness by the real clock; our stamp follows the one we were given.
        headers["date"] = format_datetime(utc_now(), usegmt=True)
        headers[FETCHED_AT] = self._now().isoformat()
        fresh = request.extensions[FRESH_S]
        if fresh > 0:
            # Ours to say how long a copy is good: most sources send no rule, or no-store to browsers.
            headers["cache-control"] = f"max-age={int(fresh)}"
            headers.pop("expires", None)
        if response.has_redirect_location:
            headers["cache-control"] = "no-store"
        return httpx2.Response(
            status_code=response.status_code, headers=headers, content=body, request=request
        )

    def _failure(self, status: int, headers: httpx2.Headers, where: str) -> NetworkError:
        text = f"{where} answered {status}"
        wait = retry_after_s(headers.get("retry-after"), self._now())
        if status == HTTPStatus.TOO_MANY_REQUESTS or (
            status == HTTPStatus.SERVICE_UNAVAILABLE and wait is not None
        ):
            if wait is not None:
                self._pacer.pause(wait)
            return RateLimitedError(f"{text}: slow down", retry_after_s=wait)
        if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            return NotFoundError(f"{text}: the source does not know it")
        if status == HTTPStatus.REQUEST_TIMEOUT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return ServerFailedError(text)
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return RefusedError(f"{text}: check credentials and the contact in the User-Agent")
        return RefusedError(f"{text}: the request is not one the source understands")


def retry_after_s(text: str | None, now: datetime) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for; None if it says nothing readable.

    >>> from datetime import UTC
    >>> retry_after_s("2", datetime(2026, 1, 1, tzinfo=UTC))
    2.0
    >>> retry_after_s("Thu, 01 Jan 2026 00:00:30 GMT", datetime(2026, 1, 1, tzinfo=UTC))
    30.0
    """
    if text is None:
        return None
    if text.strip().isdecimal():
        return min(float(text), _CANNOT_WAIT_S)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    return min(max(0.0, (moment - now).total_seconds()), _CANNOT_WAIT_S)
