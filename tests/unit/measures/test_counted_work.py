from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

import pytest

from pytest_tradeperf.errors import MeasureError, UnavailableError
from pytest_tradeperf.measures.rounds import Cost, Schedule
from pytest_tradeperf.measures.work import (
    ENOUGH,
    MORE_PASSES,
    MOST_CALLS,
    PASSES,
    Valgrind,
    WorkCounter,
    counted_by,
    ending,
    find_valgrind,
    total_of,
)
from pytest_tradeperf.model import Kind


class Played(WorkCounter):
    """Counts a callable of known work: copies are played, and every other fork costs 3,500 more."""

    def __init__(self, work: int, jitter: tuple[int, ...] = (0,)) -> None:
        super().__init__(total=lambda process: self.totals[process])
        self.work, self.jitter = work, jitter
        self.totals: list[int] = []
        self.copies: list[int] = []

    def _copy(self, calls: int) -> Generator[int, Cost, int]:
        drawn = self.jitter[len(self.copies) % len(self.jitter)]
        self.totals.append(5_000_000 + 3_500 * len(self.copies) + calls * (self.work + drawn))
        self.copies.append(calls)
        return len(self.copies) - 1
        yield 0


def calls_of(schedule: Schedule) -> list[int]:
    """Drive a schedule without running anything; return the calls it asks of the process itself."""
    asked = []
    with suppress(StopIteration):
        step = next(schedule)
        while True:
            asked.append(step)
            step = schedule.send(Cost(1, 1))
    return asked


def put(folder: Path, answer: str) -> None:
    script = folder / "valgrind"
    script.write_text(f"#!/bin/sh\n{answer}\n")
    script.chmod(0o755)


def test_the_work_of_a_call_is_found_to_a_tenth_of_a_percent() -> None:
    counter = Played(2_000_000)
    calls_of(counter.schedule(cold=False))
    (count,) = counter.counts
    assert count.instructions == pytest.approx(2_000_000, rel=1e-3)
    assert count.passes == PASSES
    assert count.calls * 2_000_000 >= ENOUGH


def test_the_first_call_of_a_copy_is_in_neither_side_of_the_difference() -> None:
    counter = Played(2_000_000)
    calls_of(counter.schedule(cold=False))
    assert counter.copies[2:] == [1, 2, *[1, 9] * PASSES]  # one first, then as many as fill the difference


def test_a_tiny_callable_is_called_no_more_often_than_the_most() -> None:
    counter = Played(10)
    asked = calls_of(counter.schedule(cold=False))
    assert counter.counts[0].calls == MOST_CALLS
    assert asked == [1, 1, 64]


def test_a_callable_that_works_for_long_is_counted_once() -> None:
    counter = Played(3_000_000_000)
    assert calls_of(counter.schedule(cold=False)) == [1, 1]
    assert counter.copies == [0, 1]
    assert counter.counts[0].passes == 1


def test_a_cold_callable_is_counted_before_its_first_call() -> None:
    counter = Played(2_000_000)
    assert calls_of(counter.schedule(cold=True)) == [1]
    assert counter.copies == [0, 1]
    assert counter.counts[0].instructions == 2_003_500


def test_work_that_is_not_the_same_every_time_shows_its_spread() -> None:
    counter = Played(2_000_000, jitter=(0, 0, 9_000, 0, 40_000, 20_000, 3_000))
    calls_of(counter.schedule(cold=False))
    (count,) = counter.counts
    assert count.passes == MORE_PASSES
    assert count.high - count.low > 0.005 * count.instructions


def test_the_metric_is_a_counter_named_after_its_part() -> None:
    counter = Played(2_000_000)
    calls_of(counter.schedule(cold=False))
    measured = counter.counts[0].measurement("a machine", "parse", "warm")
    assert measured.metric.name == "parse.instructions@warm"
    assert measured.metric.kind is Kind.COUNTER
    assert measured.metric.relative == 0.0075
    assert measured.detail["label"] == "work, not time"
    assert measured.detail["machine"] == "a machine"


def test_a_total_is_the_summary_of_its_process_and_its_file_goes(tmp_path: Path) -> None:
    (tmp_path / "42").write_text("desc: I1 cache\nevents: Ir\nfn=x\n1 2\nsummary: 34404984\n")
    assert total_of(tmp_path, 42) == 34_404_984
    with pytest.raises(MeasureError, match="valgrind left no total"):
        total_of(tmp_path, 42)


def test_a_file_without_a_summary_is_no_total(tmp_path: Path) -> None:
    (tmp_path / "7").write_text("events: Ir\n")
    with pytest.raises(MeasureError, match="valgrind left no total"):
        total_of(tmp_path, 7)


def test_another_system_has_no_valgrind() -> None:
    with pytest.raises(UnavailableError, match="by valgrind on Linux, and this is darwin"):
        find_valgrind("darwin")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("echo valgrind-3.14.0", r"valgrind 3\.14\.0 is too old to count with: 3\.15 or newer"),
        ("echo broken >&2", "says 'broken', which names no version"),
        ("true", "says 'nothing', which names no version"),
    ],
)
def test_a_valgrind_that_cannot_count_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, message: str
) -> None:
    put(tmp_path, answer)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match=message):
        find_valgrind("linux")


def test_without_valgrind_the_cure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="not on the PATH: apt-get install valgrind"):
        find_valgrind("linux")


def test_a_valgrind_in_order_says_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "echo valgrind-3.22.0.GIT")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_valgrind("linux") == Valgrind(path=str(tmp_path / "valgrind"), version="3.22.0.GIT")


def test_what_counted_names_python_library_and_valgrind() -> None:
    told = counted_by("3.22.0")
    assert told.startswith("CPython 3.")
    assert told.endswith("valgrind 3.22.0")


def test_an_ending_names_the_signal() -> None:
    assert ending(6) == "SIGABRT"
    assert ending(256) == "an error"
