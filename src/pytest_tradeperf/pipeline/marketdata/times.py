"""Times of bars from a column of text or numbers, however a table spells them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np

from pytest_tradeperf.pipeline.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

# Whole numbers from 1900 to 2100 that spell a day, or a day and a time: lowest, first too high, form. As
# seconds since 1970 the first would all be days of August 1970, as milliseconds the second of 1976.
SPELLINGS = (
    (19_000_101, 21_010_101, "%Y%m%d"),
    (19_000_101_0000, 21_010_101_0000, "%Y%m%d%H%M"),
    (19_000_101_000000, 21_010_101_000000, "%Y%m%d%H%M%S"),
)
YEAR_S = 365 * 86_400
TIME_FORMS = (
    "ISO text like 2024-01-31 or 2024-01-31T15:30:00, whole dates like 20240131, or seconds since 1970"
)
# Numbers since 1970 by size: seconds have 10 digits until the year 2286, milliseconds 13, microseconds 16.
EPOCH_UNITS = ((1e11, "s"), (1e14, "ms"), (1e17, "us"), (np.inf, "ns"))


def times_of(column: pd.Series[Any], first_bar: int) -> NDArray[np.datetime64]:
    """Return the times of a column in UTC, ``datetime64[ns]`` of shape (n_rows,).

    Text is ISO 8601. Whole numbers that could be days like 20240131 are that, with or without a time of day;
    other numbers are seconds, milliseconds, microseconds or nanoseconds since 1970, by their size.

    Raises
    ------
    DataError
        A value is no time, or all numbers are so small that they cannot be meant as seconds since 1970.
    """
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column):
        parsed = _from_numbers(column, first_bar)
    else:
        parsed = pd.to_datetime(column, errors="coerce", utc=True, format="ISO8601")
    wrong = parsed.isna().to_numpy()
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(f"{_cell(column, row, first_bar)}: expected {TIME_FORMS}")
    return np.asarray(parsed.dt.tz_convert(None), dtype="datetime64[ns]")


def _from_numbers(column: pd.Series[Any], first_bar: int) -> pd.Series[Any]:
    import pandas as pd

    numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
    known = numbers[~np.isnan(numbers)]
    low, high = float(known.min(initial=np.inf)), float(known.max(initial=-np.inf))
    if not (known % 1.0).any():
        for lowest, too_high, form in SPELLINGS:
            if lowest <= low and high < too_high:
                text = column.astype("Int64").astype("string")
                return pd.to_datetime(text, errors="coerce", utc=True, format=form)
    if low >= 0.0 and high < YEAR_S:
        row = int((~np.isnan(numbers)).argmax())
        moment = pd.Timestamp(float(numbers[row]), unit="s").isoformat()
        raise DataError(
            f"{_cell(column, row, first_bar)}, as seconds since 1970 {moment}, with all others "
            f"in that year too: expected {TIME_FORMS}; write the column anew, or name another one timestamp"
        )
    largest = max(abs(low), abs(high)) if known.size else 0.0
    unit = next(unit for limit, unit in EPOCH_UNITS if largest < limit)
    return pd.to_datetime(column, unit=cast("Any", unit), errors="coerce", utc=True)


def _cell(column: pd.Series[Any], row: int, first_bar: int) -> str:
    """Return column, bar and value for a message; the column's own name if it is not the usual one."""
    name = str(column.name).strip()
    place = name if name.lower() == "timestamp" else f"timestamp (column {name!r})"
    return f"{place} of bar {first_bar + row} is {column.iloc[[row]].tolist()[0]!r}"
