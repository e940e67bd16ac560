"""The ``lanes`` engine for many runs: a loop over bars, every run a lane of the same arrays.

Only lanes that trade on a bar are touched one by one (as a subset); valuing and summing goes over all of
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_tradeperf.pipeline.backtest.fills import Fills, fills_of, last_closes
from pytest_tradeperf.pipeline.backtest.reference import simulate
from pytest_tradeperf.pipeline.backtest.segments import can_lose_everything
from pytest_tradeperf.pipeline.backtest.signals import BUY, EXIT, SELL
from pytest_tradeperf.pipeline.backtest.totals import TOTAL_NAMES, Totals, totals_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.backtest.plan import Plan

Floats = Any  # float64 ndarrays of shape (n_lanes,) or (n_touched,); short, because every line below has some


class Accounts:
    """The cash, position and trade sums of every lane; the reference's ``Account`` many times over."""

    def __init__(self, plan: Plan, n_lanes: int) -> None:
        self.plan = plan
        self.cash: Floats = np.full(n_lanes, plan.settings.cash)
        self.shares: Floats = np.zeros(n_lanes)
        self.entry_price: Floats = np.ones(n_lanes)
        self.entry_fee: Floats = np.zeros(n_lanes)
        self.entry_bar: Floats = np.zeros(n_lanes)
        self.sums: dict[str, Floats] = {name: np.zeros(n_lanes) for name in TOTAL_NAMES}
        for name in ("low_ratio", "high_ratio", "trough_ratio"):
            self.sums[name].fill(1.0)
        self.sums["low_trade_return"].fill(np.inf)
        self.sums["high_trade_return"].fill(-np.inf)

    def act(
        self, lanes: NDArray[np.int64], codes: NDArray[np.int8], sizes: Floats, bar: int, price: float
    ) -> None:
        """Carry out one code in each of some lanes at one price."""
        held = self.shares[lanes]
        leaving = (codes == EXIT) & (held != 0.0)
        leaving |= ((codes == SELL) & (held > 0.0)) | ((codes == BUY) & (held < 0.0))
        self.close(lanes[leaving], bar, price)
        entering = (codes != EXIT) & (leaving | (held == 0.0))
        direction = np.where(codes[entering] == BUY, 1.0, -1.0)
        self.open(lanes[entering], direction, sizes[entering], bar, price)

    def open(
        self, lanes: NDArray[np.int64], direction: Floats, sizes: Floats, bar: int, price: float
    ) -> None:
        """Enter in some lanes with what their cash may carry."""
        plan, costs, settings = self.plan, self.plan.settings.costs, self.plan.settings
        paid = np.where(direction > 0.0, price * plan.buy_factor, price * plan.sell_factor)
        cash = self.cash[lanes]
        if plan.size_is_shares:
            needed = sizes * paid + (sizes * paid * costs.fee_rate + costs.fee_fixed)
            shares = np.where(needed <= cash / settings.margin, sizes, 0.0)
        else:
            shares = (cash * sizes - costs.fee_fixed) / (paid * plan.fee_factor)
        if settings.whole_shares:
            np.floor(shares, out=shares)
        buys = shares > 0.0
        lanes, direction, paid, cash, shares = (
            column[buys] for column in (lanes, direction, paid, cash, shares)
        )
        value = shares * paid
        fee = value * costs.fee_rate + costs.fee_fixed
        self.cash[lanes] = cash - direction * value - fee
        self.shares[lanes] = direction * shares
        self.entry_fee[lanes] = fee
        self.entry_price[lanes] = paid
        self.entry_bar[lanes] = bar

    def close(self, lanes: NDArray[np.int64], bar: int, price: float) -> None:
        """Leave the positions of some lanes and add their trades to the sums."""
        if lanes.size == 0:
            return
        plan, costs, sums = self.plan, self.plan.settings.costs, self.sums
        shares, entry_price = self.shares[lanes], self.entry_price[lanes]
        received = np.where(shares > 0.0, price * plan.sell_factor, price * plan.buy_factor)
        count = np.abs(shares)
        value = count * received
        fee = value * costs.fee_rate + costs.fee_fixed
        self.cash[lanes] = self.cash[lanes] + shares * received - fee
        self.shares[lanes] = 0.0
        fees = self.entry_fee[lanes] + fee
        profit = shares * (received - entry_price) - fees
        put_in = count * entry_price
        ratio = profit / put_in
        held = bar - self.entry_bar[lanes]
        is_win = profit > 0.0
        sums["fees"][lanes] += fees
        sums["traded"][lanes] = sums["traded"][lanes] + put_in + value
        sums["n_trades"][lanes] += 1.0
        sums["n_wins"][lanes] += is_win
        sums["sum_win"][lanes] += np.where(is_win, profit, 0.0)
        sums["sum_loss"][lanes] += np.where(is_win, 0.0, profit)
        sums["sum_profit_square"][lanes] += profit * profit
        sums["sum_trade_return"][lanes] += ratio
        sums["low_trade_return"][lanes] = np.minimum(sums["low_trade_return"][lanes], ratio)
        sums["high_trade_return"][lanes] = np.maximum(sums["high_trade_return"][lanes], ratio)
        sums["held_bars"][lanes] += held
        sums["closed_bars"][lanes] += held
        sums["longest_trade_bars"][lanes] = np.maximum(sums["longest_trade_bars"][lanes], held)

    def count_open(self, n_bars: int) -> None:
        """Add the positions that are still held at the end to the sums."""
        is_open = self.shares != 0.0
        self.sums["n_open_trades"] += is_open
        self.sums["fees"] += np.where(is_open, self.entry_fee, 0.0)
        self.sums["traded"] += np.where(is_open, np.abs(self.shares) * self.entry_price, 0.0)
        self.sums["held_bars"] += np.where(is_open, n_bars - self.entry_bar, 0.0)


