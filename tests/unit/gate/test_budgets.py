import datetime as dt
from collections.abc import Mapping
from typing import Any

import pytest

from pytest_tradeperf.errors import MarkerError
from pytest_tradeperf.gate.budgets import BudgetSpec, breaches, read_budget
from pytest_tradeperf.model import Kind, Measurement, Metric, Verdict, Waiver
from pytest_tradeperf.units import parse_limit


def spec(**kwargs: Any) -> BudgetSpec:
    return read_budget([((), kwargs)])


def measured(name: str, value: float | str, unit: str = "ns", kind: Kind = Kind.TIMING) -> Measurement:
    return Measurement(metric=Metric(name=name, kind=kind, unit=unit), value=value)


def over(limits: Mapping[str, str], *measurements: Measurement) -> list[tuple[str, Verdict]]:
    budget = BudgetSpec(limits={name: parse_limit(text) for name, text in limits.items()})
    return [(row.metric, row.verdict) for row in breaches(budget, measurements, "t.py::a")]


def test_no_marker_is_no_budget() -> None:
    assert read_budget([]) == BudgetSpec()
    assert spec() == BudgetSpec()


def test_limits_are_read_in_their_own_dimension() -> None:
    limits = spec(wall="30s", cpu="250 ms", peak_rss="1 GiB").limits
    assert {name: limit.value for name, limit in limits.items()} == {
        "wall": 30e9,
        "cpu": 250e6,
        "peak_rss": 2.0**30,
    }


def test_the_nearest_marker_wins_and_limits_merge() -> None:
    merged = read_budget(
        [
            ((), {"wall": "1 s", "threshold": "3%"}),
            ((), {"wall": "9 s", "cpu": "2 s", "threshold": "9%", "rounds": 7}),
        ]
    )
    assert {name: str(limit) for name, limit in merged.limits.items()} == {
        "wall": "<= 1.00 s",
        "cpu": "<= 2.00 s",
    }
    assert merged.threshold == pytest.approx(0.03)
    assert merged.rounds == 7


def test_the_nearest_named_limit_wins_over_a_farther_built_in_one() -> None:
    merged = read_budget([((), {"limits": {"wall": "1 s"}}), ((), {"wall": "9 s"})])
    assert str(merged.limits["wall"]) == "<= 1.00 s"


