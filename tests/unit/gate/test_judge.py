import datetime as dt
from dataclasses import replace
from typing import Any

import pytest

from pytest_tradeperf.gate.judge import Context, Judgement, allowed, judge, missing, waived
from pytest_tradeperf.measures.digest import digest
from pytest_tradeperf.measures.metrics import digest_metric
from pytest_tradeperf.model import (
    BaselineLine,
    Better,
    Kind,
    Measurement,
    Metric,
    Row,
    TestRecord,
    Verdict,
    Waiver,
)

TODAY = dt.date(2026, 6, 15)
CONTEXT = Context(
    threshold=0.02,
    today=TODAY,
    tree="tree-now",
    machine="m",
    dependencies={"numpy": "2.1.0", "pandas": "2.2"},
)
WALL = Metric(name="wall", kind=Kind.TIMING, unit="ns")
CALLS = Metric(name="calls", kind=Kind.COUNTER)
TEST = "t.py::a"


def waiver(until: str = "2026-12-31") -> Waiver:
    return Waiver(fraction=0.10, reason="new check", until=until)


def line(metric: Metric, value: float | str, **kwargs: Any) -> BaselineLine:
    return BaselineLine(test=TEST, metric=metric, value=value, **kwargs)


def judged(
    metric: Metric, old: float | str, new: float | str, *, accept: Waiver | None = None, **stored: Any
) -> Judgement:
    record = TestRecord(test=TEST, measurements=(Measurement(metric=metric, value=new),), accept=accept)
    return judge(record, {metric.name: line(metric, old, **stored)}, CONTEXT)


def row(metric: Metric, old: float | str, new: float | str, **kwargs: Any) -> Row:
    judgement = judged(metric, old, new, **kwargs)
    assert judgement.pending == ()
    (found,) = judgement.rows
    return found


def test_a_metric_without_a_line_is_new() -> None:
    record = TestRecord(test=TEST, measurements=(Measurement(metric=WALL, value=5.0),))
    (found,) = judge(record, {}, CONTEXT).rows
    assert (found.verdict, found.measured, found.accepted) == (Verdict.NEW, 5.0, None)


def test_a_line_without_a_metric_is_missing_with_the_cure() -> None:
    (found,) = judge(TestRecord(test=TEST), {"calls": line(CALLS, 5)}, CONTEXT).rows
    assert found.verdict is Verdict.MISSING
    assert found.note == "the test no longer measures it; --perf-update drops the line"


def test_a_line_of_a_test_that_is_gone_is_missing() -> None:
    assert missing(line(CALLS, 5), "the test is gone").verdict is Verdict.MISSING


@pytest.mark.parametrize(
    "change", [{"kind": Kind.TIMING}, {"unit": "B"}, {"better": Better.HIGHER}], ids=lambda c: next(iter(c))
)
def test_a_metric_that_changed_its_kind_is_a_mismatch(change: dict[str, Any]) -> None:
    record = TestRecord(test=TEST, measurements=(Measurement(metric=replace(CALLS, **change), value=5),))
    (found,) = judge(record, {"calls": line(CALLS, 5)}, CONTEXT).rows
    assert found.verdict is Verdict.MISMATCH
    assert "--perf-update" in found.note


@pytest.mark.parametrize(
    ("better", "new", "verdict"),
    [
        (Better.LOWER, 101, Verdict.REGRESSED),
        (Better.LOWER, 99, Verdict.IMPROVED),
        (Better.LOWER, 100, Verdict.OK),
        (Better.HIGHER, 99, Verdict.REGRESSED),
        (Better.HIGHER, 101, Verdict.IMPROVED),
        (Better.SAME, 99, Verdict.REGRESSED),
        (Better.SAME, 101, Verdict.REGRESSED),
        (Better.SAME, 100, Verdict.OK),
    ],
)
def test_an_exact_counter_is_judged_by_its_direction(better: Better, new: int, verdict: Verdict) -> None:
    assert row(replace(CALLS, better=better), 100, new).verdict is verdict


@pytest.mark.parametrize(
    ("new", "verdict"),
    [(115, Verdict.OK), (116, Verdict.REGRESSED), (85, Verdict.OK), (84, Verdict.IMPROVED)],
)
def test_a_counter_has_room_of_its_relative_and_absolute_tolerance(new: int, verdict: Verdict) -> None:
    assert row(replace(CALLS, relative=0.1, absolute=5), 100, new).verdict is verdict


def test_a_counter_that_leaves_zero_regresses_without_a_percentage() -> None:
    found = row(CALLS, 0, 1)
    assert (found.verdict, found.change, found.note) == (Verdict.REGRESSED, None, "0 -> 1")


def test_a_regressed_counter_shows_both_values_and_the_change() -> None:
    found = row(replace(CALLS, unit="B"), 1024, 2048)
    assert (found.note, found.change) == ("1.00 KiB -> 2.00 KiB", 1.0)


def test_a_waiver_covers_a_counter_by_its_own_size() -> None:
    assert row(CALLS, 100, 110, accept=waiver()).verdict is Verdict.OK
    assert row(CALLS, 100, 111, accept=waiver()).verdict is Verdict.REGRESSED


def test_an_expired_waiver_covers_nothing_not_even_the_threshold_of_timings() -> None:
    assert row(CALLS, 100, 101, accept=waiver("2026-06-14")).verdict is Verdict.REGRESSED


def test_a_waiver_stands_through_its_last_day() -> None:
    record = TestRecord(test=TEST, accept=waiver(TODAY.isoformat()))
    assert waived(record, CONTEXT) == 0.10
    assert waived(record, replace(CONTEXT, today=TODAY + dt.timedelta(days=1))) == 0


