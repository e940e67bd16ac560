"""One symbol's bars: immutable arrays that cannot be built invalid.

Reading files is not done here: see :mod:`~pytest_tradeperf.pipeline.marketdata.csvfile` and
:mod:`~pytest_tradeperf.pipeline.marketdata.frames`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pytest_tradeperf.pipeline.errors import DataError
from pytest_tradeperf.pipeline.marketdata.timeframe import Timeframe, infer_timeframe

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

PRICE_FIELDS = ("open", "high", "low", "close")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bars:
    """Prices and volume of one symbol, oldest bar first.

    Attributes
    ----------
    symbol
        Name of the instrument, for messages and tables.
    timestamps
        ndarray of shape (n_bars,), ``datetime64[ns]``, strictly increasing.
    open, high, low, close
        Read-only float64 ndarrays of shape (n_bars,), positive, ``low <= open, close <= high``.
        A *missing bar* has NaN in all four: nothing can be filled on it and the last close stays the
        valuation.
    volume
        Read-only float64 ndarray of shape (n_bars,), not negative; NaN where unknown.
    timeframe
        Distance of two bars and the calendar that annualises them; inferred from the timestamps when not
        given.

    Raises
    ------
    DataError
        Lengths differ, timestamps are unsorted or duplicate, a price is not positive or not finite (other
        than a
        missing bar), high is below low, open or close is outside of them, volume is negative.

    Examples
    --------
    >>> bars = Bars(symbol="X", timestamps=["2024-01-02", "2024-01-03"],
    ...             open=[10, 11], high=[11, 12], low=[9, 10], close=[11, 10], volume=[5, 5])
    >>> len(bars), float(bars.close[-1]), str(bars.timeframe)
    (2, 10.0, '1d stocks')
    """

    symbol: str
    timestamps: NDArray[np.datetime64]
    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64]
    timeframe: Timeframe = field(default=None)  # type: ignore[assignment]  # inferred below, never None afterwards

    def __post_init__(self) -> None:
        timestamps = _frozen_timestamps(self.symbol, self.timestamps)
        object.__setattr__(self, "timestamps", timestamps)
        for name in (*PRICE_FIELDS, "volume"):
            object.__setattr__(
                self, name, _frozen_column(self.symbol, name, getattr(self, name), timestamps.size)
            )
        _check_order(self.symbol, timestamps)
        _check_prices(self)
        if self.timeframe is None:
            object.__setattr__(self, "timeframe", infer_timeframe(timestamps))

    def __len__(self) -> int:
        """Return the number of bars, missing ones included."""
        return int(self.timestamps.size)

    def __getitem__(self, rows: object) -> Bars:
        """Return a part in time; the arrays are views, so nothing is copied.

        Parameters
        ----------
        rows
            A slice with a positive step of 1; anything else would break the order of time.
        """
        if not isinstance(rows, slice) or rows.step not in (None, 1):
            raise DataError(
                f"bars of {self.symbol} can be cut with a plain slice like bars[10:20], got {rows!r}"
            )
        part = object.__new__(Bars)  # the parts of valid bars are valid: no second check, no second copy
        object.__setattr__(part, "symbol", self.symbol)
        object.__setattr__(part, "timeframe", self.timeframe)
        for name in ("timestamps", *PRICE_FIELDS, "volume"):
            object.__setattr__(part, name, getattr(self, name)[rows])
        return part

    @property
    def is_missing(self) -> NDArray[np.bool_]:
        """Boolean ndarray of shape (n_bars,): True where the bar has no prices."""
        return np.isnan(self.open)


def _frozen_timestamps(symbol: str, values: ArrayLike) -> NDArray[np.datetime64]:
    try:
        stamps = np.array(values, dtype="datetime64[ns]")
    except (TypeError, ValueError, OverflowError) as error:
        message = (
            f"timestamps of {symbol} cannot be read as datetime64[ns]: {error}; give ISO dates or datetime64"
        )
        raise DataError(message) from error
    if stamps.ndim != 1:
        raise DataError(f"timestamps of {symbol} have shape {stamps.shape}, expected (n_bars,)")
    stamps.flags.writeable = False
    return stamps


def _frozen_column(symbol: str, name: str, values: ArrayLike, n_bars: int) -> NDArray[np.float64]:
    try:
        column = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{name} of {symbol} cannot be read as numbers: {error}; give one number a bar"
        ) from error
    if column.shape != (n_bars,):
        raise DataError(
            f"{name} of {symbol} has shape {column.shape}, expected ({n_bars},) like the timestamps"
        )
    column.flags.writeable = False
    return column


def _check_order(symbol: str, stamps: NDArray[np.datetime64]) -> None:
    if np.isnat(stamps).any():
        bar = int(np.isnat(stamps).argmax())
        raise DataError(f"timestamp of {symbol} at bar {bar} is not a time (NaT); drop the row or repair it")
    steps = np.diff(stamps.view(np.int64))
    if (steps > 0).all():
        return
    bar = int((steps <= 0).argmax()) + 1
    what = "repeats" if steps[bar - 1] == 0 else "is older than"
    cure = "keep one row a timestamp" if steps[bar - 1] == 0 else "sort the rows by time"
    message = f"timestamp {stamps[bar]} of {symbol} at bar {bar} {what} the bar before; {cure}"
    raise DataError(message)


def _check_prices(bars: Bars) -> None:
    prices = np.array([bars.open, bars.high, bars.low, bars.close])
    missing = np.isnan(prices).all(axis=0)
    top = np.maximum(bars.open, bars.close)
    bottom = np.minimum(bars.open, bars.close)
    with np.errstate(invalid="ignore"):
        rules = (
            (
                ~np.isfinite(prices).all(axis=0) & ~missing,
                "has a price that is NaN or infinite",
                "all four or none",
            ),
            ((prices <= 0).any(axis=0), "has a price that is zero or negative", "prices above zero"),
            (bars.high < bars.low, "has its high below its low", "low <= high"),
            (
                (top > bars.high) | (bottom < bars.low),
                "has open or close outside low..high",
                "low <= open, close <= high",
            ),
            (bars.volume < 0, "has a negative volume", "volume >= 0"),
            (np.isinf(bars.volume), "has an infinite volume", "a finite volume, or NaN where unknown"),
        )
    for broken, what, expected in rules:
        if broken.any():
            bar = int(broken.argmax())
            values = ", ".join(
                f"{name} {float(getattr(bars, name)[bar])!r}" for name in (*PRICE_FIELDS, "volume")
            )
            when = bars.timestamps[bar]
            raise DataError(
                f"bar {bar} of {bars.symbol} ({when}) {what}: {values}; expected {expected}: "
                "repair or drop the row"
            )
