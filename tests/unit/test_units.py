import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tradeperf.errors import TradeperfError, UnitError
from pytest_tradeperf.units import (
    Limit,
    format_duration,
    format_factor,
    format_percent,
    format_quantity,
    parse_duration_ns,
    parse_fraction,
    parse_limit,
    parse_size_bytes,
)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("250 ms", 250_000_000),
        ("30s", 30_000_000_000),
        ("5min", 300_000_000_000),
        ("1.5 us", 1500),
        ("2 µs", 2000),
        ("2 μs", 2000),
        ("  7ns ", 7),
        (".5 s", 500_000_000),
        ("1e-3 s", 1_000_000),
        ("1_000 ns", 1000),
        ("1,000 ns", 1000),
        ("+1 h", 3_600_000_000_000),
        ("0 s", 0),
    ],
)
def test_durations_become_whole_nanoseconds(text: str, ns: int) -> None:
    assert parse_duration_ns(text) == ns


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("500 MB", 500_000_000),
        ("500 MiB", 524_288_000),
        ("1 KB", 1000),
        ("1 kB", 1000),
        ("1 KiB", 1024),
        ("2GB", 2 * 10**9),
        ("2GiB", 2 * 2**30),
        ("1TiB", 2**40),
        ("12B", 12),
    ],
)
def test_decimal_prefixes_are_thousands_and_binary_ones_1024(text: str, size: int) -> None:
    assert parse_size_bytes(text) == size


@pytest.mark.parametrize(("text", "fraction"), [("3%", 0.03), ("0.5 %", 0.005), ("150%", 1.5), ("0%", 0.0)])
def test_percentages_become_fractions(text: str, fraction: float) -> None:
    assert parse_fraction(text) == pytest.approx(fraction, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "value", "unit", "at_least"),
    [
        (">= 1000/s", 1000, "1/s", True),
        (">=60/min", 1, "1/s", True),
        ("<= 5 Hz", 5, "1/s", False),
        ("1200", 1200, "1", False),
        (">= 12", 12, "1", True),
        ("40 J", 40, "J", False),
        ("1 Wh", 3600, "J", False),
        ("3%", 0.03, "fraction", False),
    ],
)
def test_a_limit_names_its_own_dimension_and_side(text: str, value: float, unit: str, at_least: bool) -> None:
    limit = parse_limit(text)
    assert limit.value == pytest.approx(value)
    assert (limit.unit, limit.at_least) == (unit, at_least)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fast",
        "ms",
        "1 2 ms",
        "5 parsecs",
        "1,5 s",
        "1,0000 s",
        "0x10 s",
        "--1 s",
        "1 s\n2 s",
        "= 5 s",
        "5",
        "-1 s",
        "nan s",
        "inf s",
        "1e999 s",
        "1e308 h",
        "1 GiB",
        "> 5 s",
        "5 MS",
    ],
)
def test_what_is_no_duration_is_refused_by_value_with_an_example(text: str) -> None:
    with pytest.raises(UnitError) as refused:
        parse_duration_ns(text)
    assert repr(text) in str(refused.value)
    assert "250 ms" in str(refused.value)


@pytest.mark.parametrize("value", [None, 5, 0.25, b"5 s", ["5 s"], True])
def test_a_number_without_text_is_refused(value: object) -> None:
    with pytest.raises(UnitError, match="write '3%'"):
        parse_fraction(value)


def test_a_wrong_unit_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnitError, match=r"has the unit 'parsecs': .*units: ns, us, ms, s, sec, min, h\)"):
        parse_duration_ns("30 parsecs")
    with pytest.raises(UnitError, match="has no unit"):
        parse_size_bytes("500")


def test_a_bound_is_refused_where_a_plain_quantity_is_expected() -> None:
    with pytest.raises(UnitError, match="is a bound"):
        parse_fraction(">= 3%")


def test_unit_errors_belong_to_the_tree_and_are_value_errors() -> None:
    assert issubclass(UnitError, TradeperfError)
    assert issubclass(UnitError, ValueError)


