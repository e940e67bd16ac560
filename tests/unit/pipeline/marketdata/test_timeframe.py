from __future__ import annotations

import numpy as np
import pytest

from pytest_tradeperf.pipeline.errors import SettingError
from pytest_tradeperf.pipeline.marketdata.timeframe import Timeframe, infer_timeframe, parse_timeframe


@pytest.mark.parametrize(
    ("text", "calendar", "expected"),
    [
        ("1d", "stocks", 252.0),
        ("1w", "stocks", 52.0),
        ("1h", "stocks", 1638.0),
        ("1h", "continuous", 8760.0),
        ("1d", "continuous", 365.0),
        ("15m", "continuous", 35040.0),
    ],
)
def test_periods_per_year_follow_the_calendar(text: str, calendar: str, expected: float) -> None:
    assert parse_timeframe(text, calendar=calendar).periods_per_year == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "d", "0d", "-1h", "1x", "1.5h", "daily"])
def test_unreadable_timeframes_are_refused(text: str) -> None:
    with pytest.raises(SettingError, match="expected a number and m, h, d or w"):
        parse_timeframe(text)


def test_unknown_calendars_are_refused() -> None:
    with pytest.raises(SettingError, match="calendar 'lunar' is unknown"):
        Timeframe(minutes=1, calendar="lunar")  # type: ignore[arg-type]


def test_text_form_reads_back() -> None:
    frame = Timeframe(minutes=240, calendar="continuous")
    assert str(frame) == "4h continuous"
    assert parse_timeframe("4h", calendar="continuous") == frame


def test_hours_over_the_weekend_are_a_continuous_market() -> None:
    hours = np.arange("2024-01-01T00", "2024-02-01T00", dtype="datetime64[h]").astype("datetime64[ns]")
    assert str(infer_timeframe(hours)) == "1h continuous"


def test_business_days_are_daily_stocks() -> None:
    days = np.arange("2024-01-01", "2024-03-01", dtype="datetime64[D]")
    assert str(infer_timeframe(days[np.is_busday(days)].astype("datetime64[ns]"))) == "1d stocks"


def test_one_bar_is_taken_as_daily_stocks() -> None:
    assert str(infer_timeframe(np.array(["2024-01-01"], dtype="datetime64[ns]"))) == "1d stocks"
