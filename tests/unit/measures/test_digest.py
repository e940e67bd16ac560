import dataclasses
import datetime as dt
import enum
import json
import os
import subprocess
import sys
from collections import OrderedDict, deque, namedtuple
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pytest_tradeperf
from pytest_tradeperf.errors import MeasureError
from pytest_tradeperf.measures.digest import TEXT_BYTES, digest


class Side(enum.Enum):
    BUY = 1
    SELL = 2


@dataclasses.dataclass(frozen=True)
class Trade:
    symbol: str
    price: float
    side: Side = Side.BUY


Point = namedtuple("Point", "x y")  # noqa: PYI024 - the untyped kind is what users have

MANY = """
import dataclasses, enum, numpy as np, pandas as pd
from pytest_tradeperf.measures.digest import digest
class Side(enum.Enum):
    BUY = 1
@dataclasses.dataclass(frozen=True)
class Trade:
    symbol: str
    price: float
    side: Side = Side.BUY
value = {
    "set": {f"s{i}" for i in range(50)}, "frozen": frozenset({(1, "a"), (2.5, None)}),
    "trades": {Trade("A", 1.5), Trade("B", 2.5)}, Side.BUY: {"x": {3, 1, 2}},
    "array": np.arange(5000.0), "frame": pd.DataFrame({"t": pd.date_range("2020", periods=3, tz="UTC"),
    "c": pd.Categorical(["x", "y", "x"]), "o": ["a", None, 3]}), "ints": list(range(5000)),
}
print(*digest(value))
"""


def test_the_digest_is_the_same_in_every_process_and_for_every_hash_seed() -> None:
    source = str(Path(pytest_tradeperf.__file__).parents[1])
    answers = set()
    for seed in ("0", "1", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", MANY],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": source},
            capture_output=True,
            text=True,
            check=True,
        )
        answers.add(done.stdout)
    assert len(answers) == 1
    assert next(iter(answers)).startswith("sha256:")


FRAME = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", None]}, index=pd.Index([5, 6], name="day"))
STRUCTURED = np.array([(1, 2.5)], dtype=[("n", "i4"), ("x", "f8")])
OBJECTS = np.array([(1, [2, 3])], dtype=[("n", "i4"), ("o", "O")])
VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    10**30,
    10**5000,
    0.0,
    -0.0,
    1.0,
    1.5,
    float("nan"),
    float("inf"),
    float("-inf"),
    1j,
    complex(float("nan"), 1),
    "",
    "a",
    "1",
    "ä\n\x00\ud800",
    b"",
    b"a",
    [],
    [1],
    [[1]],
    (),
    (1,),
    set(),
    {1},
    {"1"},
    {},
    {"a": 1},
    {"a": 2},
    {1: "a"},
    {"1": "a"},
    {None: 1},
    {"": 1},
    Side.BUY,
    Side.SELL,
    Trade("A", 1.0),
    Trade("A", 1.0, Side.SELL),
    Trade("B", 1.0),
    Decimal("1.10"),
    Fraction(1, 3),
    UUID(int=5),
    PurePosixPath("a/b"),
    dt.date(2026, 1, 2),
    dt.datetime(2026, 1, 2),  # noqa: DTZ001 - naive times are values too
    dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    dt.time(3, 4),
    dt.timedelta(microseconds=1),
    dt.timedelta.max,
    dt.timedelta.max - dt.timedelta(microseconds=1),
    range(5),
    range(10**12),
    np.zeros(3),
    np.zeros(3, "f4"),
    np.zeros(3, "i8"),
    np.zeros((3, 1)),
    np.zeros(0),
    np.zeros(5000),
    np.ones(5000),
    np.zeros((50, 100)),
    np.array(["a", "b"]),
    np.array([b"a", b"b"]),
    np.array(["2020-01-01"], "M8[D]"),
    np.array(["2020-01-01"], "M8[ns]"),
    np.array([1, "x"], object),
    STRUCTURED,
    OBJECTS,
    np.ma.array([1.0, 2.0], mask=[False, True]),
    np.ma.array([1.0, 2.0], mask=[True, False]),
    np.datetime64("2020-01-01"),
    np.timedelta64(5, "D"),
    FRAME,
    FRAME[["b", "a"]],
    FRAME.rename_axis("night"),
    FRAME.set_axis([6, 5]),
    FRAME.astype({"a": "float32"}),
    FRAME["a"],
    FRAME["a"].rename("z"),
    FRAME.index,
    pd.Series([1, None], dtype="Int64"),
    pd.Series([1, 0], dtype="Int64"),
    pd.Series(["x", "y"], dtype="category"),
    pd.MultiIndex.from_tuples([(1, "a"), (2, "b")]),
    pd.interval_range(0, 3),
    pd.period_range("2020-01", periods=2, freq="M"),
    pd.date_range("2020", periods=2, tz="Europe/Berlin"),
    pd.date_range("2020", periods=2),
    pd.NaT,
    pd.NA,
    pd.Timestamp("2020"),
]


def test_values_that_differ_have_digests_that_differ() -> None:
    seen: dict[str, object] = {}
    for value in VALUES:
        fingerprint = digest(value)[0]
        assert fingerprint not in seen, f"{value!r} and {seen[fingerprint]!r}"
        seen[fingerprint] = value


