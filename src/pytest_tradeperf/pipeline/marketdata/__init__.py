"""Bars as arrays, where they come from, and what is checked before anyone trades on them."""

from pytest_tradeperf.pipeline.marketdata.bars import Bars
from pytest_tradeperf.pipeline.marketdata.bundled import BUNDLED_SYMBOLS, load_bars

__all__ = ["BUNDLED_SYMBOLS", "Bars", "load_bars"]
