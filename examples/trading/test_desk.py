"""The whole desk on virtual time: a cycle and a morning against the loopback world in memory."""

import asyncio
import gc
import sys
from dataclasses import replace
from datetime import UTC, datetime

import psutil
import pytest

pytest.importorskip("httpx2", reason="live data needs pytest-tradeperf[pipeline]")

from pytest_tradeperf.pipeline import virtual_time
from pytest_tradeperf.pipeline.config import PipelineConfig
from pytest_tradeperf.pipeline.cycle import Cycle
from pytest_tradeperf.pipeline.morning import Morning
from pytest_tradeperf.pipeline.wiring import opened, world_settings
from pytest_tradeperf.pipeline.world.transport import WorldTransport

AS_OF = datetime(2013, 3, 1, 23, 59, 59, tzinfo=UTC)
FIFTEEN = (
    "AAPL", "FB", "GOOG", "IBM", "MSFT", "AMZN", "NVDA", "TSLA",
    "JPM", "XOM", "KO", "PEP", "WMT", "DIS", "INTC",
)  # fmt: skip
TWENTY = (*FIFTEEN, "CSCO", "ORCL", "PFE", "MRK", "BA")


def run(kind, config, **settings):
    """Return what a desk over in-memory services gives, everything on virtual time."""
    world = WorldTransport(world_settings(config, AS_OF))

    async def main():
        async with opened(config, transport=lambda _: world, now=lambda: AS_OF) as parts:
            return await kind(parts, config.tickers, **settings).run(), asyncio.get_running_loop().time()

    return virtual_time.run(main())


def lifelike(output, **more):
    return PipelineConfig(
        world_scale=1.0,
        llm_url="world",
        llm_workers=16,
        charts=False,
        store="off",
        output=str(output),
        **more,
    )


@pytest.mark.perf_budget(wall="30 s", peak_rss="500 MB", threshold="10%")
def test_a_cycle_of_twenty_tickers_ends_within_its_five_seconds(perf, tmp_path):
    """Answers that the deadline cuts count as far as they came; rules stand in for the rest, by name."""
    config = lifelike(tmp_path, tickers=TWENTY, debate_arm="vote", debate_stand_in=True, cycle_seconds=5.0)
    result, seconds = run(
        Cycle, config, seconds=5.0, feeds_seconds=config.feeds_seconds, batch=config.llm_batch
    )
    votes = [vote for outcome in result.outcomes for vote in outcome.decision.votes]
    in_time = sum(not vote.error for vote in votes)
    assert seconds <= 4.5  # what is left is for saving on a busy machine
    assert len(result.outcomes) == 20
    assert in_time >= 0.6 * len(votes)
    perf.record("cycle_seconds", seconds, unit="s", better="lower")
    perf.record("votes_in_time", in_time, better="higher")
    perf.record("llm_calls", result.ledger.calls, better="lower")
    perf.digest("decisions", [outcome.decision.record for outcome in result.outcomes])


@pytest.mark.perf_budget(wall="30 s", peak_rss="500 MB", threshold="10%")
def test_a_morning_of_fifteen_tickers_is_under_five_minutes(perf, tmp_path):
    config = lifelike(tmp_path, tickers=FIFTEEN, feeds_timeout=30.0)
    report, seconds = run(Morning, config, feeds_seconds=30.0)
    assert seconds < 300
    assert report.is_complete
    assert max(outcome.decision.wall_seconds for outcome in report.outcomes) < 30
    perf.record("morning_seconds", seconds, unit="s", better="lower")
    perf.record("llm_calls", report.ledger.calls, better="lower")
    perf.record("calls_saved", report.calls_saved, better="higher")
    perf.digest("decisions", [outcome.decision.record for outcome in report.outcomes])


@pytest.mark.perf_budget(wall="10 s", threshold="10%")
def test_an_offline_cycle(perf, tmp_path):
    """What the desk itself costs: rules, feeds in memory, no waiting."""
    config = replace(lifelike(tmp_path), world_scale=0.0, llm_url="")
    result = perf(lambda: run(Cycle, config, batch=8)[0])
    assert result.degraded == ()
    perf.digest("decisions", [outcome.decision.record for outcome in result.outcomes])


@pytest.fixture
def open_desk(tmp_path):
    """A desk that stays open as through a trading day; calling it runs a cycle that asks everything anew."""
    config = lifelike(
        tmp_path,
        tickers=("GOOG",),
        debate_low=0.0,
        debate_high=1.0,
        debate_turns=1,
        llm_streaming=False,
        llm_cache_ttl=0.0,
        llm_max_tokens=10**9,
    )
    world = WorldTransport(replace(world_settings(config, AS_OF), log_size=10))
    opening = opened(config, transport=lambda _: world, now=lambda: AS_OF)
    with asyncio.Runner(loop_factory=virtual_time.VirtualTimeLoop) as runner:
        parts = runner.run(opening.__aenter__())

        async def cycle():
            assert (await Cycle(parts, config.tickers, batch=2).run()).degraded == ()

        yield lambda: runner.run(cycle())
        runner.run(opening.__aexit__(None, None, None))


def left_behind():
    """Objects, open files and tasks of this process, after a collection."""
    gc.collect()
    return {
        "objects": len(gc.get_objects()),
        "files": psutil.Process().num_fds(),
        "tasks": sum(isinstance(one, asyncio.Task) for one in gc.get_objects()),
    }


@pytest.mark.skipif(sys.platform == "win32", reason="Windows counts handles, not files")
def test_two_hundred_cycles_leave_nothing_behind(perf, open_desk):
    """The first hundred fill every cache; what the second hundred adds, each cycle leaves behind.

    Counters only: a timing would have to be measured in pairs of two hundred cycles.
    """
    found = []
    for _ in range(2):
        for _ in range(100):
            open_desk()
        found.append(left_behind())
    before, after = found
    for name in before:
        perf.record(f"{name}_left_by_100_cycles", max(0, after[name] - before[name]), better="lower")
    assert after["tasks"] == before["tasks"]
    assert after["files"] == before["files"]
    assert after["objects"] - before["objects"] < 100  # fewer than one a cycle
