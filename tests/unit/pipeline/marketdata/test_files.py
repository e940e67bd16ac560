from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from pytest_tradeperf.pipeline.errors import DataError, SettingError
from pytest_tradeperf.pipeline.marketdata import (
    Bars,
    bars_from_frame,
    frame_from_bars,
    load_bars,
    parse_timeframe,
    read_bars,
    resample,
)

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "timestamp,open,high,low,close,volume\n"
ROWS = ["2024-01-02,10,11,9,10.5,100", "2024-01-03,11,12,10,11.5,0", "2024-01-04,12,13,11,12.5,300"]


def file_of(folder: Path, text: str) -> Path:
    path = folder / "x.csv"
    path.write_text(text)
    return path


def test_a_written_frame_reads_back_bit_for_bit(tmp_path: Path) -> None:
    bars = load_bars("FB")
    path = tmp_path / "FB.csv"
    frame_from_bars(bars).to_csv(path)
    again = read_bars(path)
    assert again.symbol == "FB"
    for name in ("timestamps", "open", "high", "low", "close", "volume"):
        np.testing.assert_array_equal(getattr(again, name), getattr(bars, name))


def test_compressed_files_are_read_by_suffix(tmp_path: Path) -> None:
    path = tmp_path / "FB.csv.gz"
    frame_from_bars(load_bars("FB")).to_csv(path)
    assert (read_bars(path).symbol, len(read_bars(path))) == ("FB", 196)


@pytest.mark.parametrize(
    "stamps",
    [
        ["2024-01-02T00:00:00Z", "2024-01-03T00:00:00+00:00", "2024-01-04"],
        ["2024-01-02 00:00:00", "2024-01-03 00:00:00", "2024-01-04 00:00:00"],
        [1704153600, 1704240000, 1704326400],
        [1704153600000, 1704240000000, 1704326400000],
        [1704153600000000000, 1704240000000000000, 1704326400000000000],
        [20240102, 20240103, 20240104],
        ["20240102.0", "20240103.0", "20240104.0"],
        [202401020930, 202401030930, 202401040930],
        [20240102093000, 20240103093000, 20240104093059],
    ],
)
def test_times_are_read_as_text_as_whole_days_and_as_numbers_since_1970(
    tmp_path: Path, stamps: list[object]
) -> None:
    rows = [f"{stamp},{row.split(',', 1)[1]}" for stamp, row in zip(stamps, ROWS, strict=True)]
    bars = read_bars(file_of(tmp_path, HEADER + "\n".join(rows)))
    assert bars.timestamps.astype("datetime64[D]").astype(str).tolist() == [
        "2024-01-02",
        "2024-01-03",
        "2024-01-04",
    ]


def test_whole_days_make_daily_bars_and_keep_their_time_of_day(tmp_path: Path) -> None:
    days = read_bars(file_of(tmp_path, HEADER + "\n".join(row.replace("-", "") for row in ROWS)))
    assert str(days.timeframe) == "1d stocks"
    times = ["202401020930", "202401021030", "202401021130"]
    rows = [f"{stamp},{row.split(',', 1)[1]}" for stamp, row in zip(times, ROWS, strict=True)]
    hours = read_bars(file_of(tmp_path, HEADER + "\n".join(rows)))
    assert str(hours.timeframe) == "1h stocks"
    assert str(hours.timestamps[0]) == "2024-01-02T09:30:00.000000000"


def test_seconds_before_and_after_1970_are_read_as_such(tmp_path: Path) -> None:
    stamps = [-86_400, 0, 1_704_153_600]
    rows = [f"{stamp},{row.split(',', 1)[1]}" for stamp, row in zip(stamps, ROWS, strict=True)]
    bars = read_bars(file_of(tmp_path, HEADER + "\n".join(rows)))
    assert bars.timestamps.astype("datetime64[D]").astype(str).tolist() == [
        "1969-12-31",
        "1970-01-01",
        "2024-01-02",
    ]


@pytest.mark.parametrize(
    ("header", "stamps", "message"),
    [
        (
            HEADER,
            [20240102, 20240231],
            "timestamp of bar 1 is 20240231: expected ISO text .* dates like 20240131",
        ),
        (HEADER, [202401020930, 202401022460], "timestamp of bar 1 is 202401022460: expected ISO text"),
        (
            HEADER.replace("timestamp", "Date"),
            [45292, 45293],
            r"timestamp \(column 'Date'\) of bar 0 is 45292, as seconds since 1970 1970-01-01T12:34:52, .* 20240131, .* anew",
        ),
        (HEADER.replace("timestamp", ""), [0, 1], r"column 'Unnamed: 0'\) of bar 0 is 0, as seconds"),
        (
            HEADER,
            [20240102.5, 20240103.5],
            r"timestamp of bar 0 is 20240102\.5, as seconds since 1970 1970-08-23",
        ),
    ],
    ids=["no such day", "no such minute", "spreadsheet days", "row numbers", "not whole"],
)
def test_numbers_that_cannot_be_meant_as_seconds_since_1970_are_refused(
    tmp_path: Path, header: str, stamps: list[float], message: str
) -> None:
    rows = [f"{stamp},{row.split(',', 1)[1]}" for stamp, row in zip(stamps, ROWS, strict=False)]
    with pytest.raises(DataError, match=f"x.csv: .*{message}"):
        read_bars(file_of(tmp_path, header + "\n".join(rows)))


