"""The ``lanes`` engine for a single run: scalars from fill to fill, arrays from bar to bar in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_tradeperf.pipeline.backtest.fills import fills_of
from pytest_tradeperf.pipeline.backtest.reference import Account, simulate
from pytest_tradeperf.pipeline.backtest.trades import END, SIGNAL, TradeColumns, columns_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.backtest.plan import Plan


def simulate_segments(plan: Plan, codes: NDArray[np.int8]) -> tuple[NDArray[np.float64], TradeColumns]:
    """Return what :func:`~.reference.simulate` returns, for runs without stops.

    A run that loses everything is handed to the reference, which knows when a position is liquidated.
    """
    n_bars = codes.size
    if n_bars == 0:
        return simulate(plan, codes)
    account = Account(plan)
    fills = fills_of(codes[np.newaxis, :], plan)
    starts, cash, shares = [0], [account.cash], [0.0]
    for step, code, price, size in zip(
        fills.step.tolist(),
        fills.code.tolist(),
        fills.price.tolist(),
        fills.size.tolist(),
        strict=True,
    ):
        account.act(code, step // 2, price, size=size, reason=SIGNAL)
        starts.append(step // 2)
        cash.append(account.cash)
        shares.append(account.shares)
    lengths = np.diff([*starts, n_bars])
    value = np.repeat(shares, lengths) * plan.last_close
    equity = np.repeat(cash, lengths) + value
    if _may_be_liquidated(plan, codes, equity, value):
        return simulate(plan, codes)
    if account.shares != 0.0 and plan.settings.close_final:
        last_close = float(plan.last_close[-1])
        account.close(n_bars - 1, account.market_price(last_close), END)
        equity[-1] = account.cash
    elif account.shares != 0.0:
        account.keep(float(plan.last_close[-1]))
    return equity, columns_of(account.rows)


def _may_be_liquidated(
    plan: Plan, codes: NDArray[np.int8], equity: NDArray[np.float64], value: NDArray[np.float64]
) -> bool:
    """Return whether some close cannot carry its position; same-close fills may hide one, so they count."""
    floor = plan.settings.maintenance * np.abs(value)
    is_hidden = plan.settings.fill == "same_close" and can_lose_everything(plan, codes)
    return bool(is_hidden or (equity <= floor).any())


def can_lose_everything(plan: Plan, codes: NDArray[np.int8]) -> bool:
    """Return whether shorts or borrowed money could bring equity to zero; long positions for cash cannot.

    ``codes`` are all codes of the run, or those that are acted on.
    """
    return borrows(plan) or bool((codes < 0).any())


def borrows(plan: Plan) -> bool:
    """Return whether positions may cost more than the cash there is."""
    return plan.settings.margin < 1.0
