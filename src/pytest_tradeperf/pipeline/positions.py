"""How much to hold for each decision: risk to a stop, scaled by conviction, cut by the limits."""

from collections.abc import Mapping, Sequence
from typing import Final

from pytest_tradeperf.pipeline.debate.decision import Action
from pytest_tradeperf.pipeline.desk import OpenTrade, Outcome, Position, strongest
from pytest_tradeperf.pipeline.risk import Limits, Order, Portfolio, allowed, size_by_stop
from pytest_tradeperf.pipeline.risk import Position as Holding

_FULL_CONVICTION: Final = 0.5
"""A probability of 0.75 or 0.25 risks all that may be risked; less conviction, less in proportion."""
_ATRS_TO_STOP: Final = 2.0
"""Two average true ranges away, a stop is out of reach of most days' noise."""


class RiskSizer:
    """Positions from risk at the stop, within limits over all of them.

    Parameters
    ----------
    equity
        Value of the account, US dollars.
    risk
        Fraction of it that one position may lose at its stop.
    """

    def __init__(
        self,
        equity: float,
        *,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        risk: float = 0.01,
    ) -> None:
        self._equity, self._limits, self._risk = equity, limits, risk

    def size(self, outcomes: Sequence[Outcome], held: Sequence[OpenTrade]) -> Mapping[str, Position]:
        """Return a position for each buy or sell, the strongest conviction first in line.

        A trade already open in the same direction is kept as it is; one in the other direction is closed
        first. Tickers without a price or an average true range get none.
        """
        prices = {outcome.decision.ticker: outcome.researched.price for outcome in outcomes}
        portfolio = self._portfolio(held, prices)
        positions: dict[str, Position] = {}
        for outcome in strongest(outcomes, len(outcomes)):
            ticker, price = outcome.decision.ticker, prices[outcome.decision.ticker]
            atr = outcome.researched.evidence.facts.get("atr_share", 0.0)
            stop = stop_for(outcome.decision.action, price or 0.0, atr)
            if price is None or stop is None:
                continue
            side = 1 if outcome.decision.action is Action.BUY else -1
            before = next((p.quantity for p in portfolio.positions if p.symbol == ticker), 0.0)
            if before * side > 0:
                positions[ticker] = self._position(before, price, stop, "held already")
                continue
            scale = min(1.0, abs(outcome.decision.conviction) / _FULL_CONVICTION)
            wanted = size_by_stop(self._equity, price, stop, self._risk * scale)
            order = Order(symbol=ticker, quantity=side * wanted - before, price=price, stop_price=stop)
            allowance = allowed(order, portfolio, self._limits)
            quantity = before + allowance.quantity
            portfolio = _after(portfolio, ticker, quantity, price)
            note = (
                f"cut by {', '.join(allowance.cut_by)}" if allowance.cut_by else f"{scale:.0%} of full risk"
            )
            if quantity * side > 0:
                positions[ticker] = self._position(quantity, price, stop, note)
        return positions

    def _position(self, quantity: float, price: float, stop: float, note: str) -> Position:
        share = quantity * price / self._equity
        return Position(quantity=quantity, entry_price=price, stop_price=stop, share=share, note=note)

    def _portfolio(self, held: Sequence[OpenTrade], prices: Mapping[str, float | None]) -> Portfolio:
        """Return the account as it stands: open trades at today's price where there is one."""
        quantities: dict[str, float] = {}
        marks: dict[str, float] = {}
        for trade in held:
            quantities[trade.ticker] = quantities.get(trade.ticker, 0.0) + trade.quantity
            marks[trade.ticker] = prices.get(trade.ticker) or trade.entry_price
        holdings = tuple(
            Holding(symbol=ticker, quantity=quantity, price=marks[ticker])
            for ticker, quantity in quantities.items()
            if quantity
        )
        return Portfolio(cash=self._equity - sum(h.value for h in holdings), positions=holdings)


def stop_for(action: Action, price: float, atr_share: float) -> float | None:
    """Return the price at which a buy or sell is given up; None where it cannot be told.

    Parameters
    ----------
    atr_share
        Average true range as a fraction of the price.

    Examples
    --------
    >>> [stop_for(Action.BUY, 100.0, 0.02), stop_for(Action.SELL, 100.0, 0.02)]
    [96.0, 104.0]
    >>> stop_for(Action.BUY, 100.0, 0.5) is None  # the stop would be at nothing
    True
    """
    distance = _ATRS_TO_STOP * atr_share
    if price <= 0 or not 0 < distance < 1 or action not in (Action.BUY, Action.SELL):
        return None
    return price * (1 - distance) if action is Action.BUY else price * (1 + distance)


def _after(portfolio: Portfolio, ticker: str, quantity: float, price: float) -> Portfolio:
    """Return the account once ``ticker`` is held in ``quantity``, bought or sold at ``price``."""
    others = tuple(p for p in portfolio.positions if p.symbol != ticker)
    mine = (Holding(symbol=ticker, quantity=quantity, price=price),) if quantity else ()
    value = sum(p.value for p in (*others, *mine))
    return Portfolio(cash=portfolio.equity - value, positions=(*others, *mine))
