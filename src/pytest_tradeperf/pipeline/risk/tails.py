"""Measures over arrays of returns; numpy is loaded when they are called."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from pytest_tradeperf.pipeline.errors import SettingError
from pytest_tradeperf.pipeline.risk.checks import positive

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

# Forgives the last rounding of a product, so that 0.75 of 4 periods is the third.
ROUNDING: Final = 1e-9


def value_at_risk(returns: ArrayLike, level: float = 0.99) -> tuple[float, float]:
    """Return the historical value at risk and the expected shortfall, as positive losses.

    Parameters
    ----------
    returns
        Fractions of shape (n_periods,); NaN is left out.
    level
        Confidence, between 0 and 1.

    Returns
    -------
    value at risk : float
        Loss that the share `level` of the periods did not exceed: the smallest such loss that occurred.
    expected shortfall : float
        Mean of the losses at least that large. Both are NaN without returns.

    Examples
    --------
    >>> value_at_risk([0.01, -0.02, -0.04, 0.03], 0.75)
    (0.02, 0.03)
    """
    import numpy as np

    if not 0.0 < level < 1.0:
        raise SettingError(f"level is {level!r}: expected a fraction between 0 and 1, like 0.99")
    losses = -np.asarray(returns, dtype=np.float64).ravel()
    losses = np.sort(losses[~np.isnan(losses)])
    if losses.size == 0:
        return (math.nan, math.nan)
    place = min(losses.size - 1, math.ceil(level * losses.size - ROUNDING) - 1)
    limit = float(losses[place])
    return (limit, float(losses[losses >= limit].mean()))


def annual_volatility(returns: ArrayLike, periods_per_year: float = 252.0) -> float:
    """Return the sample standard deviation of returns, scaled to a year; NaN for fewer than two."""
    import numpy as np

    positive("periods_per_year", periods_per_year)
    known = np.asarray(returns, dtype=np.float64).ravel()
    known = known[~np.isnan(known)]
    return float(known.std(ddof=1) * math.sqrt(periods_per_year)) if known.size > 1 else math.nan
