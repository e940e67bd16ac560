"""What a strategy that places orders sees and can do at the close of a bar.

The run around it is in :mod:`portfolio`, what becomes of its orders in :mod:`execution`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pytest_tradeperf.pipeline.backtest.book import Book
from pytest_tradeperf.pipeline.backtest.orders import Order
from pytest_tradeperf.pipeline.errors import SettingError

if TYPE_CHECKING:
    from pytest_tradeperf.pipeline.backtest.panel import Panel
    from pytest_tradeperf.pipeline.backtest.settings import Settings
    from pytest_tradeperf.pipeline.marketdata.bars import Bars


class OrderStrategy(Protocol):
    """Anything that looks at the desk after each bar and may place orders."""

    def on_bar(self, desk: Desk) -> None:
        """Decide, knowing what the desk knows: bars up to this one."""


class Desk:
    """What a strategy sees and can do at the close of a bar. There is no way to a later bar from here."""

    def __init__(self, panel: Panel, settings: Settings) -> None:
        self._panel = panel
        self._places = {name: place for place, name in enumerate(panel.symbols)}
        self._numbers = 0
        self.book = Book(settings, len(panel.symbols))
        self.orders: list[Order] = []
        self.bar = -1

    @property
    def n_bars(self) -> int:
        """Number of bars of the whole run, which the strategy may know, unlike what is in them."""
        return len(self._panel)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Names of what can be traded."""
        return self._panel.symbols

    @property
    def time(self) -> np.datetime64:
        """Timestamp of this bar."""
        return np.datetime64(self._panel.timestamps[self.bar])

    @property
    def cash(self) -> float:
        """Money not in positions."""
        return self.book.cash

    @property
    def equity(self) -> float:
        """Cash and positions at this close."""
        return self.book.cash + self.book.value()

    def history(self, symbol: str) -> Bars:
        """Return the symbol's bars up to and including this one, as views."""
        place = self._place(symbol)
        member = self._panel.members[place]
        return member[: int(np.searchsorted(member.timestamps, self.time, side="right"))]

    def position(self, symbol: str) -> float:
        """Return the shares held, below 0 for a short position."""
        return self.book.shares(self._place(symbol))

    def buy(self, symbol: str, **terms: Any) -> int:
        """Place an order to buy; return its number.

        Terms are those of :class:`~.orders.Order`, and ``expires``, the bars it may wait.
        """
        return self._order(symbol, 1.0, terms)

    def sell(self, symbol: str, **terms: Any) -> int:
        """Place an order to sell, short if nothing is held; return its number. Terms as in :meth:`buy`."""
        return self._order(symbol, -1.0, terms)

    def target(self, symbol: str, weight: float) -> int:
        """Place a market order that brings the position to a fraction of equity, below 0 for short.

        It replaces a target of the same symbol that still waits; other orders stay, and what those placed
        before it fill at the same open counts.
        """
        place = self._place(symbol)
        number = self._order(symbol, 0.0, {"weight": weight})
        self.orders = [
            order
            for order in self.orders
            if order.place != place or order.weight is None or order.number == number
        ]
        return number

    def close(self, symbol: str, **terms: Any) -> int:
        """Place an order that closes the position, at once or at ``limit``, ``stop``, ``trailing``."""
        side = -1.0 if self.position(symbol) >= 0.0 else 1.0
        return self._order(symbol, side, {"closes": True, **terms})

    def cancel(self, number: int) -> bool:
        """Withdraw an order; return whether it was still waiting."""
        before = len(self.orders)
        self.orders = [order for order in self.orders if order.number != number]
        return len(self.orders) < before

    def withdraw(self, *symbols: str) -> None:
        """Withdraw all orders in some symbols."""
        places = {self._place(symbol) for symbol in symbols}
        self.orders = [order for order in self.orders if order.place not in places]

    def _place(self, symbol: str) -> int:
        if symbol not in self._places:
            raise SettingError(
                f"symbol {symbol!r} is not on the desk: expected one of {', '.join(self.symbols)}"
            )
        return self._places[symbol]

    def _order(self, symbol: str, direction: float, terms: dict[str, Any]) -> int:
        place = self._place(symbol)
        expires = terms.pop("expires", None)
        if expires is not None and expires < 1:
            raise SettingError(f"expires is {expires!r}: expected at least 1 bar, or None")
        self._numbers += 1
        try:
            order = Order(
                number=self._numbers,
                place=place,
                direction=direction,
                expires_bar=None if expires is None else self.bar + expires,
                best=self.book.marks.item(place),
                **terms,
            )
        except TypeError as error:
            raise SettingError(f"an order has no such term: {error}; see Order for those it has") from error
        for name, size in (("fraction", order.fraction), ("weight", order.weight)):
            if size is not None:
                self.book.settings.check_exposure(name, size)
        self.orders.append(order)
        return order.number
