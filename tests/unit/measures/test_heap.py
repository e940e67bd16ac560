"""memray in a block: the mark, the count, the places, and what happens without it."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pytest_tradeperf.errors import MeasureError
from pytest_tradeperf.measures import heap
from pytest_tradeperf.measures.heap import HeapMode, HeapTracker, HeapUse

MIB = 1024**2
needs_memray = pytest.mark.skipif(sys.platform == "win32", reason="memray has no Windows version")
pytestmark = needs_memray


def used(size: int, **options: object) -> HeapUse:
    with HeapTracker(**options) as tracker:  # type: ignore[arg-type]
        block = np.ones(size // 8)
        del block
    return tracker.use


def test_high_water_mark_is_what_was_held_at_most() -> None:
    with HeapTracker() as tracker:
        first = np.ones(4 * MIB // 8)
        del first
        second = np.ones(2 * MIB // 8)
    assert second.nbytes == 2 * MIB
    assert 4 * MIB <= tracker.use.peak_bytes < 4.2 * MIB


def test_mark_and_count_are_the_same_every_time() -> None:
    uses = []
    for _ in range(4):
        with HeapTracker(count=True) as tracker:
            rows = [{"price": float(i), "name": str(i)} for i in range(2000)]
        uses.append((tracker.use.peak_bytes, tracker.use.allocations, len(rows)))
    peaks, counts, _ = zip(*uses[1:], strict=True)
    assert max(peaks) - min(peaks) <= 0.01 * min(peaks) + 16 * 1024
    assert max(counts) - min(counts) <= 0.001 * min(counts) + 8


def test_threads_in_turn_allocate_the_same_every_time() -> None:
    counts = []
    for _ in range(3):
        with HeapTracker(count=True, in_turn=True) as tracker, ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda i: [float(i)] * 4, range(200)))
        counts.append(tracker.use.allocations or 0)
    assert tracker.use.in_turn
    assert max(counts[1:]) - min(counts[1:]) <= 0.001 * min(counts)


def test_one_percent_more_allocations_are_counted() -> None:
    def count(n: int) -> int:
        with HeapTracker(count=True) as tracker:
            kept = [object() for _ in range(n)]
        assert len(kept) == n
        assert tracker.use.allocations is not None
        return tracker.use.allocations

    count(10)
    assert 195 <= count(10_100) - count(10_000) <= 205  # an object and the number before it


def test_sites_name_the_line_in_the_users_code_not_in_numpy() -> None:
    use = used(4 * MIB, root=Path(__file__).parent)
    assert use.sites[0].where.startswith("test_heap.py:")
    assert use.sites[0].where.endswith(" in used")
    assert use.sites[0].bytes >= 4 * MIB
    assert len(use.sites) <= heap.SITES


def test_malloc_mode_does_not_see_single_small_objects() -> None:
    with HeapTracker(mode=HeapMode.MALLOC, count=True) as tracker:
        kept = [float(i) for i in range(3000)]
    with HeapTracker(mode=HeapMode.PYTHON, count=True) as precise:
        more = [float(i) for i in range(3000)]
    assert len(kept) == len(more)
    assert tracker.use.allocations is not None
    assert precise.use.allocations is not None
    assert tracker.use.allocations < 300
    assert precise.use.allocations >= 3000


def test_what_is_left_at_the_end_is_listed_when_asked() -> None:
    with HeapTracker(left=2) as tracker:
        kept = [bytearray(2000) for _ in range(50)]
        gone = [bytearray(2000) for _ in range(50)]
        del gone
    assert len(kept) == 50
    assert 100_000 <= sum(site.bytes for site in tracker.use.left) < 120_000


def test_a_second_tracker_is_one_clear_message() -> None:
    with HeapTracker() as outer, pytest.raises(MeasureError, match="memray allows one tracker"):
        HeapTracker().__enter__()
    assert outer.use.peak_bytes >= 0


def test_figures_before_the_end_are_refused() -> None:
    with HeapTracker() as tracker, pytest.raises(MeasureError, match="has not ended"):
        _ = tracker.use


def test_a_failing_block_keeps_its_own_error_and_frees_the_tracker() -> None:
    with pytest.raises(ZeroDivisionError), HeapTracker():
        _ = 1 / 0
    assert used(MIB).peak_bytes >= MIB


def test_without_memray_the_reason_is_given_and_the_block_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "memray", None)
    ran = False
    with HeapTracker() as tracker:
        ran = True
    assert ran
    assert tracker.unavailable is not None
    assert "pip install memray" in tracker.unavailable
    with pytest.raises(MeasureError, match="pip install memray"):
        _ = tracker.use


def test_windows_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert "Windows" in (heap.missing_instrument() or "")
