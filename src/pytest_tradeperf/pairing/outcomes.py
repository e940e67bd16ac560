"""What the pairs of one test come to: log ratios by timing, and why there are no more of them."""

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from statistics import fmean, median
from typing import Final

from pytest_tradeperf.pairing.bursts import CPU_BOUND, Rounds, TestPair, cpu_share
from pytest_tradeperf.pairing.profiles import Growth
from pytest_tradeperf.stats.estimators import quantile, robust_sd
from pytest_tradeperf.stats.sequential import Answer, Design, Look
from pytest_tradeperf.stats.turns import paired_log_ratio

_MOVED: Final = 0.9
"""Part of the turns in which CPU time must have moved on both sides; a clock of coarse ticks says nothing."""

WAIT_SHARE: Final = 0.1
"""Part of a timing's alpha kept for what CPU time of typical calls does not show; that has the rest.

Half is for added waiting, half for calls that cost more now and then. Wall time then takes four pairs more
than CPU time would, and CPU time no more than with all of it.
"""

RARE: Final = 0.1
"""Growth of the CPU time of all calls from which they regress though typical ones do not.

A mean is uneven from pair to pair: of 948 pairs of unchanged code one lay beyond it, ten beyond half of it.
"""


class Clock(StrEnum):
    """Which number of a round is compared."""

    CPU = "cpu"
    WALL = "wall"
    ALL = "all"
    """CPU time too, of all calls and not of typical ones: a flush every thousand calls is in it."""

    VALUE = "value"


class End(StrEnum):
    """Why a test has no further pairs."""

    DECIDED = "decided"
    HORIZON = "horizon"
    TIME = "time"
    STOPPED = "stopped"
    ABSENT = "absent"
    BROKEN = "broken"
    FAILED = "failed"
    ERROR = "error"
    UNTOUCHED = "untouched"


@dataclass(slots=True)
class Series:
    """One timing of one test over the pairs: a part (``""`` is the test itself) or a recorded value.

    ``clock`` is the one that decides, fixed by the first pair. ``ratios`` are logs of present over
    accepted, worse is positive; ``levels`` what the accepted code cost, in ns or the value's unit.
    ``at_once``: both sides ran their calls at once in a pair at least.
    """

    clock: Clock
    at_once: bool = False
    ratios: dict[Clock, list[float]] = field(default_factory=dict)
    levels: dict[Clock, list[float]] = field(default_factory=dict)

    def add(self, clock: Clock, ratio: float, level: float) -> None:
        """Add what one pair showed: the log ratio and what the accepted code cost."""
        self.ratios.setdefault(clock, []).append(ratio)
        self.levels.setdefault(clock, []).append(level)

    def look(self, design: Design, threshold: float, clock: Clock | None = None) -> Look | None:
        """Return what the pairs say by ``clock``, or by the one that decides; None without pairs."""
        ratios = self.ratios.get(clock or self.clock, [])
        return design.look(ratios[: design.horizon], threshold) if ratios else None

    def waiting(self, design: Design, threshold: float) -> Look | None:
        """Return a look at wall time where CPU time decides and wall time grew beyond ``threshold``.

        None elsewhere. Its answer is REGRESSED, or OPEN while the growth may be chance.
        """
        return self._beside(Clock.WALL, design, threshold)

    def rare(self, design: Design, threshold: float) -> Look | None:
        """Return the same of the CPU time of all calls, where it grew by a tenth or more."""
        return self._beside(Clock.ALL, design, max(threshold, RARE))

    def _beside(self, clock: Clock, design: Design, threshold: float) -> Look | None:
        if self.clock is not Clock.CPU:
            return None
        rest = replace(design, alpha=design.alpha * WAIT_SHARE / 2 / (1 - WAIT_SHARE))
        look = self.look(rest, threshold, clock)
        return look if look is not None and look.change > threshold else None

    def answer(self, design: Design, threshold: float) -> Answer:
        """Return what all clocks say together; ``design`` is that of the deciding one."""
        look = self.look(design, threshold)
        if look is None:
            return Answer.OPEN
        beside = [self.waiting(design, threshold), self.rare(design, threshold)]
        answers = {look.answer for look in beside if look is not None}
        if look.answer is Answer.REGRESSED or not answers:
            return look.answer
        return Answer.REGRESSED if Answer.REGRESSED in answers else Answer.OPEN

    def is_early(self, design: Design, threshold: float) -> bool:
        """Return whether wall time has regressed while CPU time, which grew as well, is still open."""
        look = self.look(design, threshold)
        is_growing = look is not None and look.answer is Answer.OPEN and look.change > threshold
        return is_growing and self.answer(design, threshold) is Answer.REGRESSED

    def level(self, clock: Clock) -> float | None:
        """Return what the accepted code cost in the median."""
        levels = self.levels.get(clock)
        return median(levels) if levels else None


