"""Convert the five stock series of ``bokeh-sampledata`` to the compact file that the package bundles.

Run once, in an environment of its own (the package is a source of data, not a dependency)::

    pip install bokeh-sampledata numpy
    python tools/convert_bars.py src/pytest_tradeperf/pipeline/marketdata/data/us_stocks_daily.npz

The same input gives the same bytes: the members of the archive are sorted and carry no time of day.

Splits and dividends are taken out with the source's own adjusted close: open, high, low and close are
multiplied by ``adj_close / close`` and volume is divided by it. A rule on the size of a day's return would
remove real crashes as well (AAPL lost half of its value on 2000-09-29, without a split).
Prices are kept as whole millionths of a dollar, which keeps ``low <= open, close <= high`` because rounding
is monotone.
"""

# ruff: noqa: INP001 - a script, not a package

from __future__ import annotations

import argparse
import csv
import gzip
import importlib.resources
from pathlib import Path

import numpy as np

PRICE_SCALE = 1_000_000
SOURCE_COLUMNS = ["Ticker", "Date", "Open", "High", "Low", "Close", "Volume", "Adj Close"]


def read_source() -> dict[str, list[list[str]]]:
    """Return the source rows by ticker, in file order."""
    packed = importlib.resources.files("bokeh_sampledata").joinpath("_data", "stocks.csv.gz").read_bytes()
    rows = csv.reader(gzip.decompress(packed).decode("utf-8").splitlines())
    header = next(rows)
    if header != SOURCE_COLUMNS:
        message = (
            f"columns of stocks.csv.gz are {header!r}, expected {SOURCE_COLUMNS!r}: this script needs a look"
        )
        raise SystemExit(message)
    series: dict[str, list[list[str]]] = {}
    for ticker, *values in rows:
        series.setdefault(ticker, []).append(values)
    return series


def convert(rows: list[list[str]]) -> dict[str, np.ndarray]:
    """Return adjusted columns as integers: days since 1970, millionths of a dollar, shares."""
    days = np.array([row[0] for row in rows], dtype="datetime64[D]")
    opens, highs, lows, closes, volume, adjusted = np.array([row[1:] for row in rows], dtype=np.float64).T
    factor = adjusted / closes
    columns = {
        name: np.rint(prices * factor * PRICE_SCALE).astype(np.int32)
        for name, prices in (("open", opens), ("high", highs), ("low", lows))
    }
    columns["close"] = np.rint(adjusted * PRICE_SCALE).astype(np.int32)
    # close * factor and adj_close may round to neighbours, so the bar is closed over its own parts again.
    columns["high"] = np.maximum.reduce([columns["high"], columns["open"], columns["close"]])
    columns["low"] = np.minimum.reduce([columns["low"], columns["open"], columns["close"]])
    columns["day"] = days.astype(np.int64).astype(np.int32)
    columns["volume"] = np.rint(volume / factor).astype(np.int64)
    return columns


def main() -> None:
    """Write the archive named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("target", type=Path, help="the .npz file to write")
    target: Path = parser.parse_args().target
    members = {
        f"{ticker}.{name}": column
        for ticker, rows in read_source().items()
        for name, column in convert(rows).items()
    }
    np.savez_compressed(target, **dict(sorted(members.items())))


if __name__ == "__main__":
    main()
