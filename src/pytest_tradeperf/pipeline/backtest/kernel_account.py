"""One account for numba: what a fill does to cash, position and the sums over trades.

Both kernels call this, so that a fill is the same products and additions in the same order as in the
reference's ``Account``. Codes, reasons and numbers of bars are floats here: numba would compile a function
anew for every whole number that a caller writes out.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ANN001, ANN201, PLR0917 - numba reads types from the callers, and records would cost it time

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numba
import numpy as np

from pytest_tradeperf.pipeline.backtest.signals import BUY, EXIT, SELL
from pytest_tradeperf.pipeline.backtest.totals import TOTAL_NAMES
from pytest_tradeperf.pipeline.backtest.trades import OPEN, REVERSAL

# Places in the array of rules, the constants of a run.
(
    FEE_RATE,
    FEE_FIXED,
    FEE_FACTOR,
    BUY_FACTOR,
    SELL_FACTOR,
    LOSS,
    PROFIT,
    TRAIL,
    LEVERAGE,
    MAINTENANCE,
    SIZE_IS_SHARES,
    WHOLE_SHARES,
    HAS_STOPS,
    AT_CLOSE,
    CLOSE_FINAL,
    INITIAL_CASH,
    BORROWS,
) = range(17)

# Places in the array of an account.
CASH, SHARES, ENTRY_PRICE, ENTRY_FEE, ENTRY_BAR, BEST, WRITTEN = range(7)
N_ACCOUNT = 7

# Places in a row of totals.
(
    FINAL_EQUITY,
    SUM_CHANGE,
    SUM_SQUARE,
    SUM_SQUARE_LOSS,
    LOW_RATIO,
    HIGH_RATIO,
    TROUGH_RATIO,
    UNDERWATER_BARS,
    N_TRADES,
    N_OPEN_TRADES,
    N_WINS,
    SUM_WIN,
    SUM_LOSS,
    SUM_PROFIT_SQUARE,
    SUM_TRADE_RETURN,
    LOW_TRADE_RETURN,
    HIGH_TRADE_RETURN,
    HELD_BARS,
    CLOSED_BARS,
    LONGEST_TRADE_BARS,
    FEES,
    TRADED,
) = range(len(TOTAL_NAMES))
N_TOTALS = len(TOTAL_NAMES)

# No function allocates anything: without its reference counts, numba passes arrays at a third of the price.
NO_COUNTS: Any = {"error_model": "numpy", "_nrt": False, "no_cfunc_wrapper": True}
# Numba's cache on disk looks at the file of a function, not at what it calls elsewhere, but it does look at
# the variables of an enclosing function. The kernels have this one there, and are compiled anew when this
# file changes.
SOURCE = zlib.crc32(Path(__file__).read_bytes())
# Without what numba would need to call them from Python, and without a cache of their own.
compiled_into_caller: Any = numba.njit(**(NO_COUNTS | {"no_cpython_wrapper": True}))


@compiled_into_caller
def start(account, sums, rules):
    """Empty the account and the sums over trades."""
    for place in range(N_ACCOUNT):
        account[place] = 0.0
    account[CASH] = rules[INITIAL_CASH]
    for place in range(N_TRADES, N_TOTALS):
        sums[place] = 0.0
    sums[LOW_TRADE_RETURN] = np.inf
    sums[HIGH_TRADE_RETURN] = -np.inf


@compiled_into_caller
def leave(account, sums, trades, rules, bar, received, reason):
    """Close the position at a price that includes slippage; write the trade where there is room."""
    shares = account[SHARES]
    entry_price = account[ENTRY_PRICE]
    count = abs(shares)
    fee = count * received * rules[FEE_RATE] + rules[FEE_FIXED]
    account[CASH] = account[CASH] + shares * received - fee
    account[SHARES] = 0.0
    fees = account[ENTRY_FEE] + fee
    gained = shares * (received - entry_price) - fees
    put_in = count * entry_price
    held = bar - account[ENTRY_BAR]
    ratio = gained / put_in
    sums[N_TRADES] += 1.0
    if gained > 0.0:
        sums[N_WINS] += 1.0
        sums[SUM_WIN] += gained
    else:
        sums[SUM_LOSS] += gained
    sums[SUM_PROFIT_SQUARE] += gained * gained
    sums[SUM_TRADE_RETURN] += ratio
    sums[LOW_TRADE_RETURN] = min(sums[LOW_TRADE_RETURN], ratio)
    sums[HIGH_TRADE_RETURN] = max(sums[HIGH_TRADE_RETURN], ratio)
    sums[HELD_BARS] += held
    sums[CLOSED_BARS] += held
    sums[LONGEST_TRADE_BARS] = max(sums[LONGEST_TRADE_BARS], held)
    sums[FEES] += fees
    sums[TRADED] += put_in
    sums[TRADED] += count * received
    write(account, trades, shares, bar, received, fees, reason)


@compiled_into_caller
def keep(account, sums, trades, n_bars, last_close):
    """Count a position that is still held after the last bar."""
    shares = account[SHARES]
    if shares != 0.0:
        sums[N_OPEN_TRADES] = 1.0
        sums[FEES] += account[ENTRY_FEE]
        sums[TRADED] += abs(shares) * account[ENTRY_PRICE]
        sums[HELD_BARS] += n_bars - account[ENTRY_BAR]
        write(account, trades, shares, -1.0, last_close, account[ENTRY_FEE], float(OPEN))


@compiled_into_caller
def write(account, trades, shares, bar, price, fees, reason):
    """Append a trade, if trades are wanted at all."""
    if trades.shape[0] > 0:
        row = trades[int(account[WRITTEN])]
        row[0] = shares
        row[1] = account[ENTRY_BAR]
        row[2] = bar
        row[3] = account[ENTRY_PRICE]
        row[4] = price
        row[5] = fees
        row[6] = reason
        account[WRITTEN] += 1.0


@compiled_into_caller
def act(account, sums, trades, rules, code, bar, price, size, reason):
    """Carry out one code at a price: leave, enter, or do nothing where the position is already right."""
    shares = account[SHARES]
    if shares != 0.0 and (code == EXIT or (code == SELL and shares > 0.0) or (code == BUY and shares < 0.0)):
        received = price * (rules[SELL_FACTOR] if shares > 0.0 else rules[BUY_FACTOR])
        leave(account, sums, trades, rules, bar, received, reason if code == EXIT else float(REVERSAL))
    if account[SHARES] != 0.0 or code == EXIT:
        return
    direction = 1.0 if code == BUY else -1.0
    paid = price * (rules[BUY_FACTOR] if code == BUY else rules[SELL_FACTOR])
    if rules[SIZE_IS_SHARES] != 0.0:
        count = size
        needed = count * paid + (count * paid * rules[FEE_RATE] + rules[FEE_FIXED])
        if needed > account[CASH] * rules[LEVERAGE]:
            count = 0.0
    else:
        count = (account[CASH] * size - rules[FEE_FIXED]) / (paid * rules[FEE_FACTOR])
    if rules[WHOLE_SHARES] != 0.0:
        count = np.floor(count)
    if count > 0.0:
        fee = count * paid * rules[FEE_RATE] + rules[FEE_FIXED]
        account[CASH] = account[CASH] - direction * (count * paid) - fee
        account[SHARES] = direction * count
        account[ENTRY_FEE] = fee
        account[ENTRY_BAR] = bar
        account[ENTRY_PRICE] = paid
        account[BEST] = paid
