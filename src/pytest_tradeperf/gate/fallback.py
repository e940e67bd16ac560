"""Deciding timings from stored numbers, where the accepted code itself cannot be had."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from pytest_tradeperf.gate.judge import Context, Pending, changed_dependencies
from pytest_tradeperf.model import Better, Row, Verdict
from pytest_tradeperf.stats.stored import FLOOR, StoredEstimate, against_stored
from pytest_tradeperf.units import format_factor, format_percent, format_quantity

CPU_BOUND: Final = 0.9
"""CPU over wall time from which a test is CPU-bound and judged by its CPU time."""

DISTURBANCE_NS: Final = 200_000
"""What interrupts, page faults and a cold cache cost a round; a change must exceed it in one round."""

DISTURBANCE_FEW_NS: Final = 5_000_000
"""The same where the rounds are so few that none may be undisturbed: a body repeated whole, a cold call."""

_FEW_ROUNDS: Final = 10

Fresh = Mapping[tuple[str, str], Sequence[float]]
"""Values by (test, metric), one a process."""


def suspects(pending: Iterable[Pending], context: Context) -> list[Pending]:
    """Return the timings whose first value lies beyond what a stored number may call."""
    found = []
    for item in pending:
        estimate = _estimate(item, ())
        if estimate is None or item.line.machine != context.machine:
            continue
        worse, certain = _worse(item, estimate.change), max(item.threshold, _floor(item))
        if worse > certain or worse < _as_much_better(certain):
            found.append(item)
    return found


def decide(pending: Sequence[Pending], fresh: Fresh, context: Context, why: str) -> list[Row]:
    """Return a row for every pending timing; ``why`` says why the accepted code was not measured.

    A test that was CPU-bound when accepted fails by its CPU time alone: its wall time follows the
    load of the machine.
    """
    by_key = {(item.test, item.measurement.metric.name): item for item in pending}
    decided = {key: _decide(item, fresh.get(key, ()), context, why) for key, item in by_key.items()}
    rows = []
    for key, item in by_key.items():
        test, name = key
        row = decided[key]
        partner = decided.get((test, _cpu_name(name))) if _measure(name) == "wall" else None
        alone = partner is not None and partner.verdict is not Verdict.REGRESSED
        if row.verdict is Verdict.REGRESSED and alone and _was_cpu_bound(item, by_key):
            row = _undecided(item, row.detectable, f"wall grew but CPU time did not; {why}")
        rows.append(row)
    return rows


def _measure(name: str) -> str:
    """Return ``wall`` of ``parse.wall@cold``."""
    return name.partition("@")[0].rpartition(".")[2]


def _cpu_name(name: str) -> str:
    head, _, cache = name.partition("@")
    return f"{head.removesuffix('wall')}cpu" + (f"@{cache}" if cache else "")


def _was_cpu_bound(item: Pending, by_key: Mapping[tuple[str, str], Pending]) -> bool:
    cpu = by_key.get((item.test, _cpu_name(item.measurement.metric.name)))
    if (
        cpu is None
        or not isinstance(cpu.line.value, int | float)
        or not isinstance(item.line.value, int | float)
    ):
        return False
    return cpu.line.value > CPU_BOUND * item.line.value


def _floor(item: Pending) -> float:
    """Return the smallest relative change a stored number may call, larger for very short rounds."""
    accepted, first, detail = item.line.value, item.measurement.value, item.measurement.detail
    if not (isinstance(accepted, int | float) and isinstance(first, int | float) and "iterations" in detail):
        return FLOOR
    disturbance = DISTURBANCE_FEW_NS if detail["rounds"] < _FEW_ROUNDS else DISTURBANCE_NS
    # Either side may be the disturbed one, so the shorter round is what the disturbance is held against.
    return max(FLOOR, disturbance / max(float(detail["iterations"]) * min(accepted, first), 1.0))


def _as_much_better(worse: float) -> float:
    """Return the change that takes ``worse`` back: -0.6 for 1.5, which is 2.5 times as much."""
    return 1 / (1 + worse) - 1


def _worse(item: Pending, change: float) -> float:
    """Return ``change`` signed so that worse is positive: a rate that halves costs twice as much."""
    if item.measurement.metric.better is Better.HIGHER:
        return 1 / (1 + change) - 1 if change > -1 else float("inf")
    return change


def _estimate(item: Pending, fresh: Sequence[float]) -> StoredEstimate | None:
    accepted, first = item.line.value, item.measurement.value
    if not isinstance(accepted, int | float) or not isinstance(first, int | float) or accepted <= 0:
        return None
    return against_stored(accepted, item.line.noise or 0.0, [first, *fresh], floor=_floor(item))


def _decide(item: Pending, fresh: Sequence[float], context: Context, why: str) -> Row:
    changed = changed_dependencies(item.line, context, major=True)
    estimate = _estimate(item, fresh)
    if estimate is None or changed or item.line.machine != context.machine:
        reason = "the accepted value is not a positive number"
        if item.line.machine != context.machine:
            reason = f"accepted on another machine ({item.line.machine}); {why}"
        elif changed:
            reason = f"accepted with {', '.join(changed)}; {why}"
        return _row(item, Verdict.MISMATCH, None, reason)
    worst_friendly = min(_worse(item, estimate.low), _worse(item, estimate.high))
    best_friendly = max(_worse(item, estimate.low), _worse(item, estimate.high))
    certain = max(item.threshold, estimate.detectable)
    if fresh and worst_friendly > certain:
        return _row(item, Verdict.REGRESSED, estimate, _change(item, estimate))
    if fresh and best_friendly < _as_much_better(certain):
        return _row(item, Verdict.IMPROVED, estimate, _change(item, estimate))
    if estimate.detectable <= item.threshold:
        return _row(item, Verdict.OK, estimate, f"regressions from {format_percent(certain)} are seen")
    return _undecided(item, certain, why, estimate)


def _undecided(
    item: Pending, detectable: float | None, why: str, estimate: StoredEstimate | None = None
) -> Row:
    note = f"blind below {format_percent(detectable or 0.0, sign=True)}: {why}"
    return _row(item, Verdict.UNDECIDED, estimate, note)


def _change(item: Pending, estimate: StoredEstimate) -> str:
    metric = item.measurement.metric
    old = item.line.value
    if not isinstance(old, int | float):
        raise TypeError(f"{metric.name} has no accepted number")
    new = old * (1 + estimate.change)
    return (
        f"{format_quantity(old, metric.unit)} -> {format_quantity(new, metric.unit)}, "
        f"{format_factor(1 + estimate.change)} the accepted value"
    )


def _row(item: Pending, verdict: Verdict, estimate: StoredEstimate | None, note: str) -> Row:
    metric, accepted, measured = item.measurement.metric, item.line.value, item.measurement.value
    if estimate is not None and isinstance(accepted, int | float):
        measured = accepted * (1 + estimate.change)  # of all processes, not of the first alone
    return Row(
        test=item.test,
        metric=metric.name,
        verdict=verdict,
        unit=metric.unit,
        accepted=accepted,
        measured=measured,
        change=estimate.change if estimate else None,
        change_low=estimate.low if estimate else None,
        change_high=estimate.high if estimate else None,
        detectable=estimate.detectable if estimate else None,
        threshold=item.threshold,
        note=note,
    )
