from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from backtest_worlds import Scripted, bars_of

from pytest_tradeperf.pipeline.backtest import Breakout, MovingAverageCross, run_backtest
from pytest_tradeperf.pipeline.errors import EngineError, SettingError, StrategyError
from pytest_tradeperf.pipeline.marketdata import load_bars

BARS = bars_of([10.0, 11.0, 12.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cash": 0.0}, "cash is 0.0: expected a finite number, above 0"),
        ({"cash": float("nan")}, "cash is nan"),
        ({"cash": "lots"}, "cash is 'lots': expected a number"),
        ({"fees_bps": float("inf")}, "fees_bps is inf"),
        ({"fees_bps": -1.0}, "fees_bps is -1.0: expected a finite number, 0 or more"),
        ({"fees_bps": 10_000.0}, "would take the whole price"),
        ({"slippage_bps": 1e5}, "would take the whole price"),
        ({"fee_fixed": float("nan")}, "fee_fixed is nan"),
        ({"fraction": 0.0}, "fraction is 0.0"),
        ({"fill": "yesterday"}, "fill is 'yesterday': expected one of next_open, same_close"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        run_backtest(BARS, Scripted((0, 0, 0)), **options)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.zeros(2, dtype=np.int8), r"shape \(2,\), expected \(3,\)"),
        (np.zeros((3, 1), dtype=np.int8), r"shape \(3, 1\)"),
        (None, r"shape \(\)"),
        (np.zeros(3), "dtype float64"),
        (np.array([0, 7, 0]), "7 at bar 1"),
        (np.array([0, 300, 0]), "codes outside of"),
    ],
)
def test_a_wrong_answer_of_a_strategy_is_refused_by_name(answer: object, message: str) -> None:
    class Odd:
        def signals(self, bars: object) -> object:
            return answer

    with pytest.raises(StrategyError, match=f"Odd.signals answered .*{message}"):
        run_backtest(BARS, Odd())  # type: ignore[arg-type]


def test_a_strategy_that_raises_is_named_with_its_error() -> None:
    class Broken:
        def signals(self, bars: object) -> np.ndarray:
            raise ZeroDivisionError("by nothing")

    with pytest.raises(StrategyError, match=r"Broken\.signals raised ZeroDivisionError on X: by nothing"):
        run_backtest(BARS, Broken())


def test_something_that_is_no_strategy_is_refused() -> None:
    with pytest.raises(StrategyError, match=r"has no method signals\(bars\)"):
        run_backtest(BARS, "ma-cross")  # type: ignore[arg-type]


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(EngineError, match="engine 'warp' does not exist"):
        run_backtest(BARS, Scripted((0, 0, 0)), engine="warp")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "strategy", [MovingAverageCross(), MovingAverageCross(average="ema", side="both"), Breakout()]
)
def test_bundled_strategies_trade_on_real_bars(strategy: MovingAverageCross | Breakout) -> None:
    assert run_backtest(load_bars("GOOG"), strategy).n_trades > 10
