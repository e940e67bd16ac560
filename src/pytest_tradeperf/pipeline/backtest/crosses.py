"""Moving-average crosses of many parameter pairs at once: one average a window, compared pair by pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_tradeperf.pipeline.backtest.signals import Side, codes_for, cross_signals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.features.precomputed import Features

# Pairs compared at once in numpy: enough to be worth the calls, few enough to stay near the processor.
PAIRS = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crosses:
    """The codes of many pairs, made when they are asked for.

    Attributes
    ----------
    averages
        float64 ndarray of shape (n_windows, n_bars).
    fast, slow
        Each pair's rows in it, int64 ndarrays of shape (n_pairs,).
    places
        Which of the parameter sets asked for each pair is, ascending, int64 of shape (n_pairs,); sets that
        are not valid are left out.
    """

    averages: NDArray[np.float64]
    fast: NDArray[np.int64]
    slow: NDArray[np.int64]
    places: NDArray[np.int64]
    side: Side

    @classmethod
    def of(
        cls,
        features: Features,
        fast: NDArray[np.int64],
        slow: NDArray[np.int64],
        *,
        average: str,
        side: Side,
        places: NDArray[np.int64],
    ) -> Crosses:
        """Return the crosses of pairs of windows, each average computed once."""
        windows, rows = np.unique(np.concatenate([fast, slow]), return_inverse=True)
        pick = features.sma if average == "sma" else features.ema
        averages = np.array([pick(window) for window in windows.tolist()], dtype=np.float64)
        quick, lazy = rows.astype(np.int64).reshape(2, -1)
        return cls(
            averages=averages.reshape(windows.size, -1), fast=quick, slow=lazy, places=places, side=side
        )

    def room(self, n_pairs: int) -> NDArray[np.int8]:
        """Return room for the codes of some pairs: HOLD, of shape (n_pairs, n_bars rounded up to 8)."""
        return np.zeros((n_pairs, -(-self.averages.shape[1] // 8) * 8), dtype=np.int8)

    def codes(self, part: slice, room: NDArray[np.int8], *, compiled: bool) -> NDArray[np.int8]:
        """Return the codes of some pairs, in the first rows of the room, which can be used again."""
        fast, slow = self.fast[part], self.slow[part]
        n_bars = self.averages.shape[1]
        codes = room[: fast.size]
        if n_bars == 0:
            return codes
        if compiled:
            from pytest_tradeperf.pipeline.backtest.compiled import load_kernel

            sides = np.empty(n_bars, dtype=np.int8)
            load_kernel().cross_rows(self.averages, fast, slow, *codes_for(self.side), sides, codes)
            return codes
        for first in range(0, fast.size, PAIRS):
            some = slice(first, first + PAIRS)
            codes[some, :n_bars] = cross_signals(self._rows(fast[some]), self._rows(slow[some]), self.side)
        return codes

    def _rows(self, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return averages, as a view where they are one row or consecutive ones, as in a grid."""
        first, last = int(places[0]), int(places[-1])
        if first == last and (places == first).all():
            return self.averages[first : first + 1]
        if last - first == places.size - 1 and (np.diff(places) == 1).all():
            return self.averages[first : last + 1]
        return self.averages[places]
