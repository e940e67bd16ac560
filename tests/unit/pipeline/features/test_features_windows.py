from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pytest_tradeperf.pipeline.errors import SettingError
from pytest_tradeperf.pipeline.features import sma
from pytest_tradeperf.pipeline.features.indicators import BLOCK
from pytest_tradeperf.pipeline.features.windows import (
    FIRST_CAPACITY,
    GrowingSeries,
    sma_of_windows,
    windows,
)


@pytest.mark.parametrize("shape", [(50,), (50, 3)])
@pytest.mark.parametrize("step", [1, 7])
def test_windows_are_views_with_the_values_of_copies(shape: tuple[int, ...], step: int) -> None:
    values = np.random.default_rng(0).normal(size=shape)
    fast = windows(values, 8, step=step)
    slow = windows(values, 8, step=step, fast=False)
    assert np.shares_memory(fast, values)
    assert not np.shares_memory(slow, values)
    assert fast.tobytes() == slow.tobytes()
    assert fast.shape == slow.shape
    for place, window in enumerate(fast):
        assert (window == values[place * step : place * step + 8]).all()


def test_windows_cannot_be_written() -> None:
    for fast in (True, False):
        with pytest.raises(ValueError, match="read-only"):
            windows(np.ones(5), 2, fast=fast)[0, 0] = 2.0


@pytest.mark.parametrize("shape", [(3,), (3, 2), (0,)])
def test_fewer_bars_than_the_width_give_no_window(shape: tuple[int, ...]) -> None:
    assert windows(np.ones(shape), 4).shape == (0, 4, *shape[1:])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"width": 0}, "window is 0"), ({"width": 2.0}, "window is 2.0"), ({"width": 2, "step": 0}, "step is 0"),
        ({"width": 2, "values": np.ones((2, 2, 2))}, r"shape \(2, 2, 2\)"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        windows(**({"values": np.ones(5)} | arguments))


def test_a_growing_series_is_the_plain_list() -> None:
    values = np.random.default_rng(1).normal(size=3 * FIRST_CAPACITY)
    series = GrowingSeries(values[:3])
    for value in values[3:2_000]:
        series.append(value)
    series.extend(values[2_000:])
    assert len(series) == values.size
    assert series.values.tobytes() == values.tobytes()
    assert series[-1] == values[-1]
    assert series[5:9].tolist() == values[5:9].tolist()


def test_views_given_out_keep_their_values_while_the_series_grows() -> None:
    series = GrowingSeries(np.arange(10.0))
    view = series.last(4)
    for value in range(5_000):
        series.append(float(value))
    assert view.tolist() == [6.0, 7.0, 8.0, 9.0]


def test_last_is_a_view_and_read_only() -> None:
    series = GrowingSeries([1.0, 2.0, 3.0])
    assert np.shares_memory(series.last(2), series.values)
    assert series.last(5).tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match="read-only"):
        series.last(1)[0] = 9.0
    with pytest.raises(ValueError, match="read-only"):
        series.values[0] = 9.0


def test_a_series_has_one_dimension() -> None:
    with pytest.raises(SettingError, match="expected one series"):
        GrowingSeries([[1.0]])
    with pytest.raises(SettingError, match="expected one series"):
        GrowingSeries().extend([[1.0]])


@pytest.mark.parametrize("n_bars", [0, 3, 4, 5, BLOCK + 2, BLOCK + 3, BLOCK + 4])
def test_averages_over_copies_are_those_over_views_to_the_last_bit(n_bars: int) -> None:
    random = np.random.default_rng(n_bars)
    values = 100.0 * np.exp(random.normal(0.0, 0.01, n_bars))
    values[random.random(n_bars) < 0.001] = np.nan
    assert sma_of_windows(values, 4).tobytes() == sma(values, 4).tobytes()
