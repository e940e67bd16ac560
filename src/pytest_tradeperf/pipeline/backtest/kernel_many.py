"""Many runs at once for numba: moving-average crosses to codes, codes to fills, fills to sums over curves.

The runs are lanes of one vector: on every bar the processor works on several equity curves with one
instruction, where a single curve has to wait for the addition before. Each lane still sees its own additions
in its own order, which is why bits agree with the reference. Stops and liquidation are left to ``kernel``.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ANN001, ANN201, ANN202, C901, PLR0912, PLR0915, PLR0917 - numba reads types from the signature

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from pytest_tradeperf.pipeline.backtest import kernel_account as k
from pytest_tradeperf.pipeline.backtest.kernel import READ, WRITE, simulate_one
from pytest_tradeperf.pipeline.backtest.kernel_account import N_ACCOUNT, act, keep, leave, start
from pytest_tradeperf.pipeline.backtest.signals import HOLD
from pytest_tradeperf.pipeline.backtest.trades import END, SIGNAL

__all__ = ["LANES", "N_ACCOUNT", "N_STATE", "cross_rows", "simulate_many", "simulate_one"]

READ_ROWS = numba.types.Array(numba.float64, 2, "C", readonly=True)
READ_CODES = numba.types.Array(numba.int8, 2, "C", readonly=True)
READ_TABLE = numba.types.Array(numba.int64, 2, "C", readonly=True)
READ_INDEX = numba.types.Array(numba.int64, 1, "C", readonly=True)

# Runs in a chunk: their state (below) and their codes stay in a core's caches.
LANES = 128
# From one quantity to the next in the state; not a power of two, which would put them all into the same few
# places of the cache. A constant, so that the compiler sees that they never overlap.
STRIDE = LANES + 8
(
    CASH,
    SHARES,
    BEFORE,
    PEAK,
    CHANGE,
    SQUARE,
    SQUARE_LOSS,
    LOW,
    HIGH,
    TROUGH,
    UNDER,
    LONGEST,
) = range(0, 12 * STRIDE, STRIDE)
N_STATE = 12 * STRIDE
# Columns of an event.
BEFORE_IT, RUN = 0, 1


@numba.njit(
    numba.void(
        READ_ROWS, READ_INDEX, READ_INDEX, numba.int8, numba.int8, numba.int8[::1], numba.int8[:, ::1]
    ),
    cache=True,
    nogil=True,
    **k.NO_COUNTS,
)
def cross_rows(table, fast, slow, up_code, down_code, sides, codes_out):
    """Fill codes of shape (n_runs, at least n_bars) with the crosses of two rows each; see cross_signals."""
    n_bars = table.shape[1]
    # sides: 1 above, 2 below, 3 at the other, 0 where one does not exist
    for run in range(fast.size):
        quick = table[fast[run]]
        lazy = table[slow[run]]
        codes = codes_out[run]
        for bar in range(n_bars):
            sides[bar] = numba.int8(quick[bar] >= lazy[bar]) + numba.int8(2) * numba.int8(
                quick[bar] <= lazy[bar]
            )
        codes[0] = HOLD
        for before in range(n_bars - 1):
            up = (sides[before + 1] == 1) & (sides[before] >= 2)  # noqa: PLR2004 - see sides
            down = (sides[before + 1] == 2) & ((sides[before] & 1) != 0)  # noqa: PLR2004
            codes[before + 1] = numba.int8(up) * up_code + numba.int8(down) * down_code


@k.compiled_into_caller
def remember(run, bar, account, last, events, held):
    """Note what a run holds after a fill; a second fill on a bar replaces what the first one left."""
    event = last[bar]
    if event < 0 or events[event, RUN] != run:
        event = last[last.size - 1]
        last[last.size - 1] += 1
        events[event, BEFORE_IT] = last[bar]
        events[event, RUN] = run
        last[bar] = event
    held[event, 0] = account[k.CASH]
    held[event, 1] = account[k.SHARES]


@k.compiled_into_caller
def fill_run(
    run, codes, words, opens, last_closes, sizes, fills_on, rules, account, sums, trades, last, events, held
):
    """Take one run from fill to fill: ``sums`` over its trades, and what it held in between."""
    n_bars = opens.size
    at_close = rules[k.AT_CLOSE] != 0.0
    close_final = rules[k.CLOSE_FINAL] != 0.0
    is_waiting = False
    code = 0.0
    size = 0.0
    due = n_bars
    start(account, sums, rules)
    for word in range(words.size):
        if words[word] == 0:  # eight bars on which nothing is decided
            continue
        for bar in range(8 * word, 8 * word + 8):
            if codes[bar] == HOLD:
                continue
            if is_waiting and due <= bar:
                act(account, sums, trades, rules, code, float(due), opens[due], size, float(SIGNAL))
                remember(run, due, account, last, events, held)
            is_waiting = True
            code = float(codes[bar])
            size = sizes[bar]
            due = fills_on[bar]
            if at_close and not np.isnan(opens[bar]) and not (close_final and bar == n_bars - 1):
                act(account, sums, trades, rules, code, float(bar), last_closes[bar], size, float(SIGNAL))
                remember(run, bar, account, last, events, held)
                is_waiting = False
    if is_waiting and due < n_bars:
        act(account, sums, trades, rules, code, float(due), opens[due], size, float(SIGNAL))
        remember(run, due, account, last, events, held)
    if close_final and account[k.SHARES] != 0.0:
        received = last_closes[n_bars - 1] * (
            rules[k.SELL_FACTOR] if account[k.SHARES] > 0.0 else rules[k.BUY_FACTOR]
        )
        leave(account, sums, trades, rules, float(n_bars - 1), received, float(END))
        remember(run, n_bars - 1, account, last, events, held)
    keep(account, sums, trades, float(n_bars), 0.0)


def _kernel(source: int) -> Any:
    """Return the kernel of many runs; see ``kernel_account.SOURCE``."""

    @numba.njit(
        numba.void(
            READ_CODES,
            READ_TABLE,
            READ,
            READ,
            READ,
            READ_INDEX,
            READ,
            WRITE,
            WRITE,
            numba.float64[:, ::1],
            numba.int64[::1],
            numba.int64[:, ::1],
            numba.float64[:, ::1],
            numba.float64[:, ::1],
            numba.boolean[::1],
        ),
        cache=True,
        nogil=True,
        **k.NO_COUNTS,
    )
    def simulate_many(
        codes, words, opens, last_closes, sizes, fills_on, rules, account, state, trades, last, events, held,
        totals_out, again_out,
    ):  # fmt: skip
        """Fill ``totals_out`` of shape (n_runs, N_TOTALS), n_runs at most LANES; mark runs to do again alone.

        Marked are runs that lost everything on the way, or may have. Everything is allocated by the caller:

        codes, words
            int8 of shape (n_runs, n_bars rounded up to a multiple of 8), HOLD beyond the last bar; the same
            memory as int64.
        fills_on
            Where an order that is decided on a bar fills at the open: the next bar with prices, or n_bars.
        state
            Zeros of shape (N_STATE,).
        last, events, held
            What runs hold after their fills, as a list a bar: ``last`` names the bar's latest event, -1 for
            none, and at its end the number of events, 0 at first; ``events`` names the one before it on that
            bar and its run; ``held`` cash and shares. One event a code and one a run must fit.
        """
        _ = source  # which makes it a part of what numba recognises this function by
        watch = rules[k.BORROWS] != 0.0
        for run in range(codes.shape[0]):
            fill_run(
                run, codes[run], words[run], opens, last_closes, sizes, fills_on, rules, account,
                totals_out[run], trades, last, events, held,
            )  # fmt: skip
        for event in range(last[last.size - 1]):
            if held[event, 1] < 0.0:
                watch = True
        # A fill at the close hides what that close did to the position.
        is_hidden = watch and rules[k.AT_CLOSE] != 0.0
        for run in range(codes.shape[0]):
            again_out[run] = is_hidden
        for lane in range(LANES):  # lanes without a run go along and hold cash
            state[CASH + lane] = rules[k.INITIAL_CASH]
            state[BEFORE + lane] = rules[k.INITIAL_CASH]
            state[LOW + lane] = np.inf if opens.size > 1 else 1.0
            state[HIGH + lane] = -np.inf if opens.size > 1 else 1.0
            state[TROUGH + lane] = 1.0
        for bar in range(opens.size):
            close = last_closes[bar]
            event = last[bar]
            while event >= 0:
                run = events[event, RUN]
                state[CASH + run] = held[event, 0]
                state[SHARES + run] = held[event, 1]
                event = events[event, BEFORE_IT]
            if watch:
                for run in range(codes.shape[0]):
                    value = state[SHARES + run] * close
                    if state[CASH + run] + value <= rules[k.MAINTENANCE] * abs(value):
                        again_out[run] = True
            if bar == 0:
                for lane in range(LANES):
                    equity = state[CASH + lane] + state[SHARES + lane] * close
                    state[BEFORE + lane] = equity
                    state[PEAK + lane] = equity
                continue
            for lane in range(LANES):
                equity = state[CASH + lane] + state[SHARES + lane] * close
                ratio = equity / state[BEFORE + lane]
                state[BEFORE + lane] = equity
                step = ratio - 1.0
                fall = min(step, 0.0)
                state[CHANGE + lane] += step
                state[SQUARE + lane] += step * step
                state[SQUARE_LOSS + lane] += fall * fall
                # Adding 0 keeps the compiler from storing only the lanes that changed, which is slow.
                state[LOW + lane] = min(state[LOW + lane], ratio) + 0.0
                state[HIGH + lane] = max(state[HIGH + lane], ratio) + 0.0
                under = state[UNDER + lane] + 1.0 if equity < state[PEAK + lane] else 0.0
                peak = max(state[PEAK + lane], equity)
                state[UNDER + lane] = under
                state[PEAK + lane] = peak
                state[LONGEST + lane] = max(state[LONGEST + lane], under) + 0.0
                state[TROUGH + lane] = min(state[TROUGH + lane], equity / peak) + 0.0
        for run in range(codes.shape[0]):
            # From equity zero on, the quotients above are not those of the definition.
            if not state[LOW + run] > 0.0:
                again_out[run] = True
            totals_out[run, k.FINAL_EQUITY] = state[BEFORE + run]
            totals_out[run, k.SUM_CHANGE] = state[CHANGE + run]
            totals_out[run, k.SUM_SQUARE] = state[SQUARE + run]
            totals_out[run, k.SUM_SQUARE_LOSS] = state[SQUARE_LOSS + run]
            totals_out[run, k.LOW_RATIO] = state[LOW + run]
            totals_out[run, k.HIGH_RATIO] = state[HIGH + run]
            totals_out[run, k.TROUGH_RATIO] = state[TROUGH + run]
            totals_out[run, k.UNDERWATER_BARS] = state[LONGEST + run]

    return simulate_many


simulate_many = _kernel(k.SOURCE)


IS_WHOLE = True  # stays last: see compiled.is_loaded
