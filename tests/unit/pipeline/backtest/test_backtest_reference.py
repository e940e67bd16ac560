from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from backtest_worlds import NAN, Scripted, bars_of

from pytest_tradeperf.pipeline.backtest import (
    BacktestResult,
    Costs,
    FixedShares,
    Fraction,
    Stops,
    VolatilityTarget,
    run_backtest,
)
from pytest_tradeperf.pipeline.backtest.signals import BUY, EXIT, HOLD, SELL
from pytest_tradeperf.pipeline.errors import SettingError
from pytest_tradeperf.pipeline.marketdata import load_bars


def run(
    codes: list[int], opens: list[float], closes: list[float] | None = None, **options: Any
) -> BacktestResult:
    chosen: dict[str, Any] = {"cash": 1000.0, "close_final": True, "engine": "reference"} | options
    return run_backtest(bars_of(opens, closes), Scripted(tuple(codes)), **chosen)


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
    result = run([BUY, HOLD, EXIT, HOLD], [100, 100, 100, 100], costs=Costs(slippage_bps=50, spread_bps=100))
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


def test_a_fee_function_is_charged_and_left_room_for() -> None:
    result = run(
        [BUY, HOLD, EXIT, HOLD],
        [100, 100, 100, 100],
        costs=Costs(fee=lambda shares, price: 5.0 + 0.1 * shares),
    )
    assert result.trades[0].shares == 9.0  # (1000 - 6) / 100
    assert result.final_equity == pytest.approx(1000.0 - 2 * 5.9)


@pytest.mark.parametrize(
    ("stops", "closes", "price", "reason"),
    [
        (Stops(stop_loss=0.1), [100, 100, 95, 80], 90.0, "stop_loss"),
        (Stops(take_profit=0.1), [100, 100, 105, 120], 110.0, "take_profit"),
        (Stops(trailing=0.1), [100, 100, 200, 150], 180.0, "trailing"),
        (Stops(stop_loss=0.5, trailing=0.1), [100, 100, 101, 80], 90.9, "trailing"),
    ],
)
def test_a_stop_fills_at_its_level_inside_the_bar(
    stops: Stops, closes: list[float], price: float, reason: str
) -> None:
    opens = [100.0, *closes[:-1]]  # each bar opens where the last one closed
    (trade,) = run([BUY, HOLD, HOLD, HOLD], opens, closes, stops=stops).trades
    assert (trade.exit_bar, trade.reason) == (3, reason)
    assert trade.exit_price == pytest.approx(price)


def test_a_bar_that_opens_beyond_the_stop_fills_at_its_open() -> None:
    (trade,) = run([BUY, HOLD, HOLD], [100, 100, 70], stops=Stops(stop_loss=0.1)).trades
    assert (trade.exit_price, trade.reason) == (70.0, "stop_loss")


def test_a_bar_that_opens_beyond_the_goal_fills_at_its_open() -> None:
    (trade,) = run([BUY, HOLD, HOLD], [100, 100, 130], stops=Stops(take_profit=0.1)).trades
    assert (trade.exit_price, trade.reason) == (130.0, "take_profit")


def test_the_stop_counts_where_a_bar_touches_both() -> None:
    result = run_backtest(
        bars_of([100, 100, 100], spread=20.0),
        Scripted((BUY, HOLD, HOLD)),
        stops=Stops(stop_loss=0.1, take_profit=0.1),
    )
    assert [(trade.exit_price, trade.reason) for trade in result.trades] == [(90.0, "stop_loss")]


def test_a_short_positions_stops_are_mirrored() -> None:
    (loss,) = run([SELL, HOLD, HOLD], [100, 100, 100], [100, 100, 120], stops=Stops(stop_loss=0.1)).trades
    (gain,) = run([SELL, HOLD, HOLD], [100, 100, 100], [100, 100, 80], stops=Stops(take_profit=0.1)).trades
    assert loss.exit_price == pytest.approx(110.0)
    assert gain.exit_price == pytest.approx(80.0 + 10.0)


def test_a_position_that_was_stopped_out_waits_for_a_new_signal() -> None:
    result = run([BUY, HOLD, HOLD, HOLD], [100, 100, 80, 200], stops=Stops(stop_loss=0.1))
    assert result.n_trades == 1


def test_slippage_worsens_a_stop_but_not_a_take_profit() -> None:
    costs = Costs(slippage_bps=100)
    (loss,) = run(
        [BUY, HOLD, HOLD], [100, 100, 100], [100, 100, 50], stops=Stops(stop_loss=0.1), costs=costs
    ).trades
    (gain,) = run(
        [BUY, HOLD, HOLD], [100, 100, 100], [100, 100, 150], stops=Stops(take_profit=0.1), costs=costs
    ).trades
    assert loss.exit_price == pytest.approx(101 * 0.9 * 0.99)
    assert gain.exit_price == pytest.approx(101 * 1.1)


