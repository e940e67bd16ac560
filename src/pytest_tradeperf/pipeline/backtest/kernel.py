"""The reference loop for numba: the same additions and products in the same order, nothing allocated.

One long function on purpose: every variable of the account lives in a register. No ``fastmath``, which would
let
the compiler reorder sums. Importing this module needs the ``compiled`` extra, and compiles or loads from
numba's
on-disk cache what is below.
"""

# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: ANN001, ANN201, PLR0912, PLR0915, PLR0917, PLR1714, SIM109, C901 - numba reads types from the signature

from __future__ import annotations

import numba
import numpy as np

from pytest_tradeperf.pipeline.backtest.signals import BUY, EXIT, HOLD, SELL
from pytest_tradeperf.pipeline.backtest.trades import (
    OPEN,
    REVERSAL,
    SIGNAL,
    STOP_LOSS,
    TAKE_PROFIT,
    TRAILING,
)

# Phases of a bar, in order.
AT_OPEN, INSIDE, AT_END, AT_CLOSE = range(4)

_READ = numba.types.Array(numba.float64, 1, "C", readonly=True)
_READ_CODES = numba.types.Array(numba.int8, 1, "C", readonly=True)
_READ_TABLE = numba.types.Array(numba.int8, 2, "C", readonly=True)
_READ_ROWS = numba.types.Array(numba.float64, 2, "C", readonly=True)
_READ_INDEX = numba.types.Array(numba.int64, 1, "C", readonly=True)
_F = numba.float64
_B = numba.boolean
_PRICES = (_READ, _READ, _READ, _READ, _READ)
_CONSTANTS = (_F, _F, _F, _F, _F, _F, _F, _F, _F, _F, _F, _B, _B, _B, _B, _B)
N_TOTALS = 22
N_TRADE_FIELDS = 7
# Bars in a row without an order from which on two passes over them are faster than one.
SEGMENT = 8


