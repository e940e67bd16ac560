"""What judging instructions added to counters: a label, what they were counted by, and absent instruments."""

import datetime as dt
from collections.abc import Mapping

import pytest

from pytest_tradeperf.errors import MarkerError
from pytest_tradeperf.gate.budgets import read_budget
from pytest_tradeperf.gate.judge import Context, judge
from pytest_tradeperf.model import (
    BaselineLine,
    Environment,
    Json,
    Kind,
    Measurement,
    Metric,
    TestRecord,
    Verdict,
)
from pytest_tradeperf.store.baseline import Baseline
from pytest_tradeperf.units import format_quantity, parse_limit
from pytest_tradeperf.workflow import accept

METRIC = Metric(name="parse.instructions", kind=Kind.COUNTER, relative=0.003)
CONTEXT = Context(threshold=0.02, today=dt.date(2026, 1, 1))
HERE = Environment(platform="linux", arch="x86_64", python="3.11", machine="a CPU")
DETAIL = {"label": "work, not time", "machine": "build 1"}


def record(value: float, detail: Mapping[str, Json] | None = None) -> TestRecord:
    measured = Measurement(metric=METRIC, value=value, detail=DETAIL if detail is None else detail)
    return TestRecord(test="t.py::a", measurements=(measured,))


def lines(machine: str | None = "build 1") -> dict[str, BaselineLine]:
    line = BaselineLine(test="t.py::a", metric=METRIC, value=1_000_000, machine=machine)
    return {METRIC.name: line}


@pytest.mark.parametrize(
    ("value", "verdict", "note"),
    [
        (1_002_900, Verdict.OK, "work, not time"),
        (1_010_000, Verdict.REGRESSED, "work, not time: 1,000,000 -> 1,010,000"),
        (990_000, Verdict.IMPROVED, "work, not time: 1,000,000 -> 990,000"),
    ],
)
def test_every_verdict_says_that_it_is_work(value: float, verdict: Verdict, note: str) -> None:
    (row,) = judge(record(value), lines(), CONTEXT).rows
    assert (row.verdict, row.note) == (verdict, note)


@pytest.mark.parametrize("value", [1_200_000, 800_000])
def test_a_change_counted_by_another_build_is_a_mismatch(value: float) -> None:
    (row,) = judge(record(value), lines("build 2"), CONTEXT).rows
    assert row.verdict is Verdict.MISMATCH
    assert "counted by build 1, accepted by build 2" in row.note


def test_no_change_is_ok_whatever_counted_it() -> None:
    (row,) = judge(record(1_000_500), lines("build 2"), CONTEXT).rows
    assert row.verdict is Verdict.OK


def test_a_line_without_a_build_decides_as_ever() -> None:
    (row,) = judge(record(1_200_000), lines(None), CONTEXT).rows
    assert row.verdict is Verdict.REGRESSED


def test_what_could_not_be_measured_is_not_missing() -> None:
    lacking = TestRecord(test="t.py::a", unavailable={"instructions": "no valgrind"})
    assert judge(lacking, lines(), CONTEXT).rows == ()
    (row,) = judge(TestRecord(test="t.py::a"), lines(), CONTEXT).rows
    assert row.verdict is Verdict.MISSING


def test_accepting_keeps_the_line_of_what_could_not_be_measured(tmp_path: object) -> None:
    stored = {line.key: line for line in lines().values()}
    baseline = Baseline(folder=tmp_path, key="k", lines=stored)  # type: ignore[arg-type]
    lacking = TestRecord(test="t.py::a", unavailable={"instructions": "no valgrind"})
    assert accept([lacking], baseline, HERE) == stored
    assert accept([TestRecord(test="t.py::a")], baseline, HERE) == {}


def test_an_accepted_count_says_what_counted_it(tmp_path: object) -> None:
    baseline = Baseline(folder=tmp_path, key="k")  # type: ignore[arg-type]
    (line,) = accept([record(5)], baseline, HERE).values()
    assert line.machine == "build 1"
    (plain,) = accept([record(5, {})], baseline, HERE).values()
    assert plain.machine is None


def test_a_count_may_be_written_as_a_number_or_in_millions() -> None:
    limits = read_budget([((), {"instructions": 2_000_000, "allocations": "3 k"})]).limits
    assert {name: limit.value for name, limit in limits.items()} == {"instructions": 2e6, "allocations": 3e3}
    assert format_quantity(parse_limit("2 M", "1").value, "1") == "2,000,000"


@pytest.mark.parametrize("value", [-1, False, "2 MB"])
def test_a_limit_that_is_no_count_is_refused(value: object) -> None:
    with pytest.raises(MarkerError, match="perf_budget"):
        read_budget([((), {"instructions": value})])
