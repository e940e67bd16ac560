"""The live half in real time against the loopback world with lifelike delays (model 2-5 s, feeds 0.3-2 s).

    python benchmarks/live.py [debate] [faults] [cycle] [morning] [--seeds 3]

Default: debate faults cycle, about 80 s; the morning takes two minutes more.

Prints one table a part and asserts nothing: what is promised stands beside what was measured.
"""

import argparse
import asyncio
import logging
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import psutil

from pytest_tradeperf.pipeline.config import PipelineConfig
from pytest_tradeperf.pipeline.cycle import Cycle
from pytest_tradeperf.pipeline.debate.decision import DebateSettings, Decision
from pytest_tradeperf.pipeline.debate.evidence import Evidence, facts_from_bars
from pytest_tradeperf.pipeline.debate.panel import Panel
from pytest_tradeperf.pipeline.llm.client import OpenAiModel
from pytest_tradeperf.pipeline.llm.ledger import Ledger
from pytest_tradeperf.pipeline.llm.messages import Completion, Request
from pytest_tradeperf.pipeline.llm.queue import WorkQueue
from pytest_tradeperf.pipeline.llm.service import AnswerService
from pytest_tradeperf.pipeline.marketdata import BUNDLED_SYMBOLS, Bars, load_bars
from pytest_tradeperf.pipeline.morning import Morning
from pytest_tradeperf.pipeline.research import Loaded
from pytest_tradeperf.pipeline.wiring import opened
from pytest_tradeperf.pipeline.world.server import World
from pytest_tradeperf.pipeline.world.settings import FaultKind, FaultRule, WorldSettings

FAULTS = ("hang", "drip", "429", "500", "reset", "truncated", "html", "schema", "huge", "empty")
TWENTY = tuple(f"{symbol}{suffix}" for symbol in BUNDLED_SYMBOLS for suffix in ("", ".A", ".B", ".C"))


class Timed:
    """A model that notes how long each answer of another one took."""

    def __init__(self, inner: OpenAiModel) -> None:
        self.inner = inner
        self.seconds: dict[str, float] = {}

    async def complete(self, request: Request) -> Completion:
        start = time.perf_counter()
        try:
            return await self.inner.complete(request)
        finally:
            self.seconds[request.label] = time.perf_counter() - start

    def chain(self, ticker: str) -> float:
        """Return the sum over stages of the slowest answer in each: no debate can be faster."""
        stages: dict[str, float] = {}
        for label, seconds in self.seconds.items():
            if label.startswith(f"{ticker}/"):
                stage = label.split("/")[2]
                stages[stage] = max(stages.get(stage, 0.0), seconds)
        return sum(stages.values())


class Borrowed:
    """The bundled bars, again under other names: twenty symbols with different recent pasts."""

    def __init__(self) -> None:
        self._bars = {ticker: borrowed(ticker) for ticker in TWENTY}

    async def load(self, tickers: Sequence[str], *, seconds: float) -> Loaded:  # noqa: ARG002 - at hand
        return Loaded(bars={ticker: self._bars[ticker] for ticker in tickers})


def borrowed(ticker: str) -> Bars:
    symbol, _, suffix = ticker.partition(".")
    bars = load_bars(symbol)
    values = {name: getattr(bars, name) for name in ("open", "high", "low", "close", "volume")}
    if suffix:  # the same prices some weeks earlier, dated as if they were the latest
        shift = 9 * (ord(suffix) - ord("A") + 1)
        values = {name: column[:-shift] for name, column in values.items()}
        return Bars(symbol=ticker, timestamps=bars.timestamps[shift:], timeframe=bars.timeframe, **values)
    return bars


def evidence_of(ticker: str) -> Evidence:
    facts = facts_from_bars(load_bars(ticker)) | {"sentiment": 0.1}
    return Evidence(ticker=ticker, as_of="2013-03-01", facts=facts)


async def one_debate(settings: WorldSettings, ticker: str, **more: float) -> tuple[Decision, float, Timed]:
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(World(settings))
        client = await stack.enter_async_context(
            OpenAiModel(base_url=world.url_of("llm"), model="world-1", timeout=20, trust_env=False)
        )
        queue = await stack.enter_async_context(WorkQueue(workers=8))
        model = Timed(client)
        panel = Panel(AnswerService(model, queue), settings=DebateSettings(**more))
        start = time.perf_counter()
        decision = await panel.decide(evidence_of(ticker), ledger=Ledger())
        return decision, time.perf_counter() - start, model


