"""What the gate asks of the pairs, and what it hears while they measure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_tradeperf.pairing.bursts import TestPair
from pytest_tradeperf.pairing.pace import PACE, Pace
from pytest_tradeperf.pairing.pair import PairPlan
from pytest_tradeperf.stats.sequential import Design


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """One test to measure: its allowed change, and what the test loop knows of it.

    ``call_seconds`` is the timed part alone, ``run_seconds`` all that a run took, with the set-up of every
    fixture it uses. One that ``records_times`` reads clocks itself, which would run on for the other side.
    """

    test: str
    threshold: float
    call_seconds: float = 0.1
    run_seconds: float = 0.0
    parts: int = 1
    is_parallel: bool = False
    records_times: bool = False
    higher_is_better: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to measure and how far to go.

    ``design`` says how one timing is decided. With ``pairs`` every test gets exactly that many,
    decided or not. ``most_regressions`` ends the measuring when so many tests have regressed (0: never).
    ``quota`` is how many CPUs' time a container grants. ``ignored`` returns which of some files, relative
    to rootdir, git ignores.
    """

    suspects: tuple[Suspect, ...]
    plan: PairPlan
    design: Design
    seconds: float
    seed: int
    pace: Pace = PACE
    pairs: int | None = None
    most_regressions: int = 0
    quota: float = math.inf
    ignored: Callable[[Sequence[str]], Sequence[str]] = lambda _: ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where the measuring stands: ``test`` is the one that looks worst, ``change`` its estimate."""

    pairs: int
    pending: int
    test: str
    change: float | None
    seconds_left: float


OnProgress = Callable[[Progress], None]
OnPair = Callable[[str, TestPair], None]
