"""Bars as arrays, where they come from, and what is checked before anyone trades on them."""

from pytest_tradeperf.pipeline.marketdata.bars import Bars
from pytest_tradeperf.pipeline.marketdata.bundled import BUNDLED_SYMBOLS, load_bars
from pytest_tradeperf.pipeline.marketdata.csvfile import read_bars
from pytest_tradeperf.pipeline.marketdata.frames import bars_from_frame, frame_from_bars
from pytest_tradeperf.pipeline.marketdata.resample import resample
from pytest_tradeperf.pipeline.marketdata.timeframe import Timeframe, parse_timeframe

__all__ = [
    "BUNDLED_SYMBOLS",
    "Bars",
    "Timeframe",
    "bars_from_frame",
    "frame_from_bars",
    "load_bars",
    "parse_timeframe",
    "read_bars",
    "resample",
]
