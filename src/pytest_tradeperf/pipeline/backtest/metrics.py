"""The metrics of a run, each with its definition. All of them follow from the run's totals.

``r`` are the returns of equity from bar to bar, ``P`` the periods a year of the timeframe, and the risk-free
rate
is zero. NaN says that a metric has no value (no trade, no variation, no loss); it is ``null`` in JSON.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.backtest.totals import Totals

# A spread of returns this much smaller than the returns themselves is rounding, not volatility.
ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """The metrics of one run (or, as arrays of shape (n_runs,), of many).

    Attributes
    ----------
    final_equity
        Money at the last bar.
    total_return
        Final over initial equity, minus 1.
    cagr
        Compound annual growth: ``(final / initial) ** (P / number of returns) - 1``; -1 when nothing is left.
    volatility
        Sample standard deviation of r (n - 1) times ``sqrt(P)``.
    sharpe
        Arithmetic: ``mean(r) / std(r) * sqrt(P)`` with the sample deviation (W. F. Sharpe, 1994).
    sharpe_geometric
        ``cagr / volatility``.
    sortino
        ``mean(r) * sqrt(P) / sqrt(mean(min(r, 0) ** 2))`` (F. Sortino, 1994; target 0).
    calmar
        ``cagr / abs(max_drawdown)`` over the whole run.
    max_drawdown
        Largest fall of equity from a peak, a fraction <= 0.
    max_drawdown_bars
        Most bars in a row below an earlier peak.
    recovery_factor
        Net profit over the drawdown as a fraction of initial cash: ``total_return / abs(max_drawdown)``.
    best_bar_return, worst_bar_return
        Largest and smallest r.
    exposure
        Fraction of bars at whose close a position was held.
    turnover
        Money traded (entries and exits) over the mean of initial and final equity, a year.
    fees_paid
        Commission, in money.
    n_trades, n_open_trades
        Closed round trips; positions kept at the end (0 or 1 a symbol).
    win_rate
        Closed trades with a profit above 0, as a fraction.
    profit_factor
        Sum of profits over sum of losses; infinite without a loss.
    expectancy
        Mean profit of a closed trade, in money.
    average_win, average_loss
        Mean profit of winning trades, and of the others (<= 0), in money.
    payoff_ratio
        ``average_win / abs(average_loss)``.
    average_trade_return, best_trade_return, worst_trade_return
        Profit over money put in.
    average_trade_bars, longest_trade_bars
        Bars from entry to exit of closed trades.
    sqn
        System quality number: ``sqrt(n) * mean(profit) / std(profit)``, sample deviation (Van Tharp).
    kelly
        ``win_rate - (1 - win_rate) / payoff_ratio`` (J. L. Kelly, 1956, for two outcomes).
    """

    final_equity: float
    total_return: float
    cagr: float
    volatility: float
    sharpe: float
    sharpe_geometric: float
    sortino: float
    calmar: float
    max_drawdown: float
    max_drawdown_bars: float
    recovery_factor: float
    best_bar_return: float
    worst_bar_return: float
    exposure: float
    turnover: float
    fees_paid: float
    n_trades: float
    n_open_trades: float
    win_rate: float
    profit_factor: float
    expectancy: float
    average_win: float
    average_loss: float
    payoff_ratio: float
    average_trade_return: float
    best_trade_return: float
    worst_trade_return: float
    average_trade_bars: float
    longest_trade_bars: float
    sqn: float
    kelly: float


METRIC_NAMES = tuple(item.name for item in fields(Metrics))
WHOLE_NUMBERS = frozenset({"max_drawdown_bars", "n_trades", "n_open_trades", "longest_trade_bars"})


def metric_table(
    totals: Totals, *, cash: float, n_bars: int, periods_per_year: float
) -> dict[str, NDArray[np.float64]]:
    """Return every metric as a float64 ndarray of shape (n_runs,), by name in the order of :class:`Metrics`.

    Only additions, products, quotients and square roots run over arrays: those round the same way one by one
    and
    all at once. The power in ``cagr`` does not, so it is taken run by run.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        table = _curve_table(totals, cash, n_bars, periods_per_year) | _trade_table(totals)
    return {name: table[name] for name in METRIC_NAMES}


