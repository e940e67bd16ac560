"""Windows over a series without a copy, and a series that grows without disturbing its windows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, overload

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from pytest_tradeperf.pipeline.errors import SettingError
from pytest_tradeperf.pipeline.features.indicators import BLOCK, checked_window

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

FIRST_CAPACITY: Final = 1_024


def windows(
    values: NDArray[np.float64], width: int, *, step: int = 1, fast: bool = True
) -> NDArray[np.float64]:
    """Return all windows of consecutive bars, oldest first.

    Parameters
    ----------
    values
        Array of shape (n_bars,) or (n_bars, n_columns).
    width
        Bars in a window, at least 1.
    step
        Bars between the starts of two windows, at least 1.
    fast
        False copies; the values are the same.

    Returns
    -------
    read-only ndarray of shape (n_windows, width) or (n_windows, width, n_columns)
        A view of `values`: nothing is copied. No window where there are fewer bars than `width`.

    Examples
    --------
    >>> windows(np.array([1.0, 2.0, 3.0, 4.0]), 3)
    array([[1., 2., 3.],
           [2., 3., 4.]])
    """
    series = np.asarray(values)
    if series.ndim not in {1, 2}:
        raise SettingError(f"values have shape {series.shape}: expected (n_bars,) or (n_bars, n_columns)")
    n_wide = checked_window(width)
    if isinstance(step, bool) or not isinstance(step, (int, np.integer)) or step < 1:
        raise SettingError(f"step is {step!r}: expected a whole number of bars, at least 1")
    if series.shape[0] < n_wide:
        empty = np.empty((0, n_wide, *series.shape[1:]), dtype=series.dtype)
        empty.flags.writeable = False
        return empty
    view = sliding_window_view(series, n_wide, axis=0)[::step]
    if series.ndim == 2:  # noqa: PLR2004 - numpy puts the window last, behind the columns
        view = view.swapaxes(1, 2)
    if fast:
        return view
    copied = view.copy()
    copied.flags.writeable = False
    return copied


def sma_of_windows(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return what :func:`~.indicators.sma` returns, to the last bit, from a copy of every window.

    The slow way to the same average: what views save can be switched off and looked at.
    """
    width = checked_window(window)
    out = np.full(values.size, np.nan)
    for start in range(0, values.size - width + 1, BLOCK):
        copied = windows(values[start : start + BLOCK + width - 1], width, fast=False)
        total = copied[:, -1].copy()
        for age in range(1, width):
            total += copied[:, width - 1 - age]
        np.divide(total, width, out=out[start + width - 1 : start + width - 1 + total.size])
    return out


class GrowingSeries:
    """A series that takes new bars at the end; views given out before keep their values.

    Room is doubled when it runs out, so a bar costs O(1) on average. Written places are never written again:
    a view is valid for ever, unlike one into a ring.

    Parameters
    ----------
    values
        First bars, shape (n_bars,).

    Examples
    --------
    >>> closes = GrowingSeries([1.0, 2.0])
    >>> before = closes.last(2)
    >>> closes.append(3.0)
    >>> before, closes.last(2)
    (array([1., 2.]), array([2., 3.]))
    """

    __slots__ = ("_room", "_size")

    def __init__(self, values: ArrayLike = ()) -> None:
        first = np.asarray(values, dtype=np.float64)
        if first.ndim != 1:
            raise SettingError(f"values have shape {first.shape}: expected one series of shape (n_bars,)")
        self._room = np.empty(max(FIRST_CAPACITY, 2 * first.size))
        self._room[: first.size] = first
        self._size = first.size

    def __len__(self) -> int:
        """Return the number of bars."""
        return self._size

    @overload
    def __getitem__(self, place: int) -> float: ...

    @overload
    def __getitem__(self, place: slice) -> NDArray[np.float64]: ...

    def __getitem__(self, place: int | slice) -> float | NDArray[np.float64]:
        """Return one value, or a read-only view."""
        if isinstance(place, slice):
            return self.values[place]
        return float(self.values[place])

    @property
    def values(self) -> NDArray[np.float64]:
        """All bars so far as a read-only view of shape (n_bars,)."""
        view = self._room[: self._size]
        view.flags.writeable = False
        return view

    def append(self, value: float) -> None:
        """Add one bar."""
        if self._size == self._room.size:
            self._make_room(1)
        self._room[self._size] = value
        self._size += 1

    def extend(self, values: ArrayLike) -> None:
        """Add bars, shape (n_new,)."""
        new = np.asarray(values, dtype=np.float64)
        if new.ndim != 1:
            raise SettingError(f"values have shape {new.shape}: expected one series of shape (n_new,)")
        if self._size + new.size > self._room.size:
            self._make_room(new.size)
        self._room[self._size : self._size + new.size] = new
        self._size += new.size

    def last(self, width: int) -> NDArray[np.float64]:
        """Return the last bars as a read-only view of shape (width,), or fewer where there are fewer."""
        view = self._room[max(0, self._size - checked_window(width)) : self._size]
        view.flags.writeable = False
        return view

    def _make_room(self, n_new: int) -> None:
        room = np.empty(2 * (self._size + n_new))
        room[: self._size] = self._room[: self._size]
        self._room = room
