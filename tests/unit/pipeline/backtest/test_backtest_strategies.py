from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from backtest_worlds import bars_of

from pytest_tradeperf.pipeline.backtest import Breakout, MovingAverageCross
from pytest_tradeperf.pipeline.backtest.signals import BUY, EXIT, HOLD, SELL, cross_signals
from pytest_tradeperf.pipeline.errors import SettingError
from pytest_tradeperf.pipeline.marketdata import load_bars

FAST = np.array([np.nan, 1.0, 2.0, 3.0, 2.0, 1.0, 1.0, 3.0])
SLOW = np.array([np.nan, np.nan, 2.0, 2.0, 2.0, 2.0, 1.0, 2.0])


@pytest.mark.parametrize(
    ("side", "expected"),
    [
        ("long", [HOLD, HOLD, HOLD, BUY, HOLD, EXIT, HOLD, BUY]),
        ("short", [HOLD, HOLD, HOLD, EXIT, HOLD, SELL, HOLD, EXIT]),
        ("both", [HOLD, HOLD, HOLD, BUY, HOLD, SELL, HOLD, BUY]),
    ],
)
def test_a_cross_is_at_or_below_then_above_on_consecutive_bars(side: Any, expected: list[int]) -> None:
    assert cross_signals(FAST, SLOW, side).tolist() == expected


def test_the_first_bar_with_both_averages_counts_as_the_before_of_a_cross() -> None:
    # averages of 1 and 2 bars exist together from bar 1: 8 < 9 there, then 10 > 9
    codes = MovingAverageCross(fast=1, slow=2, side="both").signals(bars_of([10, 8, 10]))
    assert codes.tolist() == [HOLD, HOLD, BUY]


def test_a_gap_in_an_average_is_no_cross() -> None:
    fast = np.array([1.0, np.nan, 3.0])
    assert cross_signals(fast, np.array([2.0, 2.0, 2.0]), "both").tolist() == [HOLD, HOLD, HOLD]


def test_a_breakout_compares_with_the_bars_before_not_with_itself() -> None:
    bars = bars_of([10, 11, 10, 12, 9, 8])
    assert Breakout(entry=2, exit=2).signals(bars).tolist() == [HOLD, HOLD, HOLD, BUY, EXIT, EXIT]
    assert Breakout(entry=2, exit=2, side="short").signals(bars).tolist() == [
        HOLD,
        HOLD,
        HOLD,
        EXIT,
        SELL,
        SELL,
    ]
    assert Breakout(entry=2, exit=1, side="both").signals(bars).tolist() == [
        HOLD,
        HOLD,
        HOLD,
        BUY,
        SELL,
        SELL,
    ]


@pytest.mark.parametrize(
    "strategy", [MovingAverageCross(fast=3, slow=9), Breakout(entry=5, exit=3, side="both")]
)
def test_the_future_never_changes_a_signal(strategy: MovingAverageCross | Breakout) -> None:
    bars = load_bars("FB")
    whole = strategy.signals(bars)
    for cut in (0, 1, 2, 9, 50, 195):
        np.testing.assert_array_equal(strategy.signals(bars[:cut]), whole[:cut])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fast": 30, "slow": 30}, "fast=30 is not below slow=30"),
        ({"fast": 0}, "window is 0"),
        ({"slow": 2.5}, "window is 2.5"),
        ({"average": "hull"}, "average is 'hull': expected one of sma, ema"),
        ({"side": "up"}, "side is 'up': expected one of long, short, both"),
    ],
)
def test_parameters_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        MovingAverageCross(**options)
