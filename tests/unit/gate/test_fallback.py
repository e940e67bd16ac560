import datetime as dt
from dataclasses import replace

import pytest

from pytest_tradeperf.gate.fallback import Fresh, decide, suspects
from pytest_tradeperf.gate.judge import Context, Pending
from pytest_tradeperf.model import BaselineLine, Better, Kind, Measurement, Metric, Row, Verdict

CONTEXT = Context(threshold=0.02, today=dt.date(2026, 6, 15), machine="m")
WALL = Metric(name="wall", kind=Kind.TIMING, unit="ns")
CPU = Metric(name="cpu", kind=Kind.TIMING, unit="ns")
RATE = Metric(name="rate", kind=Kind.TIMING, unit="1/s", better=Better.HIGHER)
WHY = "no git here"


def pending(
    metric: Metric = CPU,
    old: float = 100.0,
    new: float = 100.0,
    *,
    noise: float = 0.01,
    machine: str = "m",
    threshold: float = 0.02,
    test: str = "t.py::a",
) -> Pending:
    stored = BaselineLine(test=test, metric=metric, value=old, noise=noise, machine=machine)
    return Pending(
        test=test, measurement=Measurement(metric=metric, value=new), line=stored, threshold=threshold
    )


def one(item: Pending, *fresh: float) -> Row:
    key = (item.test, item.measurement.metric.name)
    (found,) = decide([item], {key: fresh} if fresh else {}, CONTEXT, WHY)
    return found


@pytest.mark.parametrize(
    ("metric", "new", "is_suspect"),
    [
        (CPU, 251, True),
        (CPU, 249, False),
        (CPU, 39, True),
        (CPU, 41, False),
        (WALL, 251, True),
        (WALL, 249, False),
        (WALL, 39, True),
        (RATE, 39, True),
        (RATE, 41, False),
        (RATE, 251, True),
    ],
)
def test_suspects_lie_beyond_what_a_stored_number_may_call(
    metric: Metric, new: float, is_suspect: bool
) -> None:
    assert bool(suspects([pending(metric, new=new)], CONTEXT)) is is_suspect


def test_a_number_of_another_machine_makes_no_suspect() -> None:
    assert suspects([pending(new=900, machine="other")], CONTEXT) == []


def test_a_number_of_another_machine_is_a_mismatch_that_names_it() -> None:
    found = one(pending(new=900, machine="other"))
    assert found.verdict is Verdict.MISMATCH
    assert "accepted on another machine (other)" in found.note


def test_a_small_difference_is_undecided_with_the_detectable_size() -> None:
    found = one(pending(new=104))
    assert found.verdict is Verdict.UNDECIDED
    assert found.detectable == 1.5
    assert found.note == "blind below +150 %: no git here"


def test_no_difference_is_undecided_too_where_the_threshold_cannot_be_seen() -> None:
    assert one(pending(new=100)).verdict is Verdict.UNDECIDED


def test_no_difference_is_ok_where_the_threshold_is_wide_enough_to_be_seen() -> None:
    found = one(pending(new=104, threshold=1.6))
    assert (found.verdict, found.note) == (Verdict.OK, "regressions from 160 % are seen")


def test_a_large_difference_that_fresh_processes_confirm_regresses() -> None:
    found = one(pending(new=300), 310.0, 290.0, 305.0)
    assert found.verdict is Verdict.REGRESSED
    assert found.change == pytest.approx(2.025)
    assert "100 ns -> 302 ns, 3.02 x the accepted value" in found.note


def test_a_machine_that_takes_nearly_twice_as_long_for_a_while_is_no_regression() -> None:
    assert one(pending(old=6.17, new=11.7), 11.7, 11.1, 11.6, 11.7).verdict is Verdict.UNDECIDED


def test_a_large_difference_without_fresh_processes_is_undecided() -> None:
    assert one(pending(new=300)).verdict is Verdict.UNDECIDED


def test_the_value_shown_is_the_one_its_change_is_about() -> None:
    found = one(pending(new=900), 59, 59, 59, 59)
    assert found.change is not None
    assert found.measured == pytest.approx(100 * (1 + found.change))


def test_one_friendly_process_clears_a_suspect() -> None:
    assert one(pending(new=300), 310.0, 100.0, 305.0).verdict is Verdict.UNDECIDED


def test_noise_at_acceptance_widens_what_must_be_exceeded() -> None:
    assert one(pending(new=300, noise=0.4), 310.0, 290.0).verdict is Verdict.UNDECIDED


def test_a_confirmed_large_gain_is_improved() -> None:
    assert one(pending(new=30), 31.0, 29.0).verdict is Verdict.IMPROVED


