"""Use-case between the rungs: timings measured in pairs against the accepted code, and what they come to.

Knows neither pytest nor where the lines were stored; ``workflow`` decides from stored numbers what
cannot be measured here.
"""

import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from pytest_tradeperf.errors import UnavailableError
from pytest_tradeperf.model import Better, Json, Kind, Measurement, Metric, Row, TestRecord, Verdict
from pytest_tradeperf.pairing.controller import OnPair, OnProgress, Request, Suspect, measure_pairs
from pytest_tradeperf.pairing.folders import session_folder
from pytest_tradeperf.pairing.materialise import (
    describe_generated,
    link_surroundings,
    materialise,
    prepare,
)
from pytest_tradeperf.pairing.outcomes import Clock, End, Outcome, Series
from pytest_tradeperf.pairing.pair import PairPlan, interpreter_flags, preloadable
from pytest_tradeperf.pairing.trees import SourceTree
from pytest_tradeperf.stats.sequential import Answer, Design, Look
from pytest_tradeperf.units import counted, format_factor, format_percent

PARALLEL: Final = 1.1
"""CPU over wall time from which a test runs in parallel."""

_VERDICTS: Final = {
    Answer.REGRESSED: Verdict.REGRESSED,
    Answer.IMPROVED: Verdict.IMPROVED,
    Answer.OK: Verdict.OK,
    Answer.OPEN: Verdict.UNDECIDED,
}


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
    timings the session's ``alpha`` is shared over, ``tooling`` the modules loaded before the first test.
    """

    root: Path
    sources: tuple[str, ...]
    cwd: Path
    entry: str
    payload: Mapping[str, Any]
    alpha: float
    comparisons: int
    seed: int
    overlay: tuple[str, ...] = ()
    prepare: str = ""
    tooling: frozenset[str] = frozenset()
    most_regressions: int = 0

    @property
    def design(self) -> Design:
        """How one timing is decided."""
        return Design(alpha=self.alpha / max(1, self.comparisons))


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
        if m.metric.kind is Kind.TIMING and _measure(m.metric.name) != Clock.CPU
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
        base, scratch = folder / "base", folder / "scratch"
        scratch.mkdir()
        (folder / "head").symlink_to(arena.root.resolve(), target_is_directory=True)
        if reference.tree is None:
            copy_sources(arena.root, arena.sources, base)
        else:
            materialise(arena.root, reference.tree, base)
            link_surroundings(arena.root, reference.tree, base)
        if arena.prepare:
            prepare(arena.prepare, arena.root, base, seconds)
        plan = PairPlan(
            head=arena.root,
            base=base,
            sources=arena.sources,
            entry=arena.entry,
            payload={**arena.payload, "scratch": str(scratch)},
            scratch=scratch,
            cwd=arena.cwd,
            overlay=arena.overlay,
            preload=preloadable(arena.root, arena.sources, arena.tooling),
            flags=interpreter_flags(),
        )
        request = Request(
            suspects=tuple(suspects(wanted)),
            plan=plan,
            design=arena.design,
            seconds=seconds,
            seed=arena.seed,
            pairs=pairs,
            most_regressions=arena.most_regressions,
        )
        outcomes = measure_pairs(request, on_progress=on_progress, on_pair=on_pair)
    for outcome in outcomes.values():
        if outcome.end is End.BROKEN:
            hint = describe_generated(arena.root, arena.sources)
            outcome.message += f"; {hint}" if hint else ""
    return outcomes


WORTH_A_FACTOR: Final = 0.1
"""Changes from here on are also said as a factor."""


def copy_sources(root: Path, sources: Sequence[str], target: Path) -> None:
    """Copy the working tree's sources, generated files included, byte code not."""
    for source in sources:
        place = target / source
        place.parent.mkdir(parents=True, exist_ok=True)
        if (root / source).is_dir():
            shutil.copytree(root / source, place, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(root / source, place)


def suspects(wanted: Iterable[Timing]) -> list[Suspect]:
    """Return one suspect a test; parallel when its CPU time exceeds its wall time."""
    by_test: dict[str, list[Timing]] = {}
    for timing in wanted:
        by_test.setdefault(timing.test, []).append(timing)
    found = []
    for test, group in by_test.items():
        values = {t.metric.name: t.measurement.value for t in group}
        walls = {n: v for n, v in values.items() if _measure(n) == Clock.WALL and isinstance(v, int | float)}
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
                parts=max(1, len(walls)),
                is_parallel=max(shares, default=0.0) > PARALLEL,
                higher_is_better=frozenset(t.metric.name for t in group if t.metric.better is Better.HIGHER),
            )
        )
    return found


