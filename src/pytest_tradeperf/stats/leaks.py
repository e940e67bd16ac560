"""Whether a series of snapshots goes up, and how steeply, without trusting any single one."""

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import NormalDist, median


def rising_p_value(values: Sequence[float]) -> float:
    """Return the one-sided p-value of the Mann-Kendall test that ``values`` rise (Mann 1945, Kendall 1975).

    Normal approximation with correction for ties and continuity. Equal values give 1.

    Raises
    ------
    ValueError
        For fewer than four values, which cannot show a trend.

    Examples
    --------
    >>> round(rising_p_value([1, 2, 3, 4, 5, 6, 7, 8]), 5)
    0.00042
    >>> rising_p_value([5, 5, 5, 5])
    1.0
    """
    n = len(values)
    if n < 4:  # noqa: PLR2004 - says so above
        raise ValueError(f"a trend needs at least four values, not {n}")
    score = sum((later > earlier) - (later < earlier) for earlier, later in combinations(values, 2))
    ties = [values.count(value) for value in set(values)]
    variance = (n * (n - 1) * (2 * n + 5) - sum(t * (t - 1) * (2 * t + 5) for t in ties)) / 18
    if variance == 0:
        return 1.0
    z = (score - math.copysign(1, score)) / math.sqrt(variance) if score else 0.0
    return 1 - NormalDist().cdf(z)


def theil_sen_slope(values: Sequence[float]) -> float:
    """Return the median slope over all pairs of equally spaced ``values`` (Theil 1950, Sen 1968).

    A few large steps (a table that doubles) leave it near zero. O(n^2).

    Examples
    --------
    >>> theil_sen_slope([0, 3, 6, 9, 1000])
    3.0
    """
    if len(values) < 2:  # noqa: PLR2004 - two points make a line
        raise ValueError(f"a slope needs at least two values, not {len(values)}")
    pairs = combinations(enumerate(values), 2)
    return float(median((later - earlier) / (j - i) for (i, earlier), (j, later) in pairs))
