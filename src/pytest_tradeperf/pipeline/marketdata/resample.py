"""Coarser bars from finer ones."""

from __future__ import annotations

import numpy as np

from pytest_tradeperf.pipeline.errors import DataError
from pytest_tradeperf.pipeline.marketdata.bars import Bars
from pytest_tradeperf.pipeline.marketdata.timeframe import MINUTES, Timeframe

NS_PER_MINUTE = 60_000_000_000
# 1970-01-01 was a Thursday: weeks are counted from Monday, 1969-12-29.
MONDAY_OFFSET_MINUTES = 3 * MINUTES["d"]


def resample(bars: Bars, timeframe: Timeframe) -> Bars:
    """Return bars of a longer timeframe: first open, highest high, lowest low, last close, summed volume.

    A bar is stamped with the first bar inside it, so nothing is dated before it was known to begin. Days and
    shorter
    are cut at UTC multiples of their length, weeks on Mondays. Missing bars contribute nothing.

    Raises
    ------
    DataError
        The timeframe is shorter than the bars' own, or not a multiple of it within a day.
    """
    own, wanted = bars.timeframe.minutes, timeframe.minutes
    if wanted == own:
        return bars
    if wanted < own or (own < MINUTES["d"] and wanted % own):
        raise DataError(
            f"bars of {bars.symbol} are {bars.timeframe}: they cannot become {timeframe}; expected a multiple"
        )
    known = ~bars.is_missing
    stamps = bars.timestamps[known]
    if not stamps.size:
        return bars
    shift = MONDAY_OFFSET_MINUTES if wanted % MINUTES["w"] == 0 else 0
    group = (stamps.view(np.int64) // NS_PER_MINUTE + shift) // wanted
    starts = np.flatnonzero(np.diff(group, prepend=group[0] - 1))
    ends = np.append(starts[1:], stamps.size) - 1
    return Bars(
        symbol=bars.symbol,
        timestamps=stamps[starts],
        open=bars.open[known][starts],
        high=np.maximum.reduceat(bars.high[known], starts),
        low=np.minimum.reduceat(bars.low[known], starts),
        close=bars.close[known][ends],
        volume=np.add.reduceat(bars.volume[known], starts),
        timeframe=Timeframe(minutes=wanted, calendar=timeframe.calendar),
    )
