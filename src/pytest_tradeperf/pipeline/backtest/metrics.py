"""Numbers that describe an equity curve. Every sum is taken in the order of time, one addition at a time.

That order is part of the definition: the fast engines add while they walk through the bars, and their metrics
must equal these to the last bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# A spread of returns this much smaller than the returns themselves is rounding, not volatility.
ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveMetrics:
    """What the equity curve alone says.

    Attributes
    ----------
    total_return
        Final over initial equity, minus 1.
    sharpe
        Arithmetic: mean over sample standard deviation of the returns from bar to bar, times the square root
        of
        the periods a year, with a risk-free rate of zero (W. F. Sharpe, 1994). NaN without variation.
    max_drawdown
        Largest fall from a peak of equity, a fraction <= 0.
    """

    total_return: float
    sharpe: float
    max_drawdown: float


def curve_metrics(equity: NDArray[np.float64], *, cash: float, periods_per_year: float) -> CurveMetrics:
    """Return the metrics of an equity curve of shape (n_bars,); an empty curve has lost nothing."""
    path = equity.tolist()
    total = square = 0.0
    peak = before = path[0] if path else cash
    deepest = 0.0
    for value in path[1:]:
        change = value / before - 1.0 if before > 0.0 else 0.0
        total += change
        square += change * change
        peak = max(peak, value)
        deepest = min(deepest, value / peak - 1.0)
        before = value
    return CurveMetrics(
        total_return=before / cash - 1.0,
        sharpe=_sharpe(total, square, len(path) - 1, periods_per_year),
        max_drawdown=deepest,
    )


def _sharpe(total: float, square: float, n_returns: int, periods_per_year: float) -> float:
    if n_returns <= 1:
        return math.nan
    variance = (square - total * total / n_returns) / (n_returns - 1)
    if variance <= ROUNDING * square / n_returns:
        return math.nan
    return total / n_returns / math.sqrt(variance) * math.sqrt(periods_per_year)
