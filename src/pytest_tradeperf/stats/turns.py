"""One number from one process pair: the log ratio of two processes that took turns."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from pytest_tradeperf.stats.estimators import robust_sd

_EFFICIENCY: Final = 1.2533
"""Standard error of a median over that of a mean, for normal noise: sqrt(pi / 2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRatio:
    """A log ratio and its standard error within this process pair."""

    value: float
    error: float


def paired_log_ratio(base: Sequence[float], head: Sequence[float]) -> LogRatio:
    """Return the median log ratio over the turns, and its standard error (0 for one turn).

    ``base`` and ``head`` hold one positive cost a turn. Both sides of a turn ran within milliseconds, or
    at once on one CPU, so a machine that is slow for a while slows both. Measured beside quantiles of each
    side alone, and beside the quieter turns alone, in docs/pairing.md.

    Raises
    ------
    ValueError
        For no turns, or different numbers of them.

    Examples
    --------
    >>> round(paired_log_ratio([10, 10, 20, 30], [11, 11, 22, 90]).value, 4)  # log 1.1
    0.0953
    """
    if not base or len(base) != len(head):
        raise ValueError(f"{len(base)} and {len(head)} turns make no pairs")
    ratios = [math.log(after / before) for before, after in zip(base, head, strict=True)]
    return LogRatio(value=median(ratios), error=_EFFICIENCY * robust_sd(ratios) / math.sqrt(len(ratios)))
