"""Deciding from process pairs while they come in: exact sequential sign tests with a fixed horizon.

One pair gives one number, the log ratio of what both sides cost. Under "the true ratio is at most
1 + threshold" each pair lies above the threshold with probability at most 1/2, whatever the shape
and the tails of the noise: counting signs needs no other assumption, and one disturbed pair is one
vote. The counts that end the test are computed exactly, so that looking after every pair costs
nothing: the probability of ever crossing within the horizon is at most alpha.

Method: Armitage, Sequential Medical Trials (1960), with the spending of Lan and DeMets (1983);
intervals by inversion, as for the median (Conover 1999, section 3.2).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from statistics import NormalDist, median

_E: float = math.e - 1


@lru_cache(maxsize=64)
def boundaries(alpha: float, horizon: int) -> tuple[int, ...]:
    """Return how many of the first n signs must be positive to reject, for n = 1 .. ``horizon``.

    n + 1, which no count reaches, where n pairs cannot decide. The error is spent as Pocock would,
    ``alpha * log(1 + (e - 1) n / horizon)``. Costs horizon squared, once.

    Examples
    --------
    >>> boundaries(0.05, 10)
    (2, 3, 4, 5, 6, 6, 7, 7, 8, 9)
    """
    bounds: list[int] = []
    alive = [1.0]  # probability of each count of positive signs among paths that have not crossed
    spent = 0.0
    for n in range(1, horizon + 1):
        stepped = [0.0] * (n + 1)
        for count, probability in enumerate(alive):
            stepped[count] += probability / 2
            stepped[count + 1] += probability / 2
        allowance = alpha * math.log1p(_E * n / horizon) - spent
        bound, crossing = n + 1, 0.0
        while bound > 0 and crossing + stepped[bound - 1] <= allowance:
            bound -= 1
            crossing += stepped[bound]
        spent += crossing
        bounds.append(bound)
        alive = [p if count < bound else 0.0 for count, p in enumerate(stepped)]
    return tuple(bounds)


def lower_limit(values: Sequence[float], bounds: Sequence[int]) -> float:
    """Return the largest median that the boundaries reject from above; minus infinity for none."""
    needed = bounds[len(values) - 1] if values else 1
    return sorted(values, reverse=True)[needed - 1] if needed <= len(values) else -math.inf


def upper_limit(values: Sequence[float], bounds: Sequence[int]) -> float:
    """Return the smallest median that the boundaries reject from below; infinity for none."""
    return -lower_limit([-v for v in values], bounds)


class Answer(StrEnum):
    """What the pairs say so far."""

    REGRESSED = "regressed"
    IMPROVED = "improved"
    OK = "ok"
    OPEN = "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The state after some pairs, as changes of cost: 0.02 is 2 % slower.

    ``low`` and ``high`` bound the change at the design's confidence, each side on its own, for all
    looks together; ``detectable`` is the smallest regression that would have shown.
    """

    answer: Answer
    pairs: int
    change: float
    low: float
    high: float
    detectable: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """How one (test, metric) is decided.

    ``alpha``: probability to call a change at or below the threshold a regression. ``miss``:
    probability to call a change at the threshold harmless, or harmless code improved; it is also
    one minus the confidence level of each end of the interval. ``horizon``: most pairs.
    """

    alpha: float
    miss: float = 0.05
    horizon: int = 60

    @property
    def fewest(self) -> int:
        """Return the fewest pairs that can show a regression."""
        found = (n for n, bound in enumerate(boundaries(self.alpha, self.horizon), 1) if bound <= n)
        return next(found, self.horizon + 1)

    def look(self, log_ratios: Sequence[float], threshold: float) -> Look:
        """Return what ``log_ratios`` (present over accepted, worse is positive) say about ``threshold``.

        Raises
        ------
        ValueError
            For no pairs or more than the horizon.
        """
        pairs = len(log_ratios)
        if not 1 <= pairs <= self.horizon:
            raise ValueError(f"{pairs} pairs for a horizon of {self.horizon}")
        limit = math.log1p(threshold)
        loose = boundaries(self.miss, self.horizon)
        certain = lower_limit(log_ratios, boundaries(self.alpha, self.horizon))
        low, high = max(certain, lower_limit(log_ratios, loose)), upper_limit(log_ratios, loose)
        centre = median(log_ratios)
        room = max(high, high - centre)
        if certain > limit:
            answer = Answer.REGRESSED
        elif high < -limit:
            answer = Answer.IMPROVED
        elif room <= limit:
            answer = Answer.OK
        else:
            answer = Answer.OPEN
        return Look(
            answer=answer,
            pairs=pairs,
            change=math.expm1(centre),
            low=math.expm1(low),
            high=_expm1(high),
            detectable=_expm1(room),
        )

    def pairs_needed(self, log_ratios: Sequence[float], threshold: float) -> float:
        """Return about how many pairs would decide, if the rest is like these; infinity when none would.

        From the normal approximation of the sign test's power at 90 %.
        """
        limit = math.log1p(threshold)
        above = sum(v > limit for v in log_ratios)
        share = (above + 0.5) / (len(log_ratios) + 1)
        level = self.alpha if share > 0.5 else self.miss  # noqa: PLR2004 - the null share
        distance = abs(share - 0.5)
        if distance * math.sqrt(len(log_ratios)) < 0.5:  # noqa: PLR2004 - within one standard error of it
            return math.inf
        normal = NormalDist()
        spread = normal.inv_cdf(1 - level) / 2 + normal.inv_cdf(0.9) * math.sqrt(share * (1 - share))
        return math.ceil((spread / distance) ** 2)


def _expm1(value: float) -> float:
    return math.inf if value == math.inf else math.expm1(value)
