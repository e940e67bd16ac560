"""Run a strategy over bars, on the engine asked for or on the fastest that supports everything asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from pytest_tradeperf.pipeline.backtest.plan import Plan, plan_of
from pytest_tradeperf.pipeline.backtest.result import BacktestResult
from pytest_tradeperf.pipeline.backtest.settings import Costs, FillRule, Fraction, Settings, Sizing, Stops
from pytest_tradeperf.pipeline.backtest.signals import checked_signals
from pytest_tradeperf.pipeline.errors import DataError, EngineError, PipelineError, StrategyError
from pytest_tradeperf.pipeline.marketdata.bars import Bars

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.backtest.strategies import Strategy
    from pytest_tradeperf.pipeline.backtest.trades import TradeColumns

EngineName = Literal["auto", "reference", "lanes", "compiled"]


def run_backtest(
    bars: Bars,
    strategy: Strategy,
    *,
    cash: float = 10_000.0,
    fees_bps: float = 0.0,
    costs: Costs | None = None,
    sizing: Sizing | None = None,
    stops: Stops | None = None,
    whole_shares: bool = True,
    fill: FillRule = "next_open",
    close_final: bool = False,
    margin: float = 1.0,
    maintenance: float = 0.0,
    precompute_features: bool = True,
    fast_window: bool = True,
    engine: EngineName = "auto",
) -> BacktestResult:
    """Return equity, trades and metrics of one strategy on one symbol.

    Parameters
    ----------
    bars
        The prices.
    strategy
        Anything with ``signals(bars)``; see :class:`~pytest_tradeperf.pipeline.backtest.strategies.Strategy`.
    fees_bps
        Short for ``costs=Costs(fees_bps=...)``.
    cash, costs, sizing, stops, whole_shares, fill, close_final, margin, maintenance
        See :class:`~pytest_tradeperf.pipeline.backtest.settings.Settings`.
    precompute_features
        Ask the strategy once for all bars. Without, it is asked on every bar for the code of that bar, given
        the
        bars until then, as it would be live: slow, and the same answer from any strategy that does not look
        ahead.
    fast_window
        Hand the strategy views of the bars; without, copies.
    engine
        ``reference`` does everything; ``lanes`` and ``compiled`` give the same bits faster. ``auto`` takes
        compiled where this process has loaded it already (``prepare()``, or a run that named it), else lanes,
        and the reference where that one lacks something; ``result.note`` says why it is not lanes.

    Raises
    ------
    SettingError
        An argument is out of range.
    StrategyError
        The strategy raised or answered with something that is not one code a bar.
    EngineError
        The engine does not exist, or does not support something that was asked for by name.

    Examples
    --------
    >>> from pytest_tradeperf.pipeline.marketdata import load_bars
    >>> from pytest_tradeperf.pipeline.backtest import MovingAverageCross
    >>> result = run_backtest(load_bars("GOOG"), MovingAverageCross(fast=20, slow=50), fees_bps=10)
    >>> result.n_trades, round(result.total_return, 3)
    (19, 1.759)
    """
    if not isinstance(bars, Bars):
        raise DataError(f"bars are a {type(bars).__name__}: expected Bars, as load_bars and read_bars return")
    settings = Settings(
        cash=cash,
        costs=merged_costs(fees_bps, costs),
        sizing=sizing or Fraction(),
        stops=stops or Stops(),
        whole_shares=whole_shares,
        fill=fill,
        close_final=close_final,
        margin=margin,
        maintenance=maintenance,
    )
    return run_with_settings(
        bars,
        strategy,
        settings,
        precompute_features=precompute_features,
        fast_window=fast_window,
        engine=engine,
    )


def run_with_settings(
    bars: Bars,
    strategy: Strategy,
    settings: Settings,
    *,
    precompute_features: bool = True,
    fast_window: bool = True,
    engine: EngineName = "auto",
) -> BacktestResult:
    """Return what :func:`run_backtest` returns, given all settings as one record."""
    chosen, note = choose_engine(engine, settings)
    plan = plan_of(bars, settings)
    if precompute_features:
        codes = strategy_signals(strategy, bars, fast_window=fast_window)
    else:
        codes = stepwise_signals(strategy, bars, fast_window=fast_window)
    equity, columns, sums = _simulate(chosen, plan, codes)
    equity.flags.writeable = False
    result = BacktestResult(
        symbols=(bars.symbol,),
        strategy=repr(strategy),
        settings=settings,
        timeframe=bars.timeframe,
        timestamps=bars.timestamps,
        equity=equity,
        columns=columns,
        engine=chosen,
        note=note,
    )
    if sums is not None:
        result.__dict__["sums"] = sums  # what the cached totals would add up again
    return result


def merged_costs(fees_bps: float, costs: Costs | None) -> Costs:
    """Return the costs, given whole or as the short form.

    Raises
    ------
    SettingError
        Both forms were given.
    """
    from pytest_tradeperf.pipeline.errors import SettingError

    if costs is None:
        return Costs(fees_bps=fees_bps)
    if fees_bps:
        raise SettingError(f"fees_bps={fees_bps!r} and costs={costs!r} both set the fee: give one of them")
    return costs


def choose_engine(engine: EngineName, settings: Settings) -> tuple[str, str]:
    """Return the engine to run on, and why it is not the default one if so.

    Raises
    ------
    EngineError
        The engine does not exist, or was named and does not support the settings.
    """
    if engine not in get_args(EngineName):
        raise EngineError(
            f"engine {engine!r} does not exist: expected one of {', '.join(get_args(EngineName))}"
        )
    if engine == "auto":
        return _fastest(settings)
    missing = _unsupported(engine, settings)
    if missing:
        raise EngineError(
            f"engine {engine!r} does not support {missing}: use engine='reference' or engine='auto'"
        )
    return engine, ""


def _fastest(settings: Settings) -> tuple[str, str]:
    from pytest_tradeperf.pipeline.backtest import compiled

    fast, note = ("compiled", "compiled, which is loaded already") if compiled.is_loaded() else ("lanes", "")
    missing = _unsupported(fast, settings)
    return ("reference", f"reference instead of {fast}, which lacks {missing}") if missing else (fast, note)


def _unsupported(engine: str, settings: Settings) -> str:
    missing = []
    if engine != "reference" and settings.costs.fee is not None:
        missing.append("a fee function")
    if engine == "lanes" and settings.stops.is_active:
        missing.append("stop_loss, take_profit and trailing")
    return " and ".join(missing)


def _simulate(
    engine: str, plan: Plan, codes: NDArray[np.int8]
) -> tuple[NDArray[np.float64], TradeColumns, NDArray[np.float64] | None]:
    if engine == "compiled":
        from pytest_tradeperf.pipeline.backtest.compiled import simulate_compiled

        return simulate_compiled(plan, codes)
    if engine == "lanes":
        from pytest_tradeperf.pipeline.backtest.segments import simulate_segments

        return *simulate_segments(plan, codes), None
    from pytest_tradeperf.pipeline.backtest.reference import simulate

    return *simulate(plan, codes), None


def strategy_signals(strategy: Strategy, bars: Bars, *, fast_window: bool = True) -> NDArray[np.int8]:
    """Return the checked codes of a strategy; whatever it raises becomes a StrategyError that names it.

    Without ``fast_window`` the strategy is given a copy of the bars.
    """
    if not callable(getattr(strategy, "signals", None)):
        raise StrategyError(
            f"{strategy!r} has no method signals(bars): expected one, or one of the bundled strategies"
        )
    try:
        answer = strategy.signals(bars if fast_window else _copied(bars))
    except PipelineError:
        raise
    except Exception as error:
        name = type(strategy).__name__
        raise StrategyError(
            f"{name}.signals raised {type(error).__name__} on {bars.symbol}: {error}"
        ) from error
    return checked_signals(answer, len(bars), strategy)


def stepwise_signals(strategy: Strategy, bars: Bars, *, fast_window: bool = True) -> NDArray[np.int8]:
    """Return each bar's code as a live system would get it: from the bars until then, asked bar by bar."""
    import numpy as np

    codes = np.zeros(len(bars), dtype=np.int8)
    for bar in range(len(bars)):
        codes[bar] = strategy_signals(strategy, bars[: bar + 1], fast_window=fast_window)[-1]
    return codes


def _copied(bars: Bars) -> Bars:
    columns = {name: getattr(bars, name) for name in ("timestamps", "open", "high", "low", "close", "volume")}
    return Bars(symbol=bars.symbol, timeframe=bars.timeframe, **columns)
