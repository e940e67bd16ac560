"""The object behind perf_memory: smallest of its passes, sites without line numbers, clear refusals."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from pytest_tradeperf.errors import MeasureError
from pytest_tradeperf.measures.heap import HeapMode, HeapUse, Site
from pytest_tradeperf.measures.heap_passes import heap_measurements
from pytest_tradeperf.measures.leaks import LeakReport, LeakVerdict
from pytest_tradeperf.measures.memory import PerfMemory
from pytest_tradeperf.measures.recorder import Recorder
from pytest_tradeperf.measures.rounds import Schedule, once

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="memray has no Windows version")


class Once:
    def schedule(self, test: str, part: str, *, cache: str | None, is_async: bool, cold: bool) -> Schedule:
        del test, part, cache, is_async, cold
        return once()


@pytest.fixture
def judged() -> list[tuple[str, LeakReport]]:
    return []


@pytest.fixture
def memory(judged: list[tuple[str, LeakReport]]) -> PerfMemory:
    return PerfMemory.of(
        Recorder(test="t", mode=Once()),
        root=Path(__file__).parent,
        is_kept=True,
        judge_leak=lambda name, report: judged.append((name, report)),
    )


def use(peak: int, count: int, mode: HeapMode = HeapMode.PYTHON) -> HeapUse:
    sites = (
        Site(where="a.py:3 in load", bytes=peak, allocations=1),
        Site(where="b.py:1 in x", bytes=1, allocations=1),
    )
    return HeapUse(peak_bytes=peak, mode=mode, allocations=count, sites=sites)


def test_the_smallest_pass_counts_and_the_spread_is_kept() -> None:
    peak, count = heap_measurements([use(300_000, 120), use(100_000, 100), use(200_000, 110)], "parse")
    assert (peak.metric.name, peak.value, peak.low, peak.high) == (
        "parse.peak_memory",
        100_000,
        100_000,
        300_000,
    )
    assert (count.metric.name, count.value, count.high) == ("parse.allocations", 100, 120)


def test_sites_are_stored_without_their_line_and_small_ones_not_at_all() -> None:
    peak, _ = heap_measurements([use(1000, 1)])
    assert json.loads(peak.text or "") == {"a.py in load": ["a.py:3 in load", 1000]}


def test_each_mode_has_its_own_metric_and_tolerance() -> None:
    fine, coarse = heap_measurements([use(1, 1)])[0], heap_measurements([use(1, 1, HeapMode.MALLOC)])[0]
    assert (fine.metric.relative, fine.metric.absolute) == (0.01, 28 * 1024)
    assert coarse.metric.name == "peak_memory@malloc"
    assert (coarse.metric.relative, coarse.metric.absolute) == (0.05, 2 * 1024**2)


def test_a_callable_is_warmed_up_and_tracked_and_its_first_result_returned(memory: PerfMemory) -> None:
    calls: list[int] = []

    def work() -> int:
        calls.append(len(calls))
        return calls[-1]

    assert memory(work) == 0
    assert 1 + 3 <= len(calls) <= 1 + 10  # the list that is filled moves now and then
    assert memory.last.allocations is not None


def test_coroutine_functions_are_awaited(memory: PerfMemory) -> None:
    async def load(size: int) -> bytearray:
        await asyncio.sleep(0)
        return bytearray(size)

    assert len(asyncio.run(memory(load, 1_000_000))) == 1_000_000
    assert memory.last.peak_bytes >= 1_000_000


def test_leaks_are_handed_to_the_judge_unless_told_not_to(
    memory: PerfMemory, judged: list[tuple[str, LeakReport]]
) -> None:
    async def quiet() -> None:
        await asyncio.sleep(0)

    assert memory.leak(list, calls=3).verdict is LeakVerdict.CLEAN
    assert asyncio.run(memory.leak(quiet, calls=3)).verdict is LeakVerdict.CLEAN
    memory.leak(list, calls=3, fail=False)
    assert [name for name, _ in judged] == [
        "list",
        "test_leaks_are_handed_to_the_judge_unless_told_not_to.<locals>.quiet",
    ]


def test_wrong_use_is_one_clear_message(memory: PerfMemory) -> None:
    with pytest.raises(MeasureError, match=r"perf_memory\.last is empty"):
        _ = memory.last
    with pytest.raises(MeasureError, match="needs a callable"):
        memory(3)  # type: ignore[arg-type]
    with pytest.raises(MeasureError, match="letters, digits"):
        memory.named("a b")
    memory(list)
    with pytest.raises(MeasureError, match="recorded twice"):
        memory(list)


def test_a_refusal_is_said_before_anything_is_tracked() -> None:
    memory = PerfMemory.of(
        Recorder(test="t", mode=Once()),
        root=Path(),
        is_kept=False,
        judge_leak=lambda _name, _report: None,
        refusal="another tracker runs",
    )
    with pytest.raises(MeasureError, match="another tracker runs"), memory.track():
        pass
