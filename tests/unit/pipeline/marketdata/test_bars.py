from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pytest_tradeperf.pipeline.errors import DataError
from pytest_tradeperf.pipeline.marketdata import Bars

GOOD: dict[str, Any] = {
    "symbol": "X",
    "timestamps": ["2024-01-02", "2024-01-03", "2024-01-04"],
    "open": [10.0, 11.0, 12.0],
    "high": [11.0, 12.0, 13.0],
    "low": [9.0, 10.0, 11.0],
    "close": [10.5, 11.5, 12.5],
    "volume": [100.0, 0.0, 300.0],
}


def changed(name: str, bar: int, value: object) -> dict[str, Any]:
    column = list(GOOD[name])
    column[bar] = value
    return GOOD | {name: column}


def test_valid_bars_are_read_only_arrays() -> None:
    bars = Bars(**GOOD)
    assert len(bars) == 3
    with pytest.raises(ValueError, match="read-only"):
        bars.close[0] = 1.0


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (changed("timestamps", 2, "2024-01-03"), "at bar 2 repeats the bar before; keep one row"),
        (changed("timestamps", 2, "2024-01-01"), "at bar 2 is older than the bar before; sort"),
        (changed("timestamps", 1, "NaT"), "at bar 1 is not a time"),
        (changed("timestamps", 1, "soon"), "cannot be read as datetime64"),
        (changed("high", 1, 9.0), r"bar 1 of X \(2024-01-03.*high below its low.*high 9.0"),
        (changed("close", 2, 20.0), "bar 2 of X .* open or close outside"),
        (changed("open", 0, float("nan")), "bar 0 of X .* NaN or infinite"),
        (changed("close", 0, float("inf")), "bar 0 of X .* NaN or infinite"),
        (changed("low", 1, 0.0), "bar 1 of X .* zero or negative"),
        (changed("volume", 1, -1.0), "bar 1 of X .* negative volume"),
        (changed("volume", 1, float("inf")), "bar 1 of X .* infinite volume"),
        (changed("close", 1, "many"), "close of X cannot be read as numbers"),
        (GOOD | {"close": [1.0, 2.0]}, r"close of X has shape \(2,\), expected \(3,\)"),
        (GOOD | {"timestamps": [GOOD["timestamps"]]}, r"timestamps of X have shape \(1, 3\)"),
    ],
)
def test_invalid_bars_are_refused_by_bar_and_reason(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Bars(**columns)


def test_a_bar_without_any_price_is_missing() -> None:
    columns = GOOD
    for name in ("open", "high", "low", "close"):
        columns = columns | {name: [columns[name][0], float("nan"), columns[name][2]]}
    assert Bars(**columns).is_missing.tolist() == [False, True, False]


def test_a_slice_is_a_view_with_the_same_timeframe() -> None:
    bars = Bars(**GOOD)
    part = bars[1:]
    assert np.shares_memory(part.close, bars.close)
    assert part.timeframe == bars.timeframe
    assert part.symbol == "X"


def test_a_slice_with_a_step_is_refused() -> None:
    with pytest.raises(DataError, match="plain slice"):
        Bars(**GOOD)[::2]


def test_no_bars_are_valid() -> None:
    assert len(Bars(symbol="X", timestamps=[], open=[], high=[], low=[], close=[], volume=[])) == 0  # type: ignore[arg-type]
