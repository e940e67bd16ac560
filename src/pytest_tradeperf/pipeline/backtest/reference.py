"""The reference engine: one bar after the other, readable, and by definition right.

On every bar, in this order:

1. An order decided earlier fills at the open, if the bar has prices; otherwise it waits.
2. Stop-loss, trailing stop and take-profit are tried inside the bar: first whether it opens beyond one, then
the
   stops, then the take-profit.
3. On the last bar, a position is closed at the close if so asked.
4. Equity is cash plus shares at the close; a missing bar keeps the last close.
5. If equity no longer carries the position, the waiting order becomes its liquidation. Otherwise the
strategy's
   code for this close becomes the waiting order (or, with ``same_close``, fills at once).

The fast engines are held to this file bit for bit, so the order of every addition and product here matters.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pytest_tradeperf.pipeline.backtest.signals import BUY, EXIT, HOLD, SELL
from pytest_tradeperf.pipeline.backtest.trades import (
    END,
    MARGIN,
    OPEN,
    REVERSAL,
    SIGNAL,
    STOP_LOSS,
    TAKE_PROFIT,
    TRAILING,
    TradeColumns,
    columns_of,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.backtest.plan import Plan


class Account:
    """Cash, at most one position, and the trades so far."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.cash = plan.settings.cash
        self.shares = 0.0
        self.entry_bar = 0
        self.entry_price = 0.0
        self.entry_fee = 0.0
        self.best = 0.0
        self.rows: list[tuple[float, int, int, float, float, float, int, int]] = []

    def act(self, code: int, bar: int, price: float, *, size: float, reason: int) -> None:
        """Carry out one code at a price: leave, enter, or do nothing where the position is already right."""
        is_wrong_side = (code == SELL and self.shares > 0.0) or (code == BUY and self.shares < 0.0)
        if self.shares != 0.0 and (code == EXIT or is_wrong_side):
            self.close(bar, self.market_price(price), reason if code == EXIT else REVERSAL)
        if self.shares == 0.0 and code != EXIT:
            self.open(1.0 if code == BUY else -1.0, bar, price, size)

    def open(self, direction: float, bar: int, price: float, size: float) -> None:
        """Enter with what the cash may carry, fees included; nothing happens if that buys nothing."""
        plan = self.plan
        paid = price * (plan.buy_factor if direction > 0.0 else plan.sell_factor)
        shares = self._affordable(paid, size)
        if plan.settings.whole_shares:
            shares = float(math.floor(shares))
        if shares <= 0.0:
            return
        self.entry_fee = plan.settings.costs.charge(shares, paid)
        self.cash = self.cash - direction * (shares * paid) - self.entry_fee
        self.shares = direction * shares
        self.entry_bar = bar
        self.entry_price = paid
        self.best = paid

    def _affordable(self, paid: float, size: float) -> float:
        costs = self.plan.settings.costs
        if self.plan.size_is_shares:
            needed = size * paid + costs.charge(size, paid)
            return size if needed <= self.cash * self.plan.settings.leverage else 0.0
        if costs.fee is None:
            return (self.cash * size - costs.fee_fixed) / (paid * self.plan.fee_factor)
        # A fee that does not fall with the number of shares: what it takes from the full size is enough to
        # give up.
        budget = max(self.cash * size, 0.0)
        return (budget - costs.charge(budget / paid, paid)) / paid

    def market_price(self, price: float) -> float:
        """Return what leaving the position by a market or stop order gets at a price."""
        return price * (self.plan.sell_factor if self.shares > 0.0 else self.plan.buy_factor)

    def close(self, bar: int, received: float, reason: int) -> None:
        """Leave the whole position at a price and write the trade down."""
        fee = self.plan.settings.costs.charge(abs(self.shares), received)
        self.cash = self.cash + self.shares * received - fee
        self._write(bar, received, self.entry_fee + fee, reason)
        self.shares = 0.0

    def keep(self, price: float) -> None:
        """Write the position down as still open, valued at the last close."""
        self._write(-1, price, self.entry_fee, OPEN)

    def _write(self, bar: int, price: float, fees: float, reason: int) -> None:
        self.rows.append((self.shares, self.entry_bar, bar, self.entry_price, price, fees, reason, 0))

    def protect(self, bar: int, open_price: float, high: float, low: float) -> None:
        """Leave inside the bar where a stop or the take-profit is reached, else note its best price."""
        direction = 1.0 if self.shares > 0.0 else -1.0
        stop, reason = self._stop(direction)
        goal = self.entry_price * (1.0 + direction * self.plan.profit)
        worst, best = (low, high) if direction > 0.0 else (high, low)
        # Comparisons with a NaN level are False: a stop that is switched off is never reached.
        if direction * open_price <= direction * stop:
            self.close(bar, self.market_price(open_price), reason)
        elif direction * open_price >= direction * goal:
            self.close(bar, open_price, TAKE_PROFIT)
        elif direction * worst <= direction * stop:
            self.close(bar, self.market_price(stop), reason)
        elif direction * best >= direction * goal:
            self.close(bar, goal, TAKE_PROFIT)
        elif direction * best > direction * self.best:
            self.best = best

    def _stop(self, direction: float) -> tuple[float, int]:
        loss = self.entry_price * (1.0 - direction * self.plan.loss)
        trail = self.best * (1.0 - direction * self.plan.trail)
        if math.isnan(loss) or direction * trail > direction * loss:
            return trail, TRAILING
        return loss, STOP_LOSS


def simulate(  # noqa: C901 - the order of a bar, told in one place
    plan: Plan, codes: NDArray[np.int8]
) -> tuple[NDArray[np.float64], TradeColumns]:
    """Return equity of shape (n_bars,) and the trades that the codes lead to."""
    settings = plan.settings
    account = Account(plan)
    equity: list[float] = []
    waiting, size, reason = HOLD, 0.0, SIGNAL
    last_close = 0.0
    last_bar = codes.size - 1
    columns = (plan.open, plan.high, plan.low, plan.close, plan.size, codes)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for bar, (open_price, high, low, close_price, bar_size, code) in enumerate(rows):
        is_trading = not math.isnan(open_price)
        if is_trading:
            last_close = close_price
            if waiting != HOLD:
                account.act(waiting, bar, open_price, size=size, reason=reason)
                waiting = HOLD
            if account.shares != 0.0 and settings.stops.is_active:
                account.protect(bar, open_price, high, low)
        if bar == last_bar and settings.close_final:
            if account.shares != 0.0:
                account.close(bar, account.market_price(last_close), END)
            equity.append(account.cash)
            break
        value = account.shares * last_close
        equity.append(account.cash + value)
        if account.shares != 0.0 and account.cash + value <= settings.maintenance * abs(value):
            waiting, reason = EXIT, MARGIN
        elif code != HOLD:
            waiting, size, reason = code, bar_size, SIGNAL
        if settings.fill == "same_close" and waiting != HOLD and is_trading:
            account.act(waiting, bar, close_price, size=size, reason=reason)
            waiting = HOLD
            equity[-1] = account.cash + account.shares * last_close
    if account.shares != 0.0:
        account.keep(last_close)
    return np.array(equity, dtype=np.float64), columns_of(account.rows)
