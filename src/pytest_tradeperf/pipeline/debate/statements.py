"""What was said: votes, statements of a turn, rulings, and how votes are counted."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """One analyst on one ticker. ``probability`` None is an abstention, and ``error`` its kind.

    ``probability`` is of a rise, in [0, 1]; ``confidence`` in [0, 1] scales the analyst's ``weight``.
    """

    analyst: str
    probability: float | None
    confidence: float = 0.0
    weight: float = 1.0
    reason: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One side in one turn."""

    turn: int
    side: str
    probability: float
    confidence: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """The judge's answer when ``first`` spoke first."""

    first: str
    probability: float
    confidence: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Votes counted: the pooled probability (None without votes) and how far the voters agree.

    ``agreement`` is the share of weight on the majority's side of 0.5, 1 for one opinion, 0 without any.
    """

    probability: float | None
    agreement: float
    n_votes: int


def tally(votes: Sequence[Vote]) -> Tally:
    """Return the linear opinion pool (Stone, 1961) of the votes that are no abstentions.

    Each counts weight x confidence; where every confidence is 0, weight alone. The sum is taken in the
    order of the analysts' names, so the order of arrival cannot move the last digit.

    Examples
    --------
    >>> tally([Vote(analyst="a", probability=0.8, confidence=0.5), Vote(analyst="b", probability=0.4,
    ...        confidence=0.5), Vote(analyst="c", probability=None, error="timeout")])
    Tally(probability=0.6, agreement=0.5, n_votes=2)
    """
    said = sorted(
        (
            (v.analyst, v.probability, v.weight * v.confidence, v.weight)
            for v in votes
            if v.probability is not None
        ),
    )
    if not said:
        return Tally(probability=None, agreement=0.0, n_votes=0)
    if all(strength < sys.float_info.min for _, _, strength, _ in said):  # too small to be divided by
        said = [(name, p, weight, weight) for name, p, _, weight in said]
    total = math.fsum(strength for _, _, strength, _ in said)
    pooled = math.fsum(p * strength for _, p, strength, _ in said) / total
    up = math.fsum(strength for _, p, strength, _ in said if p >= 0.5) / total  # noqa: PLR2004 - even odds
    return Tally(
        probability=round(min(1.0, max(0.0, pooled)), 12),
        agreement=round(max(up, 1 - up), 12),
        n_votes=len(said),
    )
