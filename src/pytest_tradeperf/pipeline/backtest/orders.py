"""Orders, and at what price a bar fills them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from pytest_tradeperf.pipeline.backtest.settings import checked_number
from pytest_tradeperf.pipeline.backtest.trades import SIGNAL
from pytest_tradeperf.pipeline.errors import SettingError


class Bar(NamedTuple):
    """One symbol's prices on one bar."""

    open: float
    high: float
    low: float
    close: float


class Quote(NamedTuple):
    """A price that fills an order, and whether slippage and spread apply to it."""

    price: float
    has_impact: bool


@dataclass(slots=True, kw_only=True)
class Order:
    """What to trade, how much of it, and on which condition.

    Attributes
    ----------
    direction
        1 buys, -1 sells; 0 where ``weight`` decides at the fill.
    shares, fraction, weight
        One of: a number of shares, a fraction of equity at the fill, a target weight of equity to move to.
    limit, stop
        A limit order fills at its limit or better. A stop order becomes a market order once the price
        reaches the
        stop. With both, the stop makes it a limit order.
    trailing
        A stop that follows the best price since the order was placed at this fraction's distance.
    closes
        The order only ever reduces a position, at most to zero.
    expires_bar
        Last bar on which it may fill, or None.
    reason
        What the trade it closes is said to have been closed by.
    """

    number: int
    place: int
    direction: float
    shares: float | None = None
    fraction: float | None = None
    weight: float | None = None
    limit: float | None = None
    stop: float | None = None
    trailing: float | None = None
    closes: bool = False
    expires_bar: int | None = None
    best: float = 0.0
    reason: int = SIGNAL

    def __post_init__(self) -> None:
        sizes = 0
        if self.shares is not None:
            self.shares, sizes = checked_number("shares", self.shares, above=0.0), 1
        if self.fraction is not None:
            self.fraction, sizes = checked_number("fraction", self.fraction, above=0.0), sizes + 1
        if self.weight is not None:
            self.weight, sizes = checked_number("weight", self.weight), sizes + 1
        if sizes > 1 or (sizes == 0 and not self.closes):
            raise SettingError(
                f"an order has one size, got {sizes}: give shares=, fraction= or a target weight"
            )
        if self.limit is not None:
            self.limit = checked_number("limit", self.limit, above=0.0)
        if self.stop is not None:
            self.stop = checked_number("stop", self.stop, above=0.0)
        if self.trailing is not None:
            self.trailing = checked_number("trailing", self.trailing, above=0.0, below=1.0)
        if self.trailing is not None and (self.stop is not None or self.limit is not None):
            raise SettingError("a trailing order has neither limit nor stop: place two orders instead")

    @property
    def is_market(self) -> bool:
        """Whether it fills at the next price there is."""
        return self.limit is None and self.stop is None and self.trailing is None

    def quote(self, bar: Bar) -> Quote | None:
        """Return at what price the bar fills the order, or None; a touched stop-limit becomes a limit order.

        A bar that opens beyond the level fills at its open. Inside a bar the path is unknown, so a limit
        worse than
        the stop that released it counts from the next bar on.
        """
        if self.is_market:
            return Quote(bar.open, has_impact=True)
        if self.trailing is not None:
            return self._trailing_quote(bar)
        if self.stop is not None:
            return self._stop_quote(bar)
        return self._limit_quote(bar, bar.open)

    def _limit_quote(self, bar: Bar, first: float) -> Quote | None:
        assert self.limit is not None
        side = self.direction
        nearest = bar.low if side > 0 else bar.high
        if side * first <= side * self.limit:
            return Quote(first, has_impact=False)
        return Quote(self.limit, has_impact=False) if side * nearest <= side * self.limit else None

    def _stop_quote(self, bar: Bar) -> Quote | None:
        assert self.stop is not None
        side = self.direction
        furthest = bar.high if side > 0 else bar.low
        if side * furthest < side * self.stop:
            return None
        touched = bar.open if side * bar.open >= side * self.stop else self.stop
        if self.limit is None:
            return Quote(touched, has_impact=True)
        self.stop = None
        if side * touched <= side * self.limit:
            return Quote(touched, has_impact=False)
        return None

    def _trailing_quote(self, bar: Bar) -> Quote | None:
        assert self.trailing is not None
        side = self.direction  # -1 sells below a high, 1 buys above a low
        level = self.best * (1.0 + side * self.trailing)
        furthest, other = (bar.high, bar.low) if side > 0 else (bar.low, bar.high)
        if side * furthest >= side * level:
            return Quote(bar.open if side * bar.open >= side * level else level, has_impact=True)
        if side * other < side * self.best:
            self.best = other
        return None
