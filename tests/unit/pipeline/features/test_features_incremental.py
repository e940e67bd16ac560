"""One bar at a time must be the batch to the last bit, NaN and all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tradeperf.pipeline.errors import SettingError
from pytest_tradeperf.pipeline.features import atr, bollinger, ema, highest, lowest, rsi, sma
from pytest_tradeperf.pipeline.features.incremental import (
    AtrUpdate,
    BollingerUpdate,
    EmaUpdate,
    ExtremeUpdate,
    FibonacciUpdate,
    RsiUpdate,
    SmaUpdate,
    replayed,
)
from pytest_tradeperf.pipeline.features.precomputed import fibonacci_levels
from pytest_tradeperf.pipeline.marketdata import load_bars

if TYPE_CHECKING:
    from numpy.typing import NDArray

PAIRS: dict[str, tuple[Any, Any]] = {
    "sma": (sma, SmaUpdate),
    "ema": (ema, EmaUpdate),
    "rsi": (rsi, RsiUpdate),
    "highest": (highest, ExtremeUpdate),
    "lowest": (lowest, lambda window: ExtremeUpdate(window, lowest=True)),
}
PRICES = st.one_of(
    st.floats(0.01, 1e6), st.sampled_from([np.nan, 1.0, 1.0, 2.0, 0.1, 1e-300, 1e12, -0.0, 0.0, -5.0])
)


def same_bits(one: NDArray[np.float64], two: NDArray[np.float64]) -> None:
    differ = np.flatnonzero((one != two) & ~(np.isnan(one) & np.isnan(two)))
    assert differ.size == 0, f"first difference at bar {differ[0]}: {one[differ[0]]!r} and {two[differ[0]]!r}"


@pytest.mark.parametrize("name", PAIRS)
@given(values=st.lists(PRICES, max_size=60), window=st.integers(1, 25))
@settings(max_examples=120, deadline=None)
def test_updates_equal_the_batch(name: str, values: list[float], window: int) -> None:
    batch, update = PAIRS[name]
    same_bits(batch(np.array(values, dtype=np.float64), window), replayed(update(window), values))


@given(
    values=st.lists(PRICES, max_size=60), window=st.integers(1, 25), width=st.sampled_from([0.5, 1, 2.0, 2.5])
)
@settings(max_examples=120, deadline=None)
def test_band_updates_equal_the_batch(values: list[float], window: int, width: float) -> None:
    bands = bollinger(np.array(values, dtype=np.float64), window, width)
    update = BollingerUpdate(window, width)
    rows = np.array([update.update(value) for value in values], dtype=np.float64).reshape(-1, 3)
    for column, band in enumerate(bands):
        same_bits(band, rows[:, column])


@given(bars=st.lists(st.tuples(PRICES, PRICES, PRICES), max_size=60), window=st.integers(1, 25))
@settings(max_examples=150, deadline=None)
def test_range_updates_equal_the_batch(bars: list[tuple[float, float, float]], window: int) -> None:
    columns = np.array(bars, dtype=np.float64).reshape(-1, 3)
    update = AtrUpdate(window)
    one_by_one = np.array([update.update(*bar) for bar in bars], dtype=np.float64)
    same_bits(atr(columns[:, 0], columns[:, 1], columns[:, 2], window), one_by_one)


@given(
    bars=st.lists(st.tuples(PRICES, PRICES), max_size=60), window=st.integers(1, 25),
    ratios=st.lists(st.floats(-2, 3), min_size=1, max_size=5),
)  # fmt: skip
@settings(max_examples=120, deadline=None)
def test_level_updates_equal_the_batch(
    bars: list[tuple[float, float]], window: int, ratios: list[float]
) -> None:
    columns = np.array(bars, dtype=np.float64).reshape(-1, 2)
    update = FibonacciUpdate(window, ratios)
    one_by_one = np.array([update.update(*bar) for bar in bars], dtype=np.float64).reshape(-1, len(ratios))
    batch = fibonacci_levels(columns[:, 0], columns[:, 1], window, ratios)
    for row, level in enumerate(batch):
        same_bits(level, one_by_one[:, row])


@pytest.mark.parametrize("window", [1, 2, 14, 200, 5_000])
def test_updates_equal_the_batch_on_real_bars(window: int) -> None:
    bars = load_bars("GOOG")
    for batch, update in PAIRS.values():
        same_bits(batch(bars.close, window), replayed(update(window), bars.close))
    ranges = AtrUpdate(window)
    rows = zip(bars.high, bars.low, bars.close, strict=True)
    same_bits(atr(bars.high, bars.low, bars.close, window), np.array([ranges.update(*row) for row in rows]))


def test_a_replayed_indicator_is_ready_for_the_next_bar() -> None:
    closes = np.random.default_rng(3).normal(100, 5, 300)
    average = EmaUpdate(20)
    replayed(average, closes[:-1])
    assert average.update(closes[-1]) == ema(closes, 20)[-1]


@pytest.mark.parametrize("kind", [SmaUpdate, EmaUpdate, RsiUpdate, AtrUpdate, BollingerUpdate, ExtremeUpdate])
def test_a_window_is_a_whole_number(kind: Any) -> None:
    for window in (0, -1, 2.5, True, None):
        with pytest.raises(SettingError, match="expected a whole number of bars"):
            kind(window)


@pytest.mark.parametrize("width", [0, -1, float("nan"), float("inf")])
def test_bands_have_a_width(width: float) -> None:
    with pytest.raises(SettingError, match="expected a number of standard deviations above 0"):
        BollingerUpdate(20, width)
