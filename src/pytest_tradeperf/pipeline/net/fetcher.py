"""Gets a validated value from a URL, whatever the network does: the whole stack behind one method.

From the caller down: single flight, deadline, retries with jitter and ``Retry-After`` (stamina), HTTP cache
(hishel), then the :mod:`gate` with pace (aiolimiter), concurrency, circuit (purgatory), size and validity,
then httpx2. When all of it fails, a copy that is not too old stands in and says how old it is.
"""

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import AsyncIterable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import httpx2
import stamina
from hishel import AsyncBaseStorage, CacheOptions, Entry
from hishel.httpx2 import AsyncCacheTransport

from pytest_tradeperf.pipeline.masking import quoted, redacted
from pytest_tradeperf.pipeline.net.errors import (
    DeadlineError,
    MalformedError,
    NetworkError,
    NotFoundError,
    RateLimitedError,
    RedirectRefusedError,
    UnreachableError,
)
from pytest_tradeperf.pipeline.net.flight import SingleFlight
from pytest_tradeperf.pipeline.net.gate import ACCEPT, FETCHED_AT, FRESH_S, VALUE, Gate
from pytest_tradeperf.pipeline.net.memory import MemoryStorage
from pytest_tradeperf.pipeline.net.metrics import NetCounters, NetStatistics
from pytest_tradeperf.pipeline.net.policy import HostPolicy, utc_now
from pytest_tradeperf.pipeline.net.routes import RoutedTransport

T = TypeVar("T")
# stamina logs each retry, hishel each failed write; without a handler of the user's, Python would print
# them to the terminal.
logging.getLogger("stamina").addHandler(logging.NullHandler())
logging.getLogger("hishel").addHandler(logging.NullHandler())
_MAX_REDIRECTS = 3
# Only codings whose expansion is bounded by about 1000 to 1, so that one read cannot explode.
_CODINGS = "gzip, deflate"
# Values kept beside the cached bodies, so that a hit costs no second parse.
_MOST_PARSED = 256
# How a parser breaks on a payload nobody foresaw.
_STUMBLES = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Generic[T]):
    """A validated value and where it came from.

    Attributes
    ----------
    value
        What the caller's `accept` made of the body.
    fetched_at
        When the source last said this, in UTC: the body was read, or confirmed as unchanged.
    age_s
        Seconds since then; 0 for an answer from the network.
    from_cache
        Whether the body came from the cache, revalidated ones included.
    stale
        None, or the failure in whose place this old copy stands.
    """

    value: T
    fetched_at: datetime
    age_s: float
    from_cache: bool
    stale: NetworkError | None = None