async def debates() -> None:
    print(
        "\nHealthy debates, everything contested; promised: under 30 s and within 1.1x of the slowest chain"
    )
    print(f"{'seed':>4} {'wall s':>8} {'chain s':>8} {'ratio':>6} {'turns':>5} {'calls':>5}  stopped by")
    lifelike = [WorldSettings.lifelike(seed=seed) for seed in range(3)]
    runs = await asyncio.gather(
        *(one_debate(replace(s, rules={}), "IBM", ambiguous_low=0.0, ambiguous_high=1.0) for s in lifelike)
    )
    for seed, (decision, wall, model) in enumerate(runs):
        chain = model.chain("IBM")
        row = (
            f"{seed:>4} {wall:8.2f} {chain:8.2f} {wall / chain:6.3f} {decision.turns:>5} {decision.calls:>5}"
        )
        print(f"{row}  {decision.stop_reason.value}")


async def faults() -> None:
    print("\nDebates against a broken endpoint; promised: under 30 s, abstain and never hold")
    print(f"{'fault':>10} {'wall s':>8} {'action':>8}  first of degraded")
    runs = await asyncio.gather(
        *(
            one_debate(
                replace(
                    WorldSettings.lifelike(), rules={}, faults={"llm": (FaultRule(kind=FaultKind(kind)),)}
                ),
                "IBM",
                deadline_seconds=28.0,
            )
            for kind in FAULTS
        )
    )
    for kind, (decision, wall, _) in zip(FAULTS, runs, strict=True):
        print(f"{kind:>10} {wall:8.2f} {decision.action.value:>8}  {(decision.degraded or ('nothing',))[0]}")


async def cycles(output: str, seeds: int) -> None:
    print(
        "\nA cycle over 20 tickers x 4 sources, model 2-5 s, real charts; promised: under 5 s with batching."
        "\nIn time: votes that are the model's own words; news: those of the analyst who reads it."
    )
    print("     arm seed  limit s   wall s calls  in time   news charts  work s")
    market = Borrowed()
    for arm, seed, limit in (*(("vote", seed, 5.0) for seed in range(seeds)), ("debate", 0, 30.0)):
        config = PipelineConfig(
            tickers=TWENTY,
            world_scale=1.0,
            world_seed=seed,
            llm_url="world",
            debate_arm=arm,
            debate_stand_in=True,
            cycle_seconds=limit,
            output=f"{output}/{arm}-{seed}",
        )
        async with opened(config) as parts:
            start = time.perf_counter()
            result = await Cycle(
                replace(parts, market=market),
                config.tickers,
                seconds=limit,
                feeds_seconds=config.feeds_seconds,
                batch=config.llm_batch,
                max_alerts=4,
                output=Path(config.output),
            ).run()
            wall = time.perf_counter() - start
        votes = [vote for outcome in result.outcomes for vote in outcome.decision.votes]
        answered = sum(not vote.error for vote in votes) / len(votes)
        news = [vote for vote in votes if vote.analyst == "sentiment"]
        read = sum(not vote.error for vote in news) / len(news)
        one_by_one = result.queue.mean_seconds * result.queue.completed
        drawn = sum(map(len, result.charts.values()))
        print(
            f"{arm:>8} {seed:>4} {limit:8.1f} {wall:8.2f} {result.ledger.calls:>5} {answered:8.0%}"
            f" {read:6.0%} {drawn:>6} {one_by_one:7.1f}"
        )
        for stage in result.stages:
            print(f"{'':>14}{stage.path:<12}{stage.seconds:8.2f} s")


async def morning(output: str) -> None:
    print("\nA morning of 15 tickers, model 2-5 s, every ticker debated; promised: under 300 s and 500 MB")
    config = PipelineConfig(
        tickers=TWENTY[:15], world_scale=1.0, llm_url="world", debate_low=0.0, debate_high=1.0, output=output
    )
    async with opened(config) as parts:
        report = await Morning(replace(parts, market=Borrowed()), config.tickers, feeds_seconds=30).run()
    slowest = max(outcome.decision.wall_seconds for outcome in report.outcomes)
    peak = psutil.Process().memory_info().rss / 1e6
    print(
        f"{report.wall_seconds:.1f} s, slowest debate {slowest:.1f} s, {report.ledger.calls} calls,"
        f" {report.resources.peak_rss_bytes / 1e6:.0f} MB at most, {peak:.0f} MB now"
    )


async def main(parts: Sequence[str], seeds: int) -> None:
    output = tempfile.mkdtemp()
    try:
        if "debate" in parts:
            await debates()
        if "faults" in parts:
            await faults()
        if "cycle" in parts:
            await cycles(output, seeds)
        if "morning" in parts:
            await morning(output)
    finally:
        shutil.rmtree(output)


if __name__ == "__main__":
    logging.getLogger("stamina").addHandler(logging.NullHandler())
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ("debate", "faults", "cycle", "morning")
    parser.add_argument("parts", nargs="*", choices=[*names, []], default=[])
    parser.add_argument("--seeds", type=int, default=3, help="worlds for the cycle of five seconds")
    given = parser.parse_args()
    asyncio.run(main(given.parts or names[:3], given.seeds))
