import dataclasses
import datetime as dt
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tradeperf.gate.digests import first_difference, resolution
from pytest_tradeperf.measures.digest import digest


@dataclasses.dataclass(frozen=True)
class Trade:
    symbol: str
    price: float


@dataclasses.dataclass(frozen=True)
class Order:
    symbol: str
    price: float


def difference(old: object, new: object, relative: float = 1e-9) -> str | None:
    before, after = digest(old)[1], digest(new)[1]
    assert before is not None
    assert after is not None
    return first_difference(before, after, relative)


FRAME = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]})
LONG = np.arange(10_000.0)


def changed(array: Any, place: int, value: float) -> Any:
    other = array.copy()
    other[place] = value
    return other


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (1, 2, "value: 1 -> 2"),
        ("buy", "sell", "value: 'buy' -> 'sell'"),
        (True, 1, "value: True -> 1"),
        (None, 0, "value: None -> 0"),
        ([1, 2, 3], [1, 5, 3], "[1]: 2 -> 5"),
        ([1, 2], [1, 2, 3], "value: 2 -> 3 elements, the first extra is 3"),
        ([[1], [2, 9]], [[1], [2]], "[1]: 2 -> 1 elements, the first extra is 9"),
        ({"x": {"y": 1.0}}, {"x": {"y": 1.5}}, "['x']['y']: 1.0 -> 1.5"),
        ({"x": 1}, {"y": 1}, "['x']: gone, was 1"),
        ({"x": 1}, {"x": 1, "y": 2}, "['y']: added, 2"),
        (Trade("A", 1.0), Trade("A", 2.0), ".price: 1.0 -> 2.0"),
        ([Trade("A", 1.0)], [Trade("B", 1.0)], "[0].symbol: 'A' -> 'B'"),
        (Trade("A", 1.0), Order("A", 1.0), "value: Trade -> Order"),
        ({1, 2}, {1, 3}, "[1]: 2 -> 3"),
        ((1, 2), (1, 3), "[1]: 2 -> 3"),
        (np.array([1.0, 2.0]), np.array([1.0, 2.5]), "[1]: 2.0 -> 2.5"),
        (np.array([1.0, 2.0]), np.array([1, 2]), "array: dtype f8 -> i8"),
        (np.zeros((2, 3)), np.zeros((3, 2)), "array: shape [2, 3] -> [3, 2]"),
        (np.array([1.0]), np.array([np.nan]), "[0]: 1.0 -> {'float': 'nan'}"),
        (np.array([1j]), np.array([2j]), "[0].complex[1]: 1.0 -> 2.0"),
        (LONG, changed(LONG, 5, np.nan), "array[0:]: NaN or infinity came, went or moved"),
        (np.arange(9999), changed(np.arange(9999), 2, 7), "[2]: 2 -> 7"),
        (
            np.arange(9999),
            changed(np.arange(9999), 5000, 7),
            "array: [9999] elements differ after the first 8",
        ),
        (FRAME, FRAME.assign(b=[3.0, 5.0]), "['b'][1]: 4.0 -> 5.0"),
        (FRAME, FRAME[["b", "a"]], "value: columns ['a', 'b'] -> ['b', 'a']"),
        (FRAME, FRAME.rename(columns={"b": "c"}), "value: columns ['a', 'b'] -> ['a', 'c']"),
        (FRAME, FRAME.set_axis([5, 6]), ".index[0]: 0 -> 5"),
        (FRAME["a"], FRAME["a"].rename("z"), ".names[0]: 'a' -> 'z'"),
        (dt.date(2026, 1, 1), dt.date(2026, 1, 2), ".time: '2026-01-01' -> '2026-01-02'"),
    ],
)
def test_the_first_difference_is_named_by_its_place(old: object, new: object, expected: str) -> None:
    assert difference(old, new) == expected


def test_one_block_of_a_long_array_is_named_with_its_sums() -> None:
    found = difference(LONG, changed(LONG, 7000, 0.0))
    assert found is not None
    assert found.startswith("array[")
    assert "block sum" in found


def test_two_columns_of_one_name_are_both_compared() -> None:
    old = pd.DataFrame([[1.0, 2.0]], columns=["a", "a"])
    new = pd.DataFrame([[9.0, 2.0]], columns=["a", "a"])
    assert difference(old, new) == "['a'][0]: 1.0 -> 9.0"


STEPS = np.random.default_rng(3).normal(size=100_000)
WALK = np.cumsum(STEPS)
"""Prices as they come: of both signs, and near zero now and then."""


