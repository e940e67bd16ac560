"""Features prepared before they are asked for: Fibonacci levels, and a table of indicators computed once.

A sweep asks for the same averages thousands of times; both of its paths must be fed the same arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import numpy as np

from pytest_tradeperf.pipeline.errors import SettingError
from pytest_tradeperf.pipeline.features.indicators import (
    BollingerBands,
    atr,
    bollinger,
    checked_window,
    ema,
    highest,
    lowest,
    rsi,
    sma,
    sma_table,
)
from pytest_tradeperf.pipeline.features.windows import sma_of_windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from pytest_tradeperf.pipeline.features.cache import FeatureCache
    from pytest_tradeperf.pipeline.marketdata import Bars

# Ratios of numbers of Leonardo of Pisa's sequence far apart, and one half, as chartists draw them.
RETRACEMENTS: Final = (0.0, 0.236, 0.382, 0.5, 0.618, 0.786, 1.0)


def fibonacci_levels(
    high: ArrayLike, low: ArrayLike, window: int, ratios: Sequence[float] = RETRACEMENTS
) -> NDArray[np.float64]:
    """Return the retracement levels of the range of the last bars, this one included.

    The level of ratio r is ``highest - r * (highest - lowest)``: 0 is the top of the range, 1 its bottom,
    more than 1 an extension below.

    Parameters
    ----------
    high, low
        Arrays of shape (n_bars,).
    window
        Bars the range is taken over.
    ratios
        Finite numbers.

    Returns
    -------
    ndarray of shape (n_ratios, n_bars)
        NaN for the first ``window - 1`` bars and where the window holds a missing bar.

    Examples
    --------
    >>> fibonacci_levels([10, 20], [0, 10], 2, (0.0, 0.5, 1.0))[:, -1]
    array([20., 10.,  0.])
    """
    steps = checked_ratios(ratios)
    top, bottom = highest(high, window), lowest(low, window)
    if top.shape != bottom.shape:
        message = f"high has {top.size} bars and low {bottom.size}: give the columns of the same bars"
        raise SettingError(message)
    return np.asarray(top - steps[:, None] * (top - bottom))


def checked_ratios(ratios: Sequence[float]) -> NDArray[np.float64]:
    """Return the ratios as an array of shape (n_ratios,), or say what is wrong with them."""
    steps = np.asarray(ratios, dtype=np.float64)
    if steps.ndim != 1 or not np.isfinite(steps).all():
        raise SettingError(f"ratios are {ratios!r}: expected finite numbers, like (0.382, 0.5, 0.618)")
    return steps


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Features:
    """Indicators of one symbol's bars, from a table prepared before, a cache, or computed: the same answer.

    Attributes
    ----------
    bars
        What they are computed from.
    cache
        Remembers what is computed; None computes every time.
    sma_rows
        Prepared averages by window, each of shape (n_bars,) and read-only.
    fast_window
        False takes averages over copies of the windows instead of views of the closes; the values are the
        same.
    """

    bars: Bars
    cache: FeatureCache | None
    sma_rows: dict[int, NDArray[np.float64]]
    fast_window: bool = True

    @classmethod
    def of(
        cls,
        bars: Bars,
        *,
        cache: FeatureCache | None = None,
        sma_windows: Sequence[int] = (),
        fast_window: bool = True,
    ) -> Self:
        """Return the features of some bars.

        Parameters
        ----------
        sma_windows
            Averages to prepare in one pass that costs the longest of them; the others are computed when asked
            for.
        """
        ordered = sorted({checked_window(window) for window in sma_windows})
        if fast_window:
            table = sma_table(bars.close, ordered)
        else:
            rows = [sma_of_windows(bars.close, window) for window in ordered]
            table = np.array(rows).reshape(len(ordered), len(bars))
        table.flags.writeable = False
        rows_by_window = dict(zip(ordered, table, strict=True))
        return cls(bars=bars, cache=cache, sma_rows=rows_by_window, fast_window=fast_window)

    def sma(self, window: int) -> NDArray[np.float64]:
        """Return the simple moving average of the closes."""
        prepared = self.sma_rows.get(checked_window(window))
        if prepared is not None:
            return prepared
        average = sma if self.fast_window else sma_of_windows
        return (
            average(self.bars.close, window)
            if self.cache is None
            else self.cache.get(average, self.bars.close, window=window)
        )

    def ema(self, window: int) -> NDArray[np.float64]:
        """Return the exponential moving average of the closes."""
        return (
            ema(self.bars.close, window)
            if self.cache is None
            else self.cache.get(ema, self.bars.close, window=window)
        )

    def rsi(self, window: int = 14) -> NDArray[np.float64]:
        """Return the relative strength index of the closes."""
        return (
            rsi(self.bars.close, window)
            if self.cache is None
            else self.cache.get(rsi, self.bars.close, window=window)
        )

    def atr(self, window: int = 14) -> NDArray[np.float64]:
        """Return the average true range."""
        columns = (self.bars.high, self.bars.low, self.bars.close)
        return atr(*columns, window) if self.cache is None else self.cache.get(atr, *columns, window=window)

    def bollinger(self, window: int = 20, width: float = 2.0) -> BollingerBands:
        """Return the Bollinger bands of the closes."""
        if self.cache is None:
            return bollinger(self.bars.close, window, width)
        return self.cache.get(bollinger, self.bars.close, window=window, width=width)

    def fibonacci(self, window: int, ratios: Sequence[float] = RETRACEMENTS) -> NDArray[np.float64]:
        """Return the Fibonacci levels of the last bars' range."""
        columns, steps = (self.bars.high, self.bars.low), tuple(ratios)
        if self.cache is None:
            return fibonacci_levels(*columns, window, steps)
        return self.cache.get(fibonacci_levels, *columns, window=window, ratios=steps)
