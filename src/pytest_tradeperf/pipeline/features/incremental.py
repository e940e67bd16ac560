"""Indicators that take one bar at a time and answer what the batch would, bit for bit.

Each repeats the additions of :mod:`~pytest_tradeperf.pipeline.features.indicators` in the same order: that
order is part of its contract. A window costs its width a bar, a recursive average a few operations.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pytest_tradeperf.pipeline.errors import SettingError
from pytest_tradeperf.pipeline.features.indicators import checked_window
from pytest_tradeperf.pipeline.features.precomputed import RETRACEMENTS, checked_ratios

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

NAN = math.nan


class Indicator(Protocol):
    """One value in, one value out."""

    def update(self, value: float) -> float:
        """Take the next bar's value and return the indicator at that bar; NaN until it exists."""
        ...


class SmaUpdate:
    """Simple moving average, as :func:`~pytest_tradeperf.pipeline.features.indicators.sma`.

    Examples
    --------
    >>> average = SmaUpdate(2)
    >>> [average.update(close) for close in (1, 2, 3, 5)]
    [nan, 1.5, 2.5, 4.0]
    """

    __slots__ = ("_past", "_width")

    def __init__(self, window: int) -> None:
        self._width = checked_window(window)
        self._past: deque[float] = deque(maxlen=self._width)

    def update(self, value: float) -> float:
        """Take the next value."""
        self._past.appendleft(float(value))
        if len(self._past) < self._width:
            return NAN
        newest_first = iter(self._past)
        total = next(newest_first)
        for older in newest_first:
            total += older
        return total / self._width


class _Smoothed:
    """``level += weight * (value - level)`` from the mean of the first values; NaN values are passed over."""

    __slots__ = ("_level", "_seen", "_total", "_weight", "_width")

    def __init__(self, width: int, weight: float) -> None:
        self._width = width
        self._weight = weight
        self._seen = 0
        self._total = 0.0
        self._level = NAN

    def update(self, value: float) -> float:
        if math.isnan(value):
            return NAN
        self._seen += 1
        if self._seen > self._width:
            self._level += self._weight * (value - self._level)
            return self._level
        self._total += value
        if self._seen < self._width:
            return NAN
        self._level = self._total / self._width
        return self._level


class EmaUpdate:
    """Exponential moving average, as :func:`~pytest_tradeperf.pipeline.features.indicators.ema`."""

    __slots__ = ("_smoothed",)

    def __init__(self, window: int) -> None:
        width = checked_window(window)
        self._smoothed = _Smoothed(width, 2.0 / (width + 1.0))

    def update(self, value: float) -> float:
        """Take the next value; NaN for a missing bar, which moves nothing."""
        return self._smoothed.update(float(value))


class RsiUpdate:
    """Relative strength index, as :func:`~pytest_tradeperf.pipeline.features.indicators.rsi`."""

    __slots__ = ("_before", "_gain", "_loss")

    def __init__(self, window: int = 14) -> None:
        width = checked_window(window)
        self._gain = _Smoothed(width, 1.0 / width)
        self._loss = _Smoothed(width, 1.0 / width)
        self._before = NAN

    def update(self, value: float) -> float:
        """Take the next value; NaN for a missing bar, which moves nothing."""
        value = float(value)
        if math.isnan(value):
            return NAN
        change = value - self._before
        is_first = math.isnan(self._before)
        self._before = value
        if is_first:
            return NAN
        gain = self._gain.update(_at_least_zero(change))
        loss = self._loss.update(_at_least_zero(-change))
        total = gain + loss
        if total == 0.0:
            return 50.0
        return 100.0 * gain / total


class AtrUpdate:
    """Average true range, as :func:`~pytest_tradeperf.pipeline.features.indicators.atr`."""

    __slots__ = ("_before", "_smoothed")

    def __init__(self, window: int = 14) -> None:
        width = checked_window(window)
        self._smoothed = _Smoothed(width, 1.0 / width)
        self._before = NAN

    def update(self, high: float, low: float, close: float) -> float:
        """Take the next bar; NaN for a missing one, which moves nothing."""
        high, low, close, before = float(high), float(low), float(close), self._before
        if math.isnan(close):
            return NAN
        self._before = close
        if math.isnan(before):
            return NAN
        ranges = (high - low, abs(high - before), abs(low - before))
        # max() would pass over a NaN, the batch does not.
        return self._smoothed.update(NAN if any(map(math.isnan, ranges)) else max(ranges))


