"""Round trips: from the fill that opens a position to the fill that closes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIGNAL: Final = 0
REVERSAL: Final = 1
END: Final = 2
OPEN: Final = 3
STOP_LOSS: Final = 4
TAKE_PROFIT: Final = 5
TRAILING: Final = 6
MARGIN: Final = 7
# What the codes above are called in tables, by number.
REASONS: Final = ("signal", "reversal", "end", "open", "stop_loss", "take_profit", "trailing", "margin")


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
        What closed it: a ``signal`` to leave, a ``reversal`` to the other side, the ``end`` of the bars, a
        ``stop_loss``, ``take_profit`` or ``trailing`` stop, a ``margin`` call; ``open`` if nothing did.
    """

    symbol: str
    shares: float
    entry_bar: int
    exit_bar: int
    entry_price: float
    exit_price: float
    fees: float
    reason: str

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TradeColumns:
    """The same trades as arrays of shape (n_trades,), the form in which engines hand them over."""

    shares: NDArray[np.float64]
    entry_bar: NDArray[np.int64]
    exit_bar: NDArray[np.int64]
    entry_price: NDArray[np.float64]
    exit_price: NDArray[np.float64]
    fees: NDArray[np.float64]
    reason: NDArray[np.int64]
    symbol: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of trades."""
        return int(self.shares.size)

    def records(self, symbols: tuple[str, ...]) -> tuple[Trade, ...]:
        """Return one record a trade, in order."""
        columns = (
            self.symbol.tolist(),
            self.shares.tolist(),
            self.entry_bar.tolist(),
            self.exit_bar.tolist(),
            self.entry_price.tolist(),
            self.exit_price.tolist(),
            self.fees.tolist(),
            self.reason.tolist(),
        )
        return tuple(
            Trade(
                symbol=symbols[symbol],
                shares=shares,
                entry_bar=entry_bar,
                exit_bar=exit_bar,
                entry_price=entry_price,
                exit_price=exit_price,
                fees=fees,
                reason=REASONS[reason],
            )
            for symbol, shares, entry_bar, exit_bar, entry_price, exit_price, fees, reason in zip(
                *columns, strict=True
            )
        )


def columns_of(rows: list[tuple[float, int, int, float, float, float, int, int]]) -> TradeColumns:
    """Return rows (shares, bars, prices, fees, reason, symbol number) as columns."""
    import numpy as np

    floats, ints = np.float64, np.int64
    columns = list(zip(*rows, strict=True)) if rows else [()] * 8
    return TradeColumns(
        shares=np.array(columns[0], dtype=floats),
        entry_bar=np.array(columns[1], dtype=ints),
        exit_bar=np.array(columns[2], dtype=ints),
        entry_price=np.array(columns[3], dtype=floats),
        exit_price=np.array(columns[4], dtype=floats),
        fees=np.array(columns[5], dtype=floats),
        reason=np.array(columns[6], dtype=ints),
        symbol=np.array(columns[7], dtype=ints),
    )
