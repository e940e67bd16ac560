"""Choose parameters on one stretch of bars, trade the next with them, and go on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_tradeperf.pipeline.backtest.engine import choose_engine, run_with_settings, strategy_signals
from pytest_tradeperf.pipeline.backtest.grid import sweep
from pytest_tradeperf.pipeline.backtest.metrics import Metrics, metrics_of
from pytest_tradeperf.pipeline.backtest.settings import Settings
from pytest_tradeperf.pipeline.backtest.totals import totals_of
from pytest_tradeperf.pipeline.backtest.trades import TradeColumns, columns_of
from pytest_tradeperf.pipeline.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.backtest.engine import EngineName
    from pytest_tradeperf.pipeline.backtest.result import BacktestResult
    from pytest_tradeperf.pipeline.marketdata.bars import Bars


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Window:
    """One step: parameters chosen on ``train``, traded on ``test``; both (first bar, bar after the last)."""

    train: tuple[int, int]
    test: tuple[int, int]
    parameters: dict[str, Any]
    train_metric: float
    result: BacktestResult


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WalkForwardResult:
    """All steps, and the equity of trading them one after the other.

    Attributes
    ----------
    equity
        float64 ndarray of shape (n_test_bars,): each step starts with what the one before ended with.
    metrics
        Of that equity and all steps' trades.
    """

    windows: tuple[Window, ...]
    equity: NDArray[np.float64]
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class _Given:
    """Answers codes that were computed before, on bars that started earlier."""

    codes: NDArray[np.int8]

    def signals(self, bars: Bars) -> NDArray[np.int8]:  # noqa: ARG002 - they were computed on more bars than these
        return self.codes


def walk_forward(
    bars: Bars,
    strategy: Callable[..., Any],
    *,
    train_bars: int,
    test_bars: int,
    metric: str = "sharpe",
    settings: Settings | None = None,
    engine: EngineName = "auto",
    constraint: Callable[..., bool] | None = None,
    **grid: Iterable[Any],
) -> WalkForwardResult:
    """Return what choosing by ``metric`` on ``train_bars`` and trading the next ``test_bars`` made, in steps.

    Indicators in a test stretch are warmed up on the training stretch before it, so its first bar can
    already trade;
    positions are closed at the end of each stretch.

    Raises
    ------
    SettingError
        The stretches do not fit into the bars, or no combination had a value on some training stretch.
    """
    if train_bars < 2 or test_bars < 1 or train_bars + test_bars > len(bars):  # noqa: PLR2004 - a return needs two
        raise SettingError(
            f"train_bars={train_bars!r} and test_bars={test_bars!r} do not fit: expected at least 2 and 1, "
            f"and "
            f"together at most the {len(bars)} bars of {bars.symbol}"
        )
    base = settings or Settings()
    chosen, _ = choose_engine(engine, base)
    values: dict[str, Any] = {name: list(column) for name, column in grid.items()}
    windows: list[Window] = []
    cash = base.cash
    for start in range(0, len(bars) - train_bars - test_bars + 1, test_bars):
        middle, end = start + train_bars, start + train_bars + test_bars
        swept = sweep(
            bars[start:middle], strategy, constraint=constraint, settings=base, engine=engine, **values
        )
        parameters = swept.best(metric)
        codes = strategy_signals(strategy(**parameters), bars[start:end])[train_bars:]
        step = replace(base, cash=cash, close_final=True)
        result = run_with_settings(bars[middle:end], _Given(codes), step, engine=chosen)  # type: ignore[arg-type]
        best = float(np.nanmax(swept.metric(metric)))
        windows.append(
            Window(
                train=(start, middle),
                test=(middle, end),
                parameters=parameters,
                train_metric=best,
                result=result,
            )
        )
        cash = result.final_equity
        if cash <= 0.0:
            break
    equity = np.concatenate([window.result.equity for window in windows])
    totals = totals_of(equity, _joined(windows, train_bars), cash=base.cash)
    periods = bars.timeframe.periods_per_year
    metrics = metrics_of(totals, cash=base.cash, n_bars=equity.size, periods_per_year=periods)
    return WalkForwardResult(windows=tuple(windows), equity=equity, metrics=metrics)


def _joined(windows: list[Window], train_bars: int) -> TradeColumns:
    rows = []
    for window in windows:
        shift = window.test[0] - train_bars
        for trade, reason in zip(window.result.trades, window.result.columns.reason.tolist(), strict=True):
            bars = (trade.entry_bar + shift, trade.exit_bar + shift)
            rows.append((trade.shares, *bars, trade.entry_price, trade.exit_price, trade.fees, reason, 0))
    return columns_of(rows)
