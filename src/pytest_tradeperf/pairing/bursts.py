"""What both sides of a pair measured of a test: rounds in bursts, by part and side."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from pytest_tradeperf.stats.estimators import quantile

CPU_BOUND: Final = 0.9
"""CPU over wall time of the least disturbed rounds, from which CPU time decides."""

PARALLEL: Final = 1.1
"""CPU over wall time from which a test runs in parallel."""

Burst: TypeAlias = list[tuple[int, int, int]]
"""Rounds run in one go: (wall, CPU, time in the run queue) in ns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a side did in one go: its rounds, and what their set-up took besides.

    ``has_device``: it had a GPU open after its first call.
    """

    burst: Burst
    setup_ns: int
    has_device: bool = False

    @property
    def round_ns(self) -> int:
        """The wall time of the first round."""
        return self.burst[0][0]


@dataclass(slots=True)
class Rounds:
    """The bursts of one part on one side, ``iterations`` calls in each of their rounds.

    ``are_at_once``: the other side ran the burst of the same place meanwhile, on the same CPU.
    """

    iterations: int = 1
    bursts: list[Burst] = field(default_factory=list)
    are_at_once: bool = False


Part = dict[str, Rounds]
"""Rounds by side."""


@dataclass(slots=True)
class TestPair:
    """What one pair shows of one test: rounds by part, and recorded values by name, each by side.

    ``has_threads``: threads besides the test's own computed on some side.
    """

    __test__ = False

    parts: dict[str, Part] = field(default_factory=dict)
    values: dict[str, dict[str, float]] = field(default_factory=dict)
    functions: dict[str, dict[str, Any]] = field(default_factory=dict)
    has_threads: bool = False

    @property
    def runs_in_parallel(self) -> bool:
        """Whether some part kept more than one CPU busy on some side."""
        sides = [rounds for part in self.parts.values() for rounds in part.values()]
        return any(cpu_share([c for burst in r.bursts for c in burst]) > PARALLEL for r in sides)


def cpu_share(costs: Sequence[tuple[int, int, int]]) -> float:
    """Return CPU over wall time without waiting for a CPU, in the less disturbed rounds."""
    return quantile([cpu / max(wall - delay, 1) for wall, cpu, delay in costs], 0.75)
