"""One pass of the trading desk: feeds, classify, debate, decide, charts, alerts, within one deadline."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from pytest_tradeperf.pipeline.desk import Desk, EarlyVotes, Outcome, Parts, seconds_left, strongest
from pytest_tradeperf.pipeline.llm.ledger import Statement
from pytest_tradeperf.pipeline.llm.queue import QueueStats
from pytest_tradeperf.pipeline.research import Researched
from pytest_tradeperf.pipeline.resources import Resources, read_resources
from pytest_tradeperf.pipeline.stages import Progress, StageClock, StageTime, stage_table

_LAST_SHARE: Final = 0.2
_LAST_SECONDS: Final = 3.0
"""Share of the time kept for charts and what follows them, and the most: a chart takes tenths of a second."""
_SPARE_SHARE: Final = 0.12
_SPARE_SECONDS: Final = 1.0
"""Share of the time that is kept for alerts and saving, and the most: from here on nothing is waited for.

Both take hundredths of a second, and tenths while a neighbour has the processors and a late chart the
interpreter: a five-second cycle stops waiting at 4.4 s.
"""


class Ended(StrEnum):
    """What ended a cycle."""

    DONE = "done"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One line worth somebody's attention, strongest first."""

    ticker: str
    action: str
    conviction: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleResult:
    """Everything a cycle reached, also when it was cut short."""

    tickers: tuple[str, ...]
    as_of: str
    ended: Ended
    researched: tuple[Researched, ...]
    outcomes: tuple[Outcome, ...]
    alerts: tuple[Alert, ...]
    charts: Mapping[str, tuple[Path, ...]]
    stored: int
    stages: tuple[StageTime, ...]
    wall_seconds: float
    degraded: tuple[str, ...]
    queue: QueueStats
    ledger: Statement
    feeds: Mapping[str, Mapping[str, float]]
    resources: Resources
    first_token_seconds: float | None = None

    @property
    def calls_saved(self) -> int:
        """Debate calls that clear votes made needless."""
        return sum(outcome.decision.calls_saved for outcome in self.outcomes)

    def as_json(self) -> dict[str, Any]:
        """Return the result as plain JSON data."""
        return {
            "tickers": list(self.tickers),
            "as_of": self.as_of,
            "ended": self.ended.value,
            "researched": [
                {
                    "ticker": researched.ticker,
                    "mood": researched.mood.value,
                    "quality": researched.quality.value,
                    "checks": list(researched.checks),
                    "facts": dict(researched.evidence.facts),
                    "headlines": list(researched.evidence.headlines),
                }
                for researched in self.researched
            ],
            "decisions": [
                outcome.decision.record
                | {
                    "wall_seconds": round(outcome.decision.wall_seconds, 6),
                    "position": None if outcome.position is None else asdict(outcome.position),
                }
                for outcome in self.outcomes
            ],
            "alerts": [asdict(alert) for alert in self.alerts],
            "charts": {ticker: [str(path) for path in paths] for ticker, paths in self.charts.items()},
            "stored": self.stored,
            "stages": [asdict(stage) for stage in self.stages],
            "wall_seconds": self.wall_seconds,
            "degraded": list(self.degraded),
            "queue": asdict(self.queue) | {"hit_rate": self.queue.hit_rate},
            "ledger": asdict(self.ledger) | {"calls_saved": self.calls_saved},
            "first_token_seconds": self.first_token_seconds,
            "feeds": {name: dict(values) for name, values in self.feeds.items()},
            "resources": asdict(self.resources),
        }


