"""Bars of many symbols on one time axis: ragged histories and missing bars become NaN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_tradeperf.pipeline.errors import DataError
from pytest_tradeperf.pipeline.marketdata.bars import PRICE_FIELDS, Bars

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.marketdata.timeframe import Timeframe


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Panel:
    """Aligned prices.

    Attributes
    ----------
    timestamps
        Union of all symbols' timestamps, datetime64[ns] ndarray of shape (n_bars,).
    open, high, low, close
        float64 ndarrays of shape (n_bars, n_symbols); NaN where a symbol has no bar.
    members
        The bars as given, in the order of ``symbols``.
    """

    symbols: tuple[str, ...]
    timestamps: NDArray[np.datetime64]
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    members: tuple[Bars, ...]

    @property
    def timeframe(self) -> Timeframe:
        """The common timeframe."""
        return self.members[0].timeframe

    def __len__(self) -> int:
        """Return the number of bars on the common axis."""
        return int(self.timestamps.size)


def align(bars: Sequence[Bars]) -> Panel:
    """Return bars of several symbols on one time axis.

    Raises
    ------
    DataError
        No symbol, the same symbol twice, or timeframes that differ.
    """
    members = tuple(bars)
    symbols = tuple(member.symbol for member in members)
    if not members:
        raise DataError("no bars were given: expected at least one symbol's")
    twice = sorted({name for name in symbols if symbols.count(name) > 1})
    if twice:
        raise DataError(f"symbol {twice[0]!r} was given twice: expected one series a symbol")
    frames = {str(member.timeframe): member.symbol for member in members}
    if len(frames) > 1:
        described = ", ".join(f"{symbol} is {frame}" for frame, symbol in frames.items())
        raise DataError(f"timeframes differ ({described}): resample to a common one")
    timestamps = members[0].timestamps
    if all(np.array_equal(member.timestamps, timestamps) for member in members):
        columns = {
            name: np.stack([getattr(member, name) for member in members], axis=1) for name in PRICE_FIELDS
        }
        return Panel(symbols=symbols, timestamps=timestamps, members=members, **columns)
    timestamps = np.unique(np.concatenate([member.timestamps for member in members]))
    columns = {name: np.full((timestamps.size, len(members)), np.nan) for name in PRICE_FIELDS}
    for place, member in enumerate(members):
        rows = np.searchsorted(timestamps, member.timestamps)
        for name in PRICE_FIELDS:
            columns[name][rows, place] = getattr(member, name)
    return Panel(symbols=symbols, timestamps=timestamps, members=members, **columns)
