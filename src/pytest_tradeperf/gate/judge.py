"""One test beside its stored lines: what can be decided now, and which timings must be confirmed."""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from pytest_tradeperf.gate.digests import first_difference, resolution, set_change
from pytest_tradeperf.gate.sites import grown_sites
from pytest_tradeperf.model import BaselineLine, Better, Kind, Measurement, Row, TestRecord, Verdict
from pytest_tradeperf.units import format_quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the judgement of every test shares.

    ``tree`` says which code the sources are, which means nothing unless the tests' code ``is_reached`` there.
    """

    threshold: float
    today: dt.date
    tree: str | None = None
    is_reached: bool = True
    machine: str = ""
    dependencies: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A timing whose accepted code differs from the working tree: to be confirmed."""

    test: str
    measurement: Measurement
    line: BaselineLine
    threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The rows decided at once and the timings still to confirm."""

    rows: tuple[Row, ...] = ()
    pending: tuple[Pending, ...] = ()


def allowed(record: TestRecord, context: Context) -> float:
    """Return the relative change this test's timings may show: its threshold or a standing waiver."""
    threshold = context.threshold if record.threshold is None else record.threshold
    return max(threshold, waived(record, context))


def waived(record: TestRecord, context: Context) -> float:
    """Return the relative loss that a waiver accepts, through the day it names; 0 without one."""
    waiver = record.accept
    stands = waiver is not None and dt.date.fromisoformat(waiver.until) >= context.today
    return waiver.fraction if waiver is not None and stands else 0.0


def judge(record: TestRecord, lines: Mapping[str, BaselineLine], context: Context) -> Judgement:
    """Return what ``record`` shows against ``lines`` (by metric name)."""
    rows: list[Row] = []
    pending: list[Pending] = []
    threshold = allowed(record, context)
    for measurement in record.measurements:
        metric = measurement.metric
        if metric.kind is Kind.GAUGE:
            continue
        line = lines.get(metric.name)
        if line is None:
            rows.append(_row(record.test, measurement, None, Verdict.NEW))
        elif (line.metric.kind, line.metric.unit, line.metric.better) != (
            metric.kind,
            metric.unit,
            metric.better,
        ):
            note = "kind, unit or direction changed since it was accepted; --perf-update accepts the new one"
            rows.append(_row(record.test, measurement, line, Verdict.MISMATCH, note=note))
        elif metric.kind is Kind.TIMING:
            row = _timing(record, measurement, line, context)
            if row is not None:
                rows.append(row)
            else:
                pending.append(
                    Pending(test=record.test, measurement=measurement, line=line, threshold=threshold)
                )
        else:
            decide = _digest if metric.kind is Kind.DIGEST else _counter
            extra = waived(record, context)
            row = decide(record.test, measurement, line, extra)
            rows.append(_explained(row, measurement, line, context))
    rows += missing_metrics(record, lines)
    return Judgement(rows=tuple(rows), pending=tuple(pending))


def missing_metrics(record: TestRecord, lines: Mapping[str, BaselineLine]) -> Iterable[Row]:
    """Return a row for every stored metric that the test no longer measures.

    What could not be measured this time has a row from the test itself, which says why.
    """
    measured = {m.metric.name for m in record.measurements}
    for name, line in lines.items():
        if name not in measured and not record.lacks(name):
            yield missing(line, "the test no longer measures it; --perf-update drops the line")


def missing(line: BaselineLine, note: str) -> Row:
    """Return the row of a stored line without a measurement; ``note`` says why, and what drops the line."""
    return Row(
        test=line.test,
        metric=line.metric.name,
        verdict=Verdict.MISSING,
        unit=line.metric.unit,
        accepted=line.value,
        note=note,
    )


def changed_dependencies(line: BaselineLine, context: Context, *, major: bool) -> list[str]:
    """Return "name old -> new" for dependencies that differ, all or only in their major version."""
    changed = []
    for name, old in line.dependencies.items():
        new = context.dependencies.get(name)
        if new is not None and _part(old, major=major) != _part(new, major=major):
            changed.append(f"{name} {old} -> {new}")
    return changed


def _part(version: str, *, major: bool) -> str:
    return version.split(".", 1)[0] if major else version


def _timing(record: TestRecord, measurement: Measurement, line: BaselineLine, context: Context) -> Row | None:
    """Return the row of a timing that needs no measuring: its code and its test are the accepted ones."""
    if line.tree is None or line.tree != context.tree or not context.is_reached:
        return None
    if line.code is not None and record.code is not None and line.code != record.code:
        return None
    test = record.test
    changed = changed_dependencies(line, context, major=False)
    if changed:
        note = f"same code, but {', '.join(changed)}; --perf-update accepts the new versions"
        return _row(test, measurement, line, Verdict.MISMATCH, note=note)
    return replace(_row(test, measurement, line, Verdict.OK, note="same code"), change=None)


