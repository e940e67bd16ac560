"""The reference loop for numba: the same additions and products in the same order, nothing allocated.

No ``fastmath``, which would let the compiler reorder sums. Importing this module needs the ``compiled``
extra, and compiles or loads from numba's on-disk cache what is below.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ANN001, ANN201, C901, PLR0912, PLR0915, PLR0917 - numba reads types from the signature; a bar in one place

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from pytest_tradeperf.pipeline.backtest import kernel_account as k
from pytest_tradeperf.pipeline.backtest.kernel_account import act, keep, leave, start
from pytest_tradeperf.pipeline.backtest.signals import EXIT, HOLD
from pytest_tradeperf.pipeline.backtest.trades import END, SIGNAL, STOP_LOSS, TAKE_PROFIT, TRAILING
from pytest_tradeperf.pipeline.backtest.trades import MARGIN as MARGIN_CALL

CODES = numba.types.Array(numba.int8, 1, "C", readonly=True)
READ = numba.types.Array(numba.float64, 1, "C", readonly=True)
WRITE = numba.float64[::1]


@k.compiled_into_caller
def protect(account, sums, trades, rules, bar, open_price, high, low):
    """Leave inside the bar where a stop or the take-profit is reached, else note its best price."""
    direction = 1.0 if account[k.SHARES] > 0.0 else -1.0
    factor = rules[k.SELL_FACTOR] if direction > 0.0 else rules[k.BUY_FACTOR]
    entry_price = account[k.ENTRY_PRICE]
    stop = entry_price * (1.0 - direction * rules[k.LOSS])
    reason = float(STOP_LOSS)
    trailing = account[k.BEST] * (1.0 - direction * rules[k.TRAIL])
    if np.isnan(stop) or direction * trailing > direction * stop:
        stop = trailing
        reason = float(TRAILING)
    goal = entry_price * (1.0 + direction * rules[k.PROFIT])
    worst_price = low if direction > 0.0 else high
    best_price = high if direction > 0.0 else low
    received = 0.0
    # Comparisons with a NaN level are False: a stop that is switched off is never reached.
    if direction * open_price <= direction * stop:
        received = open_price * factor
    elif direction * open_price >= direction * goal:
        received = open_price
        reason = float(TAKE_PROFIT)
    elif direction * worst_price <= direction * stop:
        received = stop * factor
    elif direction * best_price >= direction * goal:
        received = goal
        reason = float(TAKE_PROFIT)
    else:
        if direction * best_price > direction * account[k.BEST]:
            account[k.BEST] = best_price
        return
    leave(account, sums, trades, rules, bar, received, reason)


def _kernel(source: int) -> Any:
    """Return the kernel of a single run; see ``kernel_account.SOURCE``."""

    @numba.njit(
        numba.int64(CODES, READ, READ, READ, READ, READ, READ, WRITE, WRITE, numba.float64[:, ::1], WRITE),
        cache=True,
        nogil=True,
        **k.NO_COUNTS,
    )
    def simulate_one(  # noqa: ANN202 - numba reads types from the signature
        codes, opens, highs, lows, last_closes, sizes, rules, account, equity_out, trades_out, totals_out
    ):
        """Fill ``totals_out``, and the other two where they have room; return the number of trades."""
        _ = source  # which makes it a part of what numba recognises this function by
        n_bars = codes.size
        keep_equity = equity_out.size > 0
        start(account, totals_out, rules)
        has_stops = rules[k.HAS_STOPS] != 0.0
        at_close = rules[k.AT_CLOSE] != 0.0
        close_final = rules[k.CLOSE_FINAL] != 0.0
        waiting = float(HOLD)
        waiting_size = 0.0
        waiting_reason = float(SIGNAL)
        last_close = 0.0  # for a run without bars
        sum_change = 0.0
        sum_square = 0.0
        sum_square_loss = 0.0
        low_ratio = 1.0
        high_ratio = 1.0
        trough_ratio = 1.0
        trough = 0.0
        peak = 0.0
        before = rules[k.INITIAL_CASH]
        peak_bar = 0
        underwater_bars = 0
        for bar in range(n_bars):
            last_close = last_closes[bar]
            open_price = opens[bar]
            is_trading = not np.isnan(open_price)
            if is_trading and waiting != HOLD:
                act(
                    account,
                    totals_out,
                    trades_out,
                    rules,
                    waiting,
                    float(bar),
                    open_price,
                    waiting_size,
                    waiting_reason,
                )
                waiting = float(HOLD)
            if has_stops and is_trading and account[k.SHARES] != 0.0:
                protect(account, totals_out, trades_out, rules, float(bar), open_price, highs[bar], lows[bar])
            shares = account[k.SHARES]
            if close_final and bar == n_bars - 1:
                if shares != 0.0:
                    received = last_close * (rules[k.SELL_FACTOR] if shares > 0.0 else rules[k.BUY_FACTOR])
                    leave(account, totals_out, trades_out, rules, float(bar), received, float(END))
                equity = account[k.CASH]
            else:
                value = shares * last_close
                equity = account[k.CASH] + value
                if shares != 0.0 and equity <= rules[k.MAINTENANCE] * abs(value):
                    waiting = float(EXIT)
                    waiting_reason = float(MARGIN_CALL)
                elif codes[bar] != HOLD:
                    waiting = float(codes[bar])
                    waiting_size = sizes[bar]
                    waiting_reason = float(SIGNAL)
                if at_close and is_trading and waiting != HOLD:
                    act(
                        account,
                        totals_out,
                        trades_out,
                        rules,
                        waiting,
                        float(bar),
                        last_close,
                        waiting_size,
                        waiting_reason,
                    )
                    waiting = float(HOLD)
                    equity = account[k.CASH] + account[k.SHARES] * last_close
            if keep_equity:
                equity_out[bar] = equity
            if bar == 0:
                peak = equity
                trough = equity
            else:
                ratio = equity / before if before > 0.0 else 1.0
                if bar == 1:
                    low_ratio = ratio
                    high_ratio = ratio
                low_ratio = min(low_ratio, ratio)
                high_ratio = max(high_ratio, ratio)
                step = ratio - 1.0
                fall = min(step, 0.0)
                sum_change += step
                sum_square += step * step
                sum_square_loss += fall * fall
                if equity >= peak:
                    # Within a peak the smallest quotient is that of the smallest equity: one division a peak.
                    trough_ratio = min(trough_ratio, trough / peak)
                    underwater_bars = max(underwater_bars, bar - peak_bar - 1)
                    peak = equity
                    trough = equity
                    peak_bar = bar
                else:
                    trough = min(trough, equity)
            before = equity
        if n_bars > 0:
            trough_ratio = min(trough_ratio, trough / peak)
            underwater_bars = max(underwater_bars, n_bars - 1 - peak_bar)
        keep(account, totals_out, trades_out, float(n_bars), last_close)
        totals_out[k.FINAL_EQUITY] = before
        totals_out[k.SUM_CHANGE] = sum_change
        totals_out[k.SUM_SQUARE] = sum_square
        totals_out[k.SUM_SQUARE_LOSS] = sum_square_loss
        totals_out[k.LOW_RATIO] = low_ratio
        totals_out[k.HIGH_RATIO] = high_ratio
        totals_out[k.TROUGH_RATIO] = trough_ratio
        totals_out[k.UNDERWATER_BARS] = underwater_bars
        return int(account[k.WRITTEN])

    return simulate_one


simulate_one = _kernel(k.SOURCE)


IS_WHOLE = True  # stays last: see compiled.is_loaded
