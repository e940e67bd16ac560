"""Planted leaks are found and named, clean code and filling caches are left alone."""

import asyncio
import functools
import gc
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pytest_tradeperf.errors import MeasureError
from pytest_tradeperf.measures import leak_series, leaks
from pytest_tradeperf.measures.leaks import LeakReport, LeakVerdict, find, find_async, searching

if TYPE_CHECKING:
    from collections.abc import Generator

needs_proc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="descriptors from /proc")


class Thing:
    pass


def signals(report: LeakReport) -> set[str]:
    return {growth.signal for growth in report.growth}


def test_one_object_left_by_each_call_is_a_leak_and_its_line_is_named() -> None:
    kept: list[Thing] = []

    def keeps() -> None:
        kept.append(Thing())

    report = find(keeps, calls=50)
    assert report.verdict is LeakVerdict.LEAKING
    assert "blocks" in signals(report)
    assert any("in keeps" in site.where for site in report.sites)
    size = next(g for g in report.growth if g.signal == "bytes")
    assert 40 < size.later < 400
    assert any("per million calls" in line for line in report.describe())


@pytest.mark.parametrize(
    ("size", "verdict"), [(1, LeakVerdict.CLEAN), (900, LeakVerdict.CLEAN), (2000, LeakVerdict.LEAKING)]
)
def test_growth_that_is_allowed_is_no_leak_in_bytes_or_in_objects(size: int, verdict: LeakVerdict) -> None:
    kept: list[bytes] = []

    def keeps() -> None:
        kept.append(bytes(size))

    report = find(keeps, calls=100, floor_bytes=1000.0)
    assert report.verdict is verdict, report.describe()


@needs_proc
def test_what_is_allowed_of_memory_excuses_no_file(tmp_path: Path) -> None:
    kept: list[Any] = []

    def keeps() -> None:
        kept.append((tmp_path / "log").open("w"))

    report = find(keeps, calls=2, floor_bytes=1e6)
    assert report.verdict is LeakVerdict.LEAKING
    assert signals(report) == {"files"}
    for file in kept:
        file.close()


def test_a_leaked_array_is_a_leak_of_its_bytes() -> None:
    kept: list[Any] = []

    def keeps() -> None:
        kept.append(np.zeros(500))

    report = find(keeps, calls=20)
    assert report.verdict is LeakVerdict.LEAKING
    size = next(g for g in report.growth if g.signal == "bytes")
    assert 4000 <= size.later < 4400
    assert any("in keeps" in site.where for site in report.sites)


def test_a_leak_in_every_tenth_call_is_found() -> None:
    kept: list[Thing] = []
    number = iter(range(10**9))

    def keeps_some() -> None:
        if next(number) % 10 == 0:
            kept.append(Thing())

    assert find(keeps_some, calls=100).verdict is LeakVerdict.LEAKING


def test_clean_code_is_clean() -> None:
    report = find(lambda: [str(i) for i in range(50)], calls=20)
    assert report.verdict is LeakVerdict.CLEAN
    assert report.growth == ()
    assert report.calls == 2 + 14 * 20


def test_cycles_are_collected_before_they_are_counted() -> None:
    def cyclic() -> None:
        thing = Thing()
        thing.self = thing  # type: ignore[attr-defined]

    assert find(cyclic, calls=30).verdict is LeakVerdict.CLEAN


@pytest.mark.parametrize("size", [16, 128, 600])
def test_a_cache_that_fills_up_is_no_leak(size: int) -> None:
    @functools.lru_cache(maxsize=size)
    def cached(key: int) -> list[int]:
        return [key]

    number = iter(range(1000, 10**9))  # smaller numbers are shared and take no block
    report = find(lambda: cached(next(number)), calls=20)
    assert report.verdict is LeakVerdict.CLEAN


@needs_proc
def test_files_left_open_are_counted_and_named() -> None:
    kept: list[Any] = []

    def opens() -> None:
        kept.append(tempfile.TemporaryFile(prefix="planted"))  # noqa: SIM115 - left open on purpose

    try:
        report = find(opens)
    finally:
        for file in kept:
            file.close()
    assert report.verdict is LeakVerdict.LEAKING
    assert next(g for g in report.growth if g.signal == "files").later == 1.0
    assert len(kept) < 400
    assert any(name.startswith("file ") for name in report.names)


def test_threads_left_running_are_counted() -> None:
    done = threading.Event()
    kept: list[threading.Thread] = []

    def starts() -> None:
        kept.append(threading.Thread(target=done.wait, name="planted"))
        kept[-1].start()

    try:
        report = find(starts, calls=1)
    finally:
        done.set()
        for thread in kept:
            thread.join()
    assert "threads" in signals(report)
    assert "thread planted (24 x)" in report.names