@dataclass(slots=True)
class Outcome:
    """Everything the pairs showed of one test."""

    test: str
    threshold: float
    series: dict[str, Series] = field(default_factory=dict)
    pairs: int = 0
    seconds: float = 0.0
    end: End | None = None
    side: str = ""
    message: str = ""
    is_pinned: bool = True
    growths: dict[str, list[Growth]] = field(default_factory=dict)

    def add(self, pair: TestPair, *, is_parallel: bool, higher_is_better: frozenset[str]) -> None:
        """Take in what one process pair showed."""
        self.pairs += 1
        for part, sides in pair.parts.items():
            if part not in self.series:
                self.series[part] = Series(clock=_deciding(sides, is_parallel=is_parallel))
            self.series[part].at_once |= sides["base"].are_at_once
            decides = self.series[part].clock
            for clock in (Clock.CPU, Clock.WALL, Clock.ALL):
                compared = compare(
                    sides["base"], sides["head"], clock, decides=decides, is_parallel=is_parallel
                )
                if compared is not None:
                    self.series[part].add(clock, *compared)
        for name, values in pair.values.items():
            series = self.series.setdefault(f"={name}", Series(clock=Clock.VALUE))
            base, head = values["base"], values["head"]
            if base > 0 and head > 0:
                ratio = math.log(head / base)
                series.add(Clock.VALUE, -ratio if name in higher_is_better else ratio, base)

    def answers(self, design: Design) -> list[Answer]:
        """Return the answer of each timing so far."""
        return [series.answer(design, self.threshold) for series in self.series.values()]

    @property
    def spread(self) -> float:
        """The robust standard deviation from pair to pair of the timing that is least even; 0 before two."""
        measured = [series for series in self.series.values() if series.clock is not Clock.VALUE]
        return max((robust_sd(series.ratios.get(series.clock, [0.0])) for series in measured), default=0.0)

    def is_decided(self, design: Design) -> bool:
        """Return whether no timing is open, or one has regressed, which fails the test anyway."""
        answers = self.answers(design)
        if any(series.is_early(design, self.threshold) for series in self.series.values()):
            return False
        return bool(answers) and (Answer.REGRESSED in answers or Answer.OPEN not in answers)


def compare(
    base: Rounds, head: Rounds, clock: Clock, *, decides: Clock, is_parallel: bool
) -> tuple[float, float] | None:
    """Return (log ratio, accepted ns a call); None where a clock did not move.

    The median of the turns' log ratios. What a side cost in a turn is its least round for CPU time, and the
    mean of its rounds where both sides ran at once and for wall time, of which waiting is a part that not
    every round need have. Wall time that ``decides``, of code that waits or runs in parallel, goes by the low
    quartile of each side instead: waits jitter upwards, and not together.

    Wall time leaves out what the thread spent waiting for a CPU that others had, except for parallel code,
    whose threads wait for each other.
    """
    sides = [
        [[_cost(c, clock, is_parallel=is_parallel) / side.iterations for c in burst] for burst in side.bursts]
        for side in (base, head)
    ]
    if clock is Clock.WALL:
        # Taken off the CPU beside the clock's two readings, a short round waited longer than it took.
        sides = [[[cost for cost in burst if cost > 0] for burst in side] for side in sides]
    if clock is Clock.ALL:
        before, after = (fmean([cost for burst in side for cost in burst]) for side in sides)
        return (math.log(after / before), before) if min(before, after) > 0 else None
    turns = [turn for turn in zip(*sides, strict=True) if all(turn) and min(map(min, turn)) > 0]
    if not turns or (clock is Clock.CPU and len(turns) < _MOVED * len(base.bursts)):
        return None
    if clock is decides is Clock.WALL:
        before, after = (quantile([cost for turn in turns for cost in turn[side]], 0.25) for side in (0, 1))
        return math.log(after / before), before
    # Of short rounds in turns the least disturbed; what ran at once was disturbed at once.
    typical = min if clock is Clock.CPU and not base.are_at_once else fmean
    accepted, present = ([typical(turn[side]) for turn in turns] for side in (0, 1))
    return paired_log_ratio(accepted, present).value, median(accepted)


def _cost(cost: tuple[int, int, int], clock: Clock, *, is_parallel: bool) -> int:
    wall, cpu, delay = cost
    return cpu if clock is not Clock.WALL else wall if is_parallel else wall - delay


def _deciding(sides: dict[str, Rounds], *, is_parallel: bool) -> Clock:
    if is_parallel:
        return Clock.WALL
    shares = (cpu_share([cost for burst in r.bursts for cost in burst]) for r in sides.values())
    return Clock.CPU if min(shares) >= CPU_BOUND else Clock.WALL