class Fetcher:
    """Fetches from one source under one policy; use it with ``async with``, inside one event loop.

    Parameters
    ----------
    policy
        The source's limits and our patience.
    headers
        Sent with every request; a ``User-Agent`` belongs here.
    transport
        Replaces real sockets; None opens them.
    storage
        Cache; None keeps answers in memory. Give hishel's ``AsyncSqliteStorage`` to keep them on disk.
    trust_env
        False ignores proxies and certificates named in the environment.
    now
        Wall clock for stamps and ages.
    """

    def __init__(
        self,
        policy: HostPolicy,
        *,
        headers: Mapping[str, str] | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
        storage: AsyncBaseStorage | None = None,
        trust_env: bool = True,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.policy = policy
        self.now = now
        self._counters = NetCounters()
        self._storage = storage or MemoryStorage()
        limits = httpx2.Limits(
            max_connections=policy.max_in_flight, max_keepalive_connections=policy.max_in_flight
        )
        self._gate = Gate(
            transport or RoutedTransport(limits=limits, trust_env=trust_env),
            policy,
            self._counters,
            writes_late=transport is None,
            now=now,
        )
        self._client = httpx2.AsyncClient(
            transport=AsyncCacheTransport(self._gate, self._storage, rfc=CacheOptions(shared=False)),
            headers={"Accept-Encoding": _CODINGS, **(headers or {})},
            timeout=httpx2.Timeout(policy.attempt_timeout_s, connect=policy.connect_timeout_s, pool=None),
            follow_redirects=False,
            trust_env=False,
        )
        self._flights: SingleFlight[Answer[Any]] = SingleFlight()
        self._parsed: OrderedDict[str, tuple[Callable[[bytes], Any], tuple[int, int], Any]] = OrderedDict()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection and the cache."""
        await self._client.aclose()

    @property
    def statistics(self) -> NetStatistics:
        """Counts since the fetcher was made."""
        return self._counters.snapshot()

    async def get(
        self,
        url: str,
        accept: Callable[[bytes], T],
        *,
        params: Mapping[str, str] | None = None,
        fresh_s: float | None = None,
    ) -> Answer[T]:
        """Return the value that `accept` makes of the body at `url`.

        Parameters
        ----------
        url
            Absolute address.
        accept
            Turns a body into a value or raises :class:`MalformedError`. Calls for one URL that overlap
            share the result of the first one's.
        params
            Query; replaces the one in `url`.
        fresh_s
            Overrides the policy's ``fresh_s`` for this request.

        Raises
        ------
        NetworkError
            If the source failed and no copy younger than the policy's ``stale_s`` is there.
        """
        try:
            address = httpx2.URL(url, params=dict(params)) if params else httpx2.URL(url)
        except (httpx2.InvalidURL, TypeError) as error:
            # the library's own words may quote a piece of a password as a bad port
            why = "" if "@" in str(url) else f": {error}"
            raise UnreachableError(f"{quoted(url)} is not an address{why}") from error
        if address.scheme not in {"http", "https"} or not address.host:
            raise UnreachableError(f"{quoted(url)} is not an address: expected https://HOST/PATH")
        full = str(address)
        self._counters.counts["requests"] += 1
        if full in self._flights:
            self._counters.counts["joined"] += 1
        fresh = self.policy.fresh_s if fresh_s is None else fresh_s
        return await self._flights.run(full, lambda: self._load(full, self._checked(full, accept), fresh))

    async def _load(self, url: str, accept: Callable[[bytes], T], fresh_s: float) -> Answer[T]:
        failure: NetworkError
        try:
            async with asyncio.timeout(self.policy.deadline_s) as limit:
                return await self._with_retries(url, accept, fresh_s, limit)
        except TimeoutError:
            seconds = self.policy.deadline_s
            failure = DeadlineError(f"{redacted(url)} took longer than {seconds:g} s with its retries")
        except NetworkError as error:
            failure = error
        self._counters.errors[failure.kind] += 1
        stale = None if isinstance(failure, NotFoundError) else await self._stale(url, accept, failure)
        if stale is None:
            raise failure
        self._counters.counts["stale"] += 1
        return stale

    async def _with_retries(
        self, url: str, accept: Callable[[bytes], T], fresh_s: float, limit: asyncio.Timeout
    ) -> Answer[T]:
        retry = self.policy.retry
        loop = asyncio.get_running_loop()

        def pause(error: Exception) -> bool | float:
            if not (isinstance(error, NetworkError) and error.is_retryable):
                return False
            asked = error.retry_after_s if isinstance(error, RateLimitedError) else None
            if asked is None:
                return True
            # The jitter keeps many callers, told the same moment, from coming back at once.
            wait = asked + random.uniform(0, retry.wait_jitter_s)
            when = limit.when()
            return wait if when is None or loop.time() + wait < when else False

        async for attempt in stamina.retry_context(
            on=pause,
            attempts=retry.attempts,
            timeout=None,
            wait_initial=retry.wait_initial_s,
            wait_max=retry.wait_max_s,
            wait_jitter=retry.wait_jitter_s,
        ):
            if attempt.num > 1:
                self._counters.counts["retries"] += 1
            with attempt:
                return await self._once(url, accept, fresh_s)
        raise AssertionError("stamina ends by a result or by raising")

    async def _once(self, url: str, accept: Callable[[bytes], T], fresh_s: float) -> Answer[T]:
        address = httpx2.URL(url)
        for _ in range(_MAX_REDIRECTS + 1):
            response = await self._client.get(
                address,
                extensions={
                    ACCEPT: accept,
                    FRESH_S: fresh_s,
                    "caching": {"key": self._key(str(address)), "ttl": self.policy.stale_s},
                },
            )
            if not response.has_redirect_location:
                return self._answer(response, accept)
            target = address.join(response.headers["location"])
            if not _same_host(address, target):
                raise RedirectRefusedError(
                    f"{redacted(url)} redirects to {redacted(str(target))}; other hosts are not followed"
                )
            address = target
        raise RedirectRefusedError(f"{redacted(url)} redirects more than {_MAX_REDIRECTS} times")

    def _answer(self, response: httpx2.Response, accept: Callable[[bytes], T]) -> Answer[T]:
        status = response.extensions["caching"]
        fetched_at = datetime.fromisoformat(response.headers[FETCHED_AT])
        if not status["from_cache"]:
            return Answer(
                value=response.extensions[VALUE], fetched_at=fetched_at, age_s=0.0, from_cache=False
            )
        self._counters.counts["revalidated" if status["revalidated"] else "cache_hits"] += 1
        age = 0.0 if status["revalidated"] else max(0.0, (self.now() - fetched_at).total_seconds())
        return Answer(value=accept(response.content), fetched_at=fetched_at, age_s=age, from_cache=True)

    async def _stale(self, url: str, accept: Callable[[bytes], T], failure: NetworkError) -> Answer[T] | None:
        """Return the newest kept copy, which hishel itself would only hand out after asking the source."""
        found = None
        for entry in await self._storage.get_entries(self._key(url)):
            fetched_at = datetime.fromisoformat(entry.response.headers[FETCHED_AT])
            age = (self.now() - fetched_at).total_seconds()
            if age <= self.policy.stale_s and (found is None or found.age_s > age):
                try:
                    value = accept(await _body(entry))
                except MalformedError:
                    continue
                found = Answer(
                    value=value, fetched_at=fetched_at, age_s=max(0.0, age), from_cache=True, stale=failure
                )
        return found

    def _checked(self, url: str, accept: Callable[[bytes], T]) -> Callable[[bytes], T]:
        """Return `accept` as one that reads an unchanged body once, and fails on a strange one in one way."""

        def checked(body: bytes) -> T:
            mark = (len(body), hash(body))
            kept = self._parsed.get(url)
            if kept is not None and kept[0] == accept and kept[1] == mark:
                self._parsed.move_to_end(url)
                value: T = kept[2]
                return value
            try:
                value = accept(body)
            except _STUMBLES as error:
                raise MalformedError(
                    f"the body has an unexpected shape ({type(error).__name__}: {error})"
                ) from error
            self._parsed[url] = (accept, mark, value)
            if len(self._parsed) > _MOST_PARSED:
                self._parsed.popitem(last=False)
            return value

        return checked

    def _key(self, url: str) -> str:
        return f"{self.policy.name} {url}"


async def _body(entry: Entry) -> bytes:
    stream = entry.response.stream
    return b"".join([part async for part in stream]) if isinstance(stream, AsyncIterable) else b""


def _same_host(source: httpx2.URL, target: httpx2.URL) -> bool:
    """Return whether a redirect stays: same scheme, host and port, or HTTP becoming HTTPS on one host."""
    if source.host != target.host:
        return False
    plain_ports = source.port is None and target.port is None
    upgraded = (source.scheme, target.scheme) == ("http", "https") and plain_ports
    return upgraded or (source.scheme, source.port) == (target.scheme, target.port)
