"""One number from one process pair: the log ratio of two processes that took turns."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Final

from pytest_tradeperf.stats.estimators import robust_sd

_KEPT: Final = 0.5
_FEW: Final = 40
_LOWEST: Final = 3
_EFFICIENCY: Final = 1.2533
"""Standard error of a median over that of a mean, for normal noise: sqrt(pi / 2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRatio:
    """A log ratio and its standard error within this process pair."""

    value: float
    error: float


def paired_log_ratio(base: Sequence[float], head: Sequence[float]) -> LogRatio:
    """Return the median log ratio over the less disturbed half of the turns, or of the lowest few.

    ``base`` and ``head`` hold one positive cost a turn. Both sides of a turn ran within
    milliseconds, so a machine that is slow for a while slows both; turns are ranked by what both
    sides cost together, which favours neither. Measured beside low quantiles of each side alone in
    docs/pairing.md.

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
    if len(base) < _FEW:
        lowest = [fmean(sorted(side)[:_LOWEST]) for side in (base, head)]
        return LogRatio(value=math.log(lowest[1] / lowest[0]), error=math.inf)
    turns = sorted(zip(base, head, strict=True), key=lambda turn: turn[0] * turn[1])
    kept = turns[: math.ceil(_KEPT * len(turns))]
    ratios = [math.log(after / before) for before, after in kept]
    return LogRatio(value=median(ratios), error=_EFFICIENCY * robust_sd(ratios) / math.sqrt(len(ratios)))
