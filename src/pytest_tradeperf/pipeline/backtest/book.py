"""One cash book over many symbols: positions at average cost, fees, margin, and the trades they end in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_tradeperf.pipeline.backtest.trades import OPEN, STOP_LOSS, TAKE_PROFIT, TRAILING

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.backtest.orders import Bar
    from pytest_tradeperf.pipeline.backtest.settings import Settings


@dataclass(slots=True)
class Position:
    """Shares of one symbol (below 0 for a short) at their average price, and fees not yet in a trade."""

    shares: float
    price: float
    fees: float
    bar: int
    best: float


class Book:
    """Cash and positions. Prices given to it are raw; slippage and spread are added here."""

    def __init__(self, settings: Settings, n_symbols: int) -> None:
        self.settings = settings
        self.cash = settings.cash
        self.positions: dict[int, Position] = {}
        # The positions' shares again, 0 where there is none, and last prices: every valuation reads them.
        self.held: NDArray[np.float64] = np.zeros(n_symbols)
        self.marks: NDArray[np.float64] = np.zeros(n_symbols)
        self._work: NDArray[np.float64] = np.zeros(n_symbols)
        self.shorts: set[int] = set()
        self.rows: list[tuple[float, int, int, float, float, float, int, int]] = []
        self.changes: list[
            tuple[int, int, float]
        ] = []  # bar, symbol, shares: positions over time follow from it

    def shares(self, place: int) -> float:
        """Return the shares held of a symbol."""
        return self.held.item(place)

    def value(self) -> float:
        """Return what all positions are worth at their marks, added up in the order of the symbols."""
        return self._sum(self.held)

    def gross(self) -> float:
        """Return what all positions are worth at their marks, shorts counted as positive."""
        if not self.shorts:
            return self.value()
        return self._sum(np.abs(self.held))

    def _sum(self, shares: NDArray[np.float64]) -> float:
        np.multiply(shares, self.marks, out=self._work)
        # One addition after the other on every machine, unlike a dot product or numpy's pairwise sum.
        return float(np.add.accumulate(self._work, out=self._work)[-1])

    def room(self, worth: float) -> float:
        """Return how much more the equity may carry, in money, given what all positions are worth."""
        return (self.cash + worth) * self.settings.leverage - (self.gross() if self.shorts else worth)

    def paid(self, price: float, direction: float, *, has_impact: bool = True) -> float:
        """Return the price after slippage and spread."""
        return price * (1.0 + direction * self.settings.costs.impact) if has_impact else price

    def affordable(self, money: float, paid: float) -> float:
        """Return how many shares some money buys with the fee, whole ones if so set; never below 0."""
        costs = self.settings.costs
        if costs.fee is None:
            shares = (money - costs.fee_fixed) / (paid * (1.0 + costs.fee_rate))
        else:
            shares = (money - costs.charge(max(money, 0.0) / paid, paid)) / paid
        return max(float(math.floor(shares)) if self.settings.whole_shares else shares, 0.0)

    def trade(self, place: int, shares: float, paid: float, bar: int, reason: int) -> None:
        """Buy (above 0) or sell shares at a price with impact; what reduces a position ends in a trade."""
        self.changes.append((bar, place, shares))
        position = self.positions.get(place)
        reduces = 0.0
        if position is not None and position.shares * shares < 0.0:
            reduces = math.copysign(min(abs(shares), abs(position.shares)), shares)
            self._reduce(place, -reduces, paid, bar=bar, reason=reason)
        rest = shares - reduces
        if rest != 0.0:
            self._increase(place, rest, paid, bar)
        if self.held.item(place) < 0.0:
            self.shorts.add(place)
        else:
            self.shorts.discard(place)

    def _increase(self, place: int, shares: float, paid: float, bar: int) -> None:
        fee = self.settings.costs.charge(abs(shares), paid)
        self.cash = self.cash - shares * paid - fee
        position = self.positions.get(place)
        if position is None:
            self.positions[place] = Position(shares=shares, price=paid, fees=fee, bar=bar, best=paid)
            self.held[place] = shares
            return
        total = position.shares + shares
        position.price = (position.shares * position.price + shares * paid) / total
        position.shares = self.held[place] = total
        position.fees += fee

    def _reduce(self, place: int, shares: float, paid: float, *, bar: int, reason: int) -> None:
        position = self.positions[place]
        fee = self.settings.costs.charge(abs(shares), paid)
        self.cash = self.cash + shares * paid - fee
        is_all = shares == position.shares
        entry_fees = position.fees if is_all else position.fees * (shares / position.shares)
        self.rows.append((shares, position.bar, bar, position.price, paid, entry_fees + fee, reason, place))
        position.shares -= shares
        position.fees -= entry_fees
        self.held[place] = position.shares
        if is_all:
            del self.positions[place]

    def protect(self, place: int, bar: int, prices: Bar) -> None:
        """Leave a position inside a bar where a stop or the take-profit of the settings is reached."""
        position, stops = self.positions[place], self.settings.stops
        side = 1.0 if position.shares > 0.0 else -1.0
        levels = []
        if stops.stop_loss is not None:
            levels.append((position.price * (1.0 - side * stops.stop_loss), STOP_LOSS))
        if stops.trailing is not None:
            levels.append((position.best * (1.0 - side * stops.trailing), TRAILING))
        stop, reason = max(levels, key=lambda level: side * level[0], default=(math.nan, STOP_LOSS))
        goal = math.nan if stops.take_profit is None else position.price * (1.0 + side * stops.take_profit)
        worst, best = (prices.low, prices.high) if side > 0.0 else (prices.high, prices.low)
        if side * prices.open <= side * stop:
            self.trade(place, -position.shares, self.paid(prices.open, -side), bar, reason)
        elif side * prices.open >= side * goal:
            self.trade(place, -position.shares, prices.open, bar, TAKE_PROFIT)
        elif side * worst <= side * stop:
            self.trade(place, -position.shares, self.paid(stop, -side), bar, reason)
        elif side * best >= side * goal:
            self.trade(place, -position.shares, goal, bar, TAKE_PROFIT)
        elif side * best > side * position.best:
            position.best = best

    def keep(self) -> None:
        """Write what is still held down as open trades, valued at the last marks."""
        for place, position in sorted(self.positions.items()):
            row = (
                position.shares,
                position.bar,
                -1,
                position.price,
                self.marks.item(place),
                position.fees,
                OPEN,
                place,
            )
            self.rows.append(row)
