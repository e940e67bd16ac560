"""Sessions played again from recorded pairs: how often would the gate have alarmed or found a change."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pytest_tradeperf.stats.sequential import Answer, Design

_TAIL: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How often something happened, with its exact interval (Clopper and Pearson 1934), each end 95 %."""

    count: int
    trials: int

    @property
    def share(self) -> float:
        """Count over trials."""
        return self.count / self.trials

    @property
    def upper(self) -> float:
        """The largest share under which so few would still come about in one of 20 cases."""
        if self.count >= self.trials:
            return 1.0
        low, high = 0.0, 1.0
        for _ in range(60):  # bisection: the probability falls as the share grows
            middle = (low + high) / 2
            if _at_most(self.count, self.trials, middle) > _TAIL:
                low = middle
            else:
                high = middle
        return high

    @property
    def lower(self) -> float:
        """The smallest share under which so many would still come about in one of 20 cases."""
        missed = Rate(count=self.trials - self.count, trials=self.trials)
        return 1.0 - missed.upper if self.count else 0.0


def _at_most(count: int, trials: int, p: float) -> float:
    """Return the probability of at most ``count`` of ``trials``."""
    return math.fsum(math.comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(count + 1))


def decide(
    ratios: Sequence[float], design: Design, threshold: float, dice: random.Random, *, shift: float = 0.0
) -> tuple[Answer, int]:
    """Return what a test with these pair noises and a true log change ``shift`` comes to, and its pairs.

    Pairs are drawn from ``ratios`` with replacement, as fresh process pairs would be.
    """
    drawn: list[float] = []
    answer = Answer.OPEN
    while answer is Answer.OPEN and len(drawn) < design.horizon:
        drawn.append(dice.choice(ratios) + shift)
        answer = design.look(drawn, threshold).answer
    return answer, len(drawn)


def alarms(
    tests: Sequence[Sequence[float]], design: Design, threshold: float, *, sessions: int, seed: int
) -> Rate:
    """Return in how many of ``sessions`` at least one unchanged test would have failed."""
    dice = random.Random(seed)
    count = sum(
        any(decide(ratios, design, threshold, dice)[0] is Answer.REGRESSED for ratios in tests)
        for _ in range(sessions)
    )
    return Rate(count=count, trials=sessions)


def detections(
    ratios: Sequence[float], design: Design, threshold: float, shift: float, *, trials: int, seed: int
) -> Rate:
    """Return how often a true log change ``shift`` would have been called a regression."""
    dice = random.Random(seed)
    count = sum(
        decide(ratios, design, threshold, dice, shift=shift)[0] is Answer.REGRESSED for _ in range(trials)
    )
    return Rate(count=count, trials=trials)
