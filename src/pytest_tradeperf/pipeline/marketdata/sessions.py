"""When a day is over at the exchange: only then is its bar one that anybody can have known."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np

if TYPE_CHECKING:
    from pytest_tradeperf.pipeline.marketdata.bars import Bars

EASTERN = ZoneInfo("America/New_York")
_CLOSE = time(16, 0)


def last_finished_day(moment: datetime) -> date:
    """Return the last day whose session in New York, if it had one, was over at a moment.

    >>> from datetime import UTC
    >>> str(last_finished_day(datetime(2026, 3, 4, 20, 59, tzinfo=UTC)))
    '2026-03-03'
    >>> str(last_finished_day(datetime(2026, 3, 4, 21, 0, tzinfo=UTC)))
    '2026-03-04'
    """
    there = moment.astimezone(EASTERN)
    return there.date() if there.time() >= _CLOSE else there.date() - timedelta(days=1)


def finished_by(bars: Bars, moment: datetime) -> Bars:
    """Return the daily bars whose session was over at a moment, as views."""
    day = np.datetime64(last_finished_day(moment), "D")
    return bars[: int(np.searchsorted(bars.timestamps.astype("datetime64[D]"), day, side="right"))]