def test_a_rate_that_falls_regresses_by_what_it_costs() -> None:
    assert one(pending(RATE, new=30), 31.0, 29.0).verdict is Verdict.REGRESSED
    assert one(pending(RATE, new=300), 310.0, 290.0).verdict is Verdict.IMPROVED


def test_a_rate_that_falls_to_zero_regresses() -> None:
    assert one(pending(RATE, new=0), 0.0, 0.0).verdict is Verdict.REGRESSED


def test_a_time_below_the_clock_is_an_improvement_and_no_crash() -> None:
    assert one(pending(new=0), 0.0, 0.0).verdict is Verdict.IMPROVED


@pytest.mark.parametrize("old", [0.0, -1.0])
def test_an_accepted_value_that_is_not_positive_is_a_mismatch(old: float) -> None:
    found = one(pending(old=old, new=5))
    assert (found.verdict, found.note) == (Verdict.MISMATCH, "the accepted value is not a positive number")


def pair(
    wall: tuple[float, float], cpu: tuple[float, float], prefix: str = "", suffix: str = ""
) -> list[Pending]:
    return [
        pending(replace(WALL, name=f"{prefix}wall{suffix}"), *wall),
        pending(replace(CPU, name=f"{prefix}cpu{suffix}"), *cpu),
    ]


def verdicts(items: list[Pending], fresh: Fresh) -> list[Verdict]:
    return [row.verdict for row in decide(items, fresh, CONTEXT, WHY)]


@pytest.mark.parametrize(("prefix", "suffix"), [("", ""), ("parse.", ""), ("parse.", "@cold"), ("", "@warm")])
def test_a_cpu_bound_test_does_not_fail_by_wall_time_alone(prefix: str, suffix: str) -> None:
    items = pair((100, 900), (95, 96), prefix, suffix)
    fresh = {("t.py::a", f"{prefix}wall{suffix}"): [900.0, 910.0]}
    assert verdicts(items, fresh) == [Verdict.UNDECIDED, Verdict.UNDECIDED]


def test_a_cpu_bound_test_fails_when_both_grew() -> None:
    fresh = {("t.py::a", "wall"): [900.0, 910.0], ("t.py::a", "cpu"): [900.0, 910.0]}
    assert verdicts(pair((100, 900), (95, 900)), fresh) == [Verdict.REGRESSED, Verdict.REGRESSED]


def test_a_test_that_waits_fails_by_wall_time_alone() -> None:
    fresh = {("t.py::a", "wall"): [900.0, 910.0]}
    assert verdicts(pair((100, 900), (5, 5)), fresh) == [Verdict.REGRESSED, Verdict.UNDECIDED]


def test_rows_come_in_the_order_they_were_pending() -> None:
    items = [pending(test=f"t.py::{name}") for name in "cab"]
    assert [row.test for row in decide(items, {}, CONTEXT, WHY)] == ["t.py::c", "t.py::a", "t.py::b"]


def test_another_major_version_of_a_dependency_decides_nothing() -> None:
    item = pending(new=1000)
    item = replace(item, line=replace(item.line, dependencies={"numpy": "1.26.4"}))
    context = replace(CONTEXT, dependencies={"numpy": "2.4.0"})
    (row,) = decide([item], {}, context, "no git")
    assert row.verdict is Verdict.MISMATCH
    assert "numpy 1.26.4 -> 2.4.0" in row.note


def timed(old: float, new: float, *, iterations: int, rounds: int) -> Pending:
    item = pending(old=old, new=new)
    detail = {"iterations": iterations, "rounds": rounds}
    return replace(item, measurement=replace(item.measurement, detail=detail))


def test_a_round_must_change_by_more_than_a_disturbance() -> None:
    single = timed(80_000.0, 240_000.0, iterations=1, rounds=30)
    assert one(single, 240_000.0).verdict is Verdict.UNDECIDED
    assert suspects([single], CONTEXT) == []
    assert one(timed(80_000.0, 240_000.0, iterations=10, rounds=30), 240_000.0).verdict is Verdict.REGRESSED


@pytest.mark.parametrize(("old", "new"), [(400_000.0, 100_000.0), (100_000.0, 400_000.0)])
def test_a_short_body_timed_five_times_decides_nothing_whichever_side_was_slow(
    old: float, new: float
) -> None:
    item = timed(old, new, iterations=1, rounds=5)
    assert suspects([item], CONTEXT) == []
    assert one(item, new, new).verdict is Verdict.UNDECIDED


def test_a_long_body_timed_five_times_still_fails() -> None:
    assert one(timed(2e7, 6e7, iterations=1, rounds=5), 6e7, 6e7).verdict is Verdict.REGRESSED
