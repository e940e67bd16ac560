"""The bundled bars: five US stocks, daily, 2000-2013, adjusted for splits and dividends (docs/data.md)."""

from __future__ import annotations

import importlib.resources
import io

import numpy as np

from pytest_tradeperf.pipeline.errors import DataError
from pytest_tradeperf.pipeline.marketdata.bars import PRICE_FIELDS, Bars
from pytest_tradeperf.pipeline.marketdata.timeframe import Timeframe

BUNDLED_SYMBOLS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")
# tools/convert_bars.py wrote whole millionths of a dollar.
PRICE_SCALE = 1_000_000


def load_bars(symbol: str) -> Bars:
    """Return the bundled daily bars of one symbol.

    Parameters
    ----------
    symbol
        One of ``BUNDLED_SYMBOLS``, in any case.

    Raises
    ------
    DataError
        The symbol is not bundled.

    Examples
    --------
    >>> bars = load_bars("GOOG")
    >>> len(bars), str(bars.timestamps[0])[:10], str(bars.timestamps[-1])[:10]
    (2148, '2004-08-19', '2013-03-01')
    """
    name = symbol.upper()
    if name not in BUNDLED_SYMBOLS:
        raise DataError(
            f"no bundled bars for {symbol!r}: expected one of {', '.join(BUNDLED_SYMBOLS)}; for others "
            f"read a file"
        )
    source = importlib.resources.files(__package__).joinpath("data", "us_stocks_daily.npz")
    with np.load(io.BytesIO(source.read_bytes()), allow_pickle=False) as archive:
        days = archive[f"{name}.day"].astype(np.int64).astype("datetime64[D]")
        prices = {field: archive[f"{name}.{field}"] / PRICE_SCALE for field in PRICE_FIELDS}
        volume = archive[f"{name}.volume"].astype(np.float64)
    return Bars(
        symbol=name,
        timestamps=days.astype("datetime64[ns]"),
        volume=volume,
        timeframe=Timeframe(minutes=24 * 60),
        **prices,
    )
