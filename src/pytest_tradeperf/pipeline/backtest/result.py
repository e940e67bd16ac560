"""What a run answers: equity, positions, trades, metrics, and ways to look at them."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_tradeperf.pipeline.backtest.metrics import WHOLE_NUMBERS, Metrics, metrics_of
from pytest_tradeperf.pipeline.backtest.totals import Totals, totals_from_rows, totals_of

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.backtest.bootstrap import Interval
    from pytest_tradeperf.pipeline.backtest.market import MarketFit
    from pytest_tradeperf.pipeline.backtest.settings import Settings
    from pytest_tradeperf.pipeline.backtest.trades import Trade, TradeColumns
    from pytest_tradeperf.pipeline.marketdata.bars import Bars
    from pytest_tradeperf.pipeline.marketdata.timeframe import Timeframe


@dataclass(frozen=True, kw_only=True, eq=False)
class BacktestResult:
    """Equity, trades and what follows from them.

    Attributes
    ----------
    symbols
        Names of what was traded; one for a run on one symbol.
    timestamps
        datetime64[ns] ndarray of shape (n_bars,).
    equity
        Read-only float64 ndarray of shape (n_bars,): cash and positions valued at each close, costs paid.
    columns
        The trades as arrays, in the order in which they were closed; those still open come last.
    engine
        The engine that ran it.
    note
        Why that engine and not a faster one, where the default had to choose; else empty.
    changes
        Bar, symbol number and shares of every fill, where the trades alone do not tell positions over time.
    """

    symbols: tuple[str, ...]
    strategy: str
    settings: Settings
    timeframe: Timeframe
    timestamps: NDArray[np.datetime64]
    equity: NDArray[np.float64]
    columns: TradeColumns
    engine: str
    note: str = ""
    changes: tuple[tuple[int, int, float], ...] | None = None

    @property
    def symbol(self) -> str:
        """The symbols, joined by a comma."""
        return ",".join(self.symbols)

    @cached_property
    def trades(self) -> tuple[Trade, ...]:
        """Round trips in the order in which they were closed; those that are still open come last."""
        return self.columns.records(self.symbols)

    @cached_property
    def totals(self) -> Totals:
        """The sums behind the metrics, as arrays of shape (1,)."""
        sums = self.__dict__.get("sums")
        if sums is not None:
            return totals_from_rows(sums[np.newaxis, :])
        return totals_of(self.equity, self.columns, cash=self.settings.cash)

    @cached_property
    def metrics(self) -> Metrics:
        """All metrics; :class:`~pytest_tradeperf.pipeline.backtest.metrics.Metrics` defines each."""
        return metrics_of(
            self.totals,
            cash=self.settings.cash,
            n_bars=self.equity.size,
            periods_per_year=self.timeframe.periods_per_year,
        )

    @property
    def final_equity(self) -> float:
        """Equity at the last bar; the initial cash without bars."""
        return float(self.equity[-1]) if self.equity.size else self.settings.cash

    @property
    def total_return(self) -> float:
        """Final over initial equity, minus 1."""
        return self.final_equity / self.settings.cash - 1.0

    @property
    def sharpe(self) -> float:
        """Annualised arithmetic Sharpe ratio; NaN when equity never moves."""
        return self.metrics.sharpe

    @property
    def max_drawdown(self) -> float:
        """Largest fall from a peak, a fraction <= 0."""
        return self.metrics.max_drawdown

    @property
    def n_trades(self) -> int:
        """Number of closed round trips."""
        return int(self.metrics.n_trades)

    @cached_property
    def returns(self) -> NDArray[np.float64]:
        """Returns of equity from bar to bar, float64 ndarray of shape (n_bars - 1,)."""
        return self.equity[1:] / self.equity[:-1] - 1.0

    @cached_property
    def drawdown(self) -> NDArray[np.float64]:
        """Equity relative to its peak so far, minus 1: float64 ndarray of shape (n_bars,), each <= 0."""
        return self.equity / np.maximum.accumulate(self.equity) - 1.0

    @cached_property
    def positions(self) -> NDArray[np.float64]:
        """Shares held at each close: float64 ndarray of shape (n_bars, n_symbols)."""
        change = np.zeros((self.equity.size + 1, len(self.symbols)))
        if self.changes is not None:
            for bar, place, shares in self.changes:
                change[bar, place] += shares
            return change.cumsum(axis=0, out=change)[:-1]
        trades = self.columns
        exits = np.where(trades.exit_bar < 0, self.equity.size, trades.exit_bar)
        np.add.at(change, (trades.entry_bar, trades.symbol), trades.shares)
        np.subtract.at(change, (exits, trades.symbol), trades.shares)
        return change.cumsum(axis=0)[:-1]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over equity and trades: equal for two runs only if every bit of both is."""
        state = hashlib.sha256(repr(self.symbols).encode())
        for array in (self.timestamps, self.equity, *asdict(self.columns).values()):
            state.update(np.ascontiguousarray(array).tobytes())
        return state.hexdigest()

    def fit(self, reference_index: Bars) -> MarketFit:
        """Return alpha and beta against a market index; see :func:`~.market.market_fit`."""
        from pytest_tradeperf.pipeline.backtest.market import market_fit

        return market_fit(self, reference_index)

    def interval(self, metric: str = "sharpe", *, level: float = 0.95, seed: int = 0) -> Interval:
        """Return a bootstrap interval of a metric; see :func:`~.bootstrap.bootstrap_interval`."""
        from pytest_tradeperf.pipeline.backtest.bootstrap import bootstrap_interval

        return bootstrap_interval(
            self.returns, metric, periods_per_year=self.timeframe.periods_per_year, level=level, seed=seed
        )

    def to_frame(self) -> pd.DataFrame:
        """Return equity, drawdown and positions as a pandas DataFrame indexed by time."""
        import pandas as pd

        table = {"equity": self.equity, "drawdown": self.drawdown}
        table |= {f"position_{name}": self.positions[:, column] for column, name in enumerate(self.symbols)}
        return pd.DataFrame(table, index=pd.DatetimeIndex(self.timestamps, name="time"))

    def trades_frame(self) -> pd.DataFrame:
        """Return one row a trade as a pandas DataFrame, with profit and return."""
        import pandas as pd

        names = ("symbol", "shares", "entry_bar", "exit_bar", "entry_price", "exit_price", "fees", "reason")
        rows = [
            (*(getattr(trade, name) for name in names), trade.profit, trade.return_fraction)
            for trade in self.trades
        ]
        return pd.DataFrame(rows, columns=[*names, "profit", "return_fraction"])

    def as_record(self) -> dict[str, Any]:
        """Return every metric under its field name, ready for JSON: no NaN, no infinity."""
        record: dict[str, Any] = {
            "symbol": self.symbol,
            "strategy": self.strategy,
            "engine": self.engine,
            "timeframe": str(self.timeframe),
            "periods_per_year": self.timeframe.periods_per_year,
            "n_bars": int(self.equity.size),
            "initial_cash": self.settings.cash,
        }
        for name, value in asdict(self.metrics).items():
            is_known = math.isfinite(value)
            record[name] = None if not is_known else int(value) if name in WHOLE_NUMBERS else value
        return record | {"fill": self.settings.fill, "digest": self.digest}

    def plot(self, path: str | Path | None = None) -> Any:
        """Return a figure of equity and drawdown, saved to ``path`` if given (``charts`` extra)."""
        from pytest_tradeperf.pipeline.backtest.plots import equity_figure

        return equity_figure(self, path)
