"""Running sums of one run, from which every metric follows.

The sums are taken in the order of time, one addition at a time. That order is part of the definition: the
fast
engines add while they walk through the bars, and must arrive at these numbers to the last bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.backtest.trades import TradeColumns


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over one run, or over many as arrays of shape (n_runs,).

    Attributes
    ----------
    final_equity
        Equity at the last bar.
    sum_change, sum_square, sum_square_loss
        Returns from bar to bar: their sum, sum of squares, and sum of squares of the negative ones.
    low_ratio, high_ratio
        Smallest and largest equity relative to the bar before; 1 without a second bar.
    trough_ratio
        Smallest equity relative to its peak so far.
    underwater_bars
        Most bars in a row below an earlier peak.
    n_trades, n_open_trades, n_wins
        Closed round trips, those still open, and closed ones with a profit.
    sum_win, sum_loss
        Profits above zero, and those not above zero, in money.
    sum_profit_square
        Squares of all profits.
    sum_trade_return, low_trade_return, high_trade_return
        Returns of closed trades.
    held_bars, closed_bars, longest_trade_bars
        Bars between entry and exit over all trades, the open one included; over closed ones; the longest of
        those.
    fees, traded
        Commission paid and money traded over all fills.
    """

    final_equity: NDArray[np.float64]
    sum_change: NDArray[np.float64]
    sum_square: NDArray[np.float64]
    sum_square_loss: NDArray[np.float64]
    low_ratio: NDArray[np.float64]
    high_ratio: NDArray[np.float64]
    trough_ratio: NDArray[np.float64]
    underwater_bars: NDArray[np.float64]
    n_trades: NDArray[np.float64]
    n_open_trades: NDArray[np.float64]
    n_wins: NDArray[np.float64]
    sum_win: NDArray[np.float64]
    sum_loss: NDArray[np.float64]
    sum_profit_square: NDArray[np.float64]
    sum_trade_return: NDArray[np.float64]
    low_trade_return: NDArray[np.float64]
    high_trade_return: NDArray[np.float64]
    held_bars: NDArray[np.float64]
    closed_bars: NDArray[np.float64]
    longest_trade_bars: NDArray[np.float64]
    fees: NDArray[np.float64]
    traded: NDArray[np.float64]


TOTAL_NAMES = tuple(item.name for item in fields(Totals))


def totals_of(equity: NDArray[np.float64], trades: TradeColumns, *, cash: float) -> Totals:
    """Return the totals of one run as arrays of shape (1,)."""
    sums = _curve_sums(equity.tolist(), cash) | _trade_sums(trades, equity.size)
    return Totals(**{name: np.array([sums[name]], dtype=np.float64) for name in TOTAL_NAMES})


def totals_from_rows(sums: NDArray[np.float64]) -> Totals:
    """Return totals from an array of shape (n_runs, number of totals), columns in the order of Totals."""
    return Totals(**dict(zip(TOTAL_NAMES, sums.T, strict=True)))


def rows_of(totals: Totals) -> NDArray[np.float64]:
    """Return what :func:`totals_from_rows` takes."""
    return np.stack([getattr(totals, name) for name in TOTAL_NAMES], axis=1)


def _curve_sums(path: list[float], cash: float) -> dict[str, float]:
    change = square = loss = 0.0
    low = high = trough = 1.0
    peak = before = path[0] if path else cash
    underwater = longest = 0
    for bar, value in enumerate(path):
        if value >= peak:
            peak = value
            underwater = 0
        else:
            trough = min(trough, value / peak)
            underwater += 1
            longest = max(longest, underwater)
        if bar > 0:
            ratio = value / before if before > 0.0 else 1.0
            low = ratio if bar == 1 else min(low, ratio)
            high = ratio if bar == 1 else max(high, ratio)
            step = ratio - 1.0
            fall = min(step, 0.0)
            change += step
            square += step * step
            loss += fall * fall
        before = value
    return {
        "final_equity": before,
        "sum_change": change,
        "sum_square": square,
        "sum_square_loss": loss,
        "low_ratio": low,
        "high_ratio": high,
        "trough_ratio": trough,
        "underwater_bars": longest,
    }


def _trade_sums(trades: TradeColumns, n_bars: int) -> dict[str, float]:
    sums = dict.fromkeys(TOTAL_NAMES[TOTAL_NAMES.index("n_trades") :], 0.0)
    sums["low_trade_return"], sums["high_trade_return"] = math.inf, -math.inf
    columns = (
        trades.shares,
        trades.entry_bar,
        trades.exit_bar,
        trades.entry_price,
        trades.exit_price,
        trades.fees,
    )
    for shares, entry_bar, exit_bar, entry_price, exit_price, fees in zip(
        *(column.tolist() for column in columns), strict=True
    ):
        put_in = abs(shares) * entry_price
        sums["fees"] += fees
        sums["traded"] += put_in
        if exit_bar < 0:
            sums["n_open_trades"] += 1.0
            sums["held_bars"] += n_bars - entry_bar
            continue
        profit = shares * (exit_price - entry_price) - fees
        gain = profit / put_in
        held = exit_bar - entry_bar
        sums["n_trades"] += 1.0
        sums["n_wins"] += 1.0 if profit > 0.0 else 0.0
        sums["sum_win" if profit > 0.0 else "sum_loss"] += profit
        sums["sum_profit_square"] += profit * profit
        sums["sum_trade_return"] += gain
        sums["low_trade_return"] = min(sums["low_trade_return"], gain)
        sums["high_trade_return"] = max(sums["high_trade_return"], gain)
        sums["held_bars"] += held
        sums["closed_bars"] += held
        sums["longest_trade_bars"] = max(sums["longest_trade_bars"], held)
        sums["traded"] += abs(shares) * exit_price
    return sums