def _counter(test: str, measurement: Measurement, line: BaselineLine, extra: float) -> Row:
    metric, old, new = measurement.metric, line.value, measurement.value
    if not isinstance(old, int | float) or not isinstance(new, int | float):
        raise TypeError(f"{metric.name} is a counter without a number")
    difference = new - old
    room = metric.relative * abs(old) + metric.absolute
    worse = difference if metric.better is Better.LOWER else -difference
    if metric.better is Better.SAME:
        worse = abs(difference)
    if worse > max(room, extra * abs(old)):
        verdict = Verdict.REGRESSED
    elif worse < -room:
        verdict = Verdict.IMPROVED
    else:
        verdict = Verdict.OK
    unsteady = _unsteady(measurement, line)
    if verdict is not Verdict.OK and abs(difference) <= unsteady:
        note = f"passes over the same code differ by {format_quantity(unsteady, metric.unit)}: too unsteady"
        return _row(test, measurement, line, Verdict.UNDECIDED, note=note)
    note = str(measurement.detail.get("label", ""))
    if verdict is not Verdict.OK:
        change = f"{format_quantity(old, metric.unit)} -> {format_quantity(new, metric.unit)}"
        note = f"{note}: {change}" if note else change
    row = _row(test, measurement, line, verdict, note=note)
    if verdict is Verdict.REGRESSED and line.text and measurement.text:
        row = replace(row, detail=grown_sites(line.text, measurement.text))
    return row


def _unsteady(measurement: Measurement, line: BaselineLine) -> float:
    """Return how far a counter moved by itself between passes, now or when it was accepted."""
    now = 0.0
    if measurement.low is not None and measurement.high is not None:
        now = measurement.high - measurement.low
    accepted = abs(line.value) * (line.noise or 0.0) if isinstance(line.value, int | float) else 0.0
    return max(now, accepted)


def _digest(test: str, measurement: Measurement, line: BaselineLine, extra: float) -> Row:
    del extra  # a wrong answer has no accepted size
    if line.value == measurement.value:
        return _row(test, measurement, line, Verdict.OK)
    if line.text is None or measurement.text is None:
        note = "the answer changed (too large to show where, or compared bit by bit)"
        return _row(test, measurement, line, Verdict.REGRESSED, note=note)
    sets = set_change(line.text, measurement.text)
    if sets is not None and measurement.metric.better is Better.LOWER:
        verdict = Verdict.REGRESSED if sets.startswith("+") else Verdict.IMPROVED
        return _row(test, measurement, line, verdict, note=sets)
    difference = first_difference(line.text, measurement.text, measurement.metric.relative)
    if difference is None:
        note = resolution(line.text, measurement.metric.relative)
        return _row(test, measurement, line, Verdict.OK, note=note)
    return _row(test, measurement, line, Verdict.REGRESSED, note=f"the answer changed, first at {difference}")


def _explained(row: Row, measurement: Measurement, line: BaselineLine, context: Context) -> Row:
    """Turn a changed counter into a mismatch when what it depends on changed meanwhile.

    That is what it was counted by, or a dependency's major version.
    """
    machine = measurement.detail.get("machine")
    if line.machine and machine and line.machine != machine and row.verdict is not Verdict.OK:
        note = f"{row.note}; but counted by {machine}, accepted by {line.machine}: --perf-update there"
        return replace(row, verdict=Verdict.MISMATCH, note=note)
    if row.verdict is not Verdict.REGRESSED:
        return row
    changed = changed_dependencies(line, context, major=True)
    if not changed:
        return row
    note = f"{row.note}; but {', '.join(changed)}: --perf-update if that explains it"
    return replace(row, verdict=Verdict.MISMATCH, note=note)


def _row(
    test: str, measurement: Measurement, line: BaselineLine | None, verdict: Verdict, note: str = ""
) -> Row:
    old, new = (line.value if line else None), measurement.value
    change = None
    if isinstance(old, int | float) and isinstance(new, int | float) and old:
        change = (new - old) / abs(old)  # a loss that grows from -1 to -2 goes down
    return Row(
        test=test,
        metric=measurement.metric.name,
        verdict=verdict,
        unit=measurement.metric.unit,
        accepted=old,
        measured=new,
        change=change,
        note=note,
    )
