"""How orders are sized, filled and charged: frozen records, checked when they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from pytest_tradeperf.pipeline.errors import SettingError

FillRule = Literal["next_open", "same_close"]
BPS = 1e-4


def checked_number(
    name: str, value: float, *, above: float = -math.inf, at_least: float = -math.inf
) -> float:
    """Return the value as a finite float inside its range.

    Raises
    ------
    SettingError
        Not a number, not finite, or out of range.
    """
    bound = (
        f"above {above:g}"
        if above > -math.inf
        else f"{at_least:g} or more"
        if at_least > -math.inf
        else "finite"
    )
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise SettingError(f"{name} is {value!r}: expected a number, {bound}") from error
    if not math.isfinite(number) or number <= above or number < at_least:
        raise SettingError(f"{name} is {value!r}: expected a finite number, {bound}")
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
    slippage_bps, spread_bps
        Market and stop orders fill worse than the price by slippage and half the spread, in basis points.
        Limit orders and take-profits fill at their price.
    """

    fees_bps: float = 0.0
    fee_fixed: float = 0.0
    slippage_bps: float = 0.0
    spread_bps: float = 0.0

    def __post_init__(self) -> None:
        for name in ("fees_bps", "fee_fixed", "slippage_bps", "spread_bps"):
            object.__setattr__(self, name, checked_number(name, getattr(self, name), at_least=0.0))
        if self.fees_bps >= 1 / BPS or self.impact >= 1.0:
            raise SettingError(
                f"fees_bps={self.fees_bps:g} with slippage and spread of {self.impact / BPS:g} bps would "
                f"take the whole "
                "price: expected less than 10000 bps (100 %) each"
            )

    @property
    def fee_rate(self) -> float:
        """Commission as a fraction of the money traded."""
        return self.fees_bps * BPS

    @property
    def impact(self) -> float:
        """Slippage and half the spread as a fraction of the price."""
        return (self.slippage_bps + self.spread_bps / 2.0) * BPS


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything about a run that is neither bars nor strategy.

    Attributes
    ----------
    cash
        Money at the start, above 0.
    fraction
        Share of equity put into a new position, above 0; more than 1 borrows.
    whole_shares
        Round the size down to whole shares; an order for less than one share is not placed.
    fill
        ``next_open``: a signal on the close of bar i fills at the open of the next bar that trades.
        ``same_close``: it fills at that very close, which no one can do live; results are labelled with it.
    close_final
        Close what is still held at the last close, with costs; else keep it, valued at the last close.
    """

    cash: float = 10_000.0
    costs: Costs = field(default_factory=Costs)
    fraction: float = 1.0
    whole_shares: bool = True
    fill: FillRule = "next_open"
    close_final: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "cash", checked_number("cash", self.cash, above=0.0))
        object.__setattr__(self, "fraction", checked_number("fraction", self.fraction, above=0.0))
        if self.fill not in get_args(FillRule):
            raise SettingError(f"fill is {self.fill!r}: expected one of {', '.join(get_args(FillRule))}")
