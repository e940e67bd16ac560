"""The steps that a cycle and a morning report share: gather, decide, size, record.

A desk holds what has been reached so far, so that a deadline, an error or Ctrl-C keeps all of it.
"""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from pytest_tradeperf.pipeline.debate.decision import Action, Decision, StopReason
from pytest_tradeperf.pipeline.debate.panel import Panel
from pytest_tradeperf.pipeline.errors import PipelineError
from pytest_tradeperf.pipeline.llm.ledger import Ledger
from pytest_tradeperf.pipeline.llm.queue import WorkQueue
from pytest_tradeperf.pipeline.research import (
    Feeds,
    Heard,
    Loaded,
    Market,
    Quality,
    Researched,
    hear_feeds,
    load_market,
    research_ticker,
)
from pytest_tradeperf.pipeline.stages import Progress

if TYPE_CHECKING:
    from pytest_tradeperf.pipeline.debate.sheets import Columns

TRADES: Final = (Action.BUY, Action.SELL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """What to hold for a decision: signed shares, the price and stop it was sized for, and why so much.

    ``share`` is its value as a fraction of the account, signed like ``quantity``.
    """

    quantity: float
    entry_price: float
    stop_price: float | None
    share: float
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One ticker from evidence to position; ``position`` None where there is nothing to hold."""

    researched: Researched
    decision: Decision
    position: Position | None = None


class Sizer(Protocol):
    """How much to hold."""

    def size(self, outcomes: Sequence[Outcome], held: "Sequence[OpenTrade]") -> Mapping[str, Position]:
        """Return a position for each ticker that gets one, limits over all and what is held respected."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The chart files of one ticker, and a line for each chart that could not be drawn."""

    files: tuple[Path, ...] = ()
    problems: tuple[str, ...] = ()


class Charts(Protocol):
    """Draws."""

    def prepare(self, researched: Sequence[Researched]) -> None:
        """Begin with what the decisions will not change, while they are waited for; never raises."""
        ...

    async def draw(self, outcome: Outcome) -> Drawn:
        """Return what was drawn for one ticker."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTrade:
    """A trade an earlier decision opened and nothing has closed: signed shares and the price they cost."""

    ticker: str
    since: str
    quantity: float
    entry_price: float


class Recorder(Protocol):
    """Keeps decisions."""

    def record(self, outcomes: Sequence[Outcome]) -> int:
        """Return how many were stored; recording the same again changes nothing."""
        ...

    def open_trades(self) -> Sequence[OpenTrade]:
        """Return the trades that are open, oldest first."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything a desk works with. ``as_of`` is the moment all of it is about."""

    market: Market
    feeds: Feeds
    panel: Panel
    queue: WorkQueue
    ledger: Ledger
    as_of: datetime
    sizer: Sizer | None = None
    charts: Charts | None = None
    recorder: Recorder | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyVotes:
    """Whose task the early votes are, until when they may take, and how many tickers share a call."""

    group: asyncio.TaskGroup
    deadline: float
    batch: int


class Desk:
    """What has been gathered, decided and sized so far."""

    def __init__(self, parts: Parts, tickers: Sequence[str], progress: Progress | None = None) -> None:
        self.parts, self.tickers = parts, tuple(tickers)
        self._progress = progress
        self._loaded, self._heard = Loaded(bars={}), Heard()
        self._early: list[asyncio.Task[Columns]] = []
        self._notes: dict[str, None] = {}  # in order, each once
        self.statistics: Mapping[str, Mapping[str, float]] = {}
        self._researched: dict[str, Researched] = {}
        self._decisions: dict[str, Decision] = {}
        self._positions: Mapping[str, Position] = {}
        self._held: tuple[OpenTrade, ...] | None = None

    @property
    def degraded(self) -> tuple[str, ...]:
        """Everything that did not go as planned, each line once, in the order it happened."""
        return tuple(self._notes)

    def note(self, *lines: str) -> None:
        """Add to what did not go as planned."""
        self._notes |= dict.fromkeys(lines)

    @property
    def researched(self) -> tuple[Researched, ...]:
        """Tickers researched so far, in the order asked for."""
        return tuple(self._researched[t] for t in self.tickers if t in self._researched)

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """Tickers decided so far, in the order asked for."""
        return tuple(
            Outcome(
                researched=self._researched[ticker],
                decision=self._decisions[ticker],
                position=self._positions.get(ticker),
            )
            for ticker in self.tickers
            if ticker in self._decisions
        )

    async def gather(self, seconds: float, votes: "EarlyVotes | None" = None) -> None:
        """Ask market and feeds at once; nothing here raises.

        Parameters
        ----------
        votes
            Begin the votes that need no news while the feeds still talk: of each batch as soon as its bars
            are there. Who is in which batch never depends on what comes first, and so neither does what
            a model is asked.
        """
        parts = self.parts
        if seconds <= 0:
            self.note("feeds: no time left")
        seconds = max(0.0, seconds)
        size = len(self.tickers) if votes is None else votes.batch
        async with asyncio.TaskGroup() as group:
            hearing = group.create_task(
                hear_feeds(parts.feeds, self.tickers, as_of=parts.as_of, seconds=seconds)
            )
            loading = [
                group.create_task(self._load(self.tickers[place : place + size], seconds, votes))
                for place in range(0, len(self.tickers), size)
            ]
            self.open_trades()  # opening the store takes tenths of a second, which now nobody waits for
        loads = [task.result() for task in loading]
        self._loaded = Loaded(
            bars={ticker: bars for load in loads for ticker, bars in load.bars.items()},
            degraded=tuple(line for load in loads for line in load.degraded),
        )
        self._heard = hearing.result()
        self.note(*self._loaded.degraded, *self._heard.degraded)
        self.statistics = self._heard.statistics

    def classify(self) -> None:
        """Turn what was gathered into evidence, a mood and a quality for each ticker."""
        bars, news = self._loaded.bars, self._heard.news
        self._researched = {
            ticker: research_ticker(ticker, bars.get(ticker), news.get(ticker), self.parts.as_of)
            for ticker in self.tickers
        }

    async def _load(self, tickers: Sequence[str], seconds: float, votes: EarlyVotes | None) -> Loaded:
        """Return the bars of ``tickers``, the votes on them begun where they may be."""
        parts = self.parts
        loaded = await load_market(parts.market, tickers, seconds=seconds)
        if votes is not None and parts.panel.has_early_voters:
            known = [research_ticker(t, loaded.bars.get(t), None, parts.as_of) for t in tickers]
            asking = parts.panel.vote_early(
                [researched.evidence for researched in known if researched.quality is not Quality.UNUSABLE],
                ledger=parts.ledger,
                deadline=votes.deadline,
                batch=votes.batch,
            )
            self._early.append(votes.group.create_task(asking))
        return loaded

    async def decide(self, *, deadline: float, batch: int) -> None:
        """Let the panel decide every usable ticker by ``deadline`` (loop's clock); the rest abstain."""
        usable = [r.evidence for r in self.researched if r.quality is not Quality.UNUSABLE]
        for researched in self.researched:
            if researched.quality is Quality.UNUSABLE:
                self._decisions[researched.ticker] = self._abstention(researched)
        await self.parts.panel.decide_many(
            usable,
            ledger=self.parts.ledger,
            deadline=deadline,
            batch=batch,
            early=self._early,
            on_decision=self._decided,
        )

    def size(self) -> None:
        """Turn decisions into positions, within the limits over all of them."""
        if self.parts.sizer is None:
            return
        try:
            self._positions = self.parts.sizer.size(self.outcomes, self.open_trades())
        except PipelineError as error:
            self.note(f"sizing: {error}")

    def record(self) -> int:
        """Store what was decided; a store that is away is one more degraded line."""
        if self.parts.recorder is None or not self._decisions:
            return 0
        try:
            return self.parts.recorder.record(self.outcomes)
        except (PipelineError, OSError) as error:
            self.note(f"store: {error}")
            return 0

    def open_trades(self) -> tuple[OpenTrade, ...]:
        """Return what the store held open when first asked; none, with a degraded line, when it is away."""
        if self._held is None:
            self._held = self._read_open_trades()
        return self._held

    def _read_open_trades(self) -> tuple[OpenTrade, ...]:
        if self.parts.recorder is None:
            return ()
        try:
            return tuple(self.parts.recorder.open_trades())
        except (PipelineError, OSError) as error:
            self.note(f"store: {error}")
            return ()

    def prepare_charts(self) -> None:
        """Let the charts begin with what no decision changes."""
        if self.parts.charts is not None:
            self.parts.charts.prepare(self.researched)

    async def draw(self, outcomes: Sequence[Outcome], seconds: float) -> dict[str, tuple[Path, ...]]:
        """Return the charts by ticker drawn within ``seconds``; one that fails or is late leaves the rest."""
        charts = self.parts.charts
        if charts is None or not outcomes:
            return {}
        if seconds <= 0:
            self.note("charts: no time left")
            return {}
        tasks = {asyncio.ensure_future(charts.draw(outcome)): outcome for outcome in outcomes}
        try:
            done, _ = await asyncio.wait(tasks, timeout=seconds)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        files: dict[str, tuple[Path, ...]] = {}
        for task, outcome in tasks.items():
            ticker = outcome.researched.ticker
            if task not in done:
                self.note(f"chart {ticker}: not within {seconds:.1f} s")
            elif (error := task.exception()) is not None:  # whatever a drawing library raises
                self.note(f"chart {ticker}: {str(error) or type(error).__name__}")
            else:
                files[ticker] = task.result().files
                self.note(*(f"chart {problem}" for problem in task.result().problems))
        return files

    def _decided(self, decision: Decision) -> None:
        self._decisions[decision.ticker] = decision
        if self._progress is not None:
            odds = "" if decision.probability is None else f" {decision.probability:.0%}"
            count = f"{len(self._decisions)} of {len(self.tickers)}"
            self._progress(f"{decision.ticker} {decision.action.value}{odds} ({count})")

    def _abstention(self, researched: Researched) -> Decision:
        reason = researched.checks[0] if researched.checks else "unusable"
        return Decision(
            ticker=researched.ticker,
            as_of=researched.evidence.as_of,
            action=Action.ABSTAIN,
            probability=None,
            stop_reason=StopReason.NO_QUORUM,
            arm=self.parts.panel.settings.arm,
            is_contested=False,
            vote_probability=None,
            agreement=0.0,
            votes=(),
            degraded=(f"research: {reason}",),
        )


def strongest(outcomes: Sequence[Outcome], most: int) -> tuple[Outcome, ...]:
    """Return at most ``most`` buys and sells, the strongest conviction first, ties by ticker."""
    trades = [outcome for outcome in outcomes if outcome.decision.action in TRADES]
    trades.sort(key=lambda o: (-abs(o.decision.conviction), o.decision.ticker))
    return tuple(trades[:most])


def seconds_left(end: float) -> float:
    """Return the seconds until ``end`` on the running loop's clock, not below 0."""
    left = end - asyncio.get_running_loop().time()
    return left if math.isfinite(left) and left > 0 else 0.0
