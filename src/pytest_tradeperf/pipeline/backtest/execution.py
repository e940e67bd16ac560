"""What becomes of the orders on a desk: market orders at one price, stops and limits inside a bar."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_tradeperf.pipeline.backtest.trades import SIGNAL

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.backtest.book import Book
    from pytest_tradeperf.pipeline.backtest.desk import Desk
    from pytest_tradeperf.pipeline.backtest.orders import Bar, Order


def fill_at(desk: Desk, bar: int, prices: NDArray[np.float64]) -> None:
    """Fill market orders: those that reduce a position first, so that what they free can be used."""
    book = desk.book
    due = [order for order in desk.orders if order.is_market and not math.isnan(prices.item(order.place))]
    if not due:
        return
    if len(due) == len(desk.orders):
        desk.orders = []
    else:
        done = {order.number for order in due}
        desk.orders = [order for order in desk.orders if order.number not in done]
    # Only target weights are sized by equity before anything is sold.
    before = book.cash + book.value() if any(order.weight is not None for order in due) else math.nan
    entering = []
    for order in due:
        price, held = prices.item(order.place), book.shares(order.place)
        change = _change(book, order, price, before)
        if held * change < 0.0:
            out = math.copysign(min(abs(change), abs(held)), change)
            book.trade(order.place, out, book.paid(price, math.copysign(1.0, out)), bar, order.reason)
            change -= out
        if change != 0.0 and not order.closes:
            entering.append((order, price, change))
    if not entering:
        return
    worth = book.value()
    equity, room = book.cash + worth, book.room(worth)
    for order, price, wanted in entering:
        change = wanted
        if order.weight is not None:  # what the orders before it in the same symbol leave to be done
            change = _change(book, order, price, before)
        if change * wanted > 0.0:
            room -= _enter(book, order, change, price, bar, equity=equity, room=room)


def _change(book: Book, order: Order, price: float, equity: float) -> float:
    """Return the shares an order adds, below 0 to sell; a fraction is sized later, here its sign counts."""
    held, shares = book.shares(order.place), order.shares
    if shares is not None and book.settings.whole_shares:
        shares = float(math.floor(shares))
    if order.closes:
        size = abs(held) if shares is None else min(shares, abs(held))
        return math.copysign(size, -held) if held else 0.0
    if shares is not None:
        return order.direction * shares
    if order.weight is not None:
        wanted = order.weight * equity / price
        if book.settings.whole_shares:
            wanted = float(math.trunc(wanted))
        return wanted - held
    return -held + order.direction if held * order.direction < 0.0 else order.direction


def _enter(
    book: Book, order: Order, change: float, price: float, bar: int, *, equity: float, room: float
) -> float:
    """Open or add to a position, no larger than the room; return how much room that took.

    A fixed number of shares fits or is not placed.
    """
    direction = math.copysign(1.0, change)
    paid = book.paid(price, direction)
    size = abs(change)
    if order.fraction is not None:
        size = book.affordable(min(equity * order.fraction, room), paid)
    elif order.weight is not None:
        size = min(size, book.affordable(room, paid))
    elif size * paid + book.settings.costs.charge(size, paid) > room:
        return 0.0
    if size <= 0.0:
        return 0.0
    cash = book.cash
    book.trade(order.place, direction * size, paid, bar, SIGNAL)
    lost = cash - book.cash - direction * size * price
    return size * price + lost * book.settings.leverage


def fill_inside(desk: Desk, bar: int, prices: dict[int, Bar]) -> None:
    """Fill what depends on the bar's path: protective stops and stop orders first, then limit orders."""
    book = desk.book
    if book.settings.stops.is_active:
        for place in [place for place in book.positions if place in prices]:
            book.protect(place, bar, prices[place])
    waiting = [order for order in desk.orders if not order.is_market and order.place in prices]
    for order in sorted(waiting, key=lambda order: order.stop is None and order.trailing is None):
        quote = order.quote(prices[order.place])
        is_over = order.expires_bar is not None and bar >= order.expires_bar
        if quote is not None:
            _fill_quoted(book, order, quote.price, bar, has_impact=quote.has_impact)
        if quote is not None or is_over:
            desk.cancel(order.number)


def _fill_quoted(book: Book, order: Order, price: float, bar: int, *, has_impact: bool) -> None:
    change = _change(book, order, price, book.cash + book.value())
    held = book.shares(order.place)
    if held * change < 0.0:
        out = math.copysign(min(abs(change), abs(held)), change)
        paid = book.paid(price, math.copysign(1.0, out), has_impact=has_impact)
        book.trade(order.place, out, paid, bar, SIGNAL)
        change -= out
    if change != 0.0 and not order.closes:
        factor = 1.0 + math.copysign(book.settings.costs.impact, change)
        worth = book.value()
        raw = price if has_impact else price / factor
        _enter(book, order, change, raw, bar, equity=book.cash + worth, room=book.room(worth))
