"""What is held, how exposed it is, and what a shock would do to it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_tradeperf.pipeline.errors import SettingError
from pytest_tradeperf.pipeline.risk.checks import finite, positive

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Shares held at the last price.

    Attributes
    ----------
    quantity
        Signed: below zero is a short.
    price
        Last price, above 0.
    sector
        Group whose exposure is limited together; an empty text is no group.
    """

    symbol: str
    quantity: float
    price: float
    sector: str = ""

    def __post_init__(self) -> None:
        finite(f"quantity of {self.symbol}", self.quantity)
        positive(f"price of {self.symbol}", self.price)

    @property
    def value(self) -> float:
        """Signed market value."""
        return self.quantity * self.price


@dataclass(frozen=True, slots=True, kw_only=True)
class Portfolio:
    """Cash and positions, and the equity that losses are measured from.

    Attributes
    ----------
    peak_equity, day_start_equity
        Highest equity so far, and that at the start of the day; None where not tracked.
    """

    cash: float
    positions: tuple[Position, ...] = ()
    peak_equity: float | None = None
    day_start_equity: float | None = None

    def __post_init__(self) -> None:
        finite("cash", self.cash)
        for name in ("peak_equity", "day_start_equity"):
            if getattr(self, name) is not None:
                positive(name, getattr(self, name))
        object.__setattr__(self, "positions", tuple(self.positions))
        symbols = [position.symbol for position in self.positions]
        for symbol in symbols:
            if symbols.count(symbol) > 1:
                raise SettingError(f"portfolio holds {symbol!r} twice: add the quantities to one position")

    @property
    def equity(self) -> float:
        """Cash and the value of all positions."""
        return self.cash + math.fsum(position.value for position in self.positions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """What is at risk, as fractions of equity (NaN where there is no equity).

    Attributes
    ----------
    gross, net, long, short
        `short` is positive; gross = long + short, net = long - short.
    by_symbol
        Signed.
    by_sector
        Gross.
    """

    equity: float
    gross: float
    net: float
    long: float
    short: float
    by_symbol: Mapping[str, float]
    by_sector: Mapping[str, float]


def exposure(portfolio: Portfolio) -> Exposure:
    """Return the exposure of a portfolio.

    Examples
    --------
    >>> held = (Position(symbol="A", quantity=3, price=10), Position(symbol="B", quantity=-1, price=10))
    >>> now = exposure(Portfolio(cash=80, positions=held))
    >>> now.gross, now.net, now.short
    (0.4, 0.2, 0.1)
    """
    equity = portfolio.equity
    values = {position.symbol: position.value for position in portfolio.positions}
    long = math.fsum(value for value in values.values() if value > 0)
    short = -math.fsum(value for value in values.values() if value < 0)
    sectors = {position.sector for position in portfolio.positions if position.sector}

    def share(value: float) -> float:
        return value / equity if equity > 0 else math.nan

    return Exposure(
        equity=equity,
        gross=share(long + short),
        net=share(long - short),
        long=share(long),
        short=share(short),
        by_symbol={symbol: share(value) for symbol, value in values.items()},
        by_sector={sector: share(gross_value(portfolio.positions, sector)) for sector in sorted(sectors)},
    )


def stressed(portfolio: Portfolio, shocks: Mapping[str, float], *, others: float = 0.0) -> float:
    """Return the change of equity as a fraction if symbols move by their shocks and the rest by `others`.

    Examples
    --------
    >>> held = (Position(symbol="A", quantity=5, price=10),)
    >>> stressed(Portfolio(cash=50, positions=held), {"A": -0.2})
    -0.1
    """
    for symbol, shock in {**shocks, "others": others}.items():
        if not (math.isfinite(shock) and shock >= -1.0):
            raise SettingError(f"shock of {symbol} is {shock!r}: expected a finite fraction, at least -1")
    change = math.fsum(
        position.value * shocks.get(position.symbol, others) for position in portfolio.positions
    )
    return change / portfolio.equity if portfolio.equity > 0 else math.nan


def gross_value(positions: Iterable[Position], sector: str | None = None) -> float:
    """Return the sum of absolute values, of one sector or of all."""
    return math.fsum(abs(position.value) for position in positions if sector in {None, position.sector})
