"""Moving-average crosses of many parameter pairs at once: one average a window, compared pair by pair."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_tradeperf.pipeline.backtest.signals import Side, codes_for, cross_signals
from pytest_tradeperf.pipeline.features.indicators import ema, sma_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Pairs compared at once in numpy: their averages and comparisons stay in a core's L2 cache.
PAIRS = 8


def cross_table(
    close: NDArray[np.float64],
    fast: NDArray[np.int64],
    slow: NDArray[np.int64],
    *,
    average: str,
    side: Side,
    compiled: bool,
) -> NDArray[np.int8]:
    """Return codes of shape (n_pairs, n_bars), bit for bit those of one strategy at a time."""
    windows, place = np.unique(np.concatenate([fast, slow]), return_inverse=True)
    if average == "sma":
        table = sma_table(close, windows.tolist())
    else:
        table = np.array([ema(close, window) for window in windows.tolist()]).reshape(
            windows.size, close.size
        )
    rows = place.astype(np.int64).reshape(2, -1)
    codes = np.zeros((fast.size, close.size), dtype=np.int8)
    if close.size == 0:
        return codes
    if compiled:
        from pytest_tradeperf.pipeline.backtest.compiled import load_kernel

        load_kernel().cross_rows(table, rows[0].copy(), rows[1].copy(), *codes_for(side), codes)
        return codes
    for start in range(0, fast.size, PAIRS):
        part = slice(start, start + PAIRS)
        codes[part] = cross_signals(_rows(table, rows[0, part]), _rows(table, rows[1, part]), side)
    return codes


def _rows(table: NDArray[np.float64], places: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return rows of the table, as a view where they are one row or consecutive ones, as in a grid."""
    first, last = int(places[0]), int(places[-1])
    if first == last and (places == first).all():
        return table[first : first + 1]
    if last - first == places.size - 1 and (np.diff(places) == 1).all():
        return table[first : last + 1]
    return table[places]
