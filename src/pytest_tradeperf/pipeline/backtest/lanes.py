"""The ``lanes`` engine for many runs: every run a lane of the same arrays, nothing kept but sums.

First the accounts go from fill to fill, all first fills at once, then all second ones, and so on; then the
curves
go from bar to bar. A lane sees the same additions in the same order as the reference, which is why bits
agree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_tradeperf.pipeline.backtest.fills import Fills, fills_of
from pytest_tradeperf.pipeline.backtest.reference import Account, simulate
from pytest_tradeperf.pipeline.backtest.segments import can_lose_everything
from pytest_tradeperf.pipeline.backtest.signals import EXIT
from pytest_tradeperf.pipeline.backtest.totals import TOTAL_NAMES, rows_of, totals_of
from pytest_tradeperf.pipeline.backtest.trades import SIGNAL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.backtest.plan import Plan

Floats = Any  # float64 ndarrays of shape (n_lanes,) or (n_fills,); short, because every line below has some


# Lanes from which on arrays are faster than one lane after the other.
FEWEST = 20


class Accounts:
    """The cash and position of every lane: the reference's ``Account`` many times over."""

    def __init__(self, plan: Plan, n_lanes: int, n_fills: int) -> None:
        self.plan = plan
        self.cash: Floats = np.full(n_lanes, plan.settings.cash)
        self.shares: Floats = np.zeros(n_lanes)
        self.entry_price: Floats = np.ones(n_lanes)
        self.entry_fee: Floats = np.zeros(n_lanes)
        self.entry_bar: Floats = np.zeros(n_lanes)
        self.cash_after: Floats = np.empty(n_fills)
        self.shares_after: Floats = np.empty(n_fills)
        # One row of closed trades a call: lane, profit, money put in and taken out, fees, bars held.
        self.closed: list[tuple[Floats, ...]] = []

    def run(self, fills: Fills) -> None:
        """Carry out all fills: the first of every lane, then all second ones, while enough lanes have any."""
        starts = np.searchsorted(fills.lane, np.arange(self.cash.size))
        rank = np.arange(fills.lane.size) - starts[fills.lane]
        order = _stable_order(rank)
        bounds = np.searchsorted(rank[order], np.arange(rank.max(initial=-1) + 2))
        n_wide = int((np.diff(bounds) >= FEWEST).sum())
        in_order = Fills(
            lane=fills.lane[order],
            step=fills.step[order] // 2,
            code=fills.code[order],
            price=fills.price[order],
            size=fills.size[order],
        )
        for begin, end in zip(bounds[:n_wide].tolist(), bounds[1 : n_wide + 1].tolist(), strict=True):
            self._act(in_order, order, slice(begin, end))
        first = np.flatnonzero(rank == n_wide)
        ends = np.append(starts[1:], fills.lane.size)[fills.lane[first]]
        for begin, end in zip(first.tolist(), ends.tolist(), strict=True):
            self._finish(fills, slice(begin, end))

    def _act(self, fills: Fills, places: NDArray[np.int64], part: slice) -> None:
        """Carry out at most one fill of each lane; ``step`` of these fills is their bar."""
        lanes, codes, price, bar = fills.lane[part], fills.code[part], fills.price[part], fills.step[part]
        held = self.shares[lanes]
        leaving = (held != 0.0) & ((codes == EXIT) | (codes * held < 0.0))
        entering = (codes != EXIT) & (leaving | (held == 0.0))
        if leaving.all():
            self.close(lanes, bar, price)
        elif leaving.any():
            self.close(lanes[leaving], bar[leaving], price[leaving])
        if entering.all():
            self._open(lanes, codes.astype(np.float64), fills.size[part], bar, price)
        elif entering.any():
            direction = codes[entering].astype(np.float64)
            self._open(lanes[entering], direction, fills.size[part][entering], bar[entering], price[entering])
        rows = places[part]
        self.cash_after[rows] = self.cash[lanes]
        self.shares_after[rows] = self.shares[lanes]

    def _finish(self, fills: Fills, part: slice) -> None:
        """Carry out the rest of a lane's fills with the reference's account: arrays of few lanes are slow."""
        lane = int(fills.lane[part.start])
        account = Account(self.plan)
        account.cash, account.shares = self.cash.item(lane), self.shares.item(lane)
        account.entry_price, account.entry_fee = self.entry_price.item(lane), self.entry_fee.item(lane)
        account.entry_bar = int(self.entry_bar[lane])
        columns = (fills.step[part] // 2, fills.code[part], fills.price[part], fills.size[part])
        after = []
        for bar, code, price, size in zip(*(column.tolist() for column in columns), strict=True):
            account.act(code, bar, price, size=size, reason=SIGNAL)
            after.append((account.cash, account.shares))
        self.cash_after[part], self.shares_after[part] = np.array(after).T
        self.cash[lane], self.shares[lane] = account.cash, account.shares
        self.entry_price[lane], self.entry_fee[lane] = account.entry_price, account.entry_fee
        self.entry_bar[lane] = account.entry_bar
        if account.rows:
            shares, entry_bar, bar_out, entry_price, received, fees = np.array(account.rows).T[:6]
            count = np.abs(shares)
            profit = shares * (received - entry_price) - fees
            lanes = np.full(count.size, lane)
            self.closed.append(
                (lanes, profit, count * entry_price, count * received, fees, bar_out - entry_bar)
            )

    def _open(
        self, lanes: NDArray[np.int64], direction: Floats, size: Floats, bar: Floats, price: Floats
    ) -> None:
        plan, costs, settings = self.plan, self.plan.settings.costs, self.plan.settings
        paid = price * np.where(direction > 0.0, plan.buy_factor, plan.sell_factor)
        cash = self.cash[lanes]
        if plan.size_is_shares:
            needed = size * paid + (size * paid * costs.fee_rate + costs.fee_fixed)
            shares = np.where(needed <= cash * settings.leverage, size, 0.0)
        else:
            shares = (cash * size - costs.fee_fixed) / (paid * plan.fee_factor)
        if settings.whole_shares:
            np.floor(shares, out=shares)
        buys = shares > 0.0
        if not buys.all():
            lanes, direction, paid, cash, shares, bar = (
                column[buys] for column in (lanes, direction, paid, cash, shares, bar)
            )
        value = shares * paid
        fee = value * costs.fee_rate + costs.fee_fixed
        self.cash[lanes] = cash - direction * value - fee
        self.shares[lanes] = direction * shares
        self.entry_fee[lanes] = fee
        self.entry_price[lanes] = paid
        self.entry_bar[lanes] = bar

    def close(self, lanes: NDArray[np.int64], bar: Floats, price: Floats) -> None:
        """Leave the positions of some lanes."""
        plan, costs = self.plan, self.plan.settings.costs
        shares, entry_price = self.shares[lanes], self.entry_price[lanes]
        received = price * np.where(shares > 0.0, plan.sell_factor, plan.buy_factor)
        count = np.abs(shares)
        value = count * received
        fee = value * costs.fee_rate + costs.fee_fixed
        self.cash[lanes] = self.cash[lanes] + shares * received - fee
        self.shares[lanes] = 0.0
        fees = self.entry_fee[lanes] + fee
        profit = shares * (received - entry_price) - fees
        self.closed.append((lanes, profit, count * entry_price, value, fees, bar - self.entry_bar[lanes]))

    def trade_sums(self, n_bars: int) -> dict[str, Floats]:
        """Return the totals that come from trades; ``bincount`` adds in the order given, as it must."""
        n_lanes = self.cash.size
        lanes, profit, put_in, value, fees, held = map(np.concatenate, zip(*self.closed, strict=True))
        lanes = lanes.astype(np.int64)
        is_win = profit > 0.0
        ratio = profit / put_in

        def add(weights: Floats) -> Floats:
            return np.bincount(lanes, weights=weights, minlength=n_lanes).astype(np.float64, copy=False)

        low, high, longest = np.full(n_lanes, np.inf), np.full(n_lanes, -np.inf), np.zeros(n_lanes)
        np.minimum.at(low, lanes, ratio)
        np.maximum.at(high, lanes, ratio)
        np.maximum.at(longest, lanes, held)
        closed_bars = add(held)
        is_open = self.shares != 0.0
        both = np.stack([put_in, value], axis=1).ravel()
        traded = np.bincount(np.repeat(lanes, 2), weights=both, minlength=n_lanes).astype(
            np.float64, copy=False
        )
        return {
            "n_trades": np.bincount(lanes, minlength=n_lanes).astype(np.float64),
            "n_open_trades": is_open.astype(np.float64),
            "n_wins": add(is_win),
            "sum_win": add(np.where(is_win, profit, 0.0)),
            "sum_loss": add(np.where(is_win, 0.0, profit)),
            "sum_profit_square": add(profit * profit),
            "sum_trade_return": add(ratio),
            "low_trade_return": low,
            "high_trade_return": high,
            "held_bars": closed_bars + np.where(is_open, n_bars - self.entry_bar, 0.0),
            "closed_bars": closed_bars,
            "longest_trade_bars": longest,
            "fees": add(fees) + np.where(is_open, self.entry_fee, 0.0),
            "traded": traded + np.where(is_open, np.abs(self.shares) * self.entry_price, 0.0),
        }


class Curves:
    """Sums over the equity curves of every lane, one bar at a time, without keeping the curves."""

    def __init__(self, n_lanes: int) -> None:
        self.before: Floats = np.empty(n_lanes)
        self.peak: Floats = np.empty(n_lanes)
        self.under: Floats = np.zeros(n_lanes, dtype=np.float32)  # exact up to 16 million bars
        self.longest: Floats = np.zeros(n_lanes, dtype=np.float32)
        self.work: Floats = np.empty(n_lanes)
        self.mask: NDArray[np.bool_] = np.empty(n_lanes, dtype=np.bool_)
        self.sum_change: Floats = np.zeros(n_lanes)
        self.sum_square: Floats = np.zeros(n_lanes)
        self.sum_square_loss: Floats = np.zeros(n_lanes)
        self.low_ratio: Floats = np.ones(n_lanes)
        self.high_ratio: Floats = np.ones(n_lanes)
        self.trough_ratio: Floats = np.ones(n_lanes)

    def add(self, bar: int, equity: Floats) -> Floats:
        """Add one bar's equity of shape (n_lanes,), and keep the array; return one to write the next into."""
        work = self.work
        if bar == 0:
            self.peak[:] = equity
        else:
            np.divide(equity, self.before, out=work)
            if bar == 1:
                self.low_ratio[:] = work
                self.high_ratio[:] = work
            np.minimum(self.low_ratio, work, out=self.low_ratio)
            np.maximum(self.high_ratio, work, out=self.high_ratio)
            work -= 1.0
            self.sum_change += work
            np.multiply(work, work, out=self.before)
            self.sum_square += self.before
            np.minimum(work, 0.0, out=work)
            work *= work
            self.sum_square_loss += work
            np.less(equity, self.peak, out=self.mask)
            np.maximum(self.peak, equity, out=self.peak)
            np.divide(equity, self.peak, out=work)
            np.minimum(self.trough_ratio, work, out=self.trough_ratio)
            self.under += 1.0
            self.under *= self.mask
            np.maximum(self.longest, self.under, out=self.longest)
        free, self.before = self.before, equity
        return free

    def sums(self) -> dict[str, Floats]:
        """Return the totals that come from the curves, but for the final equity."""
        names = ("sum_change", "sum_square", "sum_square_loss", "low_ratio", "high_ratio", "trough_ratio")
        return {name: getattr(self, name) for name in names} | {
            "underwater_bars": self.longest.astype(np.float64)
        }


def _stable_order(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return what sorts values from 0 on; small ones as 16 bits, which numpy sorts by counting."""
    is_small = values.max(initial=0) < np.iinfo(np.uint16).max
    return np.argsort(values.astype(np.uint16) if is_small else values, kind="stable")


def rows_in_lanes(plan: Plan, codes: NDArray[np.int8]) -> NDArray[np.float64]:
    """Return the totals of many runs without stops, float64 of shape (n_lanes, number of totals).

    Lanes whose equity no longer carries their position are handed to the reference, which knows about
    liquidation.

    Parameters
    ----------
    codes
        int8 ndarray of shape (n_lanes, n_bars), or wider by columns of HOLD.
    """
    n_bars = plan.open.size
    fills = fills_of(codes, plan)
    accounts, curves = Accounts(plan, len(codes), fills.lane.size), Curves(len(codes))
    watch = can_lose_everything(plan, fills.code)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        accounts.run(fills)
        if plan.settings.close_final and n_bars:
            held = np.flatnonzero(accounts.shares)
            accounts.close(held, np.full(held.size, n_bars - 1), np.full(held.size, plan.last_close[-1]))
        accounts.closed.append((np.empty(0),) * 6)  # a run without a trade has sums as well
        ruined = _walk(plan, fills, accounts, curves, watch=watch)
        sums = accounts.trade_sums(n_bars) | curves.sums()
    sums["final_equity"] = curves.before if n_bars else accounts.cash
    rows = np.stack([sums[name] for name in TOTAL_NAMES], axis=1)
    # From equity zero on, the quotients of the curves are not those of the definition either.
    for lane in np.flatnonzero(ruined | ~(curves.low_ratio > 0.0)).tolist():
        rows[lane] = rows_of(totals_of(*simulate(plan, codes[lane, :n_bars]), cash=plan.settings.cash))
    return rows


def _walk(plan: Plan, fills: Fills, accounts: Accounts, curves: Curves, *, watch: bool) -> NDArray[np.bool_]:
    """Walk through the bars and add up the curves; return which lanes lost everything on the way."""
    n_lanes, n_bars = accounts.cash.size, plan.open.size
    order = _stable_order(fills.step)
    bounds = np.searchsorted(fills.step[order], np.arange(2 * n_bars + 1)).tolist()
    lanes, cash_after, shares_after = (
        fills.lane[order],
        accounts.cash_after[order],
        accounts.shares_after[order],
    )
    cash, shares = np.full(n_lanes, plan.settings.cash), np.zeros(n_lanes)
    equity, ruined = np.empty(n_lanes), np.zeros(n_lanes, dtype=np.bool_)
    for bar, close in enumerate(plan.last_close.tolist()):
        for step in (2 * bar, 2 * bar + 1):
            begin, end = bounds[step], bounds[step + 1]
            if begin < end:
                touched = lanes[begin:end]
                cash[touched] = cash_after[begin:end]
                shares[touched] = shares_after[begin:end]
            if watch and step % 2 == 0:
                value = shares * close
                ruined |= cash + value <= plan.settings.maintenance * np.abs(value)
        if bar == n_bars - 1 and plan.settings.close_final:
            cash, shares = accounts.cash, accounts.shares
        np.multiply(shares, close, out=equity)
        equity += cash
        equity = curves.add(bar, equity)
    return ruined