def test_other_spellings_and_columns_are_fine_and_volume_may_lack(tmp_path: Path) -> None:
    bars = read_bars(file_of(tmp_path, "Adj Close, Date,Open,High,Low,Close\n1,2024-01-02,10,11,9,10\n"))
    assert bars.close.tolist() == [10.0]
    assert np.isnan(bars.volume).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as CSV"),
        ("a,b\n1,2\n", "lacks the column open, high, low, close, timestamp; found a, b"),
        (HEADER + "2024-01-02,10,11,9,ten,100\n", "close of bar 0 is 'ten': expected a number"),
        (HEADER + "someday,10,11,9,10,100\n", "timestamp of bar 0 is 'someday': expected ISO text"),
        (HEADER + "\n".join([ROWS[1], ROWS[0]]), "bar 1 is older than the bar before"),
        (HEADER + "\n".join([ROWS[0], ROWS[0]]), "bar 1 repeats the bar before"),
        (HEADER + "2024-01-02,10,9,11,10,100\n", "high below its low"),
        (HEADER + "2024-01-02,10,11,9,,100\n", "NaN or infinite"),
        (HEADER + "2024-01-02,10,11,9,inf,100\n", "NaN or infinite"),
        (HEADER + "2024-01-02,10,11,9,10,-5\n", "negative volume"),
        (HEADER + ROWS[0] + "\n2024-01-03,,,,,\n", "bar 1 .* has no prices"),
        (HEADER + ROWS[0] + ",1,2,3\n", "cannot be read as CSV"),
    ],
)
def test_bad_files_are_refused_with_name_and_bar(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=f"x.csv: .*{message}"):
        read_bars(file_of(tmp_path, text))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(bytes(range(128, 256)) * 10)
    with pytest.raises(DataError, match=r"x\.csv: "):
        read_bars(path)


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="no file"):
        read_bars(tmp_path / name)


@pytest.mark.parametrize(("rule", "n_bars"), [("drop", 2), ("keep", 3)])
def test_rows_without_prices_are_dropped_or_kept_when_asked(tmp_path: Path, rule: str, n_bars: int) -> None:
    text = HEADER + "\n".join([ROWS[0], "2024-01-03,,,,,", ROWS[2]])
    bars = read_bars(file_of(tmp_path, text), missing=rule)  # type: ignore[arg-type]
    assert (len(bars), int(bars.is_missing.sum())) == (n_bars, n_bars - 2)


def test_an_unknown_rule_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="missing is 'guess'"):
        read_bars(tmp_path, missing="guess")  # type: ignore[arg-type]


def test_a_file_that_is_too_long_is_refused_before_it_is_read_whole(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="more than 2 bars: raise the limit"):
        read_bars(file_of(tmp_path, HEADER + "\n".join(ROWS)), max_bars=2)


def test_a_frame_with_a_time_index_becomes_bars() -> None:
    frame = pd.DataFrame(
        {"Open": [1.0], "High": [2.0], "Low": [1.0], "Close": [2.0]}, index=pd.DatetimeIndex(["2024-01-02"])
    )
    assert bars_from_frame(frame, "X").close.tolist() == [2.0]


def hourly(n_bars: int) -> Bars:
    stamps = np.datetime64("2024-01-01T00", "ns") + np.arange(n_bars) * np.timedelta64(1, "h")
    price = np.arange(1.0, n_bars + 1)
    return Bars(
        symbol="H",
        timestamps=stamps,
        open=price,
        high=price + 0.5,
        low=price - 0.5,
        close=price,
        volume=price,
    )


def test_resampling_keeps_first_open_highest_high_lowest_low_last_close() -> None:
    days = resample(hourly(48), parse_timeframe("1d", calendar="continuous"))
    assert (days.open.tolist(), days.high.tolist()) == ([1.0, 25.0], [24.5, 48.5])
    assert (days.low.tolist(), days.close.tolist()) == ([0.5, 24.5], [24.0, 48.0])
    assert days.volume.tolist() == [sum(range(1, 25)), sum(range(25, 49))]
    assert str(days.timeframe) == "1d continuous"


def test_weeks_begin_on_monday() -> None:
    weeks = resample(load_bars("FB"), parse_timeframe("1w"))
    assert str(weeks.timestamps[1])[:10] == "2012-05-21"
    assert weeks.timeframe.periods_per_year == 52.0


def test_finer_bars_cannot_be_made() -> None:
    with pytest.raises(DataError, match="are 1d stocks: they cannot become 1h stocks"):
        resample(load_bars("FB"), parse_timeframe("1h"))


def test_resampling_to_the_own_timeframe_changes_nothing() -> None:
    bars = load_bars("FB")
    assert resample(bars, bars.timeframe) is bars