def rows(
    wanted: Iterable[Timing], outcomes: Mapping[str, Outcome], arena: Arena, reference: Reference
) -> list[Row]:
    """Return a row for every timing."""
    return [_row(timing, outcomes[timing.test], arena, reference) for timing in wanted]


def _row(timing: Timing, outcome: Outcome, arena: Arena, reference: Reference) -> Row:
    metric = timing.metric
    series, clock = _series(metric.name, outcome)
    look = _of_value(series.look(arena.design, timing.threshold) if series is not None else None, metric)
    row = Row(
        test=timing.test,
        metric=metric.name,
        verdict=Verdict.UNDECIDED,
        unit=metric.unit,
        measured=timing.measurement.value,
        threshold=timing.threshold,
        pairs=outcome.pairs,
    )
    problem = _problem(outcome, reference)
    if problem is not None:
        verdict, note = problem
        return replace(row, verdict=verdict, note=note, evidence=_evidence(outcome, None, arena, reference))
    if series is None or look is None:
        return replace(row, note=_unseen(outcome), evidence=_evidence(outcome, series, arena, reference))
    is_follower = clock is not series.clock
    own = _of_value(series.look(arena.design, timing.threshold, clock), metric) if is_follower else look
    level = series.level(clock)
    verdict = _VERDICTS[look.answer]
    note, detail = f"decided by its {series.clock} time", []
    if not is_follower:
        note = _note(look, outcome, series, arena=arena, threshold=timing.threshold, against=reference.name)
        growth = outcome.growths.get(_part(metric.name), []) if verdict is Verdict.REGRESSED else []
        if growth:
            detail = ["where to look (own time of a profiled call):", *(f"  {g}" for g in growth)]
    return replace(
        row,
        verdict=verdict,
        accepted=level[0] if level else None,
        measured=level[1] if level else timing.measurement.value,
        change=own.change if own is not None else None,
        change_low=_finite(own.low) if own is not None else None,
        change_high=_finite(own.high) if own is not None else None,
        detectable=_finite(own.detectable) if own is not None else None,
        is_follower=is_follower,
        note=note,
        detail=tuple(detail),
        evidence=_evidence(outcome, series, arena, reference),
    )


def _unseen(outcome: Outcome) -> str:
    """Return why there is no number at all of a timing."""
    if outcome.pairs:
        pairs = counted(outcome.pairs, "pair")
        return f"not measured: {pairs} ended without a value above 0 of it on both sides"
    cure = "" if outcome.end is End.STOPPED else "; --perf-time gives more"
    return f"not measured: {outcome.message or 'the time was spent'}{cure}"


def _of_value(look: Look | None, metric: Metric) -> Look | None:
    """Return a look at costs as one at the recorded value: a rate falls where its cost grows."""
    if look is None or metric.better is not Better.HIGHER:
        return look
    return replace(look, change=_inverse(look.change), low=_inverse(look.high), high=_inverse(look.low))


def _inverse(change: float) -> float:
    return 1 / (1 + change) - 1 if change > -1 else math.inf


def _note(
    look: Look, outcome: Outcome, series: Series, *, arena: Arena, threshold: float, against: str
) -> str:
    known = _finite(look.low) is not None and _finite(look.high) is not None
    interval = f" [{_percent(look.low)} .. {_percent(look.high)}]" if known else ""
    match look.answer:
        case Answer.REGRESSED:
            factor = 1 + look.change
            times = f"{format_factor(factor)}, " if abs(look.change) >= WORTH_A_FACTOR else ""
            return f"{times}{_percent(look.change)}{interval} in {look.pairs} pairs against {against}"
        case Answer.IMPROVED:
            return f"{_percent(look.change)}{interval} in {look.pairs} pairs; --perf-update keeps it"
        case Answer.OK:
            return f"regressions from {format_percent(look.detectable)} would show ({look.pairs} pairs)"
        case _:
            pass
    pairs = f"{look.pairs} pair{'s' if look.pairs != 1 else ''}"
    why = _why_open(outcome, series, arena=arena, threshold=threshold)
    return f"{interval.strip() or 'no interval yet'} after {pairs}{why}"


