"""The ``compiled`` engine: the reference loop as machine code, through numba (``compiled`` extra)."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import numpy as np

from pytest_tradeperf.pipeline.backtest.fills import next_opens
from pytest_tradeperf.pipeline.backtest.segments import borrows
from pytest_tradeperf.pipeline.backtest.totals import TOTAL_NAMES
from pytest_tradeperf.pipeline.backtest.trades import TradeColumns
from pytest_tradeperf.pipeline.errors import EngineError, MissingExtraError

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.backtest.plan import Plan


# It imports the kernel of single runs.
KERNEL = "pytest_tradeperf.pipeline.backtest.kernel_many"
# Columns of a trade as the kernel writes it.
N_TRADE_FIELDS = 7


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
    EngineError
        numba finds no folder to keep compiled code in.
    """
    if is_loaded():  # an import statement costs a fifth of a short run
        return sys.modules[KERNEL]
    try:
        from pytest_tradeperf.pipeline.backtest import kernel_many
    except ImportError as error:
        message = (
            "the compiled engine needs numba: install the extra, pip install 'pytest-tradeperf[compiled]', "
            "or choose engine='lanes'"
        )
        raise MissingExtraError(message) from error
    except RuntimeError as error:  # what numba says when it may not write a cache anywhere
        if "cannot cache" not in str(error):
            raise
        raise EngineError(
            f"the compiled engine cannot keep its compiled code: {error}; name a folder that can be "
            "written in NUMBA_CACHE_DIR, or choose engine='lanes'"
        ) from error
    return kernel_many


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
    rows = np.empty((int(np.count_nonzero(codes)) + 1, N_TRADE_FIELDS))
    sums = np.empty(len(TOTAL_NAMES))
    n_trades = kernel.simulate_one(
        np.ascontiguousarray(codes),
        *_prices(plan),
        plan.size,
        _rules(plan),
        np.empty(kernel.N_ACCOUNT),
        equity,
        rows,
        sums,
    )
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


def rows_compiled(plan: Plan, codes: NDArray[np.int8]) -> NDArray[np.float64]:
    """Return the totals of many runs, float64 of shape (n_runs, number of totals), columns as in Totals.

    Parameters
    ----------
    codes
        int8 ndarray of shape (n_runs, n_bars), or wider by up to 7 columns of HOLD: see :func:`padded`.
    """
    n_runs, n_bars = codes.shape[0], plan.open.size
    sums = np.empty((n_runs, len(TOTAL_NAMES)))
    kernel, rules, again = load_kernel(), _rules(plan), np.ones(n_runs, dtype=np.bool_)
    account, no_trades = np.empty(kernel.N_ACCOUNT), np.empty((0, N_TRADE_FIELDS))
    if n_bars and not plan.settings.stops.is_active:
        fills_on, state = next_opens(plan.open), _aligned(kernel.N_STATE)
        last = np.empty(n_bars + 1, dtype=np.int64)
        events, held = np.empty((0, 2), dtype=np.int64), np.empty((0, 2))
        for start in range(0, n_runs, kernel.LANES):
            part = slice(start, start + kernel.LANES)
            some = padded(codes[part], n_bars)
            words = some.view(np.int64)
            room = int(np.count_nonzero(some)) + len(some)  # an event a code, and one when a run ends flat
            if room > len(events):
                events, held = np.empty((room, 2), dtype=np.int64), np.empty((room, 2))
            last.fill(-1)
            last[-1] = 0
            state.fill(0.0)
            kernel.simulate_many(
                some, words, plan.open, plan.last_close, plan.size, fills_on, rules,
                account, state, no_trades, last, events, held, sums[part], again[part],
            )  # fmt: skip
    left = np.flatnonzero(again).tolist()
    if left:
        no_equity = np.empty(0)
        for run in left:
            row = np.ascontiguousarray(codes[run, : plan.open.size])
            kernel.simulate_one(
                row, *_prices(plan), plan.size, rules, account, no_equity, no_trades, sums[run]
            )
    return sums


def padded(codes: NDArray[np.int8], n_bars: int) -> NDArray[np.int8]:
    """Return codes with HOLD up to a multiple of 8 bars: the kernel looks at eight at a time."""
    n_wide = -(-n_bars // 8) * 8
    if codes.shape[1] == n_wide:
        return np.ascontiguousarray(codes)
    wide = np.zeros((codes.shape[0], n_wide), dtype=np.int8)
    wide[:, : codes.shape[1]] = codes
    return wide


def _aligned(size: int) -> NDArray[np.float64]:
    """Return room for some numbers that starts a line of the cache; elsewhere, vectors straddle two."""
    room = np.empty(size + 8)
    return room[-room.ctypes.data % 64 // 8 :][:size]


def _prices(plan: Plan) -> tuple[NDArray[np.float64], ...]:
    return plan.open, plan.high, plan.low, plan.last_close


def _rules(plan: Plan) -> NDArray[np.float64]:
    """Return the constants of a run in the order of the places that ``kernel_account`` names."""
    settings = plan.settings
    return np.array(
        (
            settings.costs.fee_rate,
            settings.costs.fee_fixed,
            plan.fee_factor,
            plan.buy_factor,
            plan.sell_factor,
            plan.loss,
            plan.profit,
            plan.trail,
            settings.leverage,
            settings.maintenance,
            plan.size_is_shares,
            settings.whole_shares,
            settings.stops.is_active,
            settings.fill == "same_close",
            settings.close_final,
            settings.cash,
            borrows(plan),
        ),
        dtype=np.float64,
    )
