"""Decides for each request: admitted or not, how late, which fault, which payload. No sockets here."""

import json
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from hashlib import blake2b
from http import HTTPStatus
from typing import Any

from pytest_tradeperf.pipeline.world import feeds
from pytest_tradeperf.pipeline.world.draws import draw
from pytest_tradeperf.pipeline.world.llm import llm
from pytest_tradeperf.pipeline.world.market import market
from pytest_tradeperf.pipeline.world.messages import CONTROL, INJECTION, Reply, Scene, WorldRequest
from pytest_tradeperf.pipeline.world.settings import FaultKind, FaultRule, LatencyRange, WorldSettings

_HANDLERS = {
    "sec": feeds.sec,
    "news": feeds.news,
    "stocktwits": feeds.stocktwits,
    "cboe": feeds.cboe,
    "market": market,
}
_STALE = timedelta(days=5)
_CHALLENGE = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Checking</body></html>"
_SHAPELESS = b'{"unexpected":{"shape":[1,2,3]},"items":null}'
_DEEP_LEVELS = 100_000
_NO_FAULT_MARK = "none"


@dataclass(slots=True, kw_only=True)
class LogEntry:
    """One request that arrived.

    `at_s` is the server's monotonic clock when its head had been read, `status` is 0 until it is answered.
    """

    at_s: float
    service: str
    target: str
    latency_s: float
    fault: FaultKind | None
    status: int = 0


class Plan:
    """What to do with one request: wait, then send the reply the way the fault says.

    The reply is written when it is first asked for, after the wait: writing a payload takes milliseconds,
    and a burst of requests must not wait for each other's before the server's clock has seen them.
    """

    def __init__(self, entry: LogEntry, write: Callable[[], Reply]) -> None:
        self._entry = entry
        self._write = write
        self._reply: Reply | None = None

    @property
    def latency_s(self) -> float:
        """Seconds to wait."""
        return self._entry.latency_s

    @property
    def fault(self) -> FaultKind | None:
        """What to do instead of answering well."""
        return self._entry.fault

    @property
    def may_stream(self) -> bool:
        """Whether the reply may come in pieces, and so must be known before the wait."""
        return self._entry.service == "llm"

    @property
    def reply(self) -> Reply:
        """What to send."""
        if self._reply is None:
            self._reply = self._write()
            self._entry.status = self._reply.status
        return self._reply


def largest_window(arrivals: Iterable[float], period_s: float) -> int:
    """Return the most arrivals in any half-open window ``[t, t + period_s)``; 0 for no arrivals.

    Parameters
    ----------
    arrivals
        Moments in seconds, in any order.
    period_s
        Length of the window in seconds.

    >>> largest_window([0.0, 0.4, 0.9, 1.0], 1.0)
    3
    """
    ordered = sorted(arrivals)
    return max(
        (bisect_left(ordered, first + period_s) - place for place, first in enumerate(ordered)), default=0
    )


