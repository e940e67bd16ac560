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
    """Fills of many runs, run by run and in each in the order of time; arrays of shape (n_fills,).

    Attributes
    ----------
    lane
        Number of the run; ascending.
    step
        ``2 * bar`` for a fill at the open, ``2 * bar + 1`` for one at the close; ascending in each run.
    code
        What to do.
    price
        Open or close of the bar, before slippage and spread.
    size
        What the plan lets an order buy that was decided on the deciding bar.
    """

    lane: NDArray[np.int64]
    step: NDArray[np.int64]
    code: NDArray[np.int8]
    price: NDArray[np.float64]
    size: NDArray[np.float64]


def fills_of(codes: NDArray[np.int8], plan: Plan) -> Fills:
    """Return the fills of codes of shape (n_lanes, n_bars); a later code replaces one that still waits.

    The codes may be wider by columns of HOLD.
    """
    n_bars = plan.open.size
    place = np.flatnonzero(codes.ravel() != HOLD)
    lane, decided = np.divmod(place, max(codes.shape[1], 1))
    is_trading = ~np.isnan(plan.open)
    step = 2 * next_opens(plan.open)[decided]
    is_last_close = np.zeros(decided.size, dtype=np.bool_)
    if plan.settings.fill == "same_close":
        step = np.where(is_trading[decided], 2 * decided + 1, step)
        # Nothing is decided on the last close of a run that ends flat: the position is closed there.
        is_last_close = (step == 2 * n_bars - 1) & plan.settings.close_final
    is_replaced = np.zeros(decided.size, dtype=np.bool_)
    is_replaced[:-1] = (step[1:] == step[:-1]) & (lane[1:] == lane[:-1])
    keep = ~is_replaced & (step < 2 * n_bars) & ~is_last_close
    lane, step, place, decided = lane[keep], step[keep], place[keep], decided[keep]
    prices = np.stack([plan.open, plan.close], axis=1).ravel()
    return Fills(lane=lane, step=step, code=codes.ravel()[place], price=prices[step], size=plan.size[decided])


def next_opens(opens: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return for every bar the next one with prices, where its orders fill; n_bars where there is none."""
    is_missing = np.isnan(opens)
    if not is_missing.any():
        return np.arange(1, opens.size + 1)
    trading = np.flatnonzero(~is_missing)
    after = np.searchsorted(trading, np.arange(opens.size), side="right")
    return np.append(trading, opens.size)[after]
