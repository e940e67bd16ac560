"""A run beside a market index: alpha and beta."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_tradeperf.pipeline.errors import DataError

if TYPE_CHECKING:
    from pytest_tradeperf.pipeline.backtest.result import BacktestResult
    from pytest_tradeperf.pipeline.marketdata.bars import Bars

FEWEST_RETURNS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketFit:
    """Least squares of a run's returns on the index's returns.

    Attributes
    ----------
    alpha
        Annualised intercept, arithmetic: ``(mean(r) - beta * mean(m)) * P`` (M. Jensen, 1968; risk-free rate
        0).
    beta
        ``cov(r, m) / var(m)``.
    correlation
        Pearson's, in [-1, 1].
    n_returns
        Bars that both have.
    """

    alpha: float
    beta: float
    correlation: float
    n_returns: int


def market_fit(result: BacktestResult, reference_index: Bars) -> MarketFit:
    """Return alpha and beta over the bars that the run and the index share.

    Raises
    ------
    DataError
        Fewer than three shared returns, or an index that never moves.
    """
    known = ~reference_index.is_missing
    _, own, other = np.intersect1d(result.timestamps, reference_index.timestamps[known], return_indices=True)
    n_returns = own.size - 1
    if n_returns < FEWEST_RETURNS:
        raise DataError(
            f"index {reference_index.symbol} shares {own.size} bars with the run, expected at least "
            f"{FEWEST_RETURNS + 1}: give an index of the same timeframe and period"
        )
    mine = result.equity[own][1:] / result.equity[own][:-1] - 1.0
    market = reference_index.close[known][other][1:] / reference_index.close[known][other][:-1] - 1.0
    spread = float(np.var(market))
    if spread == 0.0:
        raise DataError(f"index {reference_index.symbol} never moves: beta has no value against a constant")
    covariance = float(np.mean((mine - mine.mean()) * (market - market.mean())))
    beta = covariance / spread
    deviation = math.sqrt(float(np.var(mine)) * spread)
    return MarketFit(
        alpha=(float(mine.mean()) - beta * float(market.mean())) * result.timeframe.periods_per_year,
        beta=beta,
        correlation=covariance / deviation if deviation > 0.0 else math.nan,
        n_returns=n_returns,
    )