def metric_rows(totals: Totals, *, cash: float, n_bars: int, periods_per_year: float) -> NDArray[np.float64]:
    """Return every metric of many runs, float64 ndarray of shape (n_runs, number of metrics)."""
    table = metric_table(totals, cash=cash, n_bars=n_bars, periods_per_year=periods_per_year)
    return np.stack([table[name] for name in METRIC_NAMES], axis=1)


def metrics_of(totals: Totals, *, cash: float, n_bars: int, periods_per_year: float) -> Metrics:
    """Return the metrics of one run, given totals of shape (1,)."""
    table = metric_table(totals, cash=cash, n_bars=n_bars, periods_per_year=periods_per_year)
    return Metrics(**{name: column.item() for name, column in table.items()})


def _curve_table(totals: Totals, cash: float, n_bars: int, periods: float) -> dict[str, NDArray[np.float64]]:
    n_returns = float(max(n_bars - 1, 0))
    mean = totals.sum_change / n_returns
    variance = (totals.sum_square - totals.sum_change * mean) / (n_returns - 1.0)
    is_flat = (variance <= ROUNDING * totals.sum_square / n_returns) | (n_returns < 2.0)  # noqa: PLR2004 - a sample
    deviation = np.sqrt(np.where(is_flat, np.nan, variance))
    downside = np.sqrt(totals.sum_square_loss / n_returns)
    volatility = deviation * math.sqrt(periods)
    total_return = totals.final_equity / cash - 1.0
    cagr = _growth(totals.final_equity / cash, n_returns, periods)
    drawdown = totals.trough_ratio - 1.0
    fall = np.where(drawdown < 0.0, -drawdown, np.nan)
    return {
        "final_equity": totals.final_equity,
        "total_return": total_return,
        "cagr": cagr,
        "volatility": volatility,
        "sharpe": mean / deviation * math.sqrt(periods),
        "sharpe_geometric": cagr / volatility,
        "sortino": mean * math.sqrt(periods) / np.where(downside > 0.0, downside, np.nan),
        "calmar": cagr / fall,
        "max_drawdown": drawdown,
        "max_drawdown_bars": totals.underwater_bars,
        "recovery_factor": total_return / fall,
        "best_bar_return": totals.high_ratio - 1.0,
        "worst_bar_return": totals.low_ratio - 1.0,
        "exposure": totals.held_bars / n_bars,
        "turnover": totals.traded / ((cash + totals.final_equity) / 2.0) * periods / n_returns,
        "fees_paid": totals.fees,
    }


def _growth(ratio: NDArray[np.float64], n_returns: float, periods: float) -> NDArray[np.float64]:
    if n_returns == 0.0:
        return np.full(ratio.shape, np.nan)
    years = n_returns / periods
    return np.array([_power(value, 1.0 / years) - 1.0 for value in ratio.tolist()])


def _power(value: float, exponent: float) -> float:
    if value <= 0.0:
        return 0.0
    try:
        return math.pow(value, exponent)
    except OverflowError:
        return math.inf


def _trade_table(totals: Totals) -> dict[str, NDArray[np.float64]]:
    count = np.where(totals.n_trades > 0.0, totals.n_trades, np.nan)
    losers = totals.n_trades - totals.n_wins
    profit = totals.sum_win + totals.sum_loss
    mean = profit / count
    variance = (totals.sum_profit_square - profit * mean) / np.where(count > 1.0, count - 1.0, np.nan)
    is_flat = variance <= ROUNDING * totals.sum_profit_square / count
    win_rate = totals.n_wins / count
    average_win = totals.sum_win / totals.n_wins
    average_loss = totals.sum_loss / losers
    payoff = average_win / np.abs(average_loss)
    return {
        "n_trades": totals.n_trades,
        "n_open_trades": totals.n_open_trades,
        "win_rate": win_rate,
        "profit_factor": totals.sum_win / np.abs(totals.sum_loss),
        "expectancy": mean,
        "average_win": average_win,
        "average_loss": average_loss,
        "payoff_ratio": payoff,
        "average_trade_return": totals.sum_trade_return / count,
        "best_trade_return": np.where(totals.n_trades > 0.0, totals.high_trade_return, np.nan),
        "worst_trade_return": np.where(totals.n_trades > 0.0, totals.low_trade_return, np.nan),
        "average_trade_bars": totals.closed_bars / count,
        "longest_trade_bars": totals.longest_trade_bars,
        "sqn": np.sqrt(count) * mean / np.sqrt(np.where(is_flat, np.nan, variance)),
        "kelly": win_rate - (1.0 - win_rate) / payoff,
    }