class Curves:
    """Sums over the equity curves of every lane, one bar at a time, without keeping the curves."""

    def __init__(self, n_lanes: int) -> None:
        self.before: Floats = np.empty(n_lanes)
        self.peak: Floats = np.empty(n_lanes)
        self.under: Floats = np.zeros(n_lanes, dtype=np.float32)  # exact up to 16 million bars
        self.longest: Floats = np.zeros(n_lanes, dtype=np.float32)
        self.work: Floats = np.empty(n_lanes)
        self.mask: NDArray[np.bool_] = np.empty(n_lanes, dtype=np.bool_)

    def add(self, bar: int, equity: Floats, sums: dict[str, Floats]) -> None:
        """Add one bar's equity of shape (n_lanes,); the array may be reused by the caller afterwards."""
        sums["sum_equity"] += equity
        work = self.work
        if bar == 0:
            self.peak[:] = equity
        else:
            np.divide(equity, self.before, out=work)
            if bar == 1:
                sums["low_ratio"][:] = work
                sums["high_ratio"][:] = work
            np.minimum(sums["low_ratio"], work, out=sums["low_ratio"])
            np.maximum(sums["high_ratio"], work, out=sums["high_ratio"])
            work -= 1.0
            sums["sum_change"] += work
            np.multiply(work, work, out=self.before)
            sums["sum_square"] += self.before
            np.minimum(work, 0.0, out=work)
            work *= work
            sums["sum_square_loss"] += work
            np.less(equity, self.peak, out=self.mask)
            np.maximum(self.peak, equity, out=self.peak)
            np.divide(equity, self.peak, out=work)
            np.minimum(sums["trough_ratio"], work, out=sums["trough_ratio"])
            self.under += 1.0
            self.under *= self.mask
            np.maximum(self.longest, self.under, out=self.longest)
        self.before[:] = equity


def totals_in_lanes(plan: Plan, codes: NDArray[np.int8]) -> Totals:
    """Return the totals of many runs without stops, given codes of shape (n_lanes, n_bars).

    Lanes whose equity no longer carries their position are handed to the reference, which knows about
    liquidation.
    """
    n_lanes, n_bars = codes.shape
    accounts, curves = Accounts(plan, n_lanes), Curves(n_lanes)
    ruined = np.zeros(n_lanes, dtype=np.bool_)
    watch = can_lose_everything(plan, codes)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        equity = _walk(plan, fills_of(codes, plan), accounts, curves, ruined if watch else None)
    sums = accounts.sums
    sums["final_equity"] = equity
    sums["underwater_bars"] = curves.longest.astype(np.float64)
    accounts.count_open(n_bars)
    for lane in np.flatnonzero(ruined).tolist():
        exact = totals_of(*simulate(plan, codes[lane]), cash=plan.settings.cash)
        for name in TOTAL_NAMES:
            sums[name][lane] = getattr(exact, name)[0]
    return Totals(**sums)


def _walk(
    plan: Plan, fills: Fills, accounts: Accounts, curves: Curves, ruined: NDArray[np.bool_] | None
) -> Floats:
    """Walk through the bars; return the final equity of every lane, and mark the ruined ones."""
    n_bars = plan.open.size
    closes = last_closes(plan)
    bounds = np.searchsorted(fills.step, np.arange(2 * n_bars + 1)).tolist()
    sizes = plan.size[fills.decided]
    prices = np.stack([plan.open, plan.close], axis=1).ravel().tolist()
    equity: Floats = np.full(accounts.cash.size, plan.settings.cash)
    for bar, close in enumerate(closes.tolist()):
        for step in (2 * bar, 2 * bar + 1):
            if step % 2 and ruined is not None:
                _mark_ruined(accounts, close, ruined)
            begin, end = bounds[step], bounds[step + 1]
            if begin < end:
                part = slice(begin, end)
                accounts.act(fills.lane[part], fills.code[part], sizes[part], bar, prices[step])
        if bar == n_bars - 1 and plan.settings.close_final:
            accounts.close(np.flatnonzero(accounts.shares), bar, close)
        np.multiply(accounts.shares, close, out=equity)
        equity += accounts.cash
        curves.add(bar, equity, accounts.sums)
    return equity


def _mark_ruined(accounts: Accounts, close: float, ruined: NDArray[np.bool_]) -> None:
    value = accounts.shares * close
    ruined |= accounts.cash + value <= accounts.plan.settings.maintenance * np.abs(value)