class WorldCore:
    """The memory and the rules of one world; what is drawn depends on the request, not on the order."""

    def __init__(self, settings: WorldSettings) -> None:
        self.settings = settings
        self.faults: dict[str, tuple[FaultRule, ...]] = dict(settings.faults)
        self.log: deque[LogEntry] = deque(maxlen=settings.log_size)
        self.peak_in_flight: Counter[str] = Counter()
        self._in_flight: Counter[str] = Counter()
        self._admitted: dict[str, deque[float]] = {}
        self._closed_until: dict[str, float] = {}
        self._calls: Counter[str] = Counter()
        self._repeats: Counter[tuple[str, str]] = Counter()

    def plan(self, request: WorldRequest, now_s: float) -> Plan:
        """Return what happens to `request`, which arrived at `now_s` (seconds on any monotonic clock)."""
        service = request.service
        self._calls[service] += 1
        identity = f"{request.method} {request.target} {blake2b(request.body, digest_size=8).hexdigest()}"
        nth_alike = self._repeats[service, identity]
        self._repeats[service, identity] += 1
        latency = self.settings.latency.get(service, LatencyRange()).at(
            draw(self.settings.seed, "latency", service, identity, nth_alike)
        )
        wait = self._refusal(service, now_s)
        fault = self._fault(request, identity, nth_alike) if wait is None else None
        entry = LogEntry(
            at_s=now_s,
            service=service,
            target=request.target,
            latency_s=latency if wait is None else 0.0,
            fault=fault,
        )
        self.log.append(entry)
        if wait is not None:
            return Plan(entry, partial(_too_many, service, wait))
        return Plan(entry, partial(self._reply, request, fault))

    def entered(self, service: str) -> None:
        """Count one request of `service` as being answered."""
        self._in_flight[service] += 1
        self.peak_in_flight[service] = max(self.peak_in_flight[service], self._in_flight[service])

    def left(self, service: str) -> None:
        """Count one request of `service` as done."""
        self._in_flight[service] -= 1

    def reset(self) -> None:
        """Forget every request; faults and limits stay."""
        self.log.clear()
        for memory in (self.peak_in_flight, self._admitted, self._closed_until, self._calls, self._repeats):
            memory.clear()

    def entries(self, service: str) -> list[LogEntry]:
        """Return the remembered requests of one service in order of arrival."""
        return [entry for entry in self.log if entry.service == service]

    def statistics(self) -> dict[str, dict[str, Any]]:
        """Return requests, refusals, faults, largest window and peak concurrency of each service."""
        answer: dict[str, dict[str, Any]] = {}
        for service in sorted({entry.service for entry in self.log}):
            entries = self.entries(service)
            rule = self.settings.rules.get(service)
            answer[service] = {
                "requests": len(entries),
                "rate_limited": sum(
                    entry.status == HTTPStatus.TOO_MANY_REQUESTS and entry.fault is None for entry in entries
                ),
                "faults": dict(Counter(str(entry.fault) for entry in entries if entry.fault is not None)),
                "peak_in_flight": self.peak_in_flight[service],
                "rule": str(rule) if rule else None,
                "largest_window": largest_window([entry.at_s for entry in entries], rule.period_s)
                if rule
                else None,
            }
        return answer

    def _refusal(self, service: str, now_s: float) -> float | None:
        """Return the seconds to wait when the rate rule refuses a request now, else None and count it."""
        rule = self.settings.rules.get(service)
        if rule is None:
            return None
        closed = self._closed_until.get(service, 0.0)
        if now_s < closed:
            return closed - now_s
        admitted = self._admitted.setdefault(service, deque())
        while admitted and admitted[0] <= now_s - rule.period_s:
            admitted.popleft()
        if len(admitted) >= rule.limit:
            wait = max(admitted[0] + rule.period_s - now_s, self.settings.penalty_s)
            if self.settings.penalty_s:
                self._closed_until[service] = now_s + self.settings.penalty_s
            return wait
        admitted.append(now_s)
        return None

    def _fault(self, request: WorldRequest, identity: str, nth_alike: int) -> FaultKind | None:
        for place, rule in enumerate(self.faults.get(request.service, ())):
            if rule.match and rule.match not in request.target and rule.match.encode() not in request.body:
                continue
            if rule.nth is not None:
                if self._calls[request.service] == rule.nth:
                    return rule.kind
            elif (
                draw(self.settings.seed, "fault", place, request.service, identity, nth_alike)
                < rule.probability
            ):
                return rule.kind
        return None

    def _reply(self, request: WorldRequest, fault: FaultKind | None) -> Reply:  # noqa: PLR0911
        match fault:
            case FaultKind.RATE_LIMITED:
                return _too_many(request.service, self.settings.retry_after_s)
            case FaultKind.SERVER_ERROR:
                return Reply.of_json(
                    {"error": {"message": "internal error", "type": "server_error"}}, status=500
                )
            case FaultKind.HTML:
                return Reply(content_type="text/html; charset=utf-8", body=_CHALLENGE)
            case FaultKind.REDIRECT:
                return Reply(status=302, headers={"Location": "http://elsewhere.invalid/landing"})
            case FaultKind.DEEP:
                return Reply(body=b"[" * _DEEP_LEVELS + b"]" * _DEEP_LEVELS)
            case FaultKind.SCHEMA | FaultKind.EMPTY if request.service != "llm":
                return Reply(body=_SHAPELESS if fault is FaultKind.SCHEMA else b"")
            case _:
                return _conditional(self._payload(request, fault), request)

    def _payload(self, request: WorldRequest, fault: FaultKind | None) -> Reply:
        # Whole minutes: an unchanged feed keeps its bytes, and so its validator, for a while.
        now = self.settings.clock().replace(second=0, microsecond=0)
        if fault is FaultKind.STALE:
            now -= _STALE
        hostile = {FaultKind.INJECTION: INJECTION, FaultKind.CONTROL: CONTROL}.get(
            fault or FaultKind.HANG, ""
        )
        scene = Scene(seed=self.settings.seed, now=now, hostile_text=hostile)
        if request.service == "llm":
            return llm(request, scene, self.settings, fault)
        if request.method not in ("GET", "HEAD"):
            return Reply(status=405, content_type="text/plain", body=b"Method Not Allowed")
        return _HANDLERS[request.service](request, scene)


def _too_many(service: str, wait_s: float) -> Reply:
    value: Mapping[str, Any] = {
        "error": {"message": f"rate limit of {service} reached", "type": "rate_limit_exceeded"}
    }
    # Retry-After counts whole seconds (RFC 9110, 10.2.3); rounding down would invite the client back too
    # early.
    return Reply.of_json(value, status=429, headers={"Retry-After": str(max(0, -int(-wait_s // 1)))})


def _conditional(reply: Reply, request: WorldRequest) -> Reply:
    """Add a validator to a feed's good answer, and answer 304 to a client that already has it."""
    if reply.status != HTTPStatus.OK or reply.pieces or request.service == "llm":
        return reply
    tag = f'"{blake2b(reply.body, digest_size=8).hexdigest()}"'
    headers = {**reply.headers, "ETag": tag, "Cache-Control": "public, max-age=30"}
    if request.headers.get("if-none-match") == tag:
        return Reply(status=304, headers=headers)
    return replace(reply, headers=headers)


def describe(entries: Sequence[LogEntry]) -> bytes:
    """Return the entries as a JSON array, for readers in another process."""
    rows = [
        {
            "at_s": entry.at_s,
            "service": entry.service,
            "target": entry.target,
            "status": entry.status,
            "latency_s": entry.latency_s,
            "fault": str(entry.fault) if entry.fault else _NO_FAULT_MARK,
        }
        for entry in entries
    ]
    return json.dumps(rows).encode()
