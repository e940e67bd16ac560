"""The backtest engine: strategies over bars, one result whichever engine runs it.

Importing this package imports nothing heavy; the names below are loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_tradeperf.pipeline.backtest.engine import run_backtest
    from pytest_tradeperf.pipeline.backtest.grid import sweep
    from pytest_tradeperf.pipeline.backtest.lookahead import LookaheadReport, check_lookahead
    from pytest_tradeperf.pipeline.backtest.metrics import Metrics
    from pytest_tradeperf.pipeline.backtest.portfolio import run_portfolio
    from pytest_tradeperf.pipeline.backtest.result import BacktestResult
    from pytest_tradeperf.pipeline.backtest.settings import (
        Costs,
        FixedShares,
        Fraction,
        Settings,
        Stops,
        VolatilityTarget,
    )
    from pytest_tradeperf.pipeline.backtest.strategies import Breakout, MovingAverageCross, Strategy
    from pytest_tradeperf.pipeline.backtest.sweep_result import SweepResult
    from pytest_tradeperf.pipeline.backtest.trades import Trade
    from pytest_tradeperf.pipeline.backtest.walkforward import walk_forward

_HOME = {
    "BacktestResult": "result",
    "Breakout": "strategies",
    "Costs": "settings",
    "FixedShares": "settings",
    "Fraction": "settings",
    "LookaheadReport": "lookahead",
    "Metrics": "metrics",
    "MovingAverageCross": "strategies",
    "Settings": "settings",
    "Stops": "settings",
    "Strategy": "strategies",
    "SweepResult": "sweep_result",
    "Trade": "trades",
    "VolatilityTarget": "settings",
    "check_lookahead": "lookahead",
    "run_portfolio": "portfolio",
    "run_backtest": "engine",
    "sweep": "grid",
    "walk_forward": "walkforward",
}

__all__ = [
    "BacktestResult",
    "Breakout",
    "Costs",
    "FixedShares",
    "Fraction",
    "LookaheadReport",
    "Metrics",
    "MovingAverageCross",
    "Settings",
    "Stops",
    "Strategy",
    "SweepResult",
    "Trade",
    "VolatilityTarget",
    "check_lookahead",
    "run_backtest",
    "run_portfolio",
    "sweep",
    "walk_forward",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
