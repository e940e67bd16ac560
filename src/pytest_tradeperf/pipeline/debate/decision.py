"""The answer for one ticker, and the settings of how answers are reached."""

import math
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from pytest_tradeperf.pipeline.debate.statements import Ruling, Statement, Vote
from pytest_tradeperf.pipeline.errors import SettingError


class Action(StrEnum):
    """What to do. Abstain is not hold: hold is an opinion, abstain is the lack of one."""

    BUY = "buy"
    SELL = "sell"
    HOLD = "hold"
    ABSTAIN = "abstain"


class StopReason(StrEnum):
    """What ended the deliberation."""

    CONSENSUS = "consensus"
    """The votes were clear; nothing was debated."""
    VOTE = "vote"
    """Contested, but only the vote was asked for."""
    CONVERGENCE = "convergence"
    """Both sides came within the convergence distance of each other."""
    TURNS = "turns"
    DEADLINE = "deadline"
    BUDGET = "budget"
    ERROR = "error"
    """A side could not speak."""
    NO_QUORUM = "no_quorum"
    """Too few analysts had an opinion."""


class Arm(StrEnum):
    """How contested tickers are decided; both arms share the same votes."""

    DEBATE = "debate"
    VOTE = "vote"


@dataclass(frozen=True, slots=True, kw_only=True)
class DebateSettings:
    """How a decision is reached; every number has a default.

    Attributes
    ----------
    deadline_seconds
        For one ticker, from its first question to its answer; at most 28, so that with clean-up a
        debate ends within 30 seconds whatever the endpoint does.
    ambiguous_low, ambiguous_high
        A pooled probability in this range is contested; 0 and 1 debate everything.
    min_agreement
        Contested as well when a smaller share of the voters' weight is on one side.
    margin
        Buy at or above 0.5 + margin, sell at or below 0.5 - margin, hold between.
    min_votes
        With fewer opinions the answer is abstain.
    convergence
        The debate ends when the sides' probabilities are within this distance.
    reason_characters
        Longest reason a speaker may give: a model on this machine pays for every word with time.
    is_masked
        Ticker and dates are hidden from the model.
    may_stand_in
        The rule of the same name votes for an analyst whose model failed, and the decision says so;
        otherwise such an analyst abstains.
    """

    arm: Arm = Arm.DEBATE
    deadline_seconds: float = 25.0
    ambiguous_low: float = 0.45
    ambiguous_high: float = 0.55
    min_agreement: float = 0.60
    margin: float = 0.05
    min_votes: int = 2
    max_turns: int = 2
    convergence: float = 0.05
    horizon_sessions: int = 5
    reason_characters: int = 200
    is_masked: bool = False
    may_stand_in: bool = False

    def __post_init__(self) -> None:
        if self.arm not in set(Arm):
            raise SettingError(f"debate setting arm must be one of {', '.join(Arm)}, not {self.arm!r}")
        object.__setattr__(self, "arm", Arm(self.arm))
        bounds: dict[str, tuple[float, float]] = {
            "deadline_seconds": (0.001, 28),
            "ambiguous_low": (0, 0.5),
            "ambiguous_high": (0.5, 1),
            "min_agreement": (0, 1),
            "margin": (0, 0.5),
            "min_votes": (1, 1000),
            "max_turns": (1, 10),
            "convergence": (0, 1),
            "horizon_sessions": (1, 1000),
            "reason_characters": (0, 200),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not (low <= value <= high and math.isfinite(value)):
                raise SettingError(f"debate setting {name} must be in [{low:g}, {high:g}], not {value!r}")

    @property
    def stage_ends(self) -> tuple[float, float, float]:
        """Seconds after the start at which votes, turns and rulings must be in.

        What one stage does not use is the next one's. The last one leaves time to tidy up.
        """
        votes, turns, rulings = (0.4, 0.75, 0.97) if self.arm is Arm.DEBATE else (0.97, 0.97, 0.97)
        return (
            votes * self.deadline_seconds,
            turns * self.deadline_seconds,
            rulings * self.deadline_seconds,
        )

    @property
    def calls_of_a_debate(self) -> int:
        """Calls a fully contested ticker costs beyond its votes: two a turn, two judges."""
        return 2 * self.max_turns + 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do with one ticker, how sure, how it was reached, and what that took.

    ``probability`` is of a rise within the horizon, None with abstain. ``vote_probability`` is what the
    voting arm says from the same votes. ``calls_saved`` counts the debate calls a clear vote made
    needless. ``order_gap`` is how far the judge's two rulings differ: its bias for who speaks first.
    ``degraded`` names everything that did not go as planned, sorted.
    """

    ticker: str
    as_of: str
    action: Action
    probability: float | None
    stop_reason: StopReason
    arm: Arm
    is_contested: bool
    vote_probability: float | None
    agreement: float
    votes: tuple[Vote, ...]
    statements: tuple[Statement, ...] = ()
    rulings: tuple[Ruling, ...] = ()
    degraded: tuple[str, ...] = ()
    calls: int = 0
    calls_saved: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    wall_seconds: float = 0.0

    @property
    def conviction(self) -> float:
        """Signed conviction in [-1, 1]: 0 for abstain and even odds."""
        return 0.0 if self.probability is None else 2 * self.probability - 1

    @property
    def turns(self) -> int:
        """Turns in which at least one side spoke."""
        return max((s.turn for s in self.statements), default=0)

    @property
    def order_gap(self) -> float | None:
        """Distance of the two rulings; None unless both were given."""
        if len(self.rulings) != 2:  # noqa: PLR2004 - one for each order
            return None
        return abs(self.rulings[0].probability - self.rulings[1].probability)

    @property
    def record(self) -> dict[str, Any]:
        """The decision as plain JSON data without its duration: equal for equal decisions."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "wall_seconds"}
        for name in ("votes", "statements", "rulings"):
            plain[name] = [{f.name: getattr(item, f.name) for f in fields(item)} for item in plain[name]]
        return plain | {"degraded": list(self.degraded)}


def action_for(probability: float | None, margin: float) -> Action:
    """Return what a probability of a rise means.

    Examples
    --------
    >>> [action_for(p, 0.05).value for p in (0.56, 0.5, 0.44, None)]
    ['buy', 'hold', 'sell', 'abstain']
    """
    if probability is None:
        return Action.ABSTAIN
    # rounded, so that 0.55 - 0.5 >= 0.05 holds although its doubles do not
    lead = round(probability - 0.5, 12)
    if lead == 0:
        return Action.HOLD
    return Action.BUY if lead >= margin else Action.SELL if lead <= -margin else Action.HOLD