@pytest.mark.parametrize("values", [np.ones(100_000), WALK, 1e12 * np.exp(WALK / 30), LONG], ids=str)
@pytest.mark.parametrize("by", [2e-9, -2e-9, 2e-6, 1.0])
def test_one_element_of_a_long_array_that_is_off_is_found(values: np.ndarray, by: float) -> None:
    for place in (0, 1, values.size // 2, values.size - 2, values.size - 1):
        if abs(values[place]) > 1e-3 * np.abs(values).max():
            assert difference(values, changed(values, place, values[place] * (1 + by))) is not None, place


@pytest.mark.parametrize("values", [np.ones(100_000), WALK, 1e12 * np.exp(WALK / 30), LONG], ids=str)
def test_rounding_of_every_element_of_a_long_array_is_no_difference(values: np.ndarray) -> None:
    dice = np.random.default_rng(4)
    for other in (
        np.nextafter(values, np.inf),
        values * 3 / 3,
        values * (1 + 1e-12),
        values * (1 + 1e-12 * dice.normal(size=values.size)),
    ):
        assert difference(values, other) is None


def test_another_order_of_summing_is_no_difference() -> None:
    assert difference(WALK, np.cumsum(STEPS.astype("longdouble")).astype("f8")) is None
    dice = np.random.default_rng(5)
    assert difference(WALK, WALK + 1e-15 * np.abs(WALK).max() * dice.normal(size=WALK.size)) is None


def test_a_residue_of_rounding_where_others_have_zero_is_no_difference() -> None:
    values = np.zeros(50_000)
    values[::100] = 1.0
    assert difference(values, values + 1e-17) is None


def test_what_a_long_array_was_compared_by_is_said() -> None:
    assert resolution(digest(LONG)[1] or "", 1e-9) == (
        "equal within 1e-09; of arrays over 2,048 elements one alone, many less"
    )


def test_a_small_change_names_its_size_if_it_is_one_element() -> None:
    values = np.ones(100_000)
    assert difference(values, changed(values, 50_001, 1 - 2e-6)) == (
        "array[50000:]: block sum 3125.0 -> 3124.9999980000002, which is one element by 2e-06 of itself, or several"
    )


def test_exchanged_elements_of_a_long_array_differ() -> None:
    other = LONG.copy()
    other[[3000, 3001]] = other[[3001, 3000]]
    assert difference(LONG, other) is not None


def test_sums_beyond_the_largest_float_are_never_taken_for_equal() -> None:
    huge = np.full(5000, 1e308)
    assert difference(huge, changed(huge, 7, 2.0)) is not None


@pytest.mark.parametrize("shape", [(7,), (3000,), (100, 100)])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_rounding_is_no_difference(shape: tuple[int, ...], dtype: str) -> None:
    values = np.random.default_rng(1).normal(size=shape).astype(dtype) + 5
    assert difference(values, values * (1 + 1e-14)) is None


@pytest.mark.parametrize("shape", [(7,), (3000,), (100, 100)])
def test_a_shift_of_all_values_beyond_the_tolerance_is_a_difference(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(1).normal(size=shape) + 5
    assert difference(values, values * (1 + 1e-8)) is not None


def test_rounding_does_not_reorder_a_set_of_floats() -> None:
    assert difference({10.0, 2.0, 0.1}, {9.999999999999999, 2.0, 0.1}) is None


def test_a_whole_float_may_become_an_integer() -> None:
    assert difference([1.0], [1]) is None


def test_integers_have_no_tolerance() -> None:
    assert difference([10**15], [10**15 + 1]) == f"[0]: {10**15} -> {10**15 + 1}"


def test_long_values_are_shortened_to_a_readable_line() -> None:
    found = difference(["x" * 5000], [5])
    assert found is not None
    assert len(found) < 100


@pytest.mark.parametrize(
    "stored", ["", "{", '{"array": "f8"}', '{"dict": 5}', '{"frame":[],"index":[]}', "[" * 9]
)
def test_a_stored_text_that_cannot_be_read_differs(stored: str) -> None:
    for value in ({"a": 1}, np.zeros(3), FRAME):
        text = digest(value)[1]
        assert text is not None
        assert first_difference(stored, text, 1e-9) is not None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=15,
)


@given(json_values)
def test_a_value_never_differs_from_itself(value: object) -> None:
    assert difference(value, value) is None


@given(json_values, json_values)
def test_texts_without_a_difference_are_equal_but_for_numbers(old: object, new: object) -> None:
    if difference(old, new, 0.0) is None:
        assert _levelled(old) == _levelled(new)


def _levelled(value: Any) -> str:
    """Return JSON in which 1 and 1.0, 0.0 and -0.0 are one."""

    def level(inner: Any) -> Any:
        if isinstance(inner, dict):
            return {k: level(v) for k, v in sorted(inner.items())}
        if isinstance(inner, list):
            return [level(v) for v in inner]
        if isinstance(inner, int | float) and not isinstance(inner, bool):
            return repr(inner if inner != inner or inner in (float("inf"), float("-inf")) else inner + 0.0)  # noqa: PLR0124
        return inner

    return json.dumps(level(value))
