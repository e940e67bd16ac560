"""Technical indicators over arrays: NaN until enough bars exist, then one value a bar.

Every window sum is taken newest bar first, one addition at a time. That order is part of the contract: it
makes
the value of a bar depend on its own window alone (no drift, a gap heals as soon as it leaves the window),
equal
for a batch, for a table of many windows (:func:`sma_table`) and for an update with one new bar.
Recursive averages skip missing bars: those are NaN and do not move the average.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pytest_tradeperf.pipeline.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

# 16,384 doubles and their sums stay in the L2 cache while a window is summed over them.
BLOCK = 16_384


class BollingerBands(NamedTuple):
    """Upper, middle and lower band, each an ndarray of shape (n_bars,)."""

    upper: NDArray[np.float64]
    middle: NDArray[np.float64]
    lower: NDArray[np.float64]


def sma(values: ArrayLike, window: int) -> NDArray[np.float64]:
    """Return the simple moving average.

    Parameters
    ----------
    values
        Array of shape (n_bars,).
    window
        Number of bars averaged, at least 1.

    Returns
    -------
    ndarray of shape (n_bars,)
        NaN for the first ``window - 1`` bars and where the window holds a NaN. O(n_bars * window).

    Examples
    --------
    >>> sma([1, 2, 3, 5], 2)
    array([nan, 1.5, 2.5, 4. ])
    """
    series = _series(values)
    width = checked_window(window)
    out = np.full(series.size, np.nan)
    for start in range(width - 1, series.size, BLOCK):
        stop = min(start + BLOCK, series.size)
        total = series[start:stop].copy()
        for age in range(1, width):
            total += series[start - age : stop - age]
        np.divide(total, width, out=out[start:stop])
    return out


def sma_table(values: ArrayLike, windows: Sequence[int]) -> NDArray[np.float64]:
    """Return the simple moving averages of many windows, bit for bit those of :func:`sma`.

    A longer window's sum extends a shorter one's, so the table costs the longest window, not the sum of all.

    Returns
    -------
    ndarray of shape (n_windows, n_bars)
        One row a window, in the order given.
    """
    series = _series(values)
    rows: dict[int, list[int]] = {}
    for row, window in enumerate(windows):
        rows.setdefault(checked_window(window), []).append(row)
    out = np.full((len(windows), series.size), np.nan)
    total = series.copy()
    for width in range(1, min(max(rows, default=0), series.size) + 1):
        if width > 1:
            total[width - 1 :] += series[: series.size - width + 1]
        for row in rows.get(width, ()):
            np.divide(total[width - 1 :], width, out=out[row, width - 1 :])
    return out


def ema(values: ArrayLike, window: int) -> NDArray[np.float64]:
    """Return the exponential moving average with smoothing ``2 / (window + 1)``.

    The first value is the simple average of the first ``window`` bars; NaN before it and on missing bars.

    Examples
    --------
    >>> ema([1, 2, 3, 5], 2)
    array([       nan, 1.5       , 2.5       , 4.16666667])
    """
    width = checked_window(window)
    return _smoothed(_series(values), width, 2.0 / (width + 1.0))


def rsi(values: ArrayLike, window: int = 14) -> NDArray[np.float64]:
    """Return the relative strength index in 0..100 (J. Welles Wilder, 1978).

    Gains and losses are smoothed with ``1 / window`` from the simple average of the first ``window``
    changes, so
    the first ``window`` bars are NaN. No change at all in the smoothed past gives 50.

    Examples
    --------
    >>> rsi([1, 2, 3, 2], 2)
    array([ nan,  nan, 100.,  50.])
    """
    series = _series(values)
    width = checked_window(window)
    known = np.flatnonzero(~np.isnan(series))
    out = np.full(series.size, np.nan)
    change = np.diff(series[known])
    gain = _smoothed(np.maximum(change, 0.0), width, 1.0 / width)
    loss = _smoothed(np.maximum(-change, 0.0), width, 1.0 / width)
    total = gain + loss
    with np.errstate(invalid="ignore", divide="ignore"):
        out[known[1:]] = np.where(total == 0.0, 50.0, 100.0 * gain / total)
    return out


def true_range(high: ArrayLike, low: ArrayLike, close: ArrayLike) -> NDArray[np.float64]:
    """Return how far the price went since the close before; NaN on the first bar.

    The largest of high - low, abs(high - close before) and abs(low - close before).
    """
    highs, lows, closes = _series(high), _series(low), _series(close)
    _same_length(high=highs, low=lows, close=closes)
    out = np.full(closes.size, np.nan)
    known = np.flatnonzero(~np.isnan(closes))
    today, before = known[1:], known[:-1]
    out[today] = np.maximum.reduce(
        [
            highs[today] - lows[today],
            np.abs(highs[today] - closes[before]),
            np.abs(lows[today] - closes[before]),
        ]
    )
    return out


def atr(high: ArrayLike, low: ArrayLike, close: ArrayLike, window: int = 14) -> NDArray[np.float64]:
    """Return the average true range in price units (J. Welles Wilder, 1978).

    The first value, at bar ``window``, is the simple average of the first ``window`` true ranges; each next
    one
    moves by ``1 / window`` of the difference.

    Examples
    --------
    >>> atr([2, 3, 4], [1, 2, 2], [2, 3, 3], 2)
    array([nan, nan, 1.5])
    """
    width = checked_window(window)
    return _smoothed(true_range(high, low, close), width, 1.0 / width)


def bollinger(values: ArrayLike, window: int = 20, width: float = 2.0) -> BollingerBands:
    """Return the simple average, and bands ``width`` population standard deviations around it (J. Bollinger).

    Examples
    --------
    >>> bollinger([1, 3, 5], 2, 1).upper
    array([nan,  3.,  5.])
    """
    series = _series(values)
    n_window = checked_window(window)
    if not (np.isfinite(width) and width > 0):
        raise SettingError(
            f"width of the bands is {width!r}: expected a number of standard deviations above 0, like 2"
        )
    middle = sma(series, n_window)
    spread = np.full(series.size, np.nan)
    for start in range(n_window - 1, series.size, BLOCK):
        stop = min(start + BLOCK, series.size)
        total = np.zeros(stop - start)
        for age in range(n_window):
            deviation = series[start - age : stop - age] - middle[start:stop]
            total += deviation * deviation
        spread[start:stop] = np.sqrt(total / n_window)
    return BollingerBands(upper=middle + width * spread, middle=middle, lower=middle - width * spread)


def highest(values: ArrayLike, window: int) -> NDArray[np.float64]:
    """Return the highest of the last ``window`` values, this bar included; NaN as in :func:`sma`."""
    return _extreme(_series(values), checked_window(window), np.maximum)


def lowest(values: ArrayLike, window: int) -> NDArray[np.float64]:
    """Return the lowest of the last ``window`` values, this bar included; NaN as in :func:`sma`."""
    return _extreme(_series(values), checked_window(window), np.minimum)


def _extreme(series: NDArray[np.float64], width: int, pick: np.ufunc) -> NDArray[np.float64]:
    """Return a rolling extreme by doubling: O(n log window), exact because min and max do not round."""
    out = np.full(series.size, np.nan)
    if series.size < width:
        return out
    best, covered = series, 1
    while covered < width:
        step = min(covered, width - covered)
        best = pick(best[step:], best[:-step])
        covered += step
    out[width - 1 :] = best
    return out


def _smoothed(series: NDArray[np.float64], width: int, weight: float) -> NDArray[np.float64]:
    """Return ``e += weight * (x - e)`` over the values that exist, from the mean of the first ``width``."""
    out = np.full(series.size, np.nan)
    known = np.flatnonzero(~np.isnan(series))
    if known.size < width:
        return out
    present = series[known].tolist()
    total = 0.0
    for value in present[:width]:
        total += value
    level = total / width
    path = [level]
    for value in present[width:]:
        level += weight * (value - level)
        path.append(level)
    out[known[width - 1 :]] = path
    return out


def checked_window(window: object) -> int:
    """Return the window as an int, or say what is wrong with it."""
    if isinstance(window, bool) or not isinstance(window, int | np.integer) or window < 1:
        raise SettingError(f"window is {window!r}: expected a whole number of bars, at least 1")
    return int(window)


def _series(values: ArrayLike) -> NDArray[np.float64]:
    series = np.asarray(values, dtype=np.float64)
    if series.ndim != 1:
        raise SettingError(f"values have shape {series.shape}: expected one series of shape (n_bars,)")
    return series


def _same_length(**columns: NDArray[np.float64]) -> None:
    sizes = {name: column.size for name, column in columns.items()}
    if len(set(sizes.values())) > 1:
        raise SettingError(f"columns differ in length: {sizes}; give the columns of the same bars")
