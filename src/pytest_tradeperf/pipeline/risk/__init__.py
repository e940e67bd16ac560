"""Limits, sizing and exposure: how much may be traded, and which rule cut it.

Plain arithmetic over plain numbers, so importing it costs next to nothing; the measures over arrays of
returns load numpy when they are called. Nothing here decides whether to trade.
"""

from pytest_tradeperf.pipeline.risk.limits import Allowance, Limits, Order, allowed
from pytest_tradeperf.pipeline.risk.portfolio import Exposure, Portfolio, Position, exposure, stressed
from pytest_tradeperf.pipeline.risk.sizing import (
    kelly_fraction,
    size_by_fraction,
    size_by_stop,
    size_by_volatility,
)
from pytest_tradeperf.pipeline.risk.tails import annual_volatility, value_at_risk

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
