"""How a world behaves: one frozen record, readable from the command line and from tests."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Self

from pytest_tradeperf.pipeline.errors import SettingError
from pytest_tradeperf.pipeline.net.policy import RateRule

SERVICES = ("sec", "news", "stocktwits", "cboe", "market", "llm")
"""Every service of the world; each lives under ``/NAME`` on the one port."""


class FaultKind(StrEnum):
    """What can be done to a request instead of answering it well."""

    RATE_LIMITED = "429"
    SERVER_ERROR = "500"
    HANG = "hang"
    DRIP = "drip"
    RESET = "reset"
    TRUNCATED = "truncated"
    HTML = "html"
    SCHEMA = "schema"
    STALE = "stale"
    REDIRECT = "redirect"
    HUGE = "huge"
    DEEP = "deep"
    EMPTY = "empty"
    CONTROL = "control"
    INJECTION = "injection"


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRule:
    """When one kind of fault strikes.

    Parameters
    ----------
    kind
        What happens.
    probability
        Share of the requests that are hit, drawn from the seed and the request.
    nth
        Hit exactly the n-th request of the service (from 1) instead of a share.
    match
        Only requests whose target or body contains this text.
    """

    kind: FaultKind
    probability: float = 1.0
    nth: int | None = None
    match: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise SettingError(f"a fault's probability lies in [0, 1], got {self.probability!r}")
        if self.nth is not None and self.nth < 1:
            raise SettingError(f"a fault hits the n-th request counted from 1, got {self.nth!r}")

    _GRAMMAR = re.compile(
        r"(?P<kind>[a-z0-9]+)(?::(?P<share>[0-9.]+))?(?:@(?P<nth>[0-9]+))?(?:~(?P<match>.+))?"
    )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``KIND[:SHARE][@NTH][~TEXT]``.

        >>> FaultRule.parse("429:0.1")
        FaultRule(kind=<FaultKind.RATE_LIMITED: '429'>, probability=0.1, nth=None, match='')
        >>> FaultRule.parse("reset@3").nth
        3

        Raises
        ------
        SettingError
            If the text does not follow the grammar or names an unknown kind.
        """
        found = cls._GRAMMAR.fullmatch(text.strip())
        kinds = ", ".join(FaultKind)
        if found is None or found["kind"] not in set(FaultKind):
            raise SettingError(
                f"cannot read the fault {text!r}; expected KIND[:SHARE][@NTH][~TEXT] with KIND one of {kinds}"
            )
        try:
            share = float(found["share"]) if found["share"] else 1.0
        except ValueError:
            raise SettingError(
                f"cannot read the share in the fault {text!r}; expected a number in [0, 1]"
            ) from None
        nth = int(found["nth"]) if found["nth"] else None
        return cls(kind=FaultKind(found["kind"]), probability=share, nth=nth, match=found["match"] or "")


def parse_faults(text: str) -> dict[str, tuple[FaultRule, ...]]:
    """Read ``SERVICE=FAULT[,FAULT...]`` pairs separated by semicolons; ``all`` stands for every service.

    >>> sorted(parse_faults("sec=429:0.1;news=html@1,reset@2"))
    ['news', 'sec']

    Raises
    ------
    SettingError
        If a pair has no ``=``, names an unknown service or holds an unreadable fault.
    """
    rules: dict[str, tuple[FaultRule, ...]] = {}
    for service, value in _pairs(text, "SERVICE=FAULT"):
        rules[service] = rules.get(service, ()) + tuple(FaultRule.parse(part) for part in value.split(","))
    return rules


def parse_rules(text: str) -> dict[str, RateRule]:
    """Read ``SERVICE=LIMIT/SECONDS`` pairs separated by semicolons.

    >>> print(parse_rules("llm=5/1;sec=10/2")["sec"])
    10 per 2 s

    Raises
    ------
    SettingError
        If a pair cannot be read or names an unknown service.
    """
    rules = {}
    for service, value in _pairs(text, "SERVICE=LIMIT/SECONDS"):
        limit, _, period = value.partition("/")
        try:
            rules[service] = RateRule(limit=int(limit), period_s=float(period))
        except ValueError as error:
            raise SettingError(
                f"cannot use the rule {value!r} of {service} ({error}); expected LIMIT/SECONDS"
            ) from error
    return rules


def parse_latency(text: str) -> dict[str, "LatencyRange"]:
    """Read ``SERVICE=LOW-HIGH`` pairs in seconds, separated by semicolons; one number stands for both bounds.

    >>> parse_latency("llm=2-5")["llm"].high_s
    5.0

    Raises
    ------
    SettingError
        If a pair cannot be read or names an unknown service.
    """
    ranges = {}
    for service, value in _pairs(text, "SERVICE=LOW-HIGH"):
        low, _, high = value.partition("-")
        try:
            ranges[service] = LatencyRange(low_s=float(low), high_s=float(high or low))
        except ValueError as error:
            raise SettingError(
                f"cannot use the latency {value!r} of {service} ({error}); expected LOW-HIGH"
            ) from error
    return ranges


