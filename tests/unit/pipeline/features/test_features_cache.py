from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pytest_tradeperf.pipeline.errors import SettingError
from pytest_tradeperf.pipeline.features import atr, bollinger, sma
from pytest_tradeperf.pipeline.features.cache import ENTRY_BYTES, DataDigests, FeatureCache, data_digest

Array = NDArray[np.float64]


class Counted:
    """A function that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, values: Array, **parameters: Any) -> Array:
        self.calls += 1
        return values * 2.0


def frozen(values: Any) -> Array:
    array = np.array(values, dtype=np.float64)
    array.flags.writeable = False
    return array


def test_the_same_data_function_and_parameters_are_computed_once() -> None:
    cache, function = FeatureCache(), Counted()
    first = cache.get(function, frozen([1, 2]), window=3)
    assert cache.get(function, frozen([1, 2]), window=3) is first
    assert function.calls == 1
    counts = cache.counts()
    assert (counts.hits, counts.misses, counts.entries) == (1, 1, 1)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"window": 1}, {"window": 2}), ({"window": 1}, {"window": 1.0}), ({"window": 1}, {"window": True}),
        ({"x": 0.0}, {"x": -0.0}), ({"x": None}, {"x": "None"}), ({"x": (1, 2)}, {"x": [1, 2]}),
        ({"x": (1, (2,))}, {"x": (1, 2)}), ({"x": 1}, {"y": 1}), ({"x": {"a": 1}}, {"x": {"a": 1.0}}),
        ({"x": np.float32(1)}, {"x": np.float64(1)}), ({"x": "1"}, {"x": b"1"}), ({"x": 1}, {}),
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}),
    ],
)  # fmt: skip
def test_parameters_that_differ_in_value_or_kind_have_their_own_results(one: Any, two: Any) -> None:
    cache, function = FeatureCache(), Counted()
    for parameters in (one, two, one, two):
        cache.get(function, frozen([1.0]), **parameters)
    assert function.calls == 2


def test_nan_is_one_parameter_and_order_of_names_does_not_matter() -> None:
    cache, function = FeatureCache(), Counted()
    cache.get(function, frozen([1.0]), x=float("nan"), y=1)
    cache.get(function, frozen([1.0]), y=1, x=-float("nan"))
    assert function.calls == 1


def test_closures_of_one_name_are_different_functions() -> None:
    def scaled(by: float) -> Any:
        return lambda values: values * by

    cache, data = FeatureCache(), frozen([1.0])
    assert cache.get(scaled(2.0), data).tolist() == [2.0]
    assert cache.get(scaled(3.0), data).tolist() == [3.0]


def test_a_new_version_is_computed_again() -> None:
    cache, function = FeatureCache(), Counted()
    for version in (1, 2, 1):
        cache.get(function, frozen([1.0]), version=version)
    assert function.calls == 2


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (np.array([1.0, 2.0]), np.array([1.0, 3.0])),
        (np.array([0.0]), np.array([-0.0])),
        (np.array([1.0, 2.0]), np.array([[1.0, 2.0]])),
        (np.array([1, 2], dtype=np.int64), np.array([1, 2], dtype=np.int32)),
        (np.array([0], dtype=np.int64), np.array([0.0])),
        (np.array([1], dtype="<i8"), np.array([1 << 56], dtype=">i8")),
    ],
)
def test_arrays_that_differ_have_different_digests(one: Any, two: Any) -> None:
    assert data_digest(one) != data_digest(two)


def test_a_strided_view_has_the_digest_of_its_values() -> None:
    values = np.arange(20.0)
    assert data_digest(values[::2]) == data_digest(values[::2].copy())


def test_writing_into_an_array_is_noticed() -> None:
    cache = FeatureCache()
    closes = np.array([1.0, 2.0, 3.0])
    assert cache.get(sma, closes, window=1)[2] == 3.0
    closes[2] = 9.0
    assert cache.get(sma, closes, window=1)[2] == 9.0


def test_writing_into_what_a_read_only_view_shows_is_noticed() -> None:
    cache = FeatureCache()
    owner = np.array([1.0, 2.0, 3.0])
    view = owner[:]
    view.flags.writeable = False
    assert cache.get(sma, view, window=1)[2] == 3.0
    owner[2] = 9.0
    assert cache.get(sma, view, window=1)[2] == 9.0


def test_opening_a_known_array_for_writing_is_noticed() -> None:
    cache = FeatureCache()
    closes = frozen([1.0, 2.0])
    cache.get(sma, closes, window=1)
    closes.flags.writeable = True
    closes[1] = 5.0
    assert cache.get(sma, closes, window=1)[1] == 5.0


def test_known_arrays_are_forgotten_when_they_die() -> None:
    digests = DataDigests()
    arrays = [frozen([float(number)]) for number in range(50)]
    for array in arrays:
        digests.of(array)
    assert len(digests) == 50
    del arrays, array
    gc.collect()
    assert len(digests) == 0


def test_only_read_only_arrays_are_known() -> None:
    digests = DataDigests()
    writable = np.ones(3)
    digests.of(writable)
    assert len(digests) == 0


def test_results_are_read_only_cached_or_not() -> None:
    for enabled in (True, False):
        cache = FeatureCache(enabled=enabled)
        with pytest.raises(ValueError, match="read-only"):
            cache.get(sma, frozen([1.0, 2.0]), window=1)[0] = 5.0


def test_a_function_that_returns_its_input_leaves_it_writable() -> None:
    for enabled in (True, False):
        cache = FeatureCache(enabled=enabled)
        data = np.array([1.0, 2.0])
        result = cache.get(lambda values: values, data)
        data[0] = 7.0
        assert result.tolist() == [1.0, 2.0]


def test_tuples_of_arrays_keep_their_type() -> None:
    cache = FeatureCache()
    bands = cache.get(bollinger, frozen(np.arange(30.0)), window=5)
    assert cache.get(bollinger, frozen(np.arange(30.0)), window=5) is bands
    assert bands.upper[10] > bands.lower[10]


def test_several_arrays_are_all_part_of_the_key() -> None:
    cache = FeatureCache()
    high, low, close = (frozen(np.arange(20.0) + offset) for offset in (2, 0, 1))
    first = cache.get(atr, high, low, close, window=3)
    other = cache.get(atr, high, low, frozen(np.arange(20.0) + 9.0), window=3)
    assert first.tobytes() != other.tobytes()


@pytest.mark.parametrize("parameter", [object(), {1, 2}, np.ones(2), lambda: None])
def test_parameters_without_a_key_are_computed_every_time(parameter: Any) -> None:
    cache, function = FeatureCache(), Counted()
    for _ in range(2):
        cache.get(function, frozen([1.0]), extra=parameter)
    assert function.calls == 2
    assert cache.counts().uncacheable == 2


def test_objects_and_unhashable_versions_are_computed_every_time() -> None:
    cache, function = FeatureCache(), Counted()
    cache.get(function, np.array([1, None], dtype=object)[:1])
    cache.get(function, frozen([1.0]), version=[1])  # type: ignore[arg-type]
    assert (function.calls, cache.counts().uncacheable) == (2, 2)


def test_a_result_that_is_no_array_is_not_held() -> None:
    cache = FeatureCache()
    assert cache.get(lambda values: {"last": values[-1]}, frozen([1.0, 2.0])) == {"last": 2.0}
    assert cache.counts().entries == 0


def test_the_least_recently_used_goes_first_and_the_bound_holds() -> None:
    size = 100 * 8 + ENTRY_BYTES
    cache, function = FeatureCache(3 * size), Counted()
    data = frozen(np.zeros(100))
    for place in (1, 2, 3, 1, 4):
        cache.get(function, data, place=place)
    assert cache.counts().evictions == 1
    assert cache.counts().n_bytes == 3 * size
    cache.get(function, data, place=1)
    assert function.calls == 4
    cache.get(function, data, place=2)
    assert function.calls == 5


def test_a_result_larger_than_the_cache_is_not_held_and_evicts_nothing() -> None:
    cache, function = FeatureCache(2_000), Counted()
    cache.get(function, frozen([1.0]))
    cache.get(function, frozen(np.zeros(1_000)))
    assert cache.counts().entries == 1
    assert cache.counts().evictions == 0


@given(
    calls=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)), max_size=40), room=st.integers(0, 4_000)
)
def test_the_answer_does_not_move_with_the_cache(calls: list[tuple[int, int]], room: int) -> None:
    series = [frozen(np.random.default_rng(seed).normal(size=30)) for seed in range(6)]
    on, off = FeatureCache(room), FeatureCache(enabled=False)
    for place, window in calls:
        cached = on.get(sma, series[place], window=window)
        assert cached.tobytes() == off.get(sma, series[place], window=window).tobytes()
        assert on.counts().n_bytes <= room
    assert off.counts().entries == 0


def test_an_error_is_not_remembered() -> None:
    cache = FeatureCache()
    for _ in range(2):
        with pytest.raises(SettingError):
            cache.get(sma, frozen([1.0]), window=0)
    assert cache.get(sma, frozen([1.0]), window=1).tolist() == [1.0]


def test_threads_that_ask_at_once_get_the_same_object() -> None:
    cache, data = FeatureCache(), frozen(np.arange(500.0))
    barrier = threading.Barrier(8)

    def ask(_: int) -> Array:
        barrier.wait()
        return cache.get(sma, data, window=9)

    with ThreadPoolExecutor(8) as pool:
        assert len({id(result) for result in pool.map(ask, range(8))}) == 1


def test_clearing_forgets_the_results() -> None:
    cache, function = FeatureCache(), Counted()
    cache.get(function, frozen([1.0]))
    cache.clear()
    assert cache.counts().n_bytes == 0
    cache.get(function, frozen([1.0]))
    assert function.calls == 2


@pytest.mark.parametrize("size", [-1, 1.5, True, None])
def test_the_bound_is_a_whole_number_of_bytes(size: Any) -> None:
    with pytest.raises(SettingError, match="max_bytes is"):
        FeatureCache(size)
