"""How far apart bars are, and how many of them make a year.

The year depends on the calendar: a daily stock bar comes 252 times, an hourly bar of a market that never
closes
8,760 times. Every annualised metric states the number it used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from pytest_tradeperf.pipeline.errors import SettingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

CalendarName = Literal["stocks", "continuous"]

MINUTES = {"m": 1, "h": 60, "d": 24 * 60, "w": 7 * 24 * 60}
# New York Stock Exchange: 252 trading days a year on average, 09:30 to 16:00 = 390 minutes.
STOCK_DAYS_PER_YEAR = 252
STOCK_MINUTES_PER_DAY = 390
CONTINUOUS_MINUTES_PER_YEAR = 365 * 24 * 60
WEEKS_PER_YEAR = 52
# Below this many bars a weekday count says nothing about the calendar.
FEWEST_BARS_FOR_CALENDAR = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeframe:
    """Length of a bar in minutes, and the calendar that annualises it.

    Examples
    --------
    >>> parse_timeframe("1d").periods_per_year
    252.0
    >>> parse_timeframe("1h", calendar="continuous").periods_per_year
    8760.0
    >>> parse_timeframe("1h").periods_per_year
    1638.0
    """

    minutes: int
    calendar: CalendarName = "stocks"

    def __post_init__(self) -> None:
        if self.minutes < 1:
            raise SettingError(
                f"timeframe of {self.minutes!r} minutes: expected at least 1, for example '15m' or '1d'"
            )
        if self.calendar not in get_args(CalendarName):
            raise SettingError(
                f"calendar {self.calendar!r} is unknown: expected one of {get_args(CalendarName)}"
            )

    @property
    def periods_per_year(self) -> float:
        """Bars a year, by the calendar."""
        if self.calendar == "continuous":
            return CONTINUOUS_MINUTES_PER_YEAR / self.minutes
        if self.minutes >= MINUTES["w"]:
            return WEEKS_PER_YEAR * MINUTES["w"] / self.minutes
        if self.minutes >= MINUTES["d"]:
            return STOCK_DAYS_PER_YEAR * MINUTES["d"] / self.minutes
        return STOCK_DAYS_PER_YEAR * STOCK_MINUTES_PER_DAY / self.minutes

    def __str__(self) -> str:
        """Return the form that :func:`parse_timeframe` reads, and the calendar: ``4h continuous``."""
        unit = next(unit for unit in ("w", "d", "h", "m") if self.minutes % MINUTES[unit] == 0)
        return f"{self.minutes // MINUTES[unit]}{unit} {self.calendar}"


def parse_timeframe(text: str, *, calendar: CalendarName = "stocks") -> Timeframe:
    """Return the timeframe that ``15m``, ``4h``, ``1d`` or ``1w`` stands for.

    Raises
    ------
    SettingError
        The text is not a whole number above zero and one of the units m, h, d, w.
    """
    match = re.fullmatch(r"([1-9]\d{0,4})\s*([mhdw])", text.strip().lower())
    if match is None:
        raise SettingError(
            f"timeframe {text!r} cannot be read: expected a number and m, h, d or w, like '15m' or '1d'"
        )
    return Timeframe(minutes=int(match[1]) * MINUTES[match[2]], calendar=calendar)


def infer_timeframe(timestamps: NDArray[np.datetime64]) -> Timeframe:
    """Return the most common step of the timestamps, and the calendar they seem to follow.

    A market is taken as continuous when at least one bar in ten falls on a Saturday or Sunday (two of seven
    days
    do where it never closes, none on an exchange). Without two bars the answer is daily stocks.
    """
    if timestamps.size <= 1:
        return Timeframe(minutes=MINUTES["d"])
    steps, counts = np.unique(np.diff(timestamps.view(np.int64)), return_counts=True)
    minutes = max(1, round(int(steps[counts.argmax()]) / 60e9))
    weekday = (
        timestamps.astype("datetime64[D]").astype(np.int64) + 3
    ) % 7  # 1970-01-01 was a Thursday, day 3
    weekend_share = float((weekday >= 5).mean())  # noqa: PLR2004 - Saturday is day 5 counted from Monday
    is_weekly = minutes >= MINUTES["w"]  # a weekly bar may be stamped with the Sunday on any calendar
    continuous = not is_weekly and timestamps.size >= FEWEST_BARS_FOR_CALENDAR and weekend_share >= 0.1  # noqa: PLR2004
    return Timeframe(minutes=minutes, calendar="continuous" if continuous else "stocks")
