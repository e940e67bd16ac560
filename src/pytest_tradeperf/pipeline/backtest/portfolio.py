"""Strategies that place orders, over one symbol or many with one cash book: bar by bar, no fast path.

On every bar: orders placed earlier fill (market orders at the open, those that reduce positions first; then
protective stops and stop orders; then limit orders), equity is taken at the closes, and the strategy is
asked.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_tradeperf.pipeline.backtest.desk import Desk
from pytest_tradeperf.pipeline.backtest.engine import strategy_signals
from pytest_tradeperf.pipeline.backtest.execution import fill_at, fill_inside
from pytest_tradeperf.pipeline.backtest.orders import Bar
from pytest_tradeperf.pipeline.backtest.panel import Panel, align
from pytest_tradeperf.pipeline.backtest.plan import sizes_of
from pytest_tradeperf.pipeline.backtest.result import BacktestResult
from pytest_tradeperf.pipeline.backtest.settings import ROUNDING, FixedShares, Settings
from pytest_tradeperf.pipeline.backtest.signals import BUY, EXIT, HOLD, SELL
from pytest_tradeperf.pipeline.backtest.trades import END, MARGIN, columns_of
from pytest_tradeperf.pipeline.errors import PipelineError, StrategyError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.backtest.book import Book
    from pytest_tradeperf.pipeline.marketdata.bars import Bars


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
        for each symbol, and every position gets what the sizing says, fractions over the number of symbols.
    settings
        As for one symbol.

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
            fill_at(desk, bar, opens)
        if desk.orders or (book.positions and settings.stops.is_active):
            fill_inside(desk, bar, _prices(desk, panel, bar))
        np.copyto(book.marks, closes, where=is_trading)
        desk.bar = bar
        if settings.close_final and bar == len(panel) - 1:
            _leave_all(book, bar)
        equity.append(book.cash + book.value())
        _decide(desk, decide, name, equity[-1])
        if settings.fill == "same_close" and desk.orders:
            fill_at(desk, bar, closes)
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
    limit = settings.leverage + ROUNDING
    if np.isinf(weights).any() or (gross > limit).any():
        bar = int((~(gross <= limit)).argmax())
        raise StrategyError(
            f"{name}.weights of bar {bar} add up to {gross[bar]:g} without sign, expected at most "
            f"{settings.leverage:g}: lower them, or set margin"
        )
    rows = [
        [(panel.symbols[place], row[place]) for place in np.flatnonzero(~np.isnan(row)).tolist()]
        for row in weights
    ]

    def decide(desk: Desk) -> None:
        if desk.orders:
            desk.withdraw(*(symbol for symbol, _ in rows[desk.bar]))
        for symbol, weight in rows[desk.bar]:
            desk.target(symbol, float(weight))

    return decide


def _by_signals(strategy: Any, panel: Panel, settings: Settings) -> Any:
    has_shares = isinstance(settings.sizing, FixedShares)
    term, share = ("shares", 1) if has_shares else ("fraction", len(panel.symbols))
    events: dict[int, list[tuple[str, int, float]]] = {}
    for member in panel.members:
        codes = strategy_signals(strategy, member)
        rows = np.searchsorted(panel.timestamps, member.timestamps)
        sizes = sizes_of(member, settings) / share
        for at in np.flatnonzero(codes != HOLD).tolist():
            events.setdefault(int(rows[at]), []).append((member.symbol, int(codes[at]), sizes.item(at)))

    def decide(desk: Desk) -> None:
        for symbol, code, size in events.get(desk.bar, ()):
            held = desk.position(symbol)
            if desk.orders:
                desk.withdraw(symbol)
            if code == EXIT or (code == BUY and held < 0.0) or (code == SELL and held > 0.0):
                desk.close(symbol)
            if size > 0.0 and ((code == BUY and held <= 0.0) or (code == SELL and held >= 0.0)):
                (desk.buy if code == BUY else desk.sell)(symbol, **{term: size})

    return decide
