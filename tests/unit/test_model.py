import dataclasses
import math

import pytest

import pytest_tradeperf
from pytest_tradeperf import model
from pytest_tradeperf.model import BaselineLine, Environment, Kind, Metric, Sample, Verdict


def test_the_nine_verdicts_are_ordered_by_severity() -> None:
    assert [str(v) for v in sorted(Verdict, key=lambda v: v.severity)] == [
        "regressed",
        "over_budget",
        "error",
        "undecided",
        "mismatch",
        "missing",
        "new",
        "improved",
        "ok",
    ]


def test_only_regressions_and_budgets_fail_without_strict() -> None:
    assert {v for v in Verdict if v.is_failure} == {Verdict.REGRESSED, Verdict.OVER_BUDGET}


def test_strict_adds_undecided_new_missing_and_mismatch() -> None:
    added = {v for v in Verdict if v.is_strict_failure and not v.is_failure}
    assert added == {Verdict.UNDECIDED, Verdict.NEW, Verdict.MISSING, Verdict.MISMATCH}


@pytest.mark.parametrize("tolerance", [-0.1, math.nan, math.inf])
def test_a_tolerance_is_finite_and_not_negative(tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerances of 'x'"):
        Metric(name="x", kind=Kind.COUNTER, relative=tolerance)
    with pytest.raises(ValueError, match="tolerances of 'x'"):
        Metric(name="x", kind=Kind.COUNTER, absolute=tolerance)


def test_a_metric_needs_a_name() -> None:
    with pytest.raises(ValueError, match="needs a name"):
        Metric(name="", kind=Kind.COUNTER)


@pytest.mark.parametrize(
    ("iterations", "wall", "cpu"), [(0, (1,), (1,)), (1, (), ()), (1, (1, 2), (1,)), (-1, (1,), (1,))]
)
def test_a_sample_has_rounds_of_at_least_one_iteration(
    iterations: int, wall: tuple[int, ...], cpu: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="a sample needs rounds"):
        Sample(iterations=iterations, wall_ns=wall, cpu_ns=cpu)


def test_a_baseline_line_is_unique_by_test_and_metric() -> None:
    line = BaselineLine(test="t.py::a", metric=Metric(name="wall", kind=Kind.TIMING), value=1)
    assert line.key == ("t.py::a", "wall")


def test_the_baseline_file_is_named_by_platform_architecture_and_python() -> None:
    env = Environment(platform="linux", arch="x86_64", python="3.11", machine="m")
    assert env.key == "linux-x86_64-3.11"


RECORDS = [v for v in vars(model).values() if dataclasses.is_dataclass(v) and isinstance(v, type)]


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: str(r.__name__))
def test_records_are_frozen_and_take_keywords_only(record: type) -> None:
    assert record.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert all(f.kw_only for f in dataclasses.fields(record))
    assert hasattr(record, "__slots__")


@pytest.mark.parametrize("name", pytest_tradeperf.__all__)
def test_public_names_are_found_on_the_package(name: str) -> None:
    assert getattr(pytest_tradeperf, name) is not None


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'pytest_tradeperf' has no attribute 'Nope'"):
        pytest_tradeperf.Nope  # noqa: B018 - looking it up is the test
