"""How orders are sized, filled, charged and stopped: frozen records, checked when they are made."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

from pytest_tradeperf.pipeline.errors import SettingError

FillRule = Literal["next_open", "same_close"]
FeeFunction = Callable[[float, float], float]
BPS = 1e-4
# By how much a size may pass what equity carries: weights that were divided by their sum add up to 1 + 2e-16.
ROUNDING = 1e-9


def checked_number(
    name: str, value: float, *, above: float = -math.inf, at_least: float = -math.inf, below: float = math.inf
) -> float:
    """Return the value as a finite float inside its range.

    Raises
    ------
    SettingError
        Not a number, not finite, or out of range.
    """
    limits = [f"above {above:g}"] if above > -math.inf else []
    limits += [f"{at_least:g} or more"] if at_least > -math.inf else []
    limits += [f"below {below:g}"] if below < math.inf else []
    expected = " and ".join(["a finite number", *limits])
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise SettingError(f"{name} is {value!r}: expected {expected}") from error
    if not math.isfinite(number) or number <= above or number < at_least or number >= below:
        raise SettingError(f"{name} is {value!r}: expected {expected}")
    return number


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What a fill costs.

    Attributes
    ----------
    fees_bps
        Commission in basis points (1/100 %) of the money traded, on entry and on exit.
    fee_fixed
        Commission per fill, in money.
    fee
        ``fee(shares, price)`` answers the commission of a fill in money (shares >= 0), instead of these two.
        Runs on the reference engine.
    slippage_bps, spread_bps
        Market and stop orders fill worse than the price by slippage and half the spread, in basis points.
        Limit orders and take-profits fill at their price.
    """

    fees_bps: float = 0.0
    fee_fixed: float = 0.0
    slippage_bps: float = 0.0
    spread_bps: float = 0.0
    fee: FeeFunction | None = None

    def __post_init__(self) -> None:
        for name in ("fees_bps", "fee_fixed", "slippage_bps", "spread_bps"):
            object.__setattr__(self, name, checked_number(name, getattr(self, name), at_least=0.0))
        if self.fee_rate >= 1.0 or self.impact >= 1.0:
            raise SettingError(
                f"fees_bps={self.fees_bps:g} with slippage and spread of {self.impact / BPS:g} bps would "
                f"take the "
                "whole price: expected less than 10000 bps (100 %) each"
            )
        if self.fee is not None and not callable(self.fee):
            raise SettingError(
                f"fee is {self.fee!r}: expected a function fee(shares, price), or fees_bps=..."
            )
        if self.fee is not None and (self.fees_bps or self.fee_fixed):
            raise SettingError("fee=... replaces fees_bps and fee_fixed: give one or the other")

    @property
    def fee_rate(self) -> float:
        """Commission as a fraction of the money traded."""
        return self.fees_bps * BPS

    @property
    def impact(self) -> float:
        """Slippage and half the spread as a fraction of the price."""
        return (self.slippage_bps + self.spread_bps / 2.0) * BPS

    def charge(self, shares: float, price: float) -> float:
        """Return the commission of one fill in money.

        Raises
        ------
        SettingError
            A fee function answered something that is not a finite number >= 0.
        """
        if self.fee is None:
            return shares * price * self.fee_rate + self.fee_fixed
        return checked_number(f"fee({shares!r}, {price!r})", self.fee(shares, price), at_least=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stops:
    """Protective exits inside a bar, as fractions of a price; None switches one off.

    A long position leaves at ``entry * (1 - stop_loss)``, at ``entry * (1 + take_profit)``, or at
    ``best * (1 - trailing)``, where best is the highest price up to the bar before (a bar's own high cannot
    raise
    the stop that its own low hits). Shorts mirror it. Where a bar touches stop and take-profit, the stop
    counts.
    A bar that opens beyond a level fills at its open.
    """

    stop_loss: float | None = None
    take_profit: float | None = None
    trailing: float | None = None

    def __post_init__(self) -> None:
        for name in ("stop_loss", "take_profit", "trailing"):
            if getattr(self, name) is not None:
                object.__setattr__(
                    self, name, checked_number(name, getattr(self, name), above=0.0, below=1.0)
                )

    @property
    def is_active(self) -> bool:
        """Whether any of the three is set."""
        return not (self.stop_loss is None and self.take_profit is None and self.trailing is None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fraction:
    """Put a fraction of equity into each position, whatever the margin; above 1 borrows.

    At most ``1 / margin``, what equity carries: more is refused.
    """

    fraction: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "fraction", checked_number("fraction", self.fraction, above=0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedShares:
    """Trade the same number of shares each time; an order that the buying power cannot pay is not placed."""

    shares: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "shares", checked_number("shares", self.shares, above=0.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class VolatilityTarget:
    """Size a position so that it would have moved by ``annual`` a year, given the last ``window`` returns.

    The fraction of equity is ``annual / realised``, at most ``cap``, whatever the margin; realised is the
    annualised population deviation of simple returns up to the deciding bar. Nothing is bought while it is
    unknown or zero. A ``cap`` above ``1 / margin`` is refused.
    """

    annual: float = 0.2
    window: int = 20
    cap: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "annual", checked_number("annual", self.annual, above=0.0))
        object.__setattr__(self, "cap", checked_number("cap", self.cap, above=0.0))
        if int(self.window) != self.window or self.window < 2:  # noqa: PLR2004 - one return has no deviation
            raise SettingError(f"window is {self.window!r}: expected a whole number of returns, at least 2")


Sizing = Fraction | FixedShares | VolatilityTarget


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything about a run that is neither bars nor strategy.

    Attributes
    ----------
    cash
        Money at the start, above 0.
    costs, sizing, stops
        What a fill costs, how large a position is, and what closes it inside a bar.
    whole_shares
        Round the size down to whole shares; an order for less than one share is not placed.
    fill
        ``next_open``: a signal on the close of bar i fills at the open of the next bar that trades.
        ``same_close``: it fills at that very close, which no one can do live; results are labelled with it.
    close_final
        Close what is still held at the last close, with costs; else (the default) keep it, valued at that
        close.
    margin
        Equity needed per unit of money in the market, in (0, 1]: 0.5 lets 1,000 carry positions of 2,000. It
        allows larger sizes and makes none larger: that takes ``Fraction(fraction=2.0)`` as well.
    maintenance
        A position is liquidated at the next open after a close at which equity is at or below this fraction
        of its
        value. The default 0 liquidates when nothing is left.
    """

    cash: float = 10_000.0
    costs: Costs = field(default_factory=Costs)
    sizing: Sizing = field(default_factory=Fraction)
    stops: Stops = field(default_factory=Stops)
    whole_shares: bool = True
    fill: FillRule = "next_open"
    close_final: bool = False
    margin: float = 1.0
    maintenance: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "cash", checked_number("cash", self.cash, above=0.0))
        object.__setattr__(self, "margin", checked_number("margin", self.margin, above=0.0))
        object.__setattr__(
            self, "maintenance", checked_number("maintenance", self.maintenance, at_least=0.0, below=1.0)
        )
        if self.fill not in get_args(FillRule):
            raise SettingError(f"fill is {self.fill!r}: expected one of {', '.join(get_args(FillRule))}")
        if self.margin > 1.0:
            raise SettingError(
                f"margin is {self.margin!r}: expected a fraction of at most 1, like 0.5 for twice the cash"
            )
        for name, kind in (("costs", Costs), ("sizing", Sizing), ("stops", Stops)):
            if not isinstance(getattr(self, name), kind):
                raise SettingError(
                    f"{name} is {getattr(self, name)!r}: expected a {name} record such as {kind}"
                )
        if isinstance(self.sizing, Fraction):
            self.check_exposure("fraction", self.sizing.fraction)
        elif isinstance(self.sizing, VolatilityTarget):
            self.check_exposure("cap", self.sizing.cap)

    @property
    def leverage(self) -> float:
        """Money in the market that one unit of equity carries."""
        return 1.0 / self.margin

    def check_exposure(self, name: str, size: float) -> None:
        """Refuse a fraction of equity, below 0 for short, that equity does not carry.

        Raises
        ------
        SettingError
            Without its sign, it is above 1 / margin.
        """
        if abs(size) > self.leverage + ROUNDING:
            raise SettingError(
                f"{name} is {size!r}: expected at most {self.leverage:g} times equity, which is what "
                f"margin={self.margin:g} carries; lower it, or set margin to {1.0 / abs(size):.4g} or less"
            )
