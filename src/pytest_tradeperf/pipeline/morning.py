"""The morning report: research, validation, decisions, sizes and tracking for a list of tickers.

This builds the report; ``morning_report`` writes it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_tradeperf.pipeline.desk import Desk, OpenTrade, Outcome, Parts, seconds_left
from pytest_tradeperf.pipeline.llm.ledger import Statement
from pytest_tradeperf.pipeline.research import Researched
from pytest_tradeperf.pipeline.resources import Resources, read_resources
from pytest_tradeperf.pipeline.stages import Progress, StageClock, StageTime


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracked:
    """An open trade at today's price; ``gain`` is its return so far as a fraction, None without a price."""

    trade: OpenTrade
    price: float | None
    gain: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MorningReport:
    """Everything a morning found; ``is_complete`` is False when it was cut short."""

    tickers: tuple[str, ...]
    as_of: str
    is_complete: bool
    researched: tuple[Researched, ...]
    outcomes: tuple[Outcome, ...]
    tracked: tuple[Tracked, ...]
    charts: Mapping[str, tuple[Path, ...]]
    stored: int
    degraded: tuple[str, ...]
    stages: tuple[StageTime, ...]
    wall_seconds: float
    ledger: Statement
    resources: Resources

    @property
    def calls_saved(self) -> int:
        """Debate calls that clear votes made needless."""
        return sum(outcome.decision.calls_saved for outcome in self.outcomes)

    def headline_lines(self) -> list[str]:
        """Return the report in a few lines for a terminal."""
        state = "done" if self.is_complete else "cut short"
        count = f"{len(self.outcomes)} of {len(self.tickers)} tickers"
        lines = [f"morning of {self.as_of[:10]} {state}: {count} in {self.wall_seconds:.1f} s"]
        for outcome in self.outcomes:
            decision = outcome.decision
            odds = "  -  " if decision.probability is None else f"{decision.probability:5.1%}"
            lines.append(
                f"{decision.ticker:<6} {decision.action.value:<8} {odds}  {decision.stop_reason.value}"
            )
        return [*lines, str(self.resources)]


class Morning:
    """One morning over ``tickers``, within ``seconds``; ``report`` tells what was reached, at any time."""

    def __init__(
        self,
        parts: Parts,
        tickers: Sequence[str],
        *,
        seconds: float = 290.0,
        feeds_seconds: float = 30.0,
        batch: int = 1,
        progress: Progress | None = None,
    ) -> None:
        self._desk = Desk(parts, tickers, progress)
        self._seconds, self._feeds_seconds, self._batch = seconds, feeds_seconds, batch
        self._progress = progress
        self._clock: StageClock | None = None
        self._before: tuple[OpenTrade, ...] = ()
        self._charts: Mapping[str, tuple[Path, ...]] = {}
        self._stored = 0
        self._is_complete = False
        self._wall = 0.0

    async def run(self) -> MorningReport:
        """Return the report.

        Raises
        ------
        asyncio.CancelledError
            After what was decided has been stored.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self._seconds
        clock = self._clock = StageClock(loop.time, self._progress)
        desk = self._desk
        try:
            with clock.stage("tracking"):
                self._before = desk.open_trades()
            with clock.stage("research"):
                await desk.gather(min(self._feeds_seconds, seconds_left(end)))
            with clock.stage("validation"):
                desk.classify()
            with clock.stage("decision"):
                await desk.decide(deadline=end - 0.05 * self._seconds, batch=self._batch)
            with clock.stage("sizing"):
                desk.size()
            with clock.stage("charts"):
                self._charts = await desk.draw(desk.outcomes, seconds_left(end))
            self._is_complete = True
        finally:
            with clock.stage("save"):
                self._stored = desk.record()
            self._wall = clock.elapsed
        return self.report()

    def report(self) -> MorningReport:
        """Return everything reached so far."""
        desk = self._desk
        prices = {researched.ticker: researched.price for researched in desk.researched}
        decisions = [outcome.decision for outcome in desk.outcomes]
        return MorningReport(
            tickers=desk.tickers,
            as_of=desk.parts.as_of.isoformat(),
            is_complete=self._is_complete,
            researched=desk.researched,
            outcomes=desk.outcomes,
            tracked=tuple(_tracked(trade, prices.get(trade.ticker)) for trade in self._before),
            charts=self._charts,
            stored=self._stored,
            degraded=(
                *desk.degraded,
                *(f"{decision.ticker} {line}" for decision in decisions for line in decision.degraded),
            ),
            stages=self._clock.times if self._clock else (),
            wall_seconds=self._wall,
            ledger=desk.parts.ledger.statement(),
            resources=read_resources(),
        )


def _tracked(trade: OpenTrade, price: float | None) -> Tracked:
    gain = None
    if price is not None:
        sign = 1 if trade.quantity >= 0 else -1
        gain = sign * (price / trade.entry_price - 1) + 0.0  # no minus zero
    return Tracked(trade=trade, price=price, gain=gain)