def test_tasks_left_pending_are_counted_and_named() -> None:
    async def scenario() -> LeakReport:
        kept = []

        async def forgotten() -> None:
            await asyncio.Event().wait()

        async def starts() -> None:
            kept.append(asyncio.create_task(forgotten()))

        report = await find_async(starts, calls=10)
        for task in kept:
            task.cancel()
        await asyncio.gather(*kept, return_exceptions=True)
        return report

    report = asyncio.run(scenario())
    assert report.verdict is LeakVerdict.LEAKING
    assert next(g for g in report.growth if g.signal == "tasks").later == 1.0
    assert any("forgotten" in name for name in report.names)


def test_clean_coroutines_are_clean() -> None:
    async def works() -> None:
        await asyncio.create_task(asyncio.sleep(0))

    assert asyncio.run(find_async(works, calls=20)).verdict is LeakVerdict.CLEAN


def rehearse(per_call_ns: int, **options: Any) -> tuple[list[int], LeakReport]:
    """Drive the search without calling anything, every call taking ``per_call_ns``."""
    search: Generator[int, int, LeakReport] = searching(
        calls=options.get("calls"), floor_bytes=None, limit_ns=options.get("limit_ns", leaks.LIMIT_NS)
    )
    asked = [next(search)]
    try:
        while True:
            asked.append(search.send(asked[-1] * per_call_ns))
    except StopIteration as finished:
        return asked, finished.value


def test_rounds_are_long_for_quick_calls_and_short_for_slow_ones() -> None:
    assert rehearse(1_000_000)[0][-1] == 20
    assert rehearse(15_000_000)[0][-1] == 10
    assert rehearse(400_000_000, limit_ns=10**12)[0][-1] == 1


def test_calls_too_slow_for_the_time_are_undecided_with_what_they_need() -> None:
    asked, report = rehearse(9_000_000_000)
    assert report.verdict is LeakVerdict.UNDECIDED
    assert asked == [1, 1]
    assert "14 calls would take 2.10 min of the 1.00 min allowed" in report.note


def test_a_round_of_no_calls_is_refused() -> None:
    with pytest.raises(MeasureError, match="calls=0"):
        find(lambda: None, calls=0)


def test_without_memray_the_leak_is_still_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "memray", None)
    kept: list[Thing] = []
    report = find(lambda: kept.append(Thing()), calls=20)
    assert report.verdict is LeakVerdict.LEAKING
    assert "pip install memray" in report.note


def test_without_heap_figures_objects_are_still_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    kept: list[Thing] = []
    assert find(lambda: kept.append(Thing()), calls=20).verdict is LeakVerdict.LEAKING


def test_growth_that_slows_down_is_still_warming(monkeypatch: pytest.MonkeyPatch) -> None:
    first_stage = 2 + 14 * 10

    def heap(calls: int) -> int:
        return 100 * min(calls, first_stage) + 30 * max(0, calls - first_stage)

    made = 0
    monkeypatch.setattr(leak_series, "_heap_bytes", lambda: heap(made))
    search = searching(calls=10, floor_bytes=None, limit_ns=leaks.LIMIT_NS)
    asked = next(search)
    try:
        while True:
            made += asked
            asked = search.send(1000)
    except StopIteration as finished:
        report: LeakReport = finished.value
    assert report.verdict is LeakVerdict.WARMING
    assert [round(g.later) for g in report.growth] == [30]
    assert "still filling" in report.note


def test_the_collector_is_left_as_it_was() -> None:
    frozen = gc.get_freeze_count()
    find(lambda: None, calls=5)
    assert gc.get_freeze_count() == frozen


def play(search: "Generator[int, int, LeakReport]", fn: Any) -> LeakReport:
    """Make the calls a search asks for, each of no time."""
    try:
        count = next(search)
        while True:
            for _ in range(count):
                fn()
            count = search.send(0)
    except StopIteration as finished:
        report: LeakReport = finished.value
        return report


def test_a_search_that_would_pass_its_time_stays_undecided_about_what_grew() -> None:
    kept: list[Thing] = []
    ticks = iter(range(0, 10**12, 40 * 10**9))
    search = searching(calls=20, floor_bytes=None, limit_ns=60 * 10**9, clock=lambda: next(ticks))
    report = play(search, lambda: kept.append(Thing()))
    assert report.verdict is LeakVerdict.UNDECIDED
    assert "to tell a leak from a cache would take 1.14 min more" in report.note


def test_a_bad_leak_of_many_objects_gets_shorter_rounds() -> None:
    kept: list[Any] = []
    report = find(lambda: kept.append([[] for _ in range(500)]))
    assert report.verdict is LeakVerdict.LEAKING
    assert report.calls < 3000
