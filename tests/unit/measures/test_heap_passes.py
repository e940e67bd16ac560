"""How many tracked passes are made, of which kind, and what they say together."""

import sys
import threading
from collections.abc import Iterator

import pytest

from pytest_tradeperf.measures.heap import HeapMode, HeapUse
from pytest_tradeperf.measures.heap_passes import heap_measurements, least_of, schedule
from pytest_tradeperf.measures.turns import taking_turns
from pytest_tradeperf.model import Measurement


def passes(
    free: list[tuple[int, int]], in_turn: list[tuple[int, int]], *, count: bool = True, is_kept: bool = True
) -> list[HeapUse]:
    """Return the passes made of code that shows these (peak, count) one after the other, then the last."""

    def play(values: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        yield from values
        while True:
            yield values[-1]

    kinds = {False: play(free), True: play(in_turn)}
    uses: list[HeapUse] = []
    for turns in schedule(uses, is_kept=is_kept, count=count):
        peak, made = next(kinds[turns])
        uses.append(
            HeapUse(peak_bytes=peak, mode=HeapMode.PYTHON, allocations=made if count else None, in_turn=turns)
        )
    return uses


def figures(uses: list[HeapUse]) -> list[Measurement]:
    found = heap_measurements(uses)
    assert found[0].value == found[0].low
    return found


def test_limits_alone_need_one_pass_with_threads_as_they_are() -> None:
    (use,) = passes([(5, 5)], [(9, 9)], is_kept=False)
    assert not use.in_turn


def test_steady_code_needs_three_passes_which_all_count() -> None:
    uses = passes([(10**6, 5000)], [(10**6, 5001)])
    assert [use.in_turn for use in uses] == [False, True, False]
    _, count = figures(uses)
    assert (count.value, count.high, count.detail["threads"]) == (5000, 5000, "free")


def test_what_the_first_pass_fills_is_not_counted() -> None:
    uses = passes([(10**6 + 50_000, 5100), (10**6, 5000)], [(10**6, 5000)])
    peak, count = figures(uses)
    assert (peak.value, count.value, count.high) == (10**6, 5000, 5000)


def test_threads_are_counted_in_turn_and_their_peak_is_taken_free() -> None:
    uses = passes([(10**6, 99_700), (10**6, 101_000)], [(2 * 10**6, 111_922), (2 * 10**6, 111_924)])
    assert sum(use.in_turn for use in uses) == 2
    peak, count = figures(uses)
    assert peak.value == 10**6
    assert (count.value, count.high, count.detail["threads"]) == (111_922, 111_924, "in turn")


def test_code_that_never_agrees_is_known_by_its_spread_after_ten_passes() -> None:
    uses = passes([(10**7 * n, 1000 * n) for n in (5, 3, 4)], [(1, 10**6 * n) for n in (7, 5, 6, 9, 8)])
    assert len(uses) == 10
    peak, count = figures(uses)
    assert (peak.low, peak.high) == (3 * 10**7, 5 * 10**7)
    assert (count.low, count.high) == (5 * 10**6, 9 * 10**6)


def test_peaks_that_differ_by_a_percent_are_not_steady() -> None:
    uses = passes([(1_800_000, 99_700), (1_785_000, 101_000), (1_790_000, 100_500)], [(1, 111_922)])
    assert sum(not use.in_turn for use in uses) == 5
    peak = figures(uses)[0]
    assert (peak.low, peak.high) == (1_785_000, 1_800_000)


def test_peaks_alone_need_no_turns() -> None:
    uses = passes([(10**6, 0)], [(1, 0)], count=False)
    assert [use.in_turn for use in uses] == [False, False, False]
    assert len(figures(uses)) == 1


def test_a_block_in_several_passes_is_worth_its_least() -> None:
    first, second = figures(passes([(10**6, 9)], [(10**6, 9)]))[0], figures(passes([(9, 9)], [(9, 9)]))[0]
    least = least_of([first, second, second])
    assert (least.value, least.high, least.detail["passes"]) == (9, 9, 3)


def test_turns_last_as_long_as_the_block_and_no_longer() -> None:
    before = sys.getswitchinterval()
    with taking_turns():
        assert sys.getswitchinterval() == pytest.approx(5.0)
    assert sys.getswitchinterval() == before
    with pytest.raises(ZeroDivisionError), taking_turns():
        raise ZeroDivisionError
    assert sys.getswitchinterval() == before


def test_a_thread_that_spins_until_another_has_worked_is_interrupted_in_the_end() -> None:
    before, done = sys.getswitchinterval(), threading.Event()
    with taking_turns(0.01):
        worker = threading.Thread(target=done.set)
        worker.start()
        while not done.is_set() or sys.getswitchinterval() != before:
            pass
    worker.join()