@numba.njit(
    numba.int64(_READ_CODES, *_PRICES, *_CONSTANTS, _F[::1], _F[:, ::1], _F[::1], _F[:, ::1]),
    cache=True,
    nogil=True,
    error_model="numpy",
)
def simulate_one(
    codes,
    opens,
    highs,
    lows,
    last_closes,
    sizes,
    cash,
    fee_rate,
    fee_fixed,
    fee_factor,
    buy_factor,
    sell_factor,
    loss,
    profit,
    trail,
    margin,
    maintenance,
    size_is_shares,
    whole_shares,
    has_stops,
    at_close,
    close_final,
    equity_out,
    trades_out,
    totals_out,
    work,
):
    """Fill ``totals_out``, and the other two where they have room; return the number of trades written.

    ``work``, of shape (2, n_bars), is scribbled on.
    """
    n_bars = codes.size
    keep_equity = equity_out.size > 0
    keep_trades = trades_out.shape[0] > 0
    shares = 0.0
    entry_price = 0.0
    entry_fee = 0.0
    entry_bar = 0
    best = 0.0
    waiting = HOLD
    waiting_size = 0.0
    waiting_reason = SIGNAL
    last_close = 0.0  # for a run without bars
    n_written = 0
    # curve
    sum_change = 0.0
    sum_square = 0.0
    sum_square_loss = 0.0
    low_ratio = 1.0
    high_ratio = 1.0
    trough_ratio = 1.0
    trough = 0.0
    peak = 0.0
    before = cash
    peak_bar = 0
    underwater_bars = 0
    # trades
    n_trades = 0.0
    n_wins = 0.0
    sum_win = 0.0
    sum_loss = 0.0
    sum_profit_square = 0.0
    sum_trade_return = 0.0
    low_trade_return = np.inf
    high_trade_return = -np.inf
    held_bars = 0.0
    longest_trade_bars = 0.0
    fees = 0.0
    traded = 0.0

    bar = 0
    forced = -1  # a bar that only holds, but whose close no longer carries the position
    while bar < n_bars:
        last_close = last_closes[bar]
        code = codes[bar]
        n_phases = 0
        until = bar + 1
        if has_stops or waiting != HOLD or code != HOLD or bar == n_bars - 1 or bar == forced:
            n_phases = AT_CLOSE + 1 if at_close else AT_CLOSE
        else:
            # Eight bars at a time while all of them hold (HOLD is 0), then one by one.
            while until + 8 < n_bars and (
                codes[until] | codes[until + 1] | codes[until + 2] | codes[until + 3]
                | codes[until + 4] | codes[until + 5] | codes[until + 6] | codes[until + 7]
            ) == HOLD:  # fmt: skip
                until += 8
            while until < n_bars - 1 and codes[until] == HOLD:
                until += 1
        open_price = opens[bar]
        is_trading = not np.isnan(open_price)
        for phase in range(n_phases):
            leaving = False
            received = 0.0
            reason = SIGNAL
            entering = 0.0
            price = open_price
            if phase == AT_OPEN or phase == AT_CLOSE:
                if waiting == HOLD or not is_trading:
                    continue
                if phase == AT_CLOSE:
                    price = last_close
                if shares != 0.0 and (
                    waiting == EXIT or (waiting == SELL and shares > 0.0) or (waiting == BUY and shares < 0.0)
                ):
                    leaving = True
                    received = price * (sell_factor if shares > 0.0 else buy_factor)
                    reason = waiting_reason if waiting == EXIT else REVERSAL
                if waiting != EXIT and (shares == 0.0 or leaving):
                    entering = 1.0 if waiting == BUY else -1.0
                waiting = HOLD
            elif phase == INSIDE:
                if shares == 0.0 or not has_stops or not is_trading:
                    continue
                direction = 1.0 if shares > 0.0 else -1.0
                stop = entry_price * (1.0 - direction * loss)
                reason = STOP_LOSS
                trailing = best * (1.0 - direction * trail)
                if np.isnan(stop) or direction * trailing > direction * stop:
                    stop = trailing
                    reason = TRAILING
                goal = entry_price * (1.0 + direction * profit)
                worst_price = lows[bar] if direction > 0.0 else highs[bar]
                best_price = highs[bar] if direction > 0.0 else lows[bar]
                factor = sell_factor if direction > 0.0 else buy_factor
                if direction * open_price <= direction * stop:
                    leaving = True
                    received = open_price * factor
                elif direction * open_price >= direction * goal:
                    leaving = True
                    received = open_price
                    reason = TAKE_PROFIT
                elif direction * worst_price <= direction * stop:
                    leaving = True
                    received = stop * factor
                elif direction * best_price >= direction * goal:
                    leaving = True
                    received = goal
                    reason = TAKE_PROFIT
                elif direction * best_price > direction * best:
                    best = best_price
            elif bar == n_bars - 1 and close_final:
                if shares != 0.0:
                    leaving = True
                    received = last_close * (sell_factor if shares > 0.0 else buy_factor)
                    reason = 2
            else:
                value = shares * last_close
                equity = cash + value
                if shares != 0.0 and equity <= maintenance * abs(value):
                    waiting = 2
                    waiting_reason = 7
                elif code != HOLD:
                    waiting = code
                    waiting_size = sizes[bar]
                    waiting_reason = SIGNAL
            if leaving:
                count = abs(shares)
                fee = count * received * fee_rate + fee_fixed
                cash = cash + shares * received - fee
                trade_fees = entry_fee + fee
                gained = shares * (received - entry_price) - trade_fees
                put_in = count * entry_price
                held = float(bar - entry_bar)
                fees += trade_fees
                traded += put_in
                n_trades += 1.0
                if gained > 0.0:
                    n_wins += 1.0
                    sum_win += gained
                else:
                    sum_loss += gained
                sum_profit_square += gained * gained
                ratio = gained / put_in
                sum_trade_return += ratio
                low_trade_return = min(low_trade_return, ratio)
                high_trade_return = max(high_trade_return, ratio)
                held_bars += held
                longest_trade_bars = max(longest_trade_bars, held)
                traded += count * received
                if keep_trades:
                    trades_out[n_written, 0] = shares
                    trades_out[n_written, 1] = entry_bar
                    trades_out[n_written, 2] = bar
                    trades_out[n_written, 3] = entry_price
                    trades_out[n_written, 4] = received
                    trades_out[n_written, 5] = trade_fees
                    trades_out[n_written, 6] = reason
                n_written += 1
                shares = 0.0
            if entering != 0.0:
                paid = price * (buy_factor if entering > 0.0 else sell_factor)
                if size_is_shares:
                    count = waiting_size
                    if count * paid + (count * paid * fee_rate + fee_fixed) > cash / margin:
                        count = 0.0
                else:
                    count = (cash * waiting_size - fee_fixed) / (paid * fee_factor)
                if whole_shares:
                    count = np.floor(count)
                if count > 0.0:
                    entry_fee = count * paid * fee_rate + fee_fixed
                    cash = cash - entering * (count * paid) - entry_fee
                    shares = entering * count
                    entry_bar = bar
                    entry_price = paid
                    best = paid
        if shares == 0.0 and bar > 1 and cash == before:
            # Nothing moves: the returns are 0, and every bar at the peak is a peak.
            if keep_equity:
                equity_out[bar:until] = cash
            low_ratio = min(low_ratio, 1.0)
            high_ratio = max(high_ratio, 1.0)
            if cash >= peak:
                underwater_bars = max(underwater_bars, bar - peak_bar - 1)
                trough_ratio = min(trough_ratio, trough / peak)
                trough = cash
                peak_bar = until - 1
            bar = until
            continue
        if bar > 1 and until - bar >= SEGMENT:
            # Equity and returns first, several bars an instruction; then the sums, one addition at a time.
            n_held = until - bar
            is_carried = True
            for k in range(n_held):
                value = shares * last_closes[bar + k]
                work[0, k] = cash + value
                is_carried &= not (cash + value <= maintenance * abs(value))
            if not is_carried and shares != 0.0:
                n_held = 0
                while not (work[0, n_held] <= maintenance * abs(shares * last_closes[bar + n_held])):
                    n_held += 1
                forced = bar + n_held
            if n_held > 0:
                ratio = work[0, 0] / before if before > 0.0 else 1.0
                work[1, 0] = ratio
            for k in range(1, n_held):
                work[1, k] = work[0, k] / work[0, k - 1] if work[0, k - 1] > 0.0 else 1.0
            for k in range(n_held):
                equity = work[0, k]
                ratio = work[1, k]
                low_ratio = min(low_ratio, ratio)
                high_ratio = max(high_ratio, ratio)
                step = ratio - 1.0
                fall = min(step, 0.0)
                sum_change += step
                sum_square += step * step
                sum_square_loss += fall * fall
                if equity >= peak:
                    trough_ratio = min(trough_ratio, trough / peak)
                    underwater_bars = max(underwater_bars, bar + k - peak_bar - 1)
                    peak = equity
                    trough = equity
                    peak_bar = bar + k
                else:
                    trough = min(trough, equity)
            if n_held > 0:
                before = work[0, n_held - 1]
                if keep_equity:
                    equity_out[bar : bar + n_held] = work[0, :n_held]
            bar += n_held
            continue
        while bar < until:
            value = shares * last_closes[bar]
            equity = cash + value
            if n_phases == 0 and shares != 0.0 and equity <= maintenance * abs(value):
                forced = bar
                break
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
                    # Within one peak the smallest quotient is that of the smallest equity: one division a
                    # peak.
                    trough_ratio = min(trough_ratio, trough / peak)
                    underwater_bars = max(underwater_bars, bar - peak_bar - 1)
                    peak = equity
                    trough = equity
                    peak_bar = bar
                else:
                    trough = min(trough, equity)
            before = equity
            bar += 1
    if n_bars > 0:
        trough_ratio = min(trough_ratio, trough / peak)
        underwater_bars = max(underwater_bars, n_bars - 1 - peak_bar)
    n_open = 0.0
    closed_bars = held_bars
    if shares != 0.0:
        n_open = 1.0
        fees += entry_fee
        traded += abs(shares) * entry_price
        held_bars += float(n_bars - entry_bar)
        if keep_trades:
            trades_out[n_written, 0] = shares
            trades_out[n_written, 1] = entry_bar
            trades_out[n_written, 2] = -1
            trades_out[n_written, 3] = entry_price
            trades_out[n_written, 4] = last_close
            trades_out[n_written, 5] = entry_fee
            trades_out[n_written, 6] = OPEN
        n_written += 1
    totals_out[0] = before
    totals_out[1] = sum_change
    totals_out[2] = sum_square
    totals_out[3] = sum_square_loss
    totals_out[4] = low_ratio
    totals_out[5] = high_ratio
    totals_out[6] = trough_ratio
    totals_out[7] = underwater_bars
    totals_out[8] = n_trades
    totals_out[9] = n_open
    totals_out[10] = n_wins
    totals_out[11] = sum_win
    totals_out[12] = sum_loss
    totals_out[13] = sum_profit_square
    totals_out[14] = sum_trade_return
    totals_out[15] = low_trade_return
    totals_out[16] = high_trade_return
    totals_out[17] = held_bars
    totals_out[18] = closed_bars
    totals_out[19] = longest_trade_bars
    totals_out[20] = fees
    totals_out[21] = traded
    return n_written


