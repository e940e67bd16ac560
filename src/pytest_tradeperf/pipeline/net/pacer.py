"""Holds requests back so that a source's rate rules hold at the source, in any sliding window."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from pytest_tradeperf.pipeline.net.policy import RateRule

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

# Rules this short are kept by even spacing (a burst of a second's worth looks like an attack); longer ones,
# such as 200 an hour, by counting, so that the first requests of an hour do not wait 18 s each.
_LONGEST_SPACED_S = 10.0
_HAIR = 1e-6


class Pacer:
    """Waits before each request until every rule allows it.

    The server sees a request up to `transit_s` after we wrote it, so a rule of N in T holds there if any N
    + 1 of our writes span at least T + transit_s: short rules are spaced by (T + transit_s) / N with
    aiolimiter (whose own burst bucket lets nearly 2 N into one window, so its capacity here is 1), long
    ones are counted over T + transit_s.

    Parameters
    ----------
    rules
        All of which hold at once; empty never waits.
    transit_s
        Largest delay from our write to the server's clock, in seconds.
    """

    def __init__(self, rules: tuple[RateRule, ...], *, transit_s: float = 0.05) -> None:
        self._spaced = [rule for rule in rules if rule.period_s <= _LONGEST_SPACED_S]
        self._counted = [
            (rule.limit, rule.period_s + transit_s, deque[float](maxlen=rule.limit))
            for rule in rules
            if rule.period_s > _LONGEST_SPACED_S
        ]
        self._transit_s = transit_s
        self._limiters: list[tuple[AsyncLimiter, float]] | None = None
        self._next: list[float] = []
        self._paused_until = 0.0
        self._turn = asyncio.Lock()

    def pause(self, seconds: float) -> None:
        """Let no request pass for `seconds`, because the source asked for it."""
        self._paused_until = max(self._paused_until, asyncio.get_running_loop().time() + seconds)

    async def acquire(self) -> None:
        """Return when one request may be written; requests pass in the order they came."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            for place, (limiter, spacing) in enumerate(self._spacing()):
                # aiolimiter's own wait ends at the very moment of capacity; rounding can put that moment at
                # "now", and a clock that moves only through timers (a virtual one) would never leave it. A
                # hair later there is capacity for certain, and its wait is never entered.
                wait = self._next[place] - loop.time()
                if wait > 0:
                    await asyncio.sleep(wait + spacing * _HAIR)
                await limiter.acquire()
                self._next[place] = loop.time() + spacing
            await self._count()
            await self._sit_out_the_pause()

    def _spacing(self) -> list[tuple["AsyncLimiter", float]]:
        if self._limiters is None:
            from aiolimiter import AsyncLimiter

            spacings = [(rule.period_s + self._transit_s) / rule.limit for rule in self._spaced]
            self._limiters = [(AsyncLimiter(1, spacing), spacing) for spacing in spacings]
            self._next = [0.0] * len(spacings)
        return self._limiters

    async def _count(self) -> None:
        loop = asyncio.get_running_loop()
        for limit, period, passed in self._counted:
            if len(passed) == limit:
                await asyncio.sleep(max(0.0, passed[0] + period - loop.time()))
        now = loop.time()
        for _, _, passed in self._counted:
            passed.append(now)

    async def _sit_out_the_pause(self) -> None:
        # Again and again, because another 429 may prolong the pause while this one is sat out.
        loop = asyncio.get_running_loop()
        if self._paused_until > loop.time():
            await asyncio.sleep(self._paused_until - loop.time())
            await self._sit_out_the_pause()
