"""Strategies that place orders, over one symbol or many with one cash book: bar by bar, no fast path.

On every bar: orders placed earlier fill (market orders at the open, those that reduce positions first; then
protective stops and stop orders; then limit orders), equity is taken at the closes, and the strategy is
asked.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pytest_tradeperf.pipeline.backtest.book import Book
from pytest_tradeperf.pipeline.backtest.engine import strategy_signals
from pytest_tradeperf.pipeline.backtest.orders import Bar, Order
from pytest_tradeperf.pipeline.backtest.panel import Panel, align
from pytest_tradeperf.pipeline.backtest.result import BacktestResult
from pytest_tradeperf.pipeline.backtest.settings import FixedShares, Fraction, Settings
from pytest_tradeperf.pipeline.backtest.signals import BUY, EXIT, HOLD, SELL
from pytest_tradeperf.pipeline.backtest.trades import END, MARGIN, SIGNAL, columns_of
from pytest_tradeperf.pipeline.errors import PipelineError, SettingError, StrategyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

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
        """Place a market order that brings the position to a fraction of equity, below 0 for short."""
        return self._order(symbol, 0.0, {"weight": weight})

    def close(self, symbol: str, **terms: Any) -> int:
        """Place an order that closes the position, at once or at ``limit``, ``stop``, ``trailing``."""
        side = -1.0 if self.position(symbol) >= 0.0 else 1.0
        return self._order(symbol, side, {"closes": True, **terms})

    def cancel(self, number: int) -> bool:
        """Withdraw an order; return whether it was still waiting."""
        before = len(self.orders)
        self.orders = [order for order in self.orders if order.number != number]
        return len(self.orders) < before

    def withdraw(self, symbol: str) -> None:
        """Withdraw all orders in one symbol."""
        place = self._place(symbol)
        self.orders = [order for order in self.orders if order.place != place]

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
        self.orders.append(order)
        return order.number


def run_portfolio(bars: Sequence[Bars], strategy: Any, *, settings: Settings | None = None) -> BacktestResult:
    """Return the result of one strategy over many symbols with one cash book.

    Parameters
    ----------
    bars
        One series a symbol; histories may be ragged and have gaps.
    strategy
        One of three kinds. With ``on_bar(desk)`` it places orders. With ``weights(panel)`` it answers target
        weights,
        float64 of shape (n_bars, n_symbols), NaN to leave a symbol alone. With ``signals(bars)`` it is asked
        for each
        symbol, and every position gets ``fraction / n_symbols`` of equity.
    settings
        As for one symbol. A volatility target is for single symbols.

    Raises
    ------
    DataError
        The bars do not go together.
    StrategyError
        The strategy raised, or answered something of the wrong shape.
    """
    settings = settings or Settings()
    panel = align(bars)
    decide = _decider(strategy, panel, settings)
    desk = Desk(panel, settings)
    equity = _run(desk, panel, decide, type(strategy).__name__)
    equity.flags.writeable = False
    return BacktestResult(
        symbols=panel.symbols,
        strategy=repr(strategy),
        settings=settings,
        timeframe=panel.timeframe,
        timestamps=panel.timestamps,
        equity=equity,
        columns=columns_of(desk.book.rows),
        engine="reference",
        note="reference, the engine for orders and for many symbols",
        # A trade has one entry bar, so a position that was added to cannot be told from the trades.
        changes=tuple(desk.book.changes),
    )


def _run(desk: Desk, panel: Panel, decide: Any, name: str) -> NDArray[np.float64]:
    book, settings = desk.book, desk.book.settings
    equity: list[float] = []
    for bar, (opens, closes) in enumerate(zip(panel.open, panel.close, strict=True)):
        is_trading = opens == opens  # noqa: PLR0124 - not NaN, in a third of the time of isnan and invert
        if desk.orders:
            np.copyto(book.marks, opens, where=is_trading)
            _fill_at(desk, bar, opens)
        if desk.orders or (book.positions and settings.stops.is_active):
            _fill_inside(desk, bar, _prices(desk, panel, bar))
        np.copyto(book.marks, closes, where=is_trading)
        desk.bar = bar
        if settings.close_final and bar == len(panel) - 1:
            _leave_all(book, bar)
        equity.append(book.cash + book.value())
        _decide(desk, decide, name, equity[-1])
        if settings.fill == "same_close" and desk.orders:
            _fill_at(desk, bar, closes)
            equity[-1] = book.cash + book.value()
    book.keep()
    return np.array(equity, dtype=np.float64)


def _decide(desk: Desk, decide: Any, name: str, equity: float) -> None:
    """Ask the strategy; or liquidate instead, where equity does not carry the positions any more."""
    book, settings = desk.book, desk.book.settings
    if settings.close_final and desk.bar == desk.n_bars - 1:
        return
    if (book.shorts or settings.margin < 1.0) and equity <= settings.maintenance * book.gross():
        desk.orders = []
        for place in book.positions:
            desk.close(desk.symbols[place], reason=MARGIN)
        return
    try:
        decide(desk)
    except PipelineError:
        raise
    except Exception as error:
        raise StrategyError(f"{name} raised {type(error).__name__} at bar {desk.bar}: {error}") from error


def _prices(desk: Desk, panel: Panel, bar: int) -> dict[int, Bar]:
    """Return the bar of every symbol that trades on it and has a position or a waiting order."""
    places = desk.book.positions.keys() | {order.place for order in desk.orders}
    rows = [column[bar] for column in (panel.open, panel.high, panel.low, panel.close)]
    prices = {place: Bar(*(row.item(place) for row in rows)) for place in places}
    return {place: price for place, price in prices.items() if not math.isnan(price.open)}


def _leave_all(book: Book, bar: int) -> None:
    for place, position in list(book.positions.items()):
        paid = book.paid(book.marks.item(place), -math.copysign(1.0, position.shares))
        book.trade(place, -position.shares, paid, bar, END)


def _fill_at(desk: Desk, bar: int, prices: NDArray[np.float64]) -> None:
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
    equity = book.cash + book.value() if any(order.weight is not None for order in due) else math.nan
    wanted = [
        (order, price, _change(book, order, price, equity))
        for order in due
        for price in [prices.item(order.place)]
    ]
    entering = []
    for order, price, change in wanted:
        held = book.shares(order.place)
        if held * change < 0.0:
            out = math.copysign(min(abs(change), abs(held)), change)
            book.trade(order.place, out, book.paid(price, math.copysign(1.0, out)), bar, order.reason)
            change -= out  # noqa: PLW2901 - what is left of the order after it closed the position
        if change != 0.0 and not order.closes:
            entering.append((order, price, change))
    if not entering:
        return
    worth = book.value()
    equity, room = book.cash + worth, book.room(worth)
    for order, price, change in entering:
        room -= _enter(book, order, change, price, bar, equity=equity, room=room)


def _change(book: Book, order: Order, price: float, equity: float) -> float:
    """Return the shares an order adds, below 0 to sell; a fraction is sized later, here its sign counts."""
    held = book.shares(order.place)
    if order.closes:
        size = abs(held) if order.shares is None else min(order.shares, abs(held))
        return math.copysign(size, -held) if held else 0.0
    if order.shares is not None:
        return order.direction * order.shares
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
    most = book.affordable(room, paid)
    size = abs(change)
    if order.fraction is not None:
        size = min(book.affordable(equity * order.fraction / book.settings.margin, paid), most)
    elif order.weight is not None:
        size = min(size, most)
    elif size > most:
        return 0.0
    if size <= 0.0:
        return 0.0
    cash = book.cash
    book.trade(order.place, direction * size, paid, bar, SIGNAL)
    lost = cash - book.cash - direction * size * price
    return size * price + lost / book.settings.margin


def _fill_inside(desk: Desk, bar: int, prices: dict[int, Bar]) -> None:
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


def _decider(strategy: Any, panel: Panel, settings: Settings) -> Any:
    if callable(getattr(strategy, "on_bar", None)):
        return strategy.on_bar
    if callable(getattr(strategy, "weights", None)):
        return _by_weights(strategy, panel, settings)
    return _by_signals(strategy, panel, settings)


def _by_weights(strategy: Any, panel: Panel, settings: Settings) -> Any:
    name = type(strategy).__name__
    try:
        weights = np.asarray(strategy.weights(panel), dtype=np.float64)
    except PipelineError:
        raise
    except Exception as error:
        raise StrategyError(f"{name}.weights raised {type(error).__name__}: {error}") from error
    if weights.shape != panel.close.shape:
        raise StrategyError(f"{name}.weights answered shape {weights.shape}, expected {panel.close.shape}")
    gross = np.nansum(np.abs(weights), axis=1)
    limit = 1.0 / settings.margin + 1e-9
    if np.isinf(weights).any() or (gross > limit).any():
        bar = int((~(gross <= limit)).argmax())
        raise StrategyError(
            f"{name}.weights of bar {bar} add up to {gross[bar]:g} without sign, expected at most "
            f"{1.0 / settings.margin:g}: lower them, or set margin"
        )
    rows = [
        [(panel.symbols[place], row[place]) for place in np.flatnonzero(~np.isnan(row)).tolist()]
        for row in weights
    ]

    def decide(desk: Desk) -> None:
        for symbol, weight in rows[desk.bar]:
            desk.withdraw(symbol)
            desk.target(symbol, float(weight))

    return decide


def _by_signals(strategy: Any, panel: Panel, settings: Settings) -> Any:
    if isinstance(settings.sizing, Fraction):
        terms: dict[str, float] = {"fraction": settings.sizing.fraction / len(panel.symbols)}
    elif isinstance(settings.sizing, FixedShares):
        terms = {"shares": settings.sizing.shares}
    else:
        raise SettingError(f"sizing {settings.sizing!r} is for single symbols: use Fraction or FixedShares")
    events: dict[int, list[tuple[str, int]]] = {}
    for member in panel.members:
        codes = strategy_signals(strategy, member)
        rows = np.searchsorted(panel.timestamps, member.timestamps)
        for at in np.flatnonzero(codes != HOLD).tolist():
            events.setdefault(int(rows[at]), []).append((member.symbol, int(codes[at])))

    def decide(desk: Desk) -> None:
        for symbol, code in events.get(desk.bar, ()):
            held = desk.position(symbol)
            if desk.orders:
                desk.withdraw(symbol)
            if code == EXIT or (code == BUY and held < 0.0) or (code == SELL and held > 0.0):
                desk.close(symbol)
            if (code == BUY and held <= 0.0) or (code == SELL and held >= 0.0):
                (desk.buy if code == BUY else desk.sell)(symbol, **terms)

    return decide
