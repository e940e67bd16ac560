"""Quantities from a budget of value, loss or volatility; the limits come after."""

from __future__ import annotations

from pytest_tradeperf.pipeline.errors import SettingError
from pytest_tradeperf.pipeline.risk.checks import positive, share_of_one


def size_by_fraction(equity: float, price: float, fraction: float) -> float:
    """Return the quantity whose value is a fraction of equity."""
    positive("price", price)
    share_of_one("fraction", fraction)
    return max(0.0, equity) * fraction / price


def size_by_stop(equity: float, price: float, stop_price: float, risk: float = 0.01) -> float:
    """Return the quantity that loses a fraction of equity between price and stop.

    Examples
    --------
    >>> size_by_stop(10_000, 50.0, 48.0, 0.01)
    50.0
    """
    positive("price", price)
    positive("stop_price", stop_price)
    share_of_one("risk", risk)
    if price == stop_price:
        raise SettingError(f"stop_price is {stop_price!r}, the price itself: expected a distance to size by")
    return max(0.0, equity) * risk / abs(price - stop_price)


def size_by_volatility(equity: float, price: float, volatility: float, target: float = 0.10) -> float:
    """Return the quantity whose value moves the equity by the target volatility.

    Parameters
    ----------
    volatility, target
        Annual standard deviations of return, of the symbol and of the equity wanted.
    """
    positive("price", price)
    positive("volatility", volatility)
    share_of_one("target", target)
    return max(0.0, equity) * target / volatility / price


def kelly_fraction(win_rate: float, payoff: float, share: float = 0.5) -> float:
    """Return the fraction of equity that grows it fastest, times a share for safety (J. L. Kelly, 1956).

    Parameters
    ----------
    win_rate
        Probability of a win, in 0..1.
    payoff
        Average win / average loss, above 0.
    share
        Of the full fraction, in 0..1.

    Returns
    -------
    float
        0 where there is no edge.

    Examples
    --------
    >>> kelly_fraction(0.75, 1.0, 1.0)
    0.5
    """
    share_of_one("win_rate", win_rate)
    positive("payoff", payoff)
    share_of_one("share", share)
    return max(0.0, share * (win_rate * (payoff + 1.0) - 1.0) / payoff)
