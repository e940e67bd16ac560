"""Charts as PNG bytes, drawn without a display by workers that share a cache.

Names are fetched on first use, and matplotlib is loaded when the first chart is drawn.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_tradeperf.pipeline.charts.cache import ChartCache
    from pytest_tradeperf.pipeline.charts.cleanup import clean_up
    from pytest_tradeperf.pipeline.charts.gauge import GaugeChart, Gauges
    from pytest_tradeperf.pipeline.charts.model import Chart, ChartResult
    from pytest_tradeperf.pipeline.charts.portfolio import PortfolioChart
    from pytest_tradeperf.pipeline.charts.price import PriceChart, SignalMark
    from pytest_tradeperf.pipeline.charts.queue import ChartQueue

__all__ = [
    "Chart",
    "ChartCache",
    "ChartQueue",
    "ChartResult",
    "GaugeChart",
    "Gauges",
    "PortfolioChart",
    "PriceChart",
    "SignalMark",
    "clean_up",
]

_HOMES = {
    "Chart": "model",
    "ChartCache": "cache",
    "ChartQueue": "queue",
    "ChartResult": "model",
    "GaugeChart": "gauge",
    "Gauges": "gauge",
    "PortfolioChart": "portfolio",
    "PriceChart": "price",
    "SignalMark": "price",
    "clean_up": "cleanup",
}


def __getattr__(name: str) -> object:
    """Return a public name from the module that defines it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
