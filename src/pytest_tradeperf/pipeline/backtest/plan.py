"""Bars and settings turned into the plain numbers that every engine works on.

Whatever could be computed in two ways is computed here, once, so that engines cannot differ in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_tradeperf.pipeline.backtest.settings import FixedShares, Fraction
from pytest_tradeperf.pipeline.features.indicators import bollinger

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.backtest.settings import Settings, VolatilityTarget
    from pytest_tradeperf.pipeline.marketdata.bars import Bars


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """One symbol's prices and the constants of a run.

    Attributes
    ----------
    open, high, low, close
        float64 ndarrays of shape (n_bars,); missing bars are NaN.
    last_close
        The close, that of the last bar with prices on a missing bar, and 0 before the first.
    size
        float64 ndarray of shape (n_bars,): what an order decided on that bar may buy, a number of shares if
        ``size_is_shares``, else money per unit of equity.
    fee_factor
        ``1 + fee_rate``, what one unit of money in the market costs.
    buy_factor, sell_factor
        What slippage and spread make of a price.
    loss, profit, trail
        Fractions of :class:`~pytest_tradeperf.pipeline.backtest.settings.Stops`, NaN where off.
    """

    settings: Settings
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    last_close: NDArray[np.float64]
    size: NDArray[np.float64]
    size_is_shares: bool
    fee_factor: float
    buy_factor: float
    sell_factor: float
    loss: float
    profit: float
    trail: float


def plan_of(bars: Bars, settings: Settings) -> Plan:
    """Return the plan of a run."""
    stops = settings.stops
    return Plan(
        settings=settings,
        open=bars.open,
        high=bars.high,
        low=bars.low,
        close=bars.close,
        last_close=_last_closes(bars.close),
        size=sizes_of(bars, settings),
        size_is_shares=isinstance(settings.sizing, FixedShares),
        fee_factor=1.0 + settings.costs.fee_rate,
        buy_factor=1.0 + settings.costs.impact,
        sell_factor=1.0 - settings.costs.impact,
        loss=math.nan if stops.stop_loss is None else stops.stop_loss,
        profit=math.nan if stops.take_profit is None else stops.take_profit,
        trail=math.nan if stops.trailing is None else stops.trailing,
    )


def _last_closes(close: NDArray[np.float64]) -> NDArray[np.float64]:
    missing = np.isnan(close)
    if not missing.any():
        return close
    place = np.maximum.accumulate(np.where(missing, -1, np.arange(close.size)))
    return np.where(place >= 0, close[np.maximum(place, 0)], 0.0)


def sizes_of(bars: Bars, settings: Settings) -> NDArray[np.float64]:
    """Return what an order decided on each bar may buy, float64 of shape (n_bars,): shares, or fractions.

    Margin makes no size larger: it is the bound up to which one may be asked for.
    """
    sizing = settings.sizing
    if isinstance(sizing, FixedShares):
        shares = math.floor(sizing.shares) if settings.whole_shares else sizing.shares
        return np.full(len(bars), float(shares))
    if isinstance(sizing, Fraction):
        return np.full(len(bars), min(sizing.fraction, settings.leverage))
    return np.minimum(_volatility_fractions(bars, sizing), settings.leverage)


def _volatility_fractions(bars: Bars, sizing: VolatilityTarget) -> NDArray[np.float64]:
    fractions = np.zeros(len(bars))
    known = np.flatnonzero(~np.isnan(bars.close))
    returns = bars.close[known][1:] / bars.close[known][:-1] - 1.0
    bands = bollinger(returns, sizing.window, 1.0)
    yearly = (bands.upper - bands.middle) * math.sqrt(bars.timeframe.periods_per_year)
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = np.minimum(sizing.cap, sizing.annual / yearly)
    fractions[known[1:]] = np.where(yearly > 0.0, wanted, 0.0)
    return fractions