class Cycle:
    """One pass over ``tickers``.

    ``run`` always saves what was reached; when it is cancelled, ``result`` still tells it all.

    Parameters
    ----------
    seconds
        For the whole pass. What is not reached by then is left out, and named in ``degraded``.
    feeds_seconds
        Of these, at most so much for market and feeds.
    """

    def __init__(
        self,
        parts: Parts,
        tickers: Sequence[str],
        *,
        seconds: float = 30.0,
        feeds_seconds: float = 10.0,
        batch: int = 1,
        max_alerts: int = 10,
        output: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._desk = Desk(parts, tickers, progress)
        self._seconds, self._feeds_seconds = seconds, feeds_seconds
        self._batch, self._max_alerts, self._output = batch, max_alerts, output
        self._progress = progress
        self._clock: StageClock | None = None
        self._alerts: tuple[Alert, ...] = ()
        self._charts: Mapping[str, tuple[Path, ...]] = {}
        self._stored = 0
        self._ended = Ended.INTERRUPTED
        self._wall = 0.0

    async def run(self) -> CycleResult:
        """Return the result; every stage's failures are in it.

        Raises
        ------
        asyncio.CancelledError
            After what was reached has been saved.
        """
        loop = asyncio.get_running_loop()
        self._clock = StageClock(loop.time, self._progress)
        try:
            await self._stages(self._clock, loop.time() + self._seconds)
            self._ended = Ended.DONE
        finally:
            with self._clock.stage("save"):
                self._stored = self._desk.record()
            self._wall = self._clock.elapsed
            self._write()
        return self.result()

    def result(self) -> CycleResult:
        """Return everything reached so far."""
        desk = self._desk
        return CycleResult(
            tickers=desk.tickers,
            as_of=desk.parts.as_of.isoformat(),
            ended=self._ended,
            researched=desk.researched,
            outcomes=desk.outcomes,
            alerts=self._alerts,
            charts=self._charts,
            stored=self._stored,
            stages=self._clock.times if self._clock else (),
            wall_seconds=self._wall,
            degraded=desk.degraded + _degraded_decisions(desk.outcomes),
            queue=desk.parts.queue.stats(),
            ledger=desk.parts.ledger.statement(),
            feeds=desk.statistics,
            resources=read_resources(),
            first_token_seconds=desk.parts.panel.mean_first_token_seconds,
        )

    async def _stages(self, clock: StageClock, end: float) -> None:
        desk = self._desk
        decide_by = end - min(_LAST_SECONDS, _LAST_SHARE * self._seconds)
        draw_by = end - min(_SPARE_SECONDS, _SPARE_SHARE * self._seconds)
        async with asyncio.TaskGroup() as group:
            votes = (
                EarlyVotes(group=group, deadline=decide_by, batch=self._batch) if self._batch > 1 else None
            )
            with clock.stage("feeds"):
                await desk.gather(min(self._feeds_seconds, seconds_left(decide_by)), votes)
            with clock.stage("classify"):
                desk.classify()
                desk.prepare_charts()
            with clock.stage("debate"):
                await desk.decide(deadline=decide_by, batch=self._batch)
        with clock.stage("decide"):
            desk.size()
        chosen = strongest(desk.outcomes, self._max_alerts)
        with clock.stage("charts"):
            self._charts = await desk.draw(chosen, seconds_left(draw_by))
        with clock.stage("alerts"):
            self._alerts = tuple(alert_for(outcome) for outcome in chosen)

    def _write(self) -> None:
        """Write ``cycle.json`` whole: to a temporary name, renamed into place."""
        if self._output is None:
            return
        path = self._output / "cycle.json"
        try:
            self._output.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".json.part")
            part.write_text(json.dumps(self.result().as_json(), indent=1) + "\n", "utf-8")
            part.replace(path)
        except OSError as error:
            self._desk.note(f"output: cannot write {path}: {error.strerror}")


def alert_for(outcome: Outcome) -> Alert:
    """Return the line for one buy or sell."""
    decision, position = outcome.decision, outcome.position
    assert decision.probability is not None
    size = f", {abs(position.quantity):g} shares at {position.entry_price:,.2f}" if position else ""
    doubts = f" ({len(decision.degraded)} degraded)" if decision.degraded else ""
    text = (
        f"{decision.action.value.upper()} {decision.ticker}: rise {decision.probability:.0%},"
        f" {decision.stop_reason.value}{size}{doubts}"
    )
    return Alert(
        ticker=decision.ticker, action=decision.action.value, conviction=decision.conviction, text=text
    )


def summary_lines(result: CycleResult) -> list[str]:
    """Return the cycle as lines for a terminal: stage tree, counts, queue and cache, machine, degraded."""
    actions: dict[str, int] = {}
    for outcome in result.outcomes:
        action = outcome.decision.action.value
        actions[action] = actions.get(action, 0) + 1
    counted = ", ".join(f"{count} {action}" for action, count in sorted(actions.items())) or "nothing decided"
    queue, ledger = result.queue, result.ledger
    reached = f"{len(result.outcomes)} of {len(result.tickers)} tickers as of {result.as_of[:10]}"
    spent = f"calls {ledger.calls}, saved {result.calls_saved}, tokens {ledger.total_tokens:,}"
    shared = f"{queue.requests} requests, {queue.hit_rate:.0%} from cache or shared"
    first = (
        ""
        if result.first_token_seconds is None
        else f", first token {result.first_token_seconds * 1000:.0f} ms"
    )
    busy = f"mean {queue.mean_seconds * 1000:.0f} ms, busiest {queue.peak_busy} of {queue.workers}{first}"
    lines = [
        f"{result.ended.value}: {reached} in {result.wall_seconds:.2f} s: {counted}",
        *stage_table(result.stages, result.wall_seconds),
        f"{spent}, ${ledger.cost_usd:.4f}; queue {shared}, {busy}",
        *(f"{name}: {_figures(values)}" for name, values in sorted(result.feeds.items())),
        str(result.resources),
        *(alert.text for alert in result.alerts),
    ]
    if result.degraded:
        lines.append(f"degraded ({len(result.degraded)}):")
        lines += [f"  {line}" for line in result.degraded[:20]]
        if len(result.degraded) > 20:  # noqa: PLR2004 - as many as are shown
            lines.append(f"  and {len(result.degraded) - 20} more in cycle.json")
    return lines


def _figures(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in values.items())


def _degraded_decisions(outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    return tuple(
        f"{outcome.decision.ticker} {line}" for outcome in outcomes for line in outcome.decision.degraded
    )
