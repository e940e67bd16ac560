"""What a number stored earlier can honestly say about a timing measured now.

Between sessions on one shared machine unchanged code moved by 4-6 % of CPU time and 39-41 % of wall time
in the median, with longer tails: on a virtual machine with two CPUs a call took 1.8 and 1.9 times the CPU
time that it had taken seconds before. A stored number therefore decides only a difference far beyond
that; everything smaller is left undecided.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from pytest_tradeperf.stats.estimators import robust_sd

FLOOR: Final = 1.5
"""Smallest relative growth of a time that a stored number is allowed to call."""

SPREADS: Final = 6.0
"""Changes must also exceed this many robust standard deviations of what was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEstimate:
    """Relative change of the fresh values against the accepted one, and what could have been seen."""

    change: float
    low: float
    high: float
    detectable: float


def against_stored(
    accepted: float, accepted_noise: float, fresh: Sequence[float], *, floor: float
) -> StoredEstimate:
    """Return the change of ``fresh`` (one value a process) against ``accepted``.

    The interval spans the values seen; a regression is certain when even ``low``, the friendliest
    process, lies beyond ``detectable``. ``accepted_noise`` is the relative spread at acceptance.
    """
    if accepted <= 0 or not fresh:
        raise ValueError(
            f"need a positive accepted value and fresh values, not {accepted!r} and {len(fresh)} values"
        )
    ratios = [value / accepted for value in fresh]
    centre = median(ratios)
    # Values of 0, below the clock's resolution, have no relative spread of their own.
    spread = max(accepted_noise, robust_sd(ratios) / centre if centre > 0 else 0.0)
    return StoredEstimate(
        change=centre - 1,
        low=min(ratios) - 1,
        high=max(ratios) - 1,
        detectable=max(floor, SPREADS * spread),
    )
