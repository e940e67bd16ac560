"""What the pairs of a timing come to: its verdict, estimate and note."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from pytest_tradeperf.confirmation.measuring import Arena, Reference, Timing, measure_of
from pytest_tradeperf.model import Better, Json, Metric, Row, Verdict
from pytest_tradeperf.pairing.outcomes import RARE, Clock, End, Outcome, Series
from pytest_tradeperf.stats.sequential import Answer, Look
from pytest_tradeperf.units import counted, format_factor, format_percent

_VERDICTS: Final = {
    Answer.REGRESSED: Verdict.REGRESSED,
    Answer.IMPROVED: Verdict.IMPROVED,
    Answer.OK: Verdict.OK,
    Answer.OPEN: Verdict.UNDECIDED,
}
_WALL_TIME_ALONE: Final = {
    Answer.OK: "it waits longer, or costs more now and then: most calls use no more CPU time",
    Answer.IMPROVED: "it waits longer, or costs more now and then: most calls use less CPU time",
    Answer.OPEN: "by wall time, CPU time is undecided",
}

WORTH_A_FACTOR: Final = 0.1
"""Changes from here on are also said as a factor."""


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
    because, threshold = "", timing.threshold
    if look.answer is not Answer.REGRESSED:
        waiting = series.waiting(arena.design, threshold)
        rare = series.rare(arena.design, threshold)
        if clock is Clock.WALL and waiting is not None:
            because = f"; {_WALL_TIME_ALONE[look.answer]}"
            look = own = waiting
            is_follower = False
        elif rare is not None:
            look = rare
            if clock is Clock.CPU:
                because = "; in the mean of all calls: some cost more, most do not"
                clock, own, threshold = Clock.ALL, rare, max(threshold, RARE)
    level = series.level(clock)
    verdict = _VERDICTS[look.answer]
    note, detail = f"decided by its {series.clock} time", []
    if not is_follower:
        ratios = series.ratios[clock]
        note = _note(look, outcome, ratios, arena=arena, threshold=threshold, against=reference.name)
        note += because
        detail = _where_to_look(metric.name, outcome) if verdict is Verdict.REGRESSED else []
    return replace(
        row,
        verdict=verdict,
        accepted=level,
        # What a call costs wanders from pair to pair, on both sides: the ratio alone says what it costs now.
        measured=level * (1 + own.change) if level is not None and own is not None else row.measured,
        change=own.change if own is not None else None,
        change_low=_finite(own.low) if own is not None else None,
        change_high=_finite(own.high) if own is not None else None,
        detectable=_finite(own.detectable) if own is not None else None,
        is_follower=is_follower,
        note=note,
        detail=tuple(detail),
        evidence=_evidence(outcome, series, arena, reference, series.clock if is_follower else clock),
    )


def _where_to_look(name: str, outcome: Outcome) -> list[str]:
    growth = outcome.growths.get(_part(name), [])
    return ["where to look (own time of a profiled call):", *(f"  {g}" for g in growth)] if growth else []


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
    look: Look, outcome: Outcome, ratios: list[float], *, arena: Arena, threshold: float, against: str
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
    why = _why_open(outcome, ratios, arena=arena, threshold=threshold)
    return f"{interval.strip() or 'no interval yet'} after {counted(look.pairs, 'pair')}{why}"


def _why_open(outcome: Outcome, ratios: list[float], *, arena: Arena, threshold: float) -> str:
    """Return the end of a sentence: why there are no more pairs, and what would decide."""
    if outcome.end is End.STOPPED:
        return f"; {outcome.message}"
    if outcome.end is End.DECIDED:
        return "; not measured further, the test has regressed"
    if outcome.end is not End.TIME:
        return f": too close to the threshold of {format_percent(threshold)} to decide on this machine"
    needed = arena.design.pairs_needed(ratios, threshold)
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


def _evidence(
    outcome: Outcome, series: Series | None, arena: Arena, reference: Reference, clock: Clock | None = None
) -> dict[str, Json]:
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
        clock = clock or series.clock
        found["clock"] = clock.value
        found["at_once"] = series.at_once
        found["log_ratios"] = [round(r, 6) for r in series.ratios.get(clock, [])]
    growths = [str(g) for group in outcome.growths.values() for g in group]
    if growths:
        found["where_to_look"] = growths
    return found


def _series(name: str, outcome: Outcome) -> tuple[Series | None, Clock]:
    """Return the pairs behind a metric and which of their numbers it is."""
    measure = measure_of(name)
    if measure in (Clock.CPU, Clock.WALL):
        return outcome.series.get(_part(name)), Clock(measure)
    return outcome.series.get(f"={name}"), Clock.VALUE


def _part(name: str) -> str:
    """Return ``parse@cold`` of ``parse.wall@cold``: what a side calls the part."""
    head, at, cache = name.partition("@")
    return head.rpartition(".")[0] + at + cache


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) and value > -1 else None


def _percent(value: float) -> str:
    if not math.isfinite(value) or value <= -1:
        return "?"
    return format_percent(value, sign=True)
