from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from pytest_tradeperf.errors import MeasureError
from pytest_tradeperf.measures import metrics
from pytest_tradeperf.measures.metrics import checked_cache, checked_number, checked_unit, is_name, qualified
from pytest_tradeperf.model import Better, Kind


@pytest.mark.parametrize("name", ["parse", "bars_per_second", "p-99", "größe", "x" * 100])
def test_names_are_letters_digits_underscores_and_hyphens(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize("name", ["", "a b", "a.b", "a@b", "a:b", "a/b", "a\n", "x" * 101])
def test_what_would_break_a_metric_name_is_no_name(name: str) -> None:
    assert not is_name(name)


@pytest.mark.parametrize(
    ("part", "cache", "name"),
    [
        ("", None, "wall"),
        ("parse", None, "parse.wall"),
        ("", "cold", "wall@cold"),
        ("parse", "warm", "parse.wall@warm"),
    ],
)
def test_a_metric_is_qualified_by_part_and_cache(part: str, cache: str | None, name: str) -> None:
    assert qualified(metrics.WALL, part, cache).name == name


@pytest.mark.parametrize("cache", ["hot", "", "COLD"])
def test_a_cache_state_is_cold_or_warm(cache: str) -> None:
    with pytest.raises(MeasureError, match="write 'cold' or 'warm'"):
        checked_cache(cache)


def test_a_digest_is_portable_and_may_only_stay_the_same() -> None:
    metric = metrics.digest_metric("signals")
    assert (metric.name, metric.kind, metric.better, metric.portable) == (
        "digest:signals",
        Kind.DIGEST,
        Better.SAME,
        True,
    )


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (3, 3),
        (-2.5, -2.5),
        (np.int64(7), 7),
        (np.float32(0.5), 0.5),
        (np.array(4.0), 4.0),
        (np.array([4]), 4),
        (Decimal("1.25"), 1.25),
        (Fraction(1, 4), 0.25),
    ],
)
def test_recorded_values_become_plain_numbers(value: object, number: float) -> None:
    found = checked_number("x", value)
    assert found == number
    assert type(found) in (int, float)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        True,
        np.bool_(True),
        "5",
        None,
        1j,
        [1],
        np.array([1, 2]),
        np.nan,
        10**400,
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("1e999"),
        object(),
    ],
    ids=lambda v: type(v).__name__,
)
def test_what_is_no_finite_number_is_refused_in_one_line(value: object) -> None:
    with pytest.raises(MeasureError, match="the value must be a finite number") as refused:
        checked_number("x", value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (2, "s", (2e9, Kind.TIMING, "ns")),
        (3, "ms", (3e6, Kind.TIMING, "ns")),
        (5, "1/s", (5, Kind.TIMING, "1/s")),
        (60, "1/min", (1, Kind.TIMING, "1/s")),
        (5, "MB", (5e6, Kind.COUNTER, "B")),
        (5, "KiB", (5120, Kind.COUNTER, "B")),
        (50, "%", (0.5, Kind.COUNTER, "fraction")),
        (7, "1", (7, Kind.COUNTER, "1")),
        (7, "orders", (7, Kind.COUNTER, "orders")),
        (7, "bps", (7, Kind.COUNTER, "bps")),
        (7, "bars/s", (7, Kind.TIMING, "bars/s")),
        (7, "orders/min", (7, Kind.TIMING, "orders/min")),
    ],
)
def test_known_units_are_converted_and_others_kept_as_labels(
    value: float, unit: str, expected: tuple[float, Kind, str]
) -> None:
    assert checked_unit("x", value, unit) == expected


def test_a_plain_count_stays_an_integer() -> None:
    assert type(checked_unit("x", 7, "1")[0]) is int


@pytest.mark.parametrize("unit", ["", None, 5, "a\nb"])
def test_a_unit_is_printable_text(unit: object) -> None:
    with pytest.raises(MeasureError, match="must be text such as 's'"):
        checked_unit("x", 1.0, unit)  # type: ignore[arg-type]


def test_a_value_that_its_unit_makes_infinite_is_refused() -> None:
    with pytest.raises(MeasureError, match="too large"):
        checked_unit("x", 1e308, "h")