def test_an_upper_limit_allows_itself_and_below_but_never_nan() -> None:
    limit = Limit(value=5.0, unit="ns")
    assert limit.allows(5.0)
    assert limit.allows(4.9)
    assert not limit.allows(5.1)
    assert not limit.allows(math.nan)


def test_a_lower_limit_allows_itself_and_above_but_never_nan() -> None:
    limit = Limit(value=5.0, unit="1/s", at_least=True)
    assert limit.allows(5.0)
    assert limit.allows(5.1)
    assert not limit.allows(4.9)
    assert not limit.allows(math.nan)


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 ns"),
        (0.0012, "0.0012 ns"),
        (0.25, "0.25 ns"),
        (7, "7 ns"),
        (1.5, "1.50 ns"),
        (359, "359 ns"),
        (9.999, "10 ns"),
        (99.96, "100 ns"),
        (999.7, "1.00 us"),
        (999_600, "1.00 ms"),
        (41_234_567, "41.2 ms"),
        (1_234_000_000, "1.23 s"),
        (59_990_000_000, "1.00 min"),
        (90e9, "1.50 min"),
        (3600e9 * 100, "6,000 min"),
        (-2500, "-2.50 us"),
        (math.nan, "nan ns"),
        (math.inf, "inf ns"),
    ],
)
def test_durations_print_with_three_digits_in_a_fitting_unit(ns: float, text: str) -> None:
    assert format_duration(ns) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (512, "B", "512 B"),
        (1024, "B", "1.00 KiB"),
        (1023 * 1024, "B", "1,023 KiB"),
        (5 * 1024**4, "B", "5.00 TiB"),
        (1000, "1/s", "1,000/s"),
        (0.5, "1/s", "0.5/s"),
        (1234567, "1", "1,234,567"),
        (12, "orders", "12 orders"),
        (1.23456, "bps", "1.235 bps"),
        (12345.678, "", "12,346"),
        (2.5e18, "1", "2.5e+18"),
        (40, "J", "40 J"),
        (0.031, "fraction", "3.1 %"),
        (math.nan, "1", "nan"),
        (math.inf, "orders", "inf orders"),
    ],
)
def test_quantities_print_in_the_unit_a_person_would_pick(value: float, unit: str, text: str) -> None:
    assert format_quantity(value, unit) == text


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.0, "+0.0 %"),
        (0.031, "+3.1 %"),
        (-0.5, "-50.0 %"),
        (0.0004, "+0.040 %"),
        (1e-9, "+1e-07 %"),
        (12.0, "+1,200 %"),
    ],
)
def test_percentages_keep_a_digit_however_small_the_change(fraction: float, text: str) -> None:
    assert format_percent(fraction, sign=True) == text


@given(st.floats(min_value=1e-3, max_value=1e17), st.sampled_from(["ns", "B", "fraction", "1", "1/s", "J"]))
def test_what_is_printed_reads_back_within_its_digits(value: float, unit: str) -> None:
    assert parse_limit(format_quantity(value, unit), unit).value == pytest.approx(value, rel=0.06)


@given(st.floats(min_value=1.0, max_value=1e16))
def test_a_printed_duration_keeps_three_significant_digits(ns: float) -> None:
    assert parse_limit(format_duration(ns), "ns").value == pytest.approx(ns, rel=0.0051)


@given(
    st.floats(min_value=0, max_value=1e15),
    st.sampled_from(["ns", "B", "fraction", "1", "1/s", "J"]),
    st.booleans(),
)
def test_a_printed_limit_reads_back_on_the_same_side(value: float, unit: str, at_least: bool) -> None:
    limit = Limit(value=value, unit=unit, at_least=at_least)
    again = parse_limit(str(limit))
    assert (again.unit, again.at_least) == (unit, at_least)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_as_a_unit_error(text: str) -> None:
    try:
        limit = parse_limit(text)
    except UnitError:
        pass
    else:
        assert 0 <= limit.value < math.inf


@given(st.floats(min_value=0, allow_nan=False, allow_infinity=False))
def test_no_number_however_large_fills_a_line(value: float) -> None:
    assert len(format_factor(value)) <= len("999,999,999.99 x")
    assert len(format_percent(value, sign=True)) <= len("+999,999,999 %")