def test_margin_borrows_and_a_ruined_position_is_liquidated_at_the_next_open() -> None:
    sizing = Fraction(fraction=2.0)
    result = run([BUY, HOLD, HOLD, HOLD], [100, 100, 100, 50], [100, 100, 40, 50], margin=0.5, sizing=sizing)
    (trade,) = result.trades
    assert trade.shares == 20.0
    assert (trade.exit_bar, trade.exit_price, trade.reason) == (3, 50.0, "margin")
    assert result.final_equity == 0.0


def test_maintenance_liquidates_before_everything_is_gone() -> None:
    result = run([SELL, HOLD, HOLD, HOLD], [100, 100, 170, 160], maintenance=0.25)
    assert (result.trades[0].exit_bar, result.trades[0].reason) == (3, "margin")
    assert result.final_equity == 400.0


def test_fixed_shares_are_not_bought_beyond_the_buying_power() -> None:
    assert run([BUY, HOLD], [100, 100], sizing=FixedShares(shares=11)).n_trades == 0
    assert run([BUY, HOLD], [100, 100], sizing=FixedShares(shares=10)).trades[0].shares == 10.0


def test_fixed_shares_are_rounded_down_before_they_are_paid() -> None:
    assert run([BUY, HOLD], [100, 100], sizing=FixedShares(shares=10.9)).trades[0].shares == 10.0
    assert run([BUY, HOLD], [100, 100], sizing=FixedShares(shares=0.9)).trades == ()


@pytest.mark.parametrize("margin", [1.0, 0.5, 0.25])
def test_a_fraction_invests_that_part_of_the_equity_whatever_the_margin(margin: float) -> None:
    bought = run([BUY, HOLD], [100, 100], sizing=Fraction(fraction=0.5), margin=margin)
    assert bought.trades[0].shares == 5.0


def test_a_fraction_may_be_as_large_as_what_the_equity_carries() -> None:
    bought = run([BUY, HOLD], [100, 100], sizing=Fraction(fraction=4.0), margin=0.25)
    assert bought.trades[0].shares == 40.0


@pytest.mark.parametrize(
    ("sizing", "margin", "message"),
    [
        (
            Fraction(fraction=3.0),
            1.0,
            r"fraction is 3\.0: expected at most 1 times equity, .* margin=1 .* set margin to 0\.3333 or less",
        ),
        (Fraction(fraction=2.1), 0.5, r"fraction is 2\.1: expected at most 2 times equity"),
        (VolatilityTarget(cap=1.5), 1.0, r"cap is 1\.5: expected at most 1 times equity"),
    ],
)
def test_a_size_that_equity_does_not_carry_is_refused(
    sizing: Fraction | VolatilityTarget, margin: float, message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        run([BUY, HOLD], [100, 100], sizing=sizing, margin=margin)


@pytest.mark.parametrize("margin", [1.0, 0.5, 0.25])
def test_a_volatility_target_is_the_same_part_of_equity_whatever_the_margin(margin: float) -> None:
    sizing = VolatilityTarget(annual=0.1, window=60)
    codes = [HOLD] * 100
    codes[80] = BUY
    bars = load_bars("GOOG")[:100]
    result = run_backtest(bars, Scripted(tuple(codes)), sizing=sizing, margin=margin, whole_shares=False)
    returns = bars.close[21:81] / bars.close[20:80] - 1.0
    (trade,) = result.trades
    assert trade.entry_price * trade.shares / 10_000.0 == pytest.approx(
        0.1 / (returns.std() * np.sqrt(252.0))
    )


def test_a_volatility_target_buys_less_of_what_moves_more() -> None:
    calm = [100.0, 101, 100, 101, 100, 101]
    wild = [100.0, 110, 100, 110, 100, 110]
    sizing = VolatilityTarget(annual=0.05, window=4)
    codes = [HOLD, HOLD, HOLD, HOLD, BUY, HOLD]
    small = run(codes, wild, sizing=sizing, whole_shares=False).trades[0]
    large = run(codes, calm, sizing=sizing, whole_shares=False).trades[0]
    returns = np.array([0.1, -1 / 11, 0.1, -1 / 11])
    expected = 0.05 / (returns.std() * np.sqrt(252.0))
    assert small.shares * small.entry_price / 1000.0 == pytest.approx(expected)
    assert large.shares > 5 * small.shares
