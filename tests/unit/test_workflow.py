import datetime as dt
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from pytest_tradeperf import workflow
from pytest_tradeperf.errors import WorkerError
from pytest_tradeperf.gate.judge import Context, Pending
from pytest_tradeperf.measures.digest import digest
from pytest_tradeperf.measures.metrics import digest_metric
from pytest_tradeperf.model import (
    BaselineLine,
    Environment,
    Kind,
    Measurement,
    Metric,
    Row,
    TestRecord,
    Verdict,
    Waiver,
)
from pytest_tradeperf.store.baseline import Baseline

WALL = Metric(name="wall", kind=Kind.TIMING, unit="ns")
CPU = Metric(name="cpu", kind=Kind.TIMING, unit="ns")
CALLS = Metric(name="calls", kind=Kind.COUNTER)
CONTEXT = Context(threshold=0.02, today=dt.date(2026, 6, 15), machine="m")
ENVIRONMENT = Environment(
    platform="linux", arch="x", python="3.11", machine="m", source_tree="new", dependencies={"numpy": "2"}
)


def timed(value: float, *, noise: float | None = None, metric: Metric = WALL) -> Measurement:
    return Measurement(metric=metric, value=value, detail={} if noise is None else {"noise": noise})


def record(*measurements: Measurement, test: str = "t.py::a") -> TestRecord:
    return TestRecord(test=test, measurements=measurements)


def baseline(*lines: BaselineLine) -> Baseline:
    return Baseline(folder=Path("b"), key="k", lines={line.key: line for line in lines}, exists=True)


def line(value: float | str, metric: Metric = WALL, test: str = "t.py::a", **kwargs: Any) -> BaselineLine:
    stored = {"machine": "m", "noise": 0.01} if metric.kind is Kind.TIMING else {}
    return BaselineLine(test=test, metric=metric, value=value, **{**stored, **kwargs})


def accepted(measurement: Measurement, *before: BaselineLine) -> BaselineLine:
    found = workflow.accept([record(measurement)], baseline(*before), ENVIRONMENT)
    return found["t.py::a", measurement.metric.name]


def test_every_record_is_judged_against_its_own_lines() -> None:
    found = workflow.judge_run(
        [record(timed(5, metric=CALLS)), record(timed(5, metric=CALLS), test="t.py::b")],
        baseline(line(5, CALLS), line(4, CALLS, "t.py::b")),
        CONTEXT,
    )
    assert [(row.test, row.verdict) for row in found.rows] == [
        ("t.py::a", Verdict.OK),
        ("t.py::b", Verdict.REGRESSED),
    ]


def waiting(metric: Metric, new: float, test: str = "t.py::a") -> Pending:
    return Pending(
        test=test, measurement=timed(new, metric=metric), line=line(100, metric, test), threshold=0.02
    )


def confirmed(pending: list[Pending], *, again: float | None) -> tuple[list[Row], list[list[str]]]:
    """Confirm with processes that measure ``again``, or die when that is None."""
    asked: list[list[str]] = []

    def remeasure(tests: list[str]) -> Iterable[TestRecord]:
        asked.append(tests)
        if again is None:
            raise WorkerError("a measuring process died")
        return [record(timed(again), timed(again, metric=CPU), test=test) for test in tests]

    rows = workflow.confirm_with_stored(pending, CONTEXT, remeasure, "no git", lambda _: None)
    return rows, asked


def test_only_suspects_are_measured_again_each_in_four_fresh_processes() -> None:
    rows, asked = confirmed([waiting(WALL, 900), waiting(WALL, 101, "t.py::b")], again=900)
    assert asked == [["t.py::a"]] * workflow.FRESH_PROCESSES
    assert [row.verdict for row in rows] == [Verdict.REGRESSED, Verdict.UNDECIDED]


def test_without_suspects_nothing_is_measured_again() -> None:
    assert confirmed([waiting(WALL, 101)], again=900)[1] == []


def test_a_suspect_that_was_a_disturbance_is_cleared() -> None:
    rows, _ = confirmed([waiting(WALL, 900)], again=100)
    assert [row.verdict for row in rows] == [Verdict.UNDECIDED]


def test_a_measuring_process_that_dies_is_an_error_and_loses_no_row() -> None:
    rows, _ = confirmed([waiting(WALL, 900), waiting(CPU, 101), waiting(WALL, 101, "t.py::b")], again=None)
    assert [(row.test, row.metric, row.verdict) for row in rows] == [
        ("t.py::a", "wall", Verdict.ERROR),
        ("t.py::a", "cpu", Verdict.UNDECIDED),
        ("t.py::b", "wall", Verdict.UNDECIDED),
    ]
    assert rows[0].note == "a measuring process died"


