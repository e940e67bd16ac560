"""How much of an order the limits allow, and which of them cut it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Final

from pytest_tradeperf.pipeline.errors import SettingError
from pytest_tradeperf.pipeline.risk.checks import finite, positive
from pytest_tradeperf.pipeline.risk.portfolio import Portfolio, Position, gross_value

# Forgives the last rounding of a quotient, so that 300.0 / 100.0 lots are three and not two.
ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What may be held and lost, as fractions of equity.

    Attributes
    ----------
    max_position
        Value of one symbol.
    max_sector
        Gross value of one sector.
    max_gross, max_net, max_short
        Sum of absolute values, absolute sum of signed values, sum of shorts.
    max_positions
        Symbols held at once.
    max_loss_at_stop
        What an order may lose between its price and its stop.
    max_daily_loss, max_drawdown
        Beyond these nothing is opened any more, only closed.
    min_cash
        Cash that a purchase must leave.
    """

    max_position: float = 0.10
    max_sector: float = 0.30
    max_gross: float = 1.0
    max_net: float = 1.0
    max_short: float = 0.5
    max_positions: int = 20
    max_loss_at_stop: float = 0.01
    max_daily_loss: float = 0.03
    max_drawdown: float = 0.20
    min_cash: float = 0.0

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real) or not float(value) >= 0:
                raise SettingError(
                    f"{name} is {value!r}: expected a number, at least 0 (infinity lifts the limit)"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What somebody wants to trade.

    Attributes
    ----------
    quantity
        Signed: below zero sells.
    price
        Expected fill, above 0.
    stop_price
        Where the loss is cut: below the price of a purchase, above that of a sale; None for no stop.
    """

    symbol: str
    quantity: float
    price: float
    stop_price: float | None = None
    sector: str = ""

    def __post_init__(self) -> None:
        finite(f"quantity of {self.symbol}", self.quantity)
        positive(f"price of {self.symbol}", self.price)
        if self.stop_price is None:
            return
        positive(f"stop_price of {self.symbol}", self.stop_price)
        if self.quantity * (self.price - self.stop_price) < 0:
            side, place = ("purchase", "below") if self.quantity > 0 else ("sale", "above")
            stop = f"stop_price of {self.symbol} is {self.stop_price!r}"
            message = f"{stop}: a {side} at {self.price!r} has it {place}"
            raise SettingError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What is left of an order.

    Attributes
    ----------
    quantity
        Signed, not more than was asked for; 0 is a refusal.
    cut_by
        Names of the limits that cut it, the tightest first; empty when all of it is allowed.
    """

    quantity: float
    cut_by: tuple[str, ...] = ()


def allowed(order: Order, portfolio: Portfolio, limits: Limits, *, lot: float = 1.0) -> Allowance:
    """Return how much of an order the limits allow, rounded down to whole lots.

    What brings a position nearer to zero is always allowed, also when limits are broken already; what opens
    or enlarges one must keep all limits at the order's price. A sale beyond what is held is both, one after
    the other.

    Parameters
    ----------
    lot
        Smallest quantity that can be traded, above 0; what closes a position may be less than a lot.

    Examples
    --------
    >>> allowed(Order(symbol="A", quantity=50, price=10.0), Portfolio(cash=1_000), Limits(max_position=0.2))
    Allowance(quantity=20.0, cut_by=('max_position',))
    """
    positive("lot", lot)
    if order.quantity == 0:
        return Allowance(quantity=0.0)
    side = math.copysign(1.0, order.quantity)
    held = next(
        (position.quantity for position in portfolio.positions if position.symbol == order.symbol), 0.0
    )
    closing = min(abs(order.quantity), max(0.0, -side * held))
    wanted = abs(order.quantity) - closing
    if wanted <= 0:
        return Allowance(quantity=side * closing)
    rooms = _rooms(order, _after(order, portfolio, side * closing), limits, side)
    opening = min(wanted, *rooms.values())
    lots = max(0.0, math.floor(opening / lot + ROUNDING)) * lot
    whole = min(wanted, lots)
    tight = sorted((room, name) for name, room in rooms.items() if room < wanted)
    return Allowance(quantity=side * (closing + whole), cut_by=tuple(name for _, name in tight))


def _rooms(order: Order, portfolio: Portfolio, limits: Limits, side: float) -> dict[str, float]:
    """Return for each limit the quantity that may still be opened at the order's price."""
    equity = portfolio.equity
    if equity <= 0:
        return {"equity": 0.0}
    positions = portfolio.positions
    held = next((position for position in positions if position.symbol == order.symbol), None)
    sector = order.sector or (held.sector if held else "")
    net = math.fsum(position.value for position in positions)
    rooms = {
        "max_position": limits.max_position * equity - abs(held.value if held else 0.0),
        "max_gross": limits.max_gross * equity - gross_value(positions),
        "max_net": limits.max_net * equity - side * net,
    }
    if sector:
        rooms["max_sector"] = limits.max_sector * equity - gross_value(positions, sector)
    if side < 0:
        shorts = -math.fsum(position.value for position in positions if position.quantity < 0)
        rooms["max_short"] = limits.max_short * equity - shorts
    else:
        rooms["min_cash"] = portfolio.cash - limits.min_cash * equity
    rooms = {name: max(0.0, value) / order.price for name, value in rooms.items()}
    if held is None and len(positions) >= limits.max_positions:
        rooms["max_positions"] = 0.0
    distance = 0.0 if order.stop_price is None else abs(order.price - order.stop_price)
    if distance > 0:
        rooms["max_loss_at_stop"] = limits.max_loss_at_stop * equity / distance
    losses = {"max_daily_loss": portfolio.day_start_equity, "max_drawdown": portfolio.peak_equity}
    for name, before in losses.items():
        loss = 0.0 if before is None else 1.0 - equity / before
        if loss > 0 and loss >= getattr(limits, name):
            rooms[name] = 0.0
    return rooms


def _after(order: Order, portfolio: Portfolio, traded: float) -> Portfolio:
    """Return the portfolio once `traded` shares of the order's symbol were filled at its price."""
    positions: list[Position] = []
    for position in portfolio.positions:
        if position.symbol != order.symbol:
            positions.append(position)
        elif position.quantity + traded != 0:
            quantity = position.quantity + traded
            sector = order.sector or position.sector
            positions.append(
                Position(symbol=order.symbol, quantity=quantity, price=order.price, sector=sector)
            )
    return Portfolio(
        cash=portfolio.cash - traded * order.price,
        positions=tuple(positions),
        peak_equity=portfolio.peak_equity,
        day_start_equity=portfolio.day_start_equity,
    )
