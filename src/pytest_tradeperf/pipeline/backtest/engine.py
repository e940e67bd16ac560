"""Run a strategy over bars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from pytest_tradeperf.pipeline.backtest.reference import simulate
from pytest_tradeperf.pipeline.backtest.result import BacktestResult
from pytest_tradeperf.pipeline.backtest.settings import Costs, FillRule, Settings
from pytest_tradeperf.pipeline.backtest.signals import checked_signals
from pytest_tradeperf.pipeline.errors import EngineError, PipelineError, StrategyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.backtest.strategies import Strategy
    from pytest_tradeperf.pipeline.marketdata.bars import Bars

EngineName = Literal["reference"]


def run_backtest(
    bars: Bars,
    strategy: Strategy,
    *,
    cash: float = 10_000.0,
    fees_bps: float = 0.0,
    fee_fixed: float = 0.0,
    slippage_bps: float = 0.0,
    spread_bps: float = 0.0,
    fraction: float = 1.0,
    whole_shares: bool = True,
    fill: FillRule = "next_open",
    close_final: bool = True,
    engine: EngineName = "reference",
) -> BacktestResult:
    """Return equity, trades and metrics of one strategy on one symbol.

    Parameters
    ----------
    bars
        The prices.
    strategy
        Anything with ``signals(bars)``; see :class:`~pytest_tradeperf.pipeline.backtest.strategies.Strategy`.
    cash, fraction, whole_shares, fill, close_final
        See :class:`~pytest_tradeperf.pipeline.backtest.settings.Settings`.
    fees_bps, fee_fixed, slippage_bps, spread_bps
        See :class:`~pytest_tradeperf.pipeline.backtest.settings.Costs`.
    engine
        Which engine runs it.

    Raises
    ------
    SettingError
        An argument is out of range.
    StrategyError
        The strategy raised or answered with something that is not one code a bar.
    EngineError
        The engine does not exist.

    Examples
    --------
    >>> from pytest_tradeperf.pipeline.marketdata import load_bars
    >>> from pytest_tradeperf.pipeline.backtest import MovingAverageCross
    >>> result = run_backtest(load_bars("GOOG"), MovingAverageCross(fast=20, slow=50), fees_bps=10)
    >>> result.n_trades, round(result.total_return, 3)
    (20, 1.757)
    """
    if engine not in get_args(EngineName):
        raise EngineError(
            f"engine {engine!r} does not exist: expected one of {', '.join(get_args(EngineName))}"
        )
    costs = Costs(fees_bps=fees_bps, fee_fixed=fee_fixed, slippage_bps=slippage_bps, spread_bps=spread_bps)
    settings = Settings(
        cash=cash,
        costs=costs,
        fraction=fraction,
        whole_shares=whole_shares,
        fill=fill,
        close_final=close_final,
    )
    equity, trades = simulate(bars, strategy_signals(strategy, bars), settings)
    equity.flags.writeable = False
    return BacktestResult(
        symbol=bars.symbol,
        strategy=repr(strategy),
        settings=settings,
        timeframe=bars.timeframe,
        equity=equity,
        trades=trades,
        engine=engine,
    )


def strategy_signals(strategy: Strategy, bars: Bars) -> NDArray[np.int8]:
    """Return the checked codes of a strategy; whatever it raises becomes a StrategyError that names it."""
    if not callable(getattr(strategy, "signals", None)):
        raise StrategyError(
            f"{strategy!r} has no method signals(bars): expected one, or one of the bundled strategies"
        )
    try:
        answer = strategy.signals(bars)
    except PipelineError:
        raise
    except Exception as error:
        name = type(strategy).__name__
        raise StrategyError(
            f"{name}.signals raised {type(error).__name__} on {bars.symbol}: {error}"
        ) from error
    return checked_signals(answer, len(bars), strategy)