@numba.njit(
    numba.void(_READ_TABLE, *_PRICES, *_CONSTANTS, _F[:, ::1]),
    cache=True,
    nogil=True,
    error_model="numpy",
)
def simulate_many(
    codes,
    opens,
    highs,
    lows,
    last_closes,
    sizes,
    cash,
    fee_rate,
    fee_fixed,
    fee_factor,
    buy_factor,
    sell_factor,
    loss,
    profit,
    trail,
    margin,
    maintenance,
    size_is_shares,
    whole_shares,
    has_stops,
    at_close,
    close_final,
    totals_out,
):
    """Fill ``totals_out`` of shape (n_runs, N_TOTALS) for codes of shape (n_runs, n_bars)."""
    no_equity = np.empty(0)
    no_trades = np.empty((0, N_TRADE_FIELDS))
    work = np.empty((2, codes.shape[1]))
    for run in range(codes.shape[0]):
        simulate_one(
            codes[run],
            opens,
            highs,
            lows,
            last_closes,
            sizes,
            cash,
            fee_rate,
            fee_fixed,
            fee_factor,
            buy_factor,
            sell_factor,
            loss,
            profit,
            trail,
            margin,
            maintenance,
            size_is_shares,
            whole_shares,
            has_stops,
            at_close,
            close_final,
            no_equity,
            no_trades,
            totals_out[run],
            work,
        )


@numba.njit(
    numba.void(_READ_ROWS, _READ_INDEX, _READ_INDEX, numba.int8, numba.int8, numba.int8[:, ::1]),
    cache=True,
    nogil=True,
    error_model="numpy",
)
def cross_rows(table, fast, slow, up_code, down_code, codes_out):
    """Fill codes of shape (n_runs, n_bars) with the crosses of two rows each; see cross_signals."""
    for run in range(fast.size):
        quick = table[fast[run]]
        lazy = table[slow[run]]
        codes_out[run, 0] = HOLD
        codes = codes_out[run]
        for before in range(table.shape[1] - 1):
            up = (quick[before + 1] > lazy[before + 1]) & (quick[before] <= lazy[before])
            down = (quick[before + 1] < lazy[before + 1]) & (quick[before] >= lazy[before])
            codes[before + 1] = numba.int8(up) * up_code + numba.int8(down) * down_code


IS_WHOLE = True  # stays last: see is_loaded