def _pairs(text: str, shape: str) -> Iterator[tuple[str, str]]:
    for pair in filter(None, (part.strip() for part in text.split(";"))):
        service, equals, value = pair.partition("=")
        names = SERVICES if service == "all" else (service,)
        if not equals or not set(names) <= set(SERVICES):
            known = ", ".join(SERVICES)
            raise SettingError(f"cannot read {pair!r}; expected {shape} with SERVICE one of all, {known}")
        for name in names:
            yield name, value


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyRange:
    """Seconds from the request's last byte to the first of the answer, drawn evenly between two bounds."""

    low_s: float = 0.0
    high_s: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.low_s <= self.high_s and math.isfinite(self.high_s)):
            bounds = f"{self.low_s!r} to {self.high_s!r}"
            raise SettingError(f"a latency range needs 0 <= low <= high, got {bounds}")

    def at(self, share: float) -> float:
        """Return the latency `share` of the way from the low to the high bound.

        >>> LatencyRange(low_s=1.0, high_s=3.0).at(0.5)
        2.0
        """
        return self.low_s + (self.high_s - self.low_s) * share


LIFELIKE_RULES: Mapping[str, RateRule] = {
    # SEC: "no more than 10 requests per second" (sec.gov, Accessing EDGAR Data). StockTwits: 200 an hour
    # without a token (API documentation). News, CBOE and market data publish no figure; these are polite
    # ones of ours.
    "sec": RateRule(limit=10, period_s=1.0),
    "news": RateRule(limit=10, period_s=1.0),
    "stocktwits": RateRule(limit=200, period_s=3600.0),
    "cboe": RateRule(limit=10, period_s=1.0),
    "market": RateRule(limit=20, period_s=1.0),
}
_FEED = LatencyRange(low_s=0.3, high_s=2.0)
LIFELIKE_LATENCY: Mapping[str, LatencyRange] = {
    **{name: _FEED for name in SERVICES if name != "llm"},
    "llm": LatencyRange(low_s=2.0, high_s=5.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldSettings:
    """Everything that decides what a world answers. The default is instant, unlimited and faultless.

    Parameters
    ----------
    seed
        Fixes payloads, latencies and faults.
    latency
        A range for each service that is not instant.
    rules
        Rate rules the world enforces with 429 and ``Retry-After``.
    faults
        Fault rules for each service, tried in order; the first that strikes wins.
    penalty_s
        How long a service stays closed to a client that broke its rule; SEC's real one is 600 s.
    retry_after_s
        What an injected 429 asks for.
    drip_interval_s
        Seconds between two bytes of a slow drip.
    huge_bytes
        Size of the body that the fault ``huge`` sends.
    now
        The world's clock for payload stamps; None is the real one.
    api_key
        When set, the language model refuses every other key with 401.
    models
        Models the language model service knows; empty accepts any name.
    log_size
        Requests remembered for statistics.
    """

    seed: int = 0
    latency: Mapping[str, LatencyRange] = field(default_factory=dict)
    rules: Mapping[str, RateRule] = field(default_factory=dict)
    faults: Mapping[str, tuple[FaultRule, ...]] = field(default_factory=dict)
    penalty_s: float = 0.0
    retry_after_s: float = 1.0
    drip_interval_s: float = 0.2
    huge_bytes: int = 100_000_000
    now: datetime | None = None
    api_key: str | None = field(default=None, repr=False)
    models: tuple[str, ...] = ()
    log_size: int = 50_000

    def __post_init__(self) -> None:
        for name in ("latency", "rules", "faults"):
            unknown = sorted(set(getattr(self, name)) - set(SERVICES))
            if unknown:
                raise SettingError(
                    f"{name} names the unknown service {unknown[0]!r}; expected one of {', '.join(SERVICES)}"
                )
        if self.now is not None and self.now.tzinfo is None:
            raise SettingError(f"now needs a time zone, got {self.now!r}; write datetime(..., tzinfo=UTC)")

    @classmethod
    def lifelike(cls, *, seed: int = 0, time_scale: float = 1.0) -> Self:
        """Return a world with latencies and limits like the real ones (feeds 0.3-2 s, language model 2-5 s).

        Parameters
        ----------
        seed
            Fixes everything drawn.
        time_scale
            Multiplies every latency; rate rules keep their real periods.
        """
        scaled = {
            name: replace(known, low_s=known.low_s * time_scale, high_s=known.high_s * time_scale)
            for name, known in LIFELIKE_LATENCY.items()
        }
        return cls(seed=seed, latency=scaled, rules=LIFELIKE_RULES)

    def clock(self) -> datetime:
        """Return the world's present moment."""
        return self.now or datetime.now(UTC)
