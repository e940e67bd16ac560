"""Agreement with libraries that other people wrote, on the bundled bars. docs/backtest.md reconciles definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pytest_tradeperf.pipeline.backtest import MovingAverageCross, run_backtest
from pytest_tradeperf.pipeline.features import atr, bollinger, ema, rsi, sma
from pytest_tradeperf.pipeline.marketdata import frame_from_bars, load_bars

SYMBOLS = ["AAPL", "FB", "GOOG", "IBM", "MSFT"]


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_indicators_agree_with_ta_lib(symbol: str) -> None:
    talib: Any = pytest.importorskip("talib", reason="TA-Lib is not installed")
    bars = load_bars(symbol)
    high, low, close = bars.high.copy(), bars.low.copy(), bars.close.copy()
    upper, middle, lower = talib.BBANDS(close, 20, 2.0, 2.0)
    bands = bollinger(close, 20, 2.0)
    for ours, theirs in (
        (sma(close, 30), talib.SMA(close, 30)),
        (ema(close, 30), talib.EMA(close, 30)),
        (rsi(close, 14), talib.RSI(close, 14)),
        (atr(high, low, close, 14), talib.ATR(high, low, close, 14)),
        (bands.upper, upper),
        (bands.middle, middle),
        (bands.lower, lower),
    ):
        # TA-Lib takes the variance as a difference of means of squares, which costs it digits: rtol, not ulp.
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_metrics_agree_with_empyrical(symbol: str) -> None:
    empyrical: Any = pytest.importorskip("empyrical", reason="empyrical-reloaded is not installed")
    result = run_backtest(load_bars(symbol), MovingAverageCross(fast=10, slow=30), fees_bps=5)
    returns, metrics = result.returns, result.metrics
    assert metrics.sharpe == pytest.approx(empyrical.sharpe_ratio(returns), rel=1e-9)
    assert metrics.sortino == pytest.approx(empyrical.sortino_ratio(returns), rel=1e-9)
    assert metrics.volatility == pytest.approx(empyrical.annual_volatility(returns), rel=1e-9)
    assert metrics.max_drawdown == pytest.approx(empyrical.max_drawdown(returns), rel=1e-9)
    assert metrics.cagr == pytest.approx(empyrical.annual_return(returns), rel=1e-9)
    assert metrics.calmar == pytest.approx(empyrical.calmar_ratio(returns), rel=1e-9)
    assert metrics.total_return == pytest.approx(empyrical.cum_returns_final(returns), rel=1e-9)


def test_beta_agrees_with_empyrical() -> None:
    empyrical: Any = pytest.importorskip("empyrical", reason="empyrical-reloaded is not installed")
    bars, index = load_bars("AAPL"), load_bars("IBM")
    result = run_backtest(bars, MovingAverageCross(), fees_bps=5)
    market = index.close[1:] / index.close[:-1] - 1.0
    assert result.fit(index).beta == pytest.approx(empyrical.beta(result.returns, market), rel=1e-9)


def crossing(fast: int, slow: int, side: str) -> Any:
    """Return a backtesting.py strategy of the same rule: at or below, then above, on consecutive bars."""
    backtesting: Any = pytest.importorskip("backtesting", reason="backtesting.py is not installed")

    class Cross(backtesting.Strategy):  # type: ignore[misc]
        def init(self) -> None:
            close = np.asarray(self.data.Close)
            self.fast = self.I(lambda: sma(close, fast))
            self.slow = self.I(lambda: sma(close, slow))

        def next(self) -> None:
            before, now = self.fast[-2] - self.slow[-2], self.fast[-1] - self.slow[-1]
            if before <= 0 < now:
                self.position.close()
                self.buy()
            elif before >= 0 > now:
                self.position.close()
                if side == "both":
                    self.sell()

    return Cross


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("side", ["long", "both"])
@pytest.mark.parametrize("fees_bps", [0.0, 10.0])
@pytest.mark.filterwarnings("ignore")  # theirs, about pandas and positions left open
def test_runs_agree_with_backtesting_py(symbol: str, side: Any, fees_bps: float) -> None:
    backtesting: Any = pytest.importorskip("backtesting", reason="backtesting.py is not installed")
    bars = load_bars(symbol)
    frame = frame_from_bars(bars).rename(columns=str.capitalize)
    theirs = backtesting.Backtest(
        frame, crossing(10, 30, side), cash=100_000.0, commission=fees_bps * 1e-4
    ).run()
    ours = run_backtest(
        bars, MovingAverageCross(fast=10, slow=30, side=side), cash=100_000.0, fees_bps=fees_bps
    )
    assert ours.n_trades == theirs["# Trades"]
    np.testing.assert_allclose(ours.equity, theirs["_equity_curve"]["Equity"], rtol=1e-9)
    assert ours.max_drawdown * 100 == pytest.approx(theirs["Max. Drawdown [%]"], rel=1e-9)
    closed = [trade for trade in ours.trades if not trade.is_open]
    entry_bars = theirs["_trades"].sort_values("ExitBar", kind="stable")["EntryBar"].tolist()
    assert [trade.entry_bar for trade in closed] == entry_bars