@pytest.mark.parametrize("value", VALUES, ids=lambda v: type(v).__name__)
def test_a_value_digests_the_same_twice_as_text_that_is_json(value: object) -> None:
    assert digest(value) == digest(value)
    text = digest(value)[1]
    assert text is not None
    json.loads(text)
    assert text.isascii()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": 1}, OrderedDict(a=1)),
        ([1, 2], deque([1, 2])),
        ((1, 2), Point(1, 2)),
        ({1, 2}, frozenset({2, 1})),
        (5, np.int64(5)),
        (0.5, np.float32(0.5)),
        (True, np.bool_(True)),
        ("a", np.str_("a")),
        (b"ab", bytearray(b"ab")),
        (b"ace", memoryview(b"abcdef")[::2]),
        (np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3))),
        (np.arange(6.0), np.arange(6.0).astype(">f8")),
        (np.arange(3000), np.arange(3000).astype(">i8")),
        (np.arange(6.0), np.arange(12.0).reshape(6, 2)[:, 0] / 2),
        (np.ma.array([1.0, 2.0], mask=[False, True]), np.ma.array([1.0, 9.0], mask=[False, True])),
        (PurePosixPath("a/b"), PureWindowsPath("a\\b")),
        (OBJECTS, np.array([(1, [2, 3])], dtype=OBJECTS.dtype)),
    ],
)
def test_one_value_in_two_guises_has_one_digest(one: object, other: object) -> None:
    assert digest(one) == digest(other)


def test_every_bit_of_a_long_array_is_in_the_hash() -> None:
    values = np.arange(100_000.0)
    other = values.copy()
    other[77_777] = np.nextafter(other[77_777], np.inf)
    assert digest(values)[0] != digest(other)[0]


def test_every_bit_inside_a_set_or_key_is_in_the_hash() -> None:
    long = tuple(float(i) for i in range(3000))
    other = (*long[:-1], float(np.nextafter(long[-1], np.inf)))
    assert digest({long})[0] != digest({other})[0]
    assert digest({long: 1})[0] != digest({other: 1})[0]


@pytest.mark.parametrize("dtype", ["f8", "f4", "c16", "i8", "?", "M8[ns]", "U4"])
def test_the_text_of_a_large_array_stays_small(dtype: str) -> None:
    text = digest(np.zeros(1_000_000, "i8").astype(dtype))[1]
    assert text is not None
    assert len(text) < TEXT_BYTES / 2


def test_long_lists_of_plain_numbers_are_kept_as_arrays_are() -> None:
    text = digest([0.5] * 100_000)[1]
    assert text is not None
    assert len(text) < TEXT_BYTES / 2


def test_many_arrays_are_each_kept_shorter() -> None:
    text = digest({f"a{i}": np.random.default_rng(i).normal(size=2000) for i in range(20)})[1]
    assert text is not None
    assert len(text) <= TEXT_BYTES


def test_a_value_beyond_the_bound_has_a_hash_and_no_text() -> None:
    fingerprint, text = digest(["x" * 100] * 1000)
    assert fingerprint.startswith("sha256:")
    assert text is None


def test_exact_keeps_no_text_and_the_same_hash() -> None:
    assert digest([0.5], exact=True) == (digest([0.5])[0], None)


def test_infinite_block_sums_raise_no_warning() -> None:
    assert digest(np.full(5000, 1e308))[1] is not None


@pytest.mark.parametrize(
    "value",
    [object(), [object()], {"a": object()}, lambda: 1, int, (i for i in "a"), {}.keys, iter([])],
    ids=lambda v: type(v).__name__,
)
def test_what_has_no_canonical_form_is_refused_by_type(value: object) -> None:
    with pytest.raises(MeasureError, match=r"cannot digest .*pass an array, a frame"):
        digest(value)


@pytest.mark.parametrize(
    "value",
    [np.zeros(3, np.longdouble), np.longdouble(1), np.zeros(3, np.clongdouble)],
    ids=lambda v: str(v.dtype),
)
@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="long double is double here")
def test_extended_precision_is_refused_with_the_cure(value: object) -> None:
    with pytest.raises(MeasureError, match="cast to float64"):
        digest(value)


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append({"x": loop})
    with pytest.raises(MeasureError, match="a list that contains itself"):
        digest(loop)


def test_a_value_used_twice_is_no_loop() -> None:
    part = [1]
    assert digest([part, part]) == digest([[1], [1]])


def test_a_value_nested_too_deeply_is_refused() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(MeasureError, match="nested this deeply"):
        digest(deep)


trees = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.binary(max_size=4)
    | st.decimals()
    | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=4) | st.integers() | st.none(), inner, max_size=4)
        | st.frozensets(st.integers() | st.text(max_size=3), max_size=4)
    ),
    max_leaves=20,
)


@given(trees)
def test_any_plain_value_has_a_stable_json_text(value: object) -> None:
    fingerprint, text = digest(value)
    assert (fingerprint, text) == digest(value)
    assert text is not None
    json.loads(text)


@given(
    st.dictionaries(
        st.text(max_size=4) | st.integers() | st.booleans() | st.none(), st.integers(), max_size=8
    )
)
def test_the_order_of_insertion_does_not_matter(mapping: dict[object, int]) -> None:
    assert digest(mapping) == digest(dict(reversed(mapping.items())))


@given(st.floats())
def test_a_float_reads_back_exactly(value: float) -> None:
    text = digest(value)[1]
    assert text is not None
    form = json.loads(text)
    back = float(form["float"]) if isinstance(form, dict) else form
    assert np.float64(back).tobytes() == np.float64(value).tobytes() or value != value  # noqa: PLR0124 - NaN
