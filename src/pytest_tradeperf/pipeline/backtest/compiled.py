"""The ``compiled`` engine: the reference loop as machine code, through numba (``compiled`` extra)."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_tradeperf.pipeline.backtest.totals import Totals, totals_from_rows
from pytest_tradeperf.pipeline.backtest.trades import TradeColumns
from pytest_tradeperf.pipeline.errors import MissingExtraError

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.backtest.plan import Plan


KERNEL = "pytest_tradeperf.pipeline.backtest.kernel"


def is_loaded() -> bool:
    """Return whether the compiled code is ready in this process: a run on it has nothing to wait for.

    A warm cache on disk is not enough for that: importing numba alone takes about a second.
    """
    # While another thread is still importing it, the module is there but not whole.
    return getattr(sys.modules.get(KERNEL), "IS_WHOLE", False)


def load_kernel() -> ModuleType:
    """Return the compiled code, from numba's cache on disk where it has been compiled before.

    Raises
    ------
    MissingExtraError
        numba is not installed.
    """
    if is_loaded():  # an import statement costs a fifth of a short run
        return sys.modules[KERNEL]
    try:
        from pytest_tradeperf.pipeline.backtest import kernel
    except ImportError as error:
        message = (
            "the compiled engine needs numba: install the extra, pip install 'pytest-tradeperf[compiled]', "
            "or choose engine='lanes'"
        )
        raise MissingExtraError(message) from error
    return kernel


def prepare() -> float:
    """Load the kernel, compiling it the first time ever, and return the seconds that took.

    A run after this has no first call to pay for.
    """
    start = time.perf_counter()
    load_kernel()
    return time.perf_counter() - start


def simulate_compiled(
    plan: Plan, codes: NDArray[np.int8]
) -> tuple[NDArray[np.float64], TradeColumns, NDArray[np.float64]]:
    """Return what :func:`~.reference.simulate` returns, and the totals, added up on the way, as a row."""
    kernel = load_kernel()
    equity = np.empty(codes.size)
    # Every entry needs a code of its own; one more row keeps the array from being empty, which means "do
    # not write".
    rows = np.empty((int(np.count_nonzero(codes)) + 1, kernel.N_TRADE_FIELDS))
    sums = np.empty(kernel.N_TOTALS)
    work = np.empty((2, codes.size))
    n_trades = kernel.simulate_one(np.ascontiguousarray(codes), *_arguments(plan), equity, rows, sums, work)
    written = rows[:n_trades].T
    whole = written[[1, 2, 6]].astype(np.int64)
    columns = TradeColumns(
        shares=written[0].copy(),
        entry_bar=whole[0],
        exit_bar=whole[1],
        entry_price=written[3].copy(),
        exit_price=written[4].copy(),
        fees=written[5].copy(),
        reason=whole[2],
        symbol=np.zeros(n_trades, dtype=np.int64),
    )
    return equity, columns, sums


def totals_compiled(plan: Plan, codes: NDArray[np.int8]) -> Totals:
    """Return the totals of many runs given codes of shape (n_runs, n_bars), without curves and trades."""
    kernel = load_kernel()
    sums = np.empty((codes.shape[0], kernel.N_TOTALS))
    kernel.simulate_many(np.ascontiguousarray(codes), *_arguments(plan), sums)
    return totals_from_rows(sums)


def _arguments(plan: Plan) -> tuple[Any, ...]:
    settings = plan.settings
    return (
        plan.open,
        plan.high,
        plan.low,
        plan.last_close,
        plan.size,
        settings.cash,
        settings.costs.fee_rate,
        settings.costs.fee_fixed,
        plan.fee_factor,
        plan.buy_factor,
        plan.sell_factor,
        plan.loss,
        plan.profit,
        plan.trail,
        settings.margin,
        settings.maintenance,
        plan.size_is_shares,
        settings.whole_shares,
        settings.stops.is_active,
        settings.fill == "same_close",
        settings.close_final,
    )
