"""When the codes of a strategy turn into fills: what of the waiting order needs no prices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_tradeperf.pipeline.backtest.signals import HOLD

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.backtest.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fills:
    """Fills of many runs in the order of time, arrays of shape (n_fills,).

    Attributes
    ----------
    step
        ``2 * bar`` for a fill at the open, ``2 * bar + 1`` for one at the close; ascending.
    lane
        Number of the run.
    code
        What to do.
    decided
        Bar whose close decided it; the size is looked up there.
    """

    step: NDArray[np.int64]
    lane: NDArray[np.int64]
    code: NDArray[np.int8]
    decided: NDArray[np.int64]


def fills_of(codes: NDArray[np.int8], plan: Plan) -> Fills:
    """Return the fills of codes of shape (n_lanes, n_bars); a later code replaces one that still waits."""
    n_bars = codes.shape[1]
    lane, decided = np.divmod(np.flatnonzero(codes.ravel() != HOLD), max(n_bars, 1))
    code = codes[lane, decided]
    is_trading = ~np.isnan(plan.open)
    trading = np.flatnonzero(is_trading)
    place = np.searchsorted(trading, np.arange(n_bars), side="right")
    next_open = np.append(trading, n_bars)[place]
    step = 2 * next_open[decided]
    is_last_close = np.zeros(decided.size, dtype=np.bool_)
    if plan.settings.fill == "same_close":
        step = np.where(is_trading[decided], 2 * decided + 1, step)
        # Nothing is decided on the last close of a run that ends flat: the position is closed there.
        is_last_close = (step == 2 * n_bars - 1) & plan.settings.close_final
    is_replaced = np.zeros(decided.size, dtype=np.bool_)
    is_replaced[:-1] = (step[1:] == step[:-1]) & (lane[1:] == lane[:-1])
    keep = ~is_replaced & (step < 2 * n_bars) & ~is_last_close
    order = np.argsort(step[keep], kind="stable")
    return Fills(
        step=step[keep][order], lane=lane[keep][order], code=code[keep][order], decided=decided[keep][order]
    )


def last_closes(plan: Plan) -> NDArray[np.float64]:
    """Return the close of each bar, the last known one where it is missing, and 0 before the first."""
    known = np.where(np.isnan(plan.close), -1, np.arange(plan.close.size))
    place = np.maximum.accumulate(known) if known.size else known
    return np.where(place >= 0, plan.close[np.maximum(place, 0)], 0.0)
