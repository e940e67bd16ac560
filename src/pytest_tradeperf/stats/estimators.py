"""Robust point estimates and spreads of few, skewed, occasionally disturbed values."""

from collections.abc import Sequence
from statistics import median


def low_decile(values: Sequence[float]) -> float:
    """Return the 10 % quantile of ``values`` (linear interpolation); what undisturbed code costs.

    Under bursts of foreign load the lower tail of round times moves far less than the median, and
    one lucky round moves it less than the minimum.

    Raises
    ------
    ValueError
        For no values.

    Examples
    --------
    >>> low_decile([10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20])
    11.0
    >>> low_decile([7])
    7.0
    """
    return quantile(values, 0.1)


def quantile(values: Sequence[float], q: float) -> float:
    """Return the ``q`` quantile of ``values`` (Hyndman and Fan 1996, type 7: linear).

    Raises
    ------
    ValueError
        For no values, or a ``q`` outside 0..1.

    Examples
    --------
    >>> quantile([3, 1, 2], 0.5), quantile([0, 10], 0.25)
    (2.0, 2.5)
    """
    if not 0 <= q <= 1:
        raise ValueError(f"a quantile lies between 0 and 1, not at {q!r}")
    if not values:
        raise ValueError("no values to take a quantile of")
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def robust_sd(values: Sequence[float]) -> float:
    """Return 1.4826 x the median absolute deviation, normal-consistent (Hampel 1974); 0 for one value.

    Raises
    ------
    ValueError
        For no values.

    Examples
    --------
    >>> round(robust_sd([1, 2, 3, 4, 100]), 4)
    1.4826
    """
    centre = median(values)
    return 1.4826 * float(median(abs(v - centre) for v in values))
