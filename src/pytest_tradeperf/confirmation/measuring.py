"""Measuring timings in pairs against the accepted code, or against a revision."""

import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pytest_tradeperf.errors import UnavailableError
from pytest_tradeperf.measures.machine import cpu_quota
from pytest_tradeperf.model import Better, Json, Kind, Measurement, Metric, TestRecord
from pytest_tradeperf.pairing.bursts import PARALLEL
from pytest_tradeperf.pairing.controller import measure_pairs
from pytest_tradeperf.pairing.folders import place_as_deep_as, session_folder
from pytest_tradeperf.pairing.materialise import (
    describe_generated,
    ignored_files,
    link_surroundings,
    materialise,
    prepare,
)
from pytest_tradeperf.pairing.outcomes import WAIT_SHARE, Clock, End, Outcome
from pytest_tradeperf.pairing.pair import PairPlan, interpreter_flags, preloadable
from pytest_tradeperf.pairing.request import OnPair, OnProgress, Request, Suspect
from pytest_tradeperf.pairing.trees import SourceTree
from pytest_tradeperf.stats.sequential import Design


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One (test, metric) to judge in pairs, with what the test loop measured."""

    test: str
    measurement: Measurement
    threshold: float

    @property
    def metric(self) -> Metric:
        """What is judged."""
        return self.measurement.metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """Where and how both sides run: everything that all confirmations of a session share.

    ``entry`` and ``payload`` are what ``pairing`` starts its sides with; ``comparisons`` is how many
    timings the session's ``alpha`` is shared over, ``tooling`` the modules loaded before the first test,
    ``tests`` the files in which tests were collected, relative to ``root``, ``run_seconds`` how long each
    test took as a whole, with the set-up of all fixtures it uses.
    """

    root: Path
    sources: tuple[str, ...]
    cwd: Path
    entry: str
    payload: Mapping[str, Any]
    alpha: float
    comparisons: int
    seed: int
    tests: tuple[str, ...] = ()
    run_seconds: Mapping[str, float] = field(default_factory=dict)
    overlay: tuple[str, ...] = ()
    prepare: str = ""
    tooling: frozenset[str] = frozenset()
    most_regressions: int = 0

    @property
    def design(self) -> Design:
        """How one timing is decided by the clock that decides."""
        return Design(alpha=(1 - WAIT_SHARE) * self.alpha / max(1, self.comparisons))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """The code that the present code is measured against.

    ``tree`` None stands for the working tree itself, as it is now (A/A). ``name`` is for people.
    """

    name: str
    tree: SourceTree | None
    evidence: Mapping[str, Json] = field(default_factory=dict)


def timings(records: Iterable[TestRecord], allowed: Callable[[TestRecord], float]) -> list[Timing]:
    """Return all timings of ``records``; ``allowed`` gives the threshold of a test."""
    return [
        Timing(test=record.test, measurement=measurement, threshold=allowed(record))
        for record in records
        for measurement in record.measurements
        if measurement.metric.kind is Kind.TIMING
    ]


def comparisons(records: Iterable[TestRecord]) -> int:
    """Return over how many timings a session shares its alpha: wall and CPU of a part are one."""
    return sum(
        1
        for record in records
        for m in record.measurements
        if m.metric.kind is Kind.TIMING and measure_of(m.metric.name) != Clock.CPU
    )


def measure_against(
    reference: Reference,
    wanted: Sequence[Timing],
    arena: Arena,
    seconds: float,
    *,
    pairs: int | None = None,
    on_progress: OnProgress = lambda _: None,
    on_pair: OnPair = lambda *_: None,
) -> dict[str, Outcome]:
    """Measure ``wanted`` in pairs against ``reference`` and return the outcome of each test.

    Raises
    ------
    RevisionError
        The code cannot be had, or ``perf_prepare`` failed.
    UnavailableError
        This platform cannot fork.
    """
    if not hasattr(os, "fork"):
        raise UnavailableError("this platform cannot fork, so nothing is measured in pairs")
    with session_folder() as folder:
        base, scratch = place_as_deep_as(arena.root.resolve(), folder), folder / "scratch"
        scratch.mkdir()
        base.mkdir(parents=True)
        for side, place in (("base", base), ("head", arena.root.resolve())):
            (folder / side).symlink_to(place, target_is_directory=True)
        if reference.tree is None:
            copy_sources(arena.root, arena.sources, base)
        else:
            materialise(arena.root, reference.tree, base)
            link_surroundings(arena.root, reference.tree, base, arena.sources)
        if arena.prepare:
            prepare(arena.prepare, arena.root, base, seconds)
        plan = PairPlan(
            head=arena.root,
            base=folder / "base",
            sources=arena.sources,
            entry=arena.entry,
            payload={**arena.payload, "scratch": str(scratch)},
            scratch=scratch,
            cwd=arena.cwd,
            tests=arena.tests,
            overlay=arena.overlay,
            preload=preloadable(arena.root, arena.sources, arena.tooling),
            flags=interpreter_flags(),
        )
        request = Request(
            suspects=tuple(suspects(wanted, arena.run_seconds)),
            plan=plan,
            design=arena.design,
            seconds=seconds,
            seed=arena.seed,
            pairs=pairs,
            most_regressions=arena.most_regressions,
            quota=cpu_quota() or math.inf,
            ignored=partial(ignored_files, arena.root),
        )
        outcomes = measure_pairs(request, on_progress=on_progress, on_pair=on_pair)
    for outcome in outcomes.values():
        if outcome.end is End.BROKEN:
            hint = describe_generated(arena.root, arena.sources)
            outcome.message += f"; {hint}" if hint else ""
    return outcomes


def copy_sources(root: Path, sources: Sequence[str], target: Path) -> None:
    """Copy the working tree's sources, generated files included, byte code not."""
    for source in sources:
        place = target / source
        place.parent.mkdir(parents=True, exist_ok=True)
        if (root / source).is_dir():
            shutil.copytree(root / source, place, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(root / source, place)


def suspects(wanted: Iterable[Timing], run_seconds: Mapping[str, float]) -> list[Suspect]:
    """Return one suspect a test; parallel when its CPU time exceeds its wall time."""
    by_test: dict[str, list[Timing]] = {}
    for timing in wanted:
        by_test.setdefault(timing.test, []).append(timing)
    found = []
    for test, group in by_test.items():
        values = {t.metric.name: t.measurement.value for t in group}
        walls = {
            n: v for n, v in values.items() if measure_of(n) == Clock.WALL and isinstance(v, int | float)
        }
        shares = [
            cpu / wall
            for name, wall in walls.items()
            if wall > 0 and isinstance(cpu := values.get(_sibling(name, Clock.CPU)), int | float)
        ]
        found.append(
            Suspect(
                test=test,
                threshold=group[0].threshold,
                call_seconds=sum(walls.values()) / 1e9,
                run_seconds=run_seconds.get(test, 0.0),
                parts=max(1, len(walls)),
                is_parallel=max(shares, default=0.0) > PARALLEL,
                records_times=any(measure_of(name) not in (Clock.CPU, Clock.WALL) for name in values),
                higher_is_better=frozenset(t.metric.name for t in group if t.metric.better is Better.HIGHER),
            )
        )
    return found


def measure_of(name: str) -> str:
    """Return ``wall`` of ``parse.wall@cold``."""
    return name.partition("@")[0].rpartition(".")[2]


def _sibling(name: str, clock: Clock) -> str:
    head, at, cache = name.partition("@")
    part, dot, _ = head.rpartition(".")
    return f"{part}{dot}{clock.value}{at}{cache}"
