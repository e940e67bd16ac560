from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tradeperf.pipeline.errors import SettingError
from pytest_tradeperf.pipeline.features import (
    atr,
    bollinger,
    ema,
    highest,
    lowest,
    rsi,
    sma,
    sma_table,
    true_range,
)
from pytest_tradeperf.pipeline.marketdata import load_bars

prices = st.lists(st.floats(0.01, 1e6) | st.just(float("nan")), max_size=60).map(np.array)


def test_sma_equals_pandas_on_real_bars() -> None:
    close = load_bars("GOOG").close
    np.testing.assert_allclose(sma(close, 30), pd.Series(close).rolling(30).mean(), rtol=1e-12)


def test_sma_over_more_than_one_block_has_no_seam() -> None:
    values = np.sin(np.arange(40_000)) + 2.0
    np.testing.assert_allclose(sma(values, 50), pd.Series(values).rolling(50).mean(), rtol=1e-9)


def test_sma_heals_as_soon_as_a_gap_leaves_the_window() -> None:
    answer = sma([1.0, np.nan, 3.0, 5.0, 7.0], 2)
    np.testing.assert_array_equal(answer, [np.nan, np.nan, np.nan, 4.0, 6.0])


@settings(max_examples=50, deadline=None)
@given(values=prices, windows=st.lists(st.integers(1, 70), min_size=1, max_size=6))
def test_the_table_of_averages_is_bit_identical_to_single_averages(
    values: np.ndarray, windows: list[int]
) -> None:
    table = sma_table(values, windows)
    for row, window in zip(table, windows, strict=True):
        np.testing.assert_array_equal(row, sma(values, window))


@pytest.mark.parametrize("window", [2, 7, 14])
def test_ema_follows_its_recursion_from_the_simple_average(window: int) -> None:
    close = load_bars("FB").close
    answer = ema(close, window)
    seeded = np.concatenate([[close[:window].mean()], close[window:]])
    expected = pd.Series(seeded).ewm(span=window, adjust=False).mean()
    np.testing.assert_allclose(answer[window - 1 :], expected, rtol=1e-12)
    assert np.isnan(answer[: window - 1]).all()


def test_rsi_of_a_worked_example() -> None:
    # changes +1, +1, -1, then +2: averages (1, 0) at bar 2, (0.5, 0.5) at bar 3, (1.25, 0.25) at bar 4
    np.testing.assert_allclose(rsi([1, 2, 3, 2, 4], 2), [np.nan, np.nan, 100.0, 50.0, 100 * 1.25 / 1.5])


def test_rsi_without_any_change_is_neutral() -> None:
    assert rsi([5.0] * 5, 2)[-1] == 50.0


def test_true_range_counts_the_gap_from_the_close_before() -> None:
    np.testing.assert_array_equal(true_range([10, 15, 9], [9, 14, 8], [9.5, 14.5, 8.5]), [np.nan, 5.5, 6.5])


def test_atr_is_wilders_average_of_true_ranges() -> None:
    bars = load_bars("IBM")[:100]
    ranges = true_range(bars.high, bars.low, bars.close)[1:]
    level = ranges[:14].mean()
    for value in ranges[14:]:
        level = (13 * level + value) / 14
    assert atr(bars.high, bars.low, bars.close, 14)[-1] == pytest.approx(level, rel=1e-12)


def test_bollinger_bands_are_population_deviations() -> None:
    close = load_bars("MSFT").close
    rolling = pd.Series(close).rolling(20)
    bands = bollinger(close, 20, 2.0)
    np.testing.assert_allclose(bands.upper, rolling.mean() + 2 * rolling.std(ddof=0), rtol=1e-9)
    np.testing.assert_allclose(bands.lower, rolling.mean() - 2 * rolling.std(ddof=0), rtol=1e-9)


@settings(max_examples=50, deadline=None)
@given(values=prices, window=st.integers(1, 70))
def test_rolling_extremes_equal_the_plain_definition(values: np.ndarray, window: int) -> None:
    top, bottom = highest(values, window), lowest(values, window)
    for bar in range(values.size):
        part = values[bar - window + 1 : bar + 1] if bar >= window - 1 else np.array([np.nan])
        np.testing.assert_array_equal([top[bar], bottom[bar]], [part.max(), part.min()])


@settings(max_examples=50, deadline=None)
@given(values=prices, window=st.integers(1, 20), cut=st.integers(0, 60))
def test_the_future_never_changes_an_indicator(values: np.ndarray, window: int, cut: int) -> None:
    for indicator in (sma, ema, rsi, highest, lowest):
        np.testing.assert_array_equal(indicator(values[:cut], window), indicator(values, window)[:cut])


@pytest.mark.parametrize("window", [0, -1, 1.5, "10", True])
def test_a_window_that_is_no_positive_whole_number_is_refused(window: object) -> None:
    with pytest.raises(SettingError, match="expected a whole number of bars, at least 1"):
        sma([1.0, 2.0], window)  # type: ignore[arg-type]


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(SettingError, match="columns differ in length"):
        atr([1.0, 2.0], [1.0], [1.0], 2)


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan"), float("inf")])
def test_a_band_width_that_is_not_positive_is_refused(width: float) -> None:
    with pytest.raises(SettingError, match="number of standard deviations above 0"):
        bollinger([1.0, 2.0], 2, width)


def test_a_table_instead_of_a_series_is_refused() -> None:
    with pytest.raises(SettingError, match=r"shape \(1, 2\)"):
        sma([[1.0, 2.0]], 1)
