"""Use-case between the rungs: what an A/A measurement says about this machine as a gate."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

from pytest_tradeperf.confirmation.measuring import Arena, Reference, Timing
from pytest_tradeperf.confirmation.rows import rows
from pytest_tradeperf.model import Row, Verdict
from pytest_tradeperf.pairing.outcomes import Outcome, Series
from pytest_tradeperf.stats.estimators import robust_sd
from pytest_tradeperf.stats.replay import alarms, decide, detections
from pytest_tradeperf.stats.sequential import Answer, Design
from pytest_tradeperf.units import format_percent

SELFTEST_PAIRS: Final = 20
"""Pairs of each test: the quarter points of their spread are then known within about a third."""

_SESSIONS: Final = 500
_TRIALS: Final = 100
_POWER: Final = 0.9
_STEPS: Final = (0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5)


def describe_selftest(
    wanted: Sequence[Timing],
    outcomes: Mapping[str, Outcome],
    arena: Arena,
    reference: Reference,
    seconds: float,
) -> tuple[list[Row], list[str]]:
    """Return a row for every timing and the lines to print.

    False alarms and detectable changes come from replaying the recorded pairs; a regression "found"
    in A/A is shown as undecided and counted, it fails nothing.
    """
    found = []
    for row in rows(wanted, outcomes, arena, reference):
        is_judged = row.verdict in (Verdict.REGRESSED, Verdict.IMPROVED)
        found.append(_relabelled(row) if is_judged else row)
    lines = []
    series = _deciding(outcomes)
    for (test, part, threshold), one in series.items():
        ratios = one.ratios[one.clock]
        smallest = smallest_detectable(ratios, arena.design, threshold, seed=arena.seed)
        shown = format_percent(smallest, sign=True) if math.isfinite(smallest) else "over +50 %"
        pairs = typical_pairs(ratios, arena.design, threshold, seed=arena.seed)
        outcome = outcomes[test]
        label = f"{test} {part}".rstrip()
        lines.append(
            f"perf: {label}: noise of a pair {format_percent(robust_sd(ratios))} ({one.clock}), "
            f"bias {format_percent(median(ratios), sign=True)}, found in 9 of 10: {shown}, "
            f"{pairs * outcome.seconds / max(1, outcome.pairs):.1f} s to clear"
        )
    if series:
        by_threshold = {threshold for _, _, threshold in series}
        rate = alarms(
            [one.ratios[one.clock] for one in series.values()],
            arena.design,
            min(by_threshold),
            sessions=_SESSIONS,
            seed=arena.seed,
        )
        lines.append(
            f"perf: false alarms in {rate.count} of {rate.trials} replayed sessions of {len(series)} timings "
            f"(at most {format_percent(rate.upper)} with 95 % confidence); alpha is "
            f"{format_percent(arena.alpha)}; {seconds:.0f} s in all"
        )
    return found, lines


def smallest_detectable(ratios: Sequence[float], design: Design, threshold: float, *, seed: int) -> float:
    """Return the smallest change, of a ladder up to 50 %, found in nine of ten replays; else infinity."""
    steps = [change for change in _STEPS if change > threshold]
    place = bisect_left(
        steps,
        _POWER,
        key=lambda change: (
            detections(ratios, design, threshold, math.log1p(change), trials=_TRIALS, seed=seed).share
        ),
    )
    return steps[place] if place < len(steps) else math.inf


def typical_pairs(ratios: Sequence[float], design: Design, threshold: float, *, seed: int) -> float:
    """Return the median number of pairs that an unchanged test takes."""
    import random

    dice = random.Random(seed)
    return median(decide(ratios, design, threshold, dice)[1] for _ in range(_TRIALS))


def _deciding(outcomes: Mapping[str, Outcome]) -> dict[tuple[str, str, float], Series]:
    return {
        (outcome.test, part.removeprefix("="), outcome.threshold): series
        for outcome in outcomes.values()
        for part, series in outcome.series.items()
        if series.ratios.get(series.clock)
    }


def _relabelled(row: Row) -> Row:
    from dataclasses import replace

    answer = Answer.REGRESSED if row.verdict is Verdict.REGRESSED else Answer.IMPROVED
    return replace(row, verdict=Verdict.UNDECIDED, note=f"A/A came out as {answer}: {row.note}")
