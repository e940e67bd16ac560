from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pytest_tradeperf.pipeline.backtest import Breakout, MovingAverageCross, check_lookahead
from pytest_tradeperf.pipeline.errors import SettingError, StrategyError
from pytest_tradeperf.pipeline.features import bollinger, rsi, sma
from pytest_tradeperf.pipeline.marketdata import Bars, load_bars

BARS = load_bars("FB")


class Prophet:
    """Buys before the close rises."""

    def signals(self, bars: Bars) -> np.ndarray:
        codes = np.zeros(len(bars), dtype=np.int8)
        codes[:-1] = bars.close[1:] > bars.close[:-1]
        return codes


@pytest.mark.parametrize(
    "thing",
    [
        MovingAverageCross(fast=3, slow=8),
        Breakout(),
        lambda bars: sma(bars.close, 5),
        lambda bars: rsi(bars.close),
        lambda bars: bollinger(bars.close),
    ],
)
def test_honest_strategies_and_features_are_clean(thing: Any) -> None:
    report = check_lookahead(thing, BARS)
    assert report.is_clean
    assert "no look-ahead in" in str(report)


def test_a_strategy_that_knows_tomorrow_is_caught_with_the_bar() -> None:
    report = check_lookahead(Prophet(), BARS)
    assert report.first_changed_bar is not None
    assert report.cut == report.first_changed_bar + 1
    assert (report.before, report.after) == (1.0, 0.0)
    assert str(report).startswith(f"Prophet looks ahead: bar {report.first_changed_bar} is 1.0")


def test_scaling_by_the_whole_sample_changes_the_first_bar() -> None:
    report = check_lookahead(lambda bars: bars.close - bars.close.mean(), BARS)
    assert report.first_changed_bar == 0


def test_a_centred_average_is_caught() -> None:
    report = check_lookahead(lambda bars: (np.roll(bars.close, 1) + np.roll(bars.close, -1)) / 2, BARS)
    assert not report.is_clean


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (lambda bars: bars.close[1:], r"answered shapes \[\(195,\)\] for 196 bars"),
        (lambda bars: "up", r"no array of numbers"),
        (lambda bars: 1 / 0, "raised ZeroDivisionError on 196 bars"),
    ],
)
def test_answers_that_are_no_feature_are_refused(thing: Any, message: str) -> None:
    with pytest.raises(StrategyError, match=message):
        check_lookahead(thing, BARS)


def test_what_cannot_be_asked_is_refused() -> None:
    with pytest.raises(SettingError, match="neither a strategy nor a function"):
        check_lookahead(3, BARS)
    with pytest.raises(SettingError, match="expected at least 2 bars"):
        check_lookahead(Breakout(), BARS[:1])
