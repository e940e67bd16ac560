from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from backtest_worlds import NAN, Scripted, bars_of

from pytest_tradeperf.pipeline.backtest import BacktestResult, run_backtest
from pytest_tradeperf.pipeline.backtest.signals import BUY, EXIT, HOLD, SELL


def run(
    codes: list[int], opens: list[float], closes: list[float] | None = None, **options: Any
) -> BacktestResult:
    return run_backtest(
        bars_of(opens, closes), Scripted(tuple(codes)), cash=1000.0, engine="reference", **options
    )


def test_a_signal_on_the_close_fills_at_the_next_open() -> None:
    result = run([BUY, HOLD, EXIT, HOLD], [10, 20, 30, 40], [11, 21, 31, 41])
    (trade,) = result.trades
    assert (trade.entry_bar, trade.entry_price, trade.exit_bar, trade.exit_price) == (1, 20.0, 3, 40.0)
    assert result.equity.tolist() == [1000.0, 50 * 21.0, 50 * 31.0, 2000.0]


def test_same_close_fills_at_the_deciding_close() -> None:
    result = run([BUY, EXIT, HOLD], [10, 20, 30], [10, 25, 30], fill="same_close")
    (trade,) = result.trades
    assert (trade.entry_bar, trade.entry_price, trade.exit_bar, trade.exit_price) == (0, 10.0, 1, 25.0)


def test_whole_shares_are_rounded_down_and_the_rest_stays_cash() -> None:
    result = run([BUY, HOLD, HOLD], [1, 300, 600])
    assert result.trades[0].shares == 3.0
    assert result.final_equity == 100.0 + 3 * 600.0


def test_fractional_shares_spend_everything() -> None:
    result = run([BUY, HOLD, HOLD], [1, 300, 600], whole_shares=False)
    assert result.final_equity == pytest.approx(2000.0)


def test_fees_are_charged_on_both_fills() -> None:
    result = run([BUY, HOLD, EXIT, HOLD], [100, 100, 100, 100], fees_bps=100)
    assert result.trades[0].shares == 9.0  # ten would cost 1010
    assert result.trades[0].fees == pytest.approx(18.0)
    assert result.final_equity == pytest.approx(982.0)


def test_slippage_and_half_the_spread_worsen_both_prices() -> None:
    result = run([BUY, HOLD, EXIT, HOLD], [100, 100, 100, 100], slippage_bps=50, spread_bps=100)
    assert (result.trades[0].entry_price, result.trades[0].exit_price) == (101.0, 99.0)


def test_a_short_position_gains_when_the_price_falls() -> None:
    result = run([SELL, HOLD, EXIT, HOLD], [100, 100, 90, 80])
    assert result.trades[0].shares == -10.0
    assert result.final_equity == 1200.0


def test_the_opposite_signal_reverses_at_one_open() -> None:
    result = run([BUY, HOLD, SELL, HOLD, HOLD], [100, 100, 100, 120, 100])
    first, second = result.trades
    assert (first.exit_bar, first.reason, second.entry_bar) == (3, "reversal", 3)
    assert second.shares == -10.0  # 1200 at 120


def test_a_repeated_signal_changes_nothing() -> None:
    assert run([BUY, BUY, BUY, HOLD], [10, 11, 12, 13]).n_trades == 1


def test_a_signal_on_the_last_bar_is_never_filled() -> None:
    assert run([HOLD, HOLD, BUY], [10, 11, 12]).trades == ()


def test_an_order_waits_while_bars_are_missing_and_the_last_close_values_the_position() -> None:
    result = run([BUY, HOLD, HOLD, HOLD, EXIT, HOLD], [10, NAN, 20, NAN, 30, 40])
    (trade,) = result.trades
    assert trade.entry_bar == 2
    assert result.equity.tolist() == [1000, 1000, 1000, 1000, 1500, 2000]


def test_the_final_position_is_closed_with_costs_when_asked() -> None:
    closed = run([BUY, HOLD, HOLD], [100, 100, 200], fees_bps=100)
    kept = run([BUY, HOLD, HOLD], [100, 100, 200], fees_bps=100, close_final=False)
    assert closed.trades[-1].reason == "end"
    assert kept.trades[-1].is_open
    assert (closed.n_trades, kept.n_trades) == (1, 0)
    assert kept.final_equity - closed.final_equity == pytest.approx(18.0)


def test_an_order_too_small_for_one_share_is_not_placed() -> None:
    assert run([BUY, HOLD], [2000, 2000]).trades == ()


@pytest.mark.parametrize("n_bars", [0, 1])
def test_no_bar_and_one_bar_end_with_the_initial_cash(n_bars: int) -> None:
    result = run([BUY] * n_bars, [10.0] * n_bars)
    assert (result.final_equity, result.total_return, result.max_drawdown, result.n_trades) == (
        1000.0,
        0.0,
        0.0,
        0,
    )
    assert np.isnan(result.sharpe)


def test_drawdown_and_return_of_a_worked_example() -> None:
    result = run([BUY, HOLD, HOLD, HOLD], [100, 100, 150, 75])
    assert result.max_drawdown == -0.5
    assert result.total_return == -0.25


def test_sharpe_is_the_arithmetic_one() -> None:
    result = run([BUY, HOLD, HOLD, HOLD, HOLD], [100, 100, 110, 99, 120])
    returns = result.equity[1:] / result.equity[:-1] - 1.0
    expected = returns.mean() / returns.std(ddof=1) * np.sqrt(result.timeframe.periods_per_year)
    assert result.sharpe == pytest.approx(expected, rel=1e-12)


def test_equity_is_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        run([BUY, HOLD], [10, 11]).equity[0] = 1.0