def _why_open(outcome: Outcome, series: Series, *, arena: Arena, threshold: float) -> str:
    """Return the end of a sentence: why there are no more pairs, and what would decide."""
    if outcome.end is End.STOPPED:
        return f"; {outcome.message}"
    if outcome.end is End.DECIDED:
        return "; not measured further, the test has regressed"
    if outcome.end is not End.TIME:
        return f": too close to the threshold of {format_percent(threshold)} to decide on this machine"
    needed = arena.design.pairs_needed(series.ratios[series.clock], threshold)
    seconds = needed * outcome.seconds / max(1, outcome.pairs)
    cure = f"about {seconds:.0f} s of --perf-time would" if math.isfinite(needed) else "more --perf-time may"
    return f", then the time was spent; {cure} decide"


def _problem(outcome: Outcome, reference: Reference) -> tuple[Verdict, str] | None:
    """Return the verdict of a test without pairs that mean anything."""
    is_base = outcome.side == "base"
    where = f"with {reference.name}" if is_base else "with the present code"
    found = {
        End.ABSENT: (Verdict.NEW, f"has no counterpart {where}"),
        End.BROKEN: (Verdict.ERROR, f"{reference.name} does not import"),
        End.FAILED: (
            (Verdict.UNDECIDED, f"fails {where}, so there is nothing to compare")
            if is_base
            else (Verdict.ERROR, "failed while it was measured")
        ),
        End.ERROR: (Verdict.ERROR, where),
        End.UNTOUCHED: (Verdict.UNDECIDED, "nothing to compare"),
    }.get(outcome.end or End.DECIDED)
    return (found[0], f"{found[1]}: {outcome.message}") if found else None


def _evidence(outcome: Outcome, series: Series | None, arena: Arena, reference: Reference) -> dict[str, Json]:
    found: dict[str, Json] = {
        "against": reference.name,
        **reference.evidence,
        "pairs": outcome.pairs,
        "seconds": round(outcome.seconds, 2),
        "end": outcome.end.value if outcome.end else None,
        "alpha": arena.alpha,
        "comparisons": arena.comparisons,
        "seed": arena.seed,
        "pinned": outcome.is_pinned,
    }
    if series is not None:
        found["clock"] = series.clock.value
        found["log_ratios"] = [round(r, 6) for r in series.ratios.get(series.clock, [])]
    growths = [str(g) for group in outcome.growths.values() for g in group]
    if growths:
        found["where_to_look"] = growths
    return found


def _series(name: str, outcome: Outcome) -> tuple[Series | None, Clock]:
    """Return the pairs behind a metric and which of their numbers it is."""
    measure = _measure(name)
    if measure in (Clock.CPU, Clock.WALL):
        return outcome.series.get(_part(name)), Clock(measure)
    return outcome.series.get(f"={name}"), Clock.VALUE


def _measure(name: str) -> str:
    """Return ``wall`` of ``parse.wall@cold``."""
    return name.partition("@")[0].rpartition(".")[2]


def _part(name: str) -> str:
    """Return ``parse@cold`` of ``parse.wall@cold``: what a side calls the part."""
    head, at, cache = name.partition("@")
    return head.rpartition(".")[0] + at + cache


def _sibling(name: str, clock: Clock) -> str:
    head, at, cache = name.partition("@")
    part, dot, _ = head.rpartition(".")
    return f"{part}{dot}{clock.value}{at}{cache}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) and value > -1 else None


def _percent(value: float) -> str:
    if not math.isfinite(value) or value <= -1:
        return "?"
    return format_percent(value, sign=True)
