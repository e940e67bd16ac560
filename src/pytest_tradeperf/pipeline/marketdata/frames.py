"""Bars from and to pandas: only here, at the edge; everything inside works on arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_tradeperf.pipeline.errors import DataError
from pytest_tradeperf.pipeline.marketdata.bars import PRICE_FIELDS, Bars
from pytest_tradeperf.pipeline.marketdata.times import times_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.marketdata.timeframe import Timeframe

TIME_NAMES = ("timestamp", "datetime", "date", "time")


def bars_from_frame(
    frame: pd.DataFrame, symbol: str, *, timeframe: Timeframe | None = None, missing: str = "keep"
) -> Bars:
    """Return bars from a DataFrame with a time column or index and columns open, high, low, close, volume.

    Raises
    ------
    DataError
        A column is missing or holds something that is no number or time, or the bars cannot be.
    """
    import pandas as pd

    if isinstance(frame.index, pd.DatetimeIndex):
        frame = frame.rename_axis("timestamp").reset_index()
    return bars_from_parts([frame], symbol, timeframe=timeframe, missing=missing)


def bars_from_parts(
    parts: Iterable[pd.DataFrame], symbol: str, *, timeframe: Timeframe | None, missing: str
) -> Bars:
    """Return bars from consecutive parts of a table; see :func:`bars_from_frame`."""
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in ("timestamps", *PRICE_FIELDS, "volume")}
    n_rows = 0
    for part in parts:
        for name, values in _columns(part, n_rows).items():
            columns[name].append(values)
        n_rows += len(part)
    joined = {name: np.concatenate(values) if values else np.empty(0) for name, values in columns.items()}
    empty = np.isnan([joined[name] for name in PRICE_FIELDS]).all(axis=0)
    if empty.any() and missing == "refuse":
        bar = int(empty.argmax())
        raise DataError(
            f"bar {bar} ({joined['timestamps'][bar]}) has no prices: repair the row, or choose "
            f"missing='drop' or "
            "missing='keep'"
        )
    if missing == "drop":
        joined = {name: values[~empty] for name, values in joined.items()}
    return Bars(symbol=symbol, timeframe=timeframe, **joined)  # type: ignore[arg-type]  # None means infer


def frame_from_bars(bars: Bars) -> pd.DataFrame:
    """Return a DataFrame with columns open, high, low, close, volume, indexed by time."""
    import pandas as pd

    table = {name: getattr(bars, name) for name in (*PRICE_FIELDS, "volume")}
    return pd.DataFrame(table, index=pd.DatetimeIndex(bars.timestamps, name="timestamp"))


def _columns(part: pd.DataFrame, first_bar: int) -> dict[str, NDArray[Any]]:
    by_name = {str(name).strip().lower(): name for name in part.columns}
    time = next((by_name[name] for name in (*TIME_NAMES, "unnamed: 0", "index") if name in by_name), None)
    lacking = [name for name in PRICE_FIELDS if name not in by_name] + (["timestamp"] if time is None else [])
    if lacking:
        found = ", ".join(map(str, part.columns))
        raise DataError(
            f"lacks the column {', '.join(lacking)}; found {found}; expected timestamp, open, high, low, "
            f"close"
        )
    columns: dict[str, NDArray[Any]] = {
        name: _numbers(part[by_name[name]], name, first_bar) for name in PRICE_FIELDS
    }
    has_volume = "volume" in by_name
    columns["volume"] = (
        _numbers(part[by_name["volume"]], "volume", first_bar) if has_volume else np.full(len(part), np.nan)
    )
    columns["timestamps"] = times_of(part[time], first_bar)
    return columns


def _numbers(column: pd.Series[Any], name: str, first_bar: int) -> NDArray[np.float64]:
    import pandas as pd

    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = np.isnan(numbers) & column.notna().to_numpy()
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(f"{name} of bar {first_bar + row} is {column.iloc[row]!r}: expected a number")
    return numbers
