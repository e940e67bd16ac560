"""What a run answers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pytest_tradeperf.pipeline.backtest.metrics import CurveMetrics, curve_metrics

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.backtest.settings import Settings
    from pytest_tradeperf.pipeline.backtest.trades import Trade
    from pytest_tradeperf.pipeline.marketdata.timeframe import Timeframe


@dataclass(frozen=True, kw_only=True, eq=False)
class BacktestResult:
    """Equity, trades and what follows from them.

    Attributes
    ----------
    equity
        float64 ndarray of shape (n_bars,): cash and position valued at each close, costs paid.
    trades
        Round trips in the order in which they were closed; one that is still open comes last.
    engine
        The engine that ran it.
    """

    symbol: str
    strategy: str
    settings: Settings
    timeframe: Timeframe
    equity: NDArray[np.float64]
    trades: tuple[Trade, ...]
    engine: str

    @cached_property
    def _curve(self) -> CurveMetrics:
        return curve_metrics(
            self.equity, cash=self.settings.cash, periods_per_year=self.timeframe.periods_per_year
        )

    @property
    def final_equity(self) -> float:
        """Equity at the last bar; the initial cash without bars."""
        return float(self.equity[-1]) if self.equity.size else self.settings.cash

    @property
    def total_return(self) -> float:
        """Final over initial equity, minus 1."""
        return self._curve.total_return

    @property
    def sharpe(self) -> float:
        """Annualised arithmetic Sharpe ratio; NaN when equity never moves."""
        return self._curve.sharpe

    @property
    def max_drawdown(self) -> float:
        """Largest fall from a peak, a fraction <= 0."""
        return self._curve.max_drawdown

    @property
    def n_trades(self) -> int:
        """Number of closed round trips."""
        return sum(not trade.is_open for trade in self.trades)