def test_progress_says_how_far_confirmation_is() -> None:
    said: list[str] = []
    workflow.confirm_with_stored([waiting(WALL, 900)], CONTEXT, lambda _: [], "no git", said.append)
    assert len(said) == workflow.FRESH_PROCESSES
    assert "(1/4)" in said[0]


def test_stored_tests_of_whole_files_that_were_not_collected_are_gone() -> None:
    stored = baseline(
        line(1), line(1, test="t.py::gone"), line(1, CPU, "t.py::gone"), line(1, test="other.py::x[a::b]")
    )
    rows = workflow.missing_tests(stored, ["t.py::a"], lambda file: file == "t.py")
    assert [(row.test, row.metric) for row in rows] == [("t.py::gone", "wall"), ("t.py::gone", "cpu")]


def test_pruning_drops_the_lines_that_are_gone_and_no_others() -> None:
    stored = baseline(line(1), line(1, test="t.py::gone"))
    gone = workflow.missing_tests(stored, ["t.py::a"], lambda _: True)
    assert list(workflow.prune(stored.lines, gone)) == [("t.py::a", "wall")]


def test_accepting_a_test_leaves_the_lines_of_others_and_drops_its_own_stale_ones() -> None:
    other = line(1, test="t.py::b")
    lines = workflow.accept([record(timed(5.0))], baseline(line(1, CPU), other), ENVIRONMENT)
    assert sorted(lines) == [("t.py::a", "wall"), ("t.py::b", "wall")]
    assert lines[other.key] is other


def test_a_timing_is_stored_with_where_and_what_it_was_measured_on() -> None:
    found = accepted(timed(1000.0, noise=0.0199))
    assert (found.machine, found.tree, found.noise, found.dependencies) == ("m", "new", 0.02, {"numpy": "2"})


def test_a_counter_is_stored_without_machine_tree_and_noise() -> None:
    found = accepted(timed(7, metric=CALLS))
    assert (found.value, found.machine, found.tree, found.noise) == (7, None, None, None)


@pytest.mark.parametrize(
    ("value", "spread", "stored"),
    [(123456.789, 0.1, 123000), (123456.789, 0.001, 123500), (123456.789, 0.0, 123457), (0.0, 0.0, 0)],
)
def test_a_timing_is_rounded_to_the_digit_of_its_noise(value: float, spread: float, stored: float) -> None:
    assert accepted(timed(value, noise=spread)).value == stored


def test_a_timing_within_its_noise_keeps_the_stored_value_on_the_new_tree() -> None:
    found = accepted(timed(1005.0), line(1000, tree="old"))
    assert (found.value, found.noise, found.tree) == (1000, 0.01, "new")


def test_a_timing_beyond_its_noise_gets_the_new_value() -> None:
    assert accepted(timed(1100.0), line(1000)).value == 1100


def test_a_timing_of_another_machine_gets_the_new_value() -> None:
    assert accepted(timed(1005.0), line(1000, machine="other")).value == 1005


def test_an_exact_counter_gets_its_new_value() -> None:
    assert accepted(timed(6, metric=CALLS), line(5, CALLS)).value == 6


def test_an_answer_equal_but_for_rounding_keeps_what_is_stored() -> None:
    metric = digest_metric("a")
    old, new = digest([0.3]), digest([0.1 + 0.2])
    found = accepted(Measurement(metric=metric, value=new[0], text=new[1]), line(old[0], metric, text=old[1]))
    assert (found.value, found.text) == old


def test_a_changed_answer_is_stored_anew() -> None:
    metric = digest_metric("a")
    old, new = digest([0.3]), digest([0.4])
    found = accepted(Measurement(metric=metric, value=new[0], text=new[1]), line(old[0], metric, text=old[1]))
    assert (found.value, found.text) == new


@pytest.mark.parametrize(
    ("until", "expected"),
    [
        ("2026-06-15", "accepts 7 % until 2026-06-15: new check"),
        ("2026-06-14", "expired on 2026-06-14, judged at its own threshold again: remove it or extend it"),
    ],
)
def test_every_waiver_is_summed_up_through_its_last_day(until: str, expected: str) -> None:
    waiver = Waiver(fraction=0.07, reason="new check", until=until)
    records = [TestRecord(test="t.py::a", accept=waiver), TestRecord(test="t.py::b")]
    assert workflow.summary_of_waivers(records, CONTEXT.today) == [f"waiver of t.py::a {expected}"]
