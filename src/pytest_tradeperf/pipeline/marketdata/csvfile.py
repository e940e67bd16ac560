"""Bars from CSV and Parquet files, read in parts: too large a file is refused before it fills the memory."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from pytest_tradeperf.pipeline.errors import DataError, SettingError
from pytest_tradeperf.pipeline.marketdata.frames import bars_from_frame, bars_from_parts

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from pytest_tradeperf.pipeline.marketdata.bars import Bars
    from pytest_tradeperf.pipeline.marketdata.timeframe import Timeframe

MissingRule = Literal["refuse", "drop", "keep"]
# 5 million bars are 19 years of minutes around the clock twice over, and 240 MB as arrays.
MAX_BARS = 5_000_000
ROWS_AT_ONCE = 200_000


def read_bars(
    path: str | Path,
    *,
    symbol: str | None = None,
    timeframe: Timeframe | None = None,
    missing: MissingRule = "refuse",
    max_bars: int = MAX_BARS,
) -> Bars:
    """Return the bars of a file with columns time, open, high, low, close and perhaps volume.

    Parameters
    ----------
    path
        ``.parquet`` files are read as such (needs pyarrow), anything else as CSV, compressed by suffix.
        Names of columns are matched without case; time is ``timestamp``, ``datetime``, ``date``, ``time`` or
        a
        first column without a name, as ISO text, as whole days like 20240131 (with a time of day:
        202401311530), or as seconds, milliseconds, microseconds or nanoseconds since 1970.
    symbol
        Name of the instrument; the file's name without suffix by default.
    missing
        What to do with rows that have none of the four prices: refuse the file, drop the rows, or keep them
        as
        missing bars.
    max_bars
        A file with more rows is refused as soon as that is known.

    Raises
    ------
    DataError
        The file cannot be read, lacks a column, is too long, or holds bars that cannot be.
    """
    if missing not in get_args(MissingRule):
        raise SettingError(f"missing is {missing!r}: expected one of {', '.join(get_args(MissingRule))}")
    source = Path(path)
    name = symbol or source.name.partition(".")[0]
    if not source.is_file():
        raise DataError(f"no file {str(source)!r}: give the path of a CSV or Parquet file")
    try:
        if source.suffix == ".parquet":
            return bars_from_frame(_parquet(source), name, timeframe=timeframe, missing=missing)
        return bars_from_parts(_parts(source, max_bars), name, timeframe=timeframe, missing=missing)
    except DataError as error:
        raise DataError(f"{source.name}: {error} (bar 0 is the first row below the header)") from error


def _parts(source: Path, max_bars: int) -> Iterator[pd.DataFrame]:
    import pandas as pd

    n_rows = 0
    options: dict[str, Any] = {"skipinitialspace": True, "low_memory": False, "index_col": False}
    try:
        with pd.read_csv(source, chunksize=ROWS_AT_ONCE, **options) as parts:
            while (part := _next_part(parts)) is not None:
                n_rows += len(part)
                if n_rows > max_bars:
                    raise DataError(
                        f"more than {max_bars:,} bars: raise the limit (max_bars, --max-bars) or cut the file"
                    )
                yield part
    except (
        OSError,
        EOFError,
        UnicodeDecodeError,
        pd.errors.ParserError,
        pd.errors.ParserWarning,
        pd.errors.EmptyDataError,
    ) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"cannot be read as CSV: {reason}; expected a header and one row a bar") from error


def _next_part(parts: Iterator[pd.DataFrame]) -> pd.DataFrame | None:
    """Return the next rows; a row with more fields than the header is an error, not a shifted row."""
    import pandas as pd

    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return next(parts, None)


def _parquet(source: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        return pd.read_parquet(source).reset_index()
    except ImportError as error:
        raise DataError("Parquet files need pyarrow: pip install pyarrow, or give a CSV file") from error
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read as Parquet: {' '.join(str(error).split())}") from error
