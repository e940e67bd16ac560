"""Limits, sizing and exposure: how much may be traded, and which rule cut it.

Plain arithmetic over plain numbers. Importing this package loads nothing; a name loads its module when it is
first used, and the measures over arrays of returns load numpy when they are called. Nothing here decides
whether to trade.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_tradeperf.pipeline.risk.limits import Allowance, Limits, Order, allowed
    from pytest_tradeperf.pipeline.risk.portfolio import Exposure, Portfolio, Position, exposure, stressed
    from pytest_tradeperf.pipeline.risk.sizing import (
        kelly_fraction,
        size_by_fraction,
        size_by_stop,
        size_by_volatility,
    )
    from pytest_tradeperf.pipeline.risk.tails import annual_volatility, value_at_risk

_HOME = {
    "Allowance": "limits",
    "Exposure": "portfolio",
    "Limits": "limits",
    "Order": "limits",
    "Portfolio": "portfolio",
    "Position": "portfolio",
    "allowed": "limits",
    "annual_volatility": "tails",
    "exposure": "portfolio",
    "kelly_fraction": "sizing",
    "size_by_fraction": "sizing",
    "size_by_stop": "sizing",
    "size_by_volatility": "sizing",
    "stressed": "portfolio",
    "value_at_risk": "tails",
}

__all__ = [
    "Allowance",
    "Exposure",
    "Limits",
    "Order",
    "Portfolio",
    "Position",
    "allowed",
    "annual_volatility",
    "exposure",
    "kelly_fraction",
    "size_by_fraction",
    "size_by_stop",
    "size_by_volatility",
    "stressed",
    "value_at_risk",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
