"""Round trips: from the fill that opens a position to the fill that closes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ExitReason = Literal["signal", "reversal", "end", "open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """One round trip.

    Attributes
    ----------
    shares
        Above 0 for a long, below 0 for a short position.
    entry_bar, exit_bar
        Numbers of the bars on which the fills happened; ``exit_bar`` is -1 while the position is open.
    entry_price, exit_price
        Prices paid and received, slippage and spread included; an open trade has the last close as exit
        price.
    fees
        Commission of both fills, in money.
    reason
        What closed it: a ``signal`` to leave, a ``reversal`` to the other side, the ``end`` of the bars;
        ``open``
        if nothing did.
    """

    symbol: str
    shares: float
    entry_bar: int
    exit_bar: int
    entry_price: float
    exit_price: float
    fees: float
    reason: ExitReason

    @property
    def profit(self) -> float:
        """Money won, fees paid."""
        return self.shares * (self.exit_price - self.entry_price) - self.fees

    @property
    def return_fraction(self) -> float:
        """Profit relative to the money put in."""
        return self.profit / (abs(self.shares) * self.entry_price)

    @property
    def is_open(self) -> bool:
        """Whether the position was kept to the end."""
        return self.exit_bar < 0
