"""What the pairs of one test come to: log ratios by timing, and why there are no more of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median
from typing import Final

from pytest_tradeperf.pairing.lockstep import Rounds, TestPair
from pytest_tradeperf.pairing.profiles import Growth
from pytest_tradeperf.stats.estimators import low_decile, quantile
from pytest_tradeperf.stats.sequential import Answer, Design, Look

CPU_BOUND: Final = 0.9
"""CPU over wall time of the least disturbed rounds, from which CPU time decides."""


class Clock(StrEnum):
    """Which number of a round is compared."""

    CPU = "cpu"
    WALL = "wall"
    VALUE = "value"


class End(StrEnum):
    """Why a test has no further pairs."""

    DECIDED = "decided"
    HORIZON = "horizon"
    TIME = "time"
    ABSENT = "absent"
    BROKEN = "broken"
    FAILED = "failed"
    ERROR = "error"
    UNTOUCHED = "untouched"


@dataclass(slots=True)
class Series:
    """One timing of one test over the pairs: a part (``""`` is the test itself) or a recorded value.

    ``clock`` is the one that decides, fixed by the first pair. ``ratios`` are logs of present over
    accepted, worse is positive; ``levels`` the (accepted, present) estimates in ns or the value's unit.
    """

    clock: Clock
    ratios: dict[Clock, list[float]] = field(default_factory=dict)
    levels: dict[Clock, list[tuple[float, float]]] = field(default_factory=dict)

    def add(self, clock: Clock, base: float, head: float, *, higher_is_better: bool = False) -> None:
        """Add one pair; numbers that have no ratio are left out."""
        if base > 0 and head > 0:
            ratio = math.log(head / base)
            self.ratios.setdefault(clock, []).append(-ratio if higher_is_better else ratio)
            self.levels.setdefault(clock, []).append((base, head))

    def look(self, design: Design, threshold: float, clock: Clock | None = None) -> Look | None:
        """Return what the pairs say by ``clock``, or by the one that decides; None without pairs."""
        ratios = self.ratios.get(clock or self.clock, [])
        return design.look(ratios[: design.horizon], threshold) if ratios else None

    def level(self, clock: Clock) -> tuple[float, float] | None:
        """Return the median (accepted, present) estimates."""
        levels = self.levels.get(clock)
        if not levels:
            return None
        return median(base for base, _ in levels), median(head for _, head in levels)


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
    growths: dict[str, list[Growth]] = field(default_factory=dict)

    def add(self, pair: TestPair, *, is_parallel: bool, higher_is_better: frozenset[str]) -> None:
        """Take in what one process pair showed."""
        self.pairs += 1
        for part, rounds in pair.parts.items():
            clocks = {side: per_call(r, is_parallel=is_parallel) for side, r in rounds.items()}
            if part not in self.series:
                self.series[part] = Series(clock=_deciding(rounds, is_parallel=is_parallel))
            for clock in (Clock.CPU, Clock.WALL):
                self.series[part].add(clock, clocks["base"][clock], clocks["head"][clock])
        for name, values in pair.values.items():
            series = self.series.setdefault(f"={name}", Series(clock=Clock.VALUE))
            series.add(Clock.VALUE, values["base"], values["head"], higher_is_better=name in higher_is_better)

    def answers(self, design: Design) -> list[Answer]:
        """Return the answer of each timing so far."""
        looks = (series.look(design, self.threshold) for series in self.series.values())
        return [look.answer if look is not None else Answer.OPEN for look in looks]

    def is_decided(self, design: Design) -> bool:
        """Return whether no timing is open, or one has regressed, which fails the test anyway."""
        answers = self.answers(design)
        return bool(answers) and (Answer.REGRESSED in answers or Answer.OPEN not in answers)


def per_call(rounds: Rounds, *, is_parallel: bool) -> dict[Clock, float]:
    """Return the low decile of CPU and of undisturbed wall time, in ns a call.

    Wall time leaves out what the thread spent waiting for a CPU that others had, except for parallel
    code, whose threads wait for each other.
    """
    n = rounds.iterations
    walls = [(wall if is_parallel else wall - delay) / n for wall, _, delay in rounds.costs]
    return {
        Clock.CPU: low_decile([cpu / n for _, cpu, _ in rounds.costs]),
        Clock.WALL: low_decile(walls),
    }


def _deciding(rounds: dict[str, Rounds], *, is_parallel: bool) -> Clock:
    if is_parallel:
        return Clock.WALL
    shares = (cpu_share(r.costs) for r in rounds.values())
    return Clock.CPU if min(shares) >= CPU_BOUND else Clock.WALL


def cpu_share(costs: Sequence[tuple[int, int, int]]) -> float:
    """Return CPU over wall time without waiting for a CPU, in the less disturbed rounds."""
    return quantile([cpu / max(wall - delay, 1) for wall, cpu, delay in costs], 0.75)
