from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pytest_tradeperf.pipeline.errors import SettingError
from pytest_tradeperf.pipeline.features import atr, bollinger, ema, rsi, sma
from pytest_tradeperf.pipeline.features.cache import FeatureCache
from pytest_tradeperf.pipeline.features.precomputed import RETRACEMENTS, Features, fibonacci_levels
from pytest_tradeperf.pipeline.marketdata import load_bars

BARS = load_bars("GOOG")[:400]


def test_levels_by_hand() -> None:
    levels = fibonacci_levels([110.0, 105.0, 108.0], [100.0, 95.0, 101.0], 3)
    assert np.isnan(levels[:, :2]).all()
    assert levels[:, 2] == pytest.approx([110 - ratio * 15 for ratio in RETRACEMENTS])


def test_levels_stay_within_the_range_and_fall_with_the_ratio() -> None:
    levels = fibonacci_levels(BARS.high, BARS.low, 20)
    known = levels[:, 19:]
    assert (np.diff(known, axis=0) <= 0).all()
    assert known[0] == pytest.approx(np.lib.stride_tricks.sliding_window_view(BARS.high, 20).max(axis=1))
    assert known[-1] == pytest.approx(np.lib.stride_tricks.sliding_window_view(BARS.low, 20).min(axis=1))


def test_levels_know_nothing_of_the_future() -> None:
    whole = fibonacci_levels(BARS.high, BARS.low, 20)
    part = fibonacci_levels(BARS.high[:150], BARS.low[:150], 20)
    assert whole[:, :150].tobytes() == part.tobytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"window": 0}, "window is 0"), ({"ratios": (float("nan"),)}, "ratios are"), ({"ratios": ((1.0,),)}, "ratios"),
        ({"low": [1.0]}, "high has 3 bars and low 1"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(arguments: dict[str, Any], words: str) -> None:
    call: dict[str, Any] = {"high": [2.0] * 3, "low": [1.0] * 3, "window": 2}
    with pytest.raises(SettingError, match=words):
        fibonacci_levels(**(call | arguments))


@pytest.mark.parametrize("cache", [None, FeatureCache(), FeatureCache(enabled=False), FeatureCache(0)])
@pytest.mark.parametrize("sma_windows", [(), (50, 5, 10, 10)])
@pytest.mark.parametrize("fast_window", [True, False])
def test_prepared_cached_or_computed_the_answer_is_the_same(
    cache: FeatureCache | None, sma_windows: tuple[int, ...], fast_window: bool
) -> None:
    features = Features.of(BARS, cache=cache, sma_windows=sma_windows, fast_window=fast_window)
    for _ in range(2):
        for window in (5, 10, 20, 50, 500):
            assert features.sma(window).tobytes() == sma(BARS.close, window).tobytes()
        assert features.ema(12).tobytes() == ema(BARS.close, 12).tobytes()
        assert features.rsi(14).tobytes() == rsi(BARS.close, 14).tobytes()
        assert features.atr(14).tobytes() == atr(BARS.high, BARS.low, BARS.close, 14).tobytes()
        assert features.bollinger(20, 2.0).upper.tobytes() == bollinger(BARS.close, 20, 2.0).upper.tobytes()
        expected = fibonacci_levels(BARS.high, BARS.low, 30)
        assert features.fibonacci(30).tobytes() == expected.tobytes()


def test_prepared_averages_are_not_computed_again() -> None:
    features = Features.of(BARS, sma_windows=(5, 10))
    assert features.sma(5) is features.sma(5)
    with pytest.raises(ValueError, match="read-only"):
        features.sma(5)[0] = 1.0


def test_a_window_is_checked_before_it_is_looked_up() -> None:
    features = Features.of(BARS, sma_windows=(1,))
    with pytest.raises(SettingError, match="window is True"):
        features.sma(True)
    with pytest.raises(SettingError, match="window is 0"):
        Features.of(BARS, sma_windows=(5, 0))