def test_named_limits_take_any_dimension_and_side() -> None:
    limits = spec(limits={"bars_per_second": ">= 1000/s", "trades": "12"}).limits
    assert str(limits["bars_per_second"]) == ">= 1,000/s"
    assert str(limits["trades"]) == "<= 12"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"wal": "1 s"}, r"no argument 'wal'; did you mean 'wall'\?"),
        ({"zzz": 1}, "no argument 'zzz'; known: wall, cpu, peak_rss"),
        ({"wall": 0.25}, r"perf_budget\(wall=\.\.\.\): cannot read 0.25 as a quantity: write '250 ms'"),
        ({"wall": "-1 s"}, "not a finite quantity at or above zero"),
        ({"wall": "30 parsecs"}, "has the unit 'parsecs'"),
        ({"wall": "1 GiB"}, "has the unit 'GiB'"),
        ({"wall": "0 s"}, "can never be kept"),
        ({"limits": {"wall": "0 s"}}, "can never be kept"),
        ({"peak_rss": "500"}, "has no unit"),
        ({"wall": None}, "cannot read None"),
        ({"threshold": 0.03}, r"perf_budget\(threshold=\.\.\.\): cannot read 0.03 as a quantity: write '3%'"),
        ({"threshold": "-3%"}, "at or above zero"),
        ({"threshold": "<= 3%"}, "is a bound"),
        ({"rounds": 0}, "whole number of at least 1"),
        ({"rounds": 2.5}, "whole number of at least 1"),
        ({"rounds": True}, "whole number of at least 1"),
        ({"cache": "hot"}, "write 'cold' or 'warm'"),
        ({"cache": ["cold"]}, "write 'cold' or 'warm'"),
        ({"limits": "12"}, "write a mapping"),
        ({"limits": {"x": 12}}, r"perf_budget\(limits=\{'x': \.\.\.\}\): cannot read 12"),
        ({"accept": "3%"}, "needs reason and until too"),
        ({"until": "2027-01-31", "accept": "3%"}, "needs reason too"),
        ({"accept": "3%", "reason": " ", "until": "2027-01-31"}, "say why"),
        ({"accept": "3%", "reason": "x", "until": "soon"}, "write a date such as '2027-01-31'"),
        ({"accept": "3%", "reason": "x", "until": "2027-02-30"}, "write a date such as"),
        ({"accept": "3%", "reason": "x", "until": 2027}, "write a date such as"),
        ({"accept": 3, "reason": "x", "until": "2027-01-31"}, r"perf_budget\(accept=\.\.\.\): cannot read 3"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line_with_the_cure(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(MarkerError, match=message) as refused:
        spec(**kwargs)
    assert "\n" not in str(refused.value)


def test_positional_arguments_are_refused() -> None:
    with pytest.raises(MarkerError, match=r"keyword arguments only, not '1 s': write perf_budget\(wall="):
        read_budget([(("1 s",), {})])


def test_a_wrong_argument_of_a_farther_marker_is_refused_too() -> None:
    with pytest.raises(MarkerError, match="'wal'"):
        read_budget([((), {"wall": "1 s"}), ((), {"wal": "2 s"})])


@pytest.mark.parametrize(
    "until", ["2027-01-31", dt.date(2027, 1, 31), dt.datetime(2027, 1, 31, 12, tzinfo=dt.UTC)]
)
def test_a_waiver_ends_on_a_day_however_it_is_written(until: object) -> None:
    found = spec(accept="4%", reason="new risk check", until=until).waiver
    assert found == Waiver(fraction=0.04, reason="new risk check", until="2027-01-31")


def test_a_waiver_date_of_early_years_is_written_with_four_digits() -> None:
    waiver = spec(accept="3%", reason="x", until=dt.date(99, 1, 2)).waiver
    assert waiver is not None
    assert waiver.until == "0099-01-02"


def test_a_measurement_at_its_limit_is_within_it() -> None:
    assert over({"wall": "1 us"}, measured("wall", 1000.0)) == []


def test_a_measurement_above_its_limit_breaches_it_and_says_how_far() -> None:
    (row,) = breaches(spec(wall="1 us"), [measured("wall", 1500.0)], "t.py::a")
    assert row.verdict is Verdict.OVER_BUDGET
    assert row.note == "wall 1.50 us, limit <= 1.00 us (+50.0 %)"
    assert (row.accepted, row.measured, row.change) == (1000.0, 1500.0, 0.5)


def test_a_lower_limit_is_breached_from_below() -> None:
    rate = measured("bars_per_second", 400.0, "1/s")
    (row,) = breaches(spec(limits={"bars_per_second": ">= 1000/s"}), [rate], "t.py::a")
    assert row.note == "bars_per_second 400/s, limit >= 1,000/s (-60.0 %)"


def test_a_count_limited_to_zero_has_no_relative_excess() -> None:
    (row,) = breaches(spec(limits={"errors": "0"}), [measured("errors", 2, "1", Kind.COUNTER)], "t")
    assert (row.change, row.note) == (None, "errors 2, limit <= 0")


def test_a_limit_applies_to_every_part_and_cache_state() -> None:
    rows = over(
        {"wall": "1 us"},
        measured("parse.wall", 2000.0),
        measured("load.wall@cold", 3000.0),
        measured("load.wall@warm", 1.0),
        measured("parse.cpu", 9e9),
    )
    assert rows == [("parse.wall", Verdict.OVER_BUDGET), ("load.wall@cold", Verdict.OVER_BUDGET)]


def test_a_limit_on_a_part_applies_to_its_cache_states_only() -> None:
    rows = over({"load.wall": "1 us"}, measured("parse.wall", 2000.0), measured("load.wall@cold", 3000.0))
    assert rows == [("load.wall@cold", Verdict.OVER_BUDGET)]


def test_a_limit_on_what_was_not_measured_is_an_error_that_names_what_was() -> None:
    (row,) = breaches(spec(peak_rss="1 GiB"), [measured("wall", 1.0), measured("cpu", 1.0)], "t")
    assert row.verdict is Verdict.ERROR
    assert row.note == "limit on 'peak_rss', but the test measured only: wall, cpu"


@pytest.mark.parametrize(
    ("limit", "unit"), [("1 GiB", "ns"), ("12", "ns"), ("1 s", "1/s"), ("3%", "1"), ("5/s", "orders")]
)
def test_a_limit_in_another_dimension_is_an_error_and_never_kept(limit: str, unit: str) -> None:
    assert over({"x": limit}, measured("x", 1.0, unit)) == [("x", Verdict.ERROR)]


@pytest.mark.parametrize(
    ("limit", "unit"), [("12", "orders"), ("12", "bars/s"), ("12/s", "bars/s"), ("12/s", "1/s")]
)
def test_a_number_bounds_a_label_and_a_rate_a_label_per_second(limit: str, unit: str) -> None:
    assert over({"x": limit}, measured("x", 12.0, unit)) == []
    assert over({"x": limit}, measured("x", 13.0, unit)) == [("x", Verdict.OVER_BUDGET)]


def test_a_limit_on_a_digest_is_an_error() -> None:
    rows = over({"digest:a": "5"}, measured("digest:a", "sha256:0", "1", Kind.DIGEST))
    assert rows == [("digest:a", Verdict.ERROR)]
