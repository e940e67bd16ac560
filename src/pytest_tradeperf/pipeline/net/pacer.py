"""Holds requests back so that a source's rate rules hold at the source, in any sliding window."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_tradeperf.pipeline.net.policy import RateRule

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

# Rules this short are also spread out, so that a second's worth does not arrive at one blow; longer ones,
# such as 200 an hour, are only counted, or the first requests of an hour would wait 18 s each.
_LONGEST_SPREAD_S = 10.0
# As much of what a window allows may go at once; the rest is spread. Twenty requests under 10 a second then
# leave within 1.3 s: 0.3 s sooner than with half of a window, 0.2 s later than with all of it. The bucket
# also makes up for late wake-ups, which cost a bucket of one a tenth of the rate on a busy machine.
_BURST_SHARE = 0.8
_LOOKS_A_SPACING = 10
_LONGEST_LOOK_S = 0.01


@dataclass(slots=True)
class _Window:
    """The moments of the last `limit` requests; one more may go `period_s` after the oldest of them."""

    limit: int
    period_s: float
    passed: deque[float] = field(default_factory=deque)

    def wait_s(self, now: float) -> float:
        return self.passed[0] + self.period_s - now if len(self.passed) == self.limit else 0.0

    def count(self, now: float) -> None:
        if len(self.passed) == self.limit:
            self.passed.popleft()
        self.passed.append(now)


class Pacer:
    """Waits before each request until every rule allows it.

    The server sees a request up to `transit_s` after we wrote it, so a rule of N in T holds there if any N
    + 1 of our writes span at least T + transit_s. aiolimiter spreads the requests of short rules, but its
    bucket lets nearly 2 N into one window; the windows that count exactly are ours.

    Parameters
    ----------
    rules
        All of which hold at once; empty never waits.
    transit_s
        Largest delay from our write to the server's clock, in seconds.
    """

    def __init__(self, rules: tuple[RateRule, ...], *, transit_s: float = 0.1) -> None:
        self._windows = [_Window(limit=rule.limit, period_s=rule.period_s + transit_s) for rule in rules]
        self._spread = [window for window in self._windows if window.period_s <= _LONGEST_SPREAD_S]
        self._limiters: list[tuple[AsyncLimiter, float]] | None = None
        self._paused_until = 0.0
        self._turn = asyncio.Lock()

    def pause(self, seconds: float) -> None:
        """Let no request pass for `seconds`, because the source asked for it."""
        self._paused_until = max(self._paused_until, asyncio.get_running_loop().time() + seconds)

    async def acquire(self) -> None:
        """Return when one request may be written; requests pass in the order they came."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            for limiter, spacing in self._spreading():
                # Not aiolimiter's own wait: it sets a timer for the very moment of capacity, which rounding
                # can put at "now", and a clock that moves only through timers (a virtual one) would never
                # leave it.
                while not limiter.has_capacity():  # noqa: ASYNC110 - nobody could set an event
                    await asyncio.sleep(min(spacing / _LOOKS_A_SPACING, _LONGEST_LOOK_S))
                await limiter.acquire()
            while (wait := self._wait_s(loop.time())) > 0:  # noqa: ASYNC110 - a pause may be prolonged
                await asyncio.sleep(wait)
            now = loop.time()
            for window in self._windows:
                window.count(now)

    def _wait_s(self, now: float) -> float:
        """Return the seconds until every window and the pause allow a request."""
        return max([self._paused_until - now, *(window.wait_s(now) for window in self._windows)])

    def _spreading(self) -> list[tuple["AsyncLimiter", float]]:
        if self._limiters is None:
            from aiolimiter import AsyncLimiter

            self._limiters = []
            for window in self._spread:
                spacing = window.period_s / window.limit
                burst = max(1, int(window.limit * _BURST_SHARE))
                if burst < window.limit:
                    self._limiters.append((AsyncLimiter(burst, burst * spacing), spacing))
        return self._limiters
