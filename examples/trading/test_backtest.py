"""The backtest must stay as fast as it is, and give the same trades."""

import pytest

from pytest_tradeperf.pipeline.backtest import Breakout, MovingAverageCross, run_backtest


@pytest.mark.perf_budget(wall="2 s", peak_rss="500 MB", threshold="5%")
def test_moving_average_cross(perf, goog):
    result = perf(run_backtest, goog, MovingAverageCross(fast=10, slow=30), fees_bps=5, engine="reference")
    perf.digest("trades", result.trades)
    perf.digest("equity", result.equity)
    perf.record("trades", result.n_trades, better="same")
    bars_per_second = len(goog) / perf.last.wall.seconds
    perf.record("bars_per_second", bars_per_second, unit="bars/s", better="higher")


@pytest.mark.perf_budget(wall="2 s", threshold="5%")
@pytest.mark.parametrize("symbol", ["AAPL", "IBM"])
def test_breakout(perf, all_bars, symbol):
    result = perf(run_backtest, all_bars[symbol], Breakout(), fees_bps=5, engine="reference")
    perf.digest("trades", result.trades)
    perf.record("max_drawdown", -result.max_drawdown, unit="fraction")


@pytest.mark.perf_budget(wall="10 s", threshold="5%")
def test_five_stocks(perf, all_bars):
    """The whole body is measured: no callable is given to perf."""
    finals = {}
    for symbol, bars in all_bars.items():
        with perf.stage(symbol):
            finals[symbol] = run_backtest(
                bars, MovingAverageCross(fast=20, slow=50), engine="reference"
            ).final_equity
    perf.digest("final_equity", finals)
