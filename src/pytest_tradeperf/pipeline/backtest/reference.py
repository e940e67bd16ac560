"""The reference engine: one bar after the other, readable, and by definition right.

On every bar, in this order:

1. An order decided earlier fills at the open, if the bar has prices; otherwise it waits.
2. Equity is cash plus shares at the close; a missing bar keeps the last close.
3. The strategy's code for this close becomes the waiting order (or, with ``same_close``, fills at once).

The fast engines are held to this file bit for bit, so the order of every addition and product here matters.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pytest_tradeperf.pipeline.backtest.signals import BUY, EXIT, HOLD
from pytest_tradeperf.pipeline.backtest.trades import ExitReason, Trade

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.backtest.settings import Settings
    from pytest_tradeperf.pipeline.marketdata.bars import Bars


class Account:
    """Cash, at most one position, and the trades so far."""

    def __init__(self, symbol: str, settings: Settings) -> None:
        self.symbol = symbol
        self.settings = settings
        self.cash = settings.cash
        self.shares = 0.0
        self.entry_bar = 0
        self.entry_price = 0.0
        self.entry_fee = 0.0
        self.trades: list[Trade] = []

    def act(self, code: int, bar: int, price: float) -> None:
        """Carry out one code at a price: leave, enter, or do nothing where the position is already right."""
        wanted = 0 if code == EXIT else (1 if code == BUY else -1)
        if self.shares != 0.0 and (wanted == 0 or (self.shares > 0.0) != (wanted > 0)):
            self.close(bar, price, "reversal" if wanted else "signal")
        if self.shares == 0.0 and wanted != 0:
            self.open(wanted, bar, price)

    def open(self, direction: int, bar: int, price: float) -> None:
        """Enter with the set fraction of the cash, fees included; nothing happens if that buys nothing."""
        costs = self.settings.costs
        paid = price * (1.0 + direction * costs.impact)
        budget = self.cash * self.settings.fraction - costs.fee_fixed
        size = budget / (paid * (1.0 + costs.fee_rate))
        if self.settings.whole_shares:
            size = float(math.floor(size))
        if size <= 0.0:
            return
        value = size * paid
        self.entry_fee = value * costs.fee_rate + costs.fee_fixed
        self.cash = self.cash - direction * value - self.entry_fee
        self.shares = direction * size
        self.entry_bar = bar
        self.entry_price = paid

    def close(self, bar: int, price: float, reason: ExitReason) -> None:
        """Leave the whole position and write the trade down."""
        costs = self.settings.costs
        direction = 1.0 if self.shares > 0.0 else -1.0
        received = price * (1.0 - direction * costs.impact)
        value = abs(self.shares) * received
        fee = value * costs.fee_rate + costs.fee_fixed
        self.cash = self.cash + direction * value - fee
        self._write(bar, received, self.entry_fee + fee, reason)
        self.shares = 0.0

    def keep(self, price: float) -> None:
        """Write the position down as still open, valued at the last close."""
        self._write(-1, price, self.entry_fee, "open")

    def _write(self, bar: int, price: float, fees: float, reason: ExitReason) -> None:
        trade = Trade(
            symbol=self.symbol,
            shares=self.shares,
            entry_bar=self.entry_bar,
            exit_bar=bar,
            entry_price=self.entry_price,
            exit_price=price,
            fees=fees,
            reason=reason,
        )
        self.trades.append(trade)


def simulate(
    bars: Bars, codes: NDArray[np.int8], settings: Settings
) -> tuple[NDArray[np.float64], tuple[Trade, ...]]:
    """Return equity of shape (n_bars,) and the trades that the codes lead to."""
    account = Account(bars.symbol, settings)
    equity = []
    waiting = HOLD
    last_close = math.nan
    at_close = settings.fill == "same_close"
    rows = zip(codes.tolist(), bars.open.tolist(), bars.close.tolist(), strict=True)
    for bar, (code, open_price, close_price) in enumerate(rows):
        is_trading = not math.isnan(open_price)
        if waiting != HOLD and is_trading:
            account.act(waiting, bar, open_price)
            waiting = HOLD
        if is_trading:
            last_close = close_price
        if code != HOLD:
            waiting = code
        if at_close and waiting != HOLD and is_trading:
            account.act(waiting, bar, close_price)
            waiting = HOLD
        equity.append(account.cash + account.shares * last_close if account.shares != 0.0 else account.cash)
    if account.shares != 0.0:
        if settings.close_final:
            account.close(len(equity) - 1, last_close, "end")
            equity[-1] = account.cash
        else:
            account.keep(last_close)
    return np.array(equity, dtype=np.float64), tuple(account.trades)