@pytest.mark.parametrize(
    ("threshold", "accept", "expected"),
    [
        (None, None, 0.02),
        (0.05, None, 0.05),
        (0.0, None, 0.0),
        (None, waiver(), 0.10),
        (0.20, waiver(), 0.20),
        (None, waiver("2026-01-01"), 0.02),
    ],
)
def test_the_allowed_change_is_marker_over_session_raised_by_a_standing_waiver(
    threshold: float | None, accept: Waiver | None, expected: float
) -> None:
    assert allowed(TestRecord(test=TEST, threshold=threshold, accept=accept), CONTEXT) == expected


def test_a_timing_of_other_code_waits_for_confirmation_with_its_threshold() -> None:
    judgement = judged(WALL, 100, 900, tree="tree-then")
    assert judgement.rows == ()
    assert [(p.test, p.threshold, p.line.value) for p in judgement.pending] == [(TEST, 0.02, 100)]


def test_a_timing_accepted_without_a_tree_waits_too() -> None:
    assert len(judged(WALL, 100, 900).pending) == 1


def test_a_timing_of_the_accepted_code_is_ok_however_it_came_out() -> None:
    found = row(WALL, 100, 900, tree="tree-now")
    assert (found.verdict, found.note, found.change) == (Verdict.OK, "same code", None)


def test_an_unknown_tree_on_both_sides_is_not_the_same_code() -> None:
    record = TestRecord(test=TEST, measurements=(Measurement(metric=WALL, value=5.0),))
    judgement = judge(record, {"wall": line(WALL, 5.0)}, replace(CONTEXT, tree=None))
    assert len(judgement.pending) == 1


def test_the_same_code_with_other_dependencies_is_a_mismatch_that_names_them() -> None:
    found = row(
        WALL, 100, 900, tree="tree-now", dependencies={"numpy": "2.0.9", "pandas": "2.2", "gone": "1"}
    )
    assert found.verdict is Verdict.MISMATCH
    assert "numpy 2.0.9 -> 2.1.0" in found.note
    assert "pandas" not in found.note


def test_a_counter_that_regressed_with_a_new_major_dependency_is_a_mismatch() -> None:
    found = row(CALLS, 100, 200, dependencies={"numpy": "1.26.4"})
    assert found.verdict is Verdict.MISMATCH
    assert "numpy 1.26.4 -> 2.1.0" in found.note


def test_a_counter_that_regressed_with_a_new_minor_dependency_regressed() -> None:
    assert row(CALLS, 100, 200, dependencies={"numpy": "2.0.0"}).verdict is Verdict.REGRESSED


def test_a_removed_dependency_is_named() -> None:
    context = replace(CONTEXT, dependencies={"numpy": "not installed"})
    record = TestRecord(test=TEST, measurements=(Measurement(metric=CALLS, value=200),))
    (found,) = judge(record, {"calls": line(CALLS, 100, dependencies={"numpy": "2.1"})}, context).rows
    assert (found.verdict, "numpy 2.1 -> not installed" in found.note) == (Verdict.MISMATCH, True)


def answer(value: object, *, exact: bool = False) -> Measurement:
    fingerprint, text = digest(value, exact=exact)
    return Measurement(metric=digest_metric("a"), value=fingerprint, text=text)


def answered(old: object, new: object, *, exact: bool = False, accept: Waiver | None = None) -> Row:
    before, now = answer(old, exact=exact), answer(new, exact=exact)
    stored = line(before.metric, before.value, text=before.text)
    record = TestRecord(test=TEST, measurements=(now,), accept=accept)
    (found,) = judge(record, {before.metric.name: stored}, CONTEXT).rows
    return found


def test_the_same_answer_is_ok() -> None:
    assert answered([0.1], [0.1]).verdict is Verdict.OK


def test_a_changed_answer_regresses_and_names_the_first_difference() -> None:
    found = answered({"pnl": 1.0}, {"pnl": 1.5})
    assert found.verdict is Verdict.REGRESSED
    assert found.note == "the answer changed, first at ['pnl']: 1.0 -> 1.5"


def test_an_answer_equal_but_for_rounding_is_ok_and_says_so() -> None:
    found = answered([0.3], [0.1 + 0.2])
    assert (found.verdict, found.note) == (Verdict.OK, "equal within 1e-09")


def test_an_exact_answer_has_no_room_for_rounding() -> None:
    assert answered([0.3], [0.1 + 0.2], exact=True).verdict is Verdict.REGRESSED


def test_an_answer_too_large_to_keep_still_regresses() -> None:
    old = [f"{i:0100}" for i in range(1000)]
    found = answered(old, [*old[:-1], "x"])
    assert found.verdict is Verdict.REGRESSED
    assert "too large" in found.note


def test_a_wrong_answer_has_no_waiver() -> None:
    assert answered([100], [101], accept=waiver()).verdict is Verdict.REGRESSED


def test_rows_come_in_the_order_of_measurement_and_missing_ones_last() -> None:
    measurements = tuple(Measurement(metric=replace(CALLS, name=name), value=1) for name in "ba")
    lines = {name: line(replace(CALLS, name=name), 1) for name in "abz"}
    rows = judge(TestRecord(test=TEST, measurements=measurements), lines, CONTEXT).rows
    assert [r.metric for r in rows] == ["b", "a", "z"]


@pytest.mark.parametrize(
    ("new", "verdict", "change"), [(-150, Verdict.REGRESSED, -0.5), (-50, Verdict.IMPROVED, 0.5)]
)
def test_the_change_of_a_negative_value_has_the_sign_of_its_direction(
    new: float, verdict: Verdict, change: float
) -> None:
    profit = Metric(name="profit", kind=Kind.COUNTER, unit="USD", better=Better.HIGHER)
    found = row(profit, -100, new)
    assert (found.verdict, found.change) == (verdict, change)
