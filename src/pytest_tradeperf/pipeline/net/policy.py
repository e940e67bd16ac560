"""What a host allows, how patient we are with it, and by which clock: plain frozen records."""

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pytest_tradeperf.pipeline.errors import SettingError


def utc_now() -> datetime:
    """Return the present moment in UTC: the default of every injected wall clock."""
    return datetime.now(UTC)


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise SettingError(f"{name} must be a finite number above 0, got {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RateRule:
    """At most `limit` requests may arrive in any window of `period_s` seconds.

    Parameters
    ----------
    limit
        Requests allowed in one window, at least 1.
    period_s
        Length of the sliding, half-open window in seconds.

    Raises
    ------
    SettingError
        If `limit` is below 1 or `period_s` is not a positive finite number.
    """

    limit: int
    period_s: float

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise SettingError(f"a rate rule allows at least 1 request a window, got limit={self.limit!r}")
        _positive("period_s", self.period_s)

    @property
    def spacing_s(self) -> float:
        """Seconds between two requests when they are spread evenly.

        >>> RateRule(limit=10, period_s=1.0).spacing_s
        0.1
        """
        return self.period_s / self.limit

    def __str__(self) -> str:
        return f"{self.limit} per {self.period_s:g} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a failed request is repeated and how long the pauses are.

    The n-th pause is ``min(wait_max_s, wait_initial_s * 2 ** (n - 1) + jitter)`` with a jitter drawn evenly
    from ``[0, wait_jitter_s]`` (stamina's rule); a ``Retry-After`` of the server replaces it.
    """

    attempts: int = 4
    wait_initial_s: float = 0.2
    wait_max_s: float = 5.0
    wait_jitter_s: float = 0.3

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise SettingError(f"attempts counts the first try too and is at least 1, got {self.attempts!r}")
        for name in ("wait_initial_s", "wait_max_s", "wait_jitter_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise SettingError(f"{name} must be a finite number, 0 or above, got {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPolicy:
    """Everything the stack must respect when it talks to one source.

    Parameters
    ----------
    name
        The source; limits are shared by all requests under this name, whatever hosts they go to.
    rules
        Rate rules, all of which hold at once; empty means unpaced.
    max_in_flight
        Requests under way at the same time.
    transit_s
        How long a request may take from our write to the server's clock. The rules hold at the *server* as
        long as no request takes longer; it costs ``transit_s / period_s`` of the allowed rate.
    attempt_timeout_s, connect_timeout_s
        Longest time one attempt may take from our write to the last byte, and to connect, in seconds.
    deadline_s
        Longest time one logical request may take with all its retries and waits, in seconds.
    max_body_bytes
        Largest decoded body that is read; more is an error, never memory.
    fresh_s
        A cached answer younger than this is used without asking; 0 follows the server's own cache headers.
    stale_s
        A cached answer younger than this may stand in when the source fails, marked with its age.
    breaker_threshold, breaker_reset_s
        Consecutive failures that open the circuit, and seconds until one probe may close it again.
    """

    name: str
    rules: tuple[RateRule, ...] = ()
    max_in_flight: int = 20
    transit_s: float = 0.1
    attempt_timeout_s: float = 10.0
    connect_timeout_s: float = 5.0
    deadline_s: float = 20.0
    max_body_bytes: int = 32 * 1024 * 1024
    fresh_s: float = 60.0
    stale_s: float = 24 * 3600.0
    breaker_threshold: int = 8
    breaker_reset_s: float = 30.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        for name in ("attempt_timeout_s", "connect_timeout_s", "deadline_s", "breaker_reset_s"):
            _positive(name, getattr(self, name))
        for name in ("max_in_flight", "max_body_bytes", "breaker_threshold"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} must be at least 1, got {getattr(self, name)!r}")
        for name in ("transit_s", "fresh_s", "stale_s"):
            if not getattr(self, name) >= 0:
                raise SettingError(f"{name} must be 0 or above, got {getattr(self, name)!r}")