class BollingerUpdate:
    """Upper, middle and lower band, as :func:`~pytest_tradeperf.pipeline.features.indicators.bollinger`."""

    __slots__ = ("_past", "_width", "_window")

    def __init__(self, window: int = 20, width: float = 2.0) -> None:
        self._window = checked_window(window)
        if not (math.isfinite(width) and width > 0):
            message = (
                f"width of the bands is {width!r}: expected a number of standard deviations above 0, like 2"
            )
            raise SettingError(message)
        self._width = width
        self._past: deque[float] = deque(maxlen=self._window)

    def update(self, value: float) -> tuple[float, float, float]:
        """Take the next value."""
        self._past.appendleft(float(value))
        if len(self._past) < self._window:
            return (NAN, NAN, NAN)
        newest_first = iter(self._past)
        total = next(newest_first)
        for older in newest_first:
            total += older
        middle = total / self._window
        squares = 0.0
        for one in self._past:
            deviation = one - middle
            squares += deviation * deviation
        spread = math.sqrt(squares / self._window)
        return (middle + self._width * spread, middle, middle - self._width * spread)


class ExtremeUpdate:
    """Highest or lowest of the last values, as ``highest`` and ``lowest``; O(1) a bar on average.

    Parameters
    ----------
    window
        Bars, at least 1.
    lowest
        The lowest instead of the highest.
    """

    __slots__ = ("_at", "_best", "_missing_at", "_sign", "_width")

    def __init__(self, window: int, *, lowest: bool = False) -> None:
        self._width = checked_window(window)
        self._sign = -1.0 if lowest else 1.0
        self._at = -1
        self._missing_at = -math.inf
        self._best: deque[tuple[int, float]] = deque()

    def update(self, value: float) -> float:
        """Take the next value; NaN while a missing bar is in the window."""
        self._at += 1
        value = float(value)
        if math.isnan(value):
            self._missing_at = self._at
        else:
            while self._best and self._sign * self._best[-1][1] <= self._sign * value:
                self._best.pop()
            self._best.append((self._at, value))
        while self._best and self._best[0][0] <= self._at - self._width:
            self._best.popleft()
        if self._at < self._width - 1 or self._missing_at > self._at - self._width:
            return NAN
        return self._best[0][1]


class FibonacciUpdate:
    """Retracement levels, as :func:`~pytest_tradeperf.pipeline.features.precomputed.fibonacci_levels`.

    Examples
    --------
    >>> levels = FibonacciUpdate(2, (0.0, 0.5, 1.0))
    >>> [levels.update(high, low) for high, low in ((10, 0), (20, 10))]
    [(nan, nan, nan), (20.0, 10.0, 0.0)]
    """

    __slots__ = ("_highest", "_lowest", "_ratios")

    def __init__(self, window: int, ratios: Sequence[float] = RETRACEMENTS) -> None:
        self._ratios = checked_ratios(ratios).tolist()
        self._highest = ExtremeUpdate(window)
        self._lowest = ExtremeUpdate(window, lowest=True)

    def update(self, high: float, low: float) -> tuple[float, ...]:
        """Take the next bar and return one level a ratio."""
        top, bottom = self._highest.update(high), self._lowest.update(low)
        return tuple(top - ratio * (top - bottom) for ratio in self._ratios)


def replayed(indicator: Indicator, values: Iterable[float]) -> NDArray[np.float64]:
    """Return the indicator after each of the values, shape (n_bars,); it is left ready for the next bar."""
    return np.array([indicator.update(value) for value in values], dtype=np.float64)


def _at_least_zero(change: float) -> float:
    """Return the larger of change and 0; NaN stays NaN, as in numpy's maximum."""
    return change if change > 0.0 or math.isnan(change) else 0.0
