"""Use-cases between the rungs: judge a run, confirm suspects, accept a baseline. Knows no pytest."""

import datetime as dt
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from pytest_tradeperf.errors import TradeperfError, UnavailableError
from pytest_tradeperf.gate import fallback
from pytest_tradeperf.gate.digests import first_difference
from pytest_tradeperf.gate.judge import Context, Judgement, Pending, judge, missing
from pytest_tradeperf.model import BaselineLine, Environment, Kind, Measurement, Row, TestRecord, Verdict
from pytest_tradeperf.store.baseline import Baseline
from pytest_tradeperf.units import printable

FRESH_PROCESSES: Final = 4
"""Processes a suspect is measured in when only its stored number can be had."""

SAME_CODE_FACTOR: Final = 4.0
"""How far a loaded machine may move a timing of unchanged code before its line is written anew."""

Remeasure = Callable[[list[str]], Iterable[TestRecord]]
"""Measures tests once in one fresh process."""


def judge_run(records: Iterable[TestRecord], baseline: Baseline, context: Context) -> Judgement:
    """Judge every record against its stored lines."""
    rows: list[Row] = []
    pending: list[Pending] = []
    for record in records:
        judgement = judge(record, baseline.of(record.test), context)
        rows += judgement.rows
        pending += judgement.pending
    return Judgement(rows=tuple(rows), pending=tuple(pending))


def confirm_with_stored(
    pending: list[Pending],
    context: Context,
    remeasure: Remeasure,
    why: str,
    progress: Callable[[str], None],
) -> list[Row]:
    """Decide timings from their stored numbers, measuring suspects again in fresh processes."""
    suspects = fallback.suspects(pending, context)
    fresh: dict[tuple[str, str], list[float]] = {}
    tests = list(dict.fromkeys(item.test for item in suspects))
    for number in range(FRESH_PROCESSES if tests else 0):
        progress(f"measuring {len(tests)} suspects again in a fresh process ({number + 1}/{FRESH_PROCESSES})")
        try:
            records = list(remeasure(tests))
        except UnavailableError as error:  # the time was spent: what was measured so far decides
            return fallback.decide(pending, fresh, context, f"{why}; {error}")
        except TradeperfError as error:
            others = [item for item in pending if item not in suspects]
            return [*_broken(suspects, str(error)), *fallback.decide(others, {}, context, why)]
        for record in records:
            for measurement in record.measurements:
                if isinstance(measurement.value, int | float):
                    fresh.setdefault((record.test, measurement.metric.name), []).append(measurement.value)
    return fallback.decide(pending, fresh, context, why)


def _broken(pending: Iterable[Pending], why: str) -> list[Row]:
    return [
        Row(test=p.test, metric=p.measurement.metric.name, verdict=Verdict.ERROR, note=why) for p in pending
    ]


def missing_tests(baseline: Baseline, collected: Iterable[str], is_whole: Callable[[str], bool]) -> list[Row]:
    """Return a row per stored line of a test that is gone.

    ``is_whole`` says of a file whether all of it was collected.
    """
    known = set(collected)
    return [
        missing(line, "the test is gone; --perf-prune drops the line")
        for line in baseline.lines.values()
        if line.test not in known and is_whole(line.test.partition("::")[0])
    ]


def accept(
    records: Iterable[TestRecord], baseline: Baseline, environment: Environment
) -> dict[tuple[str, str], BaselineLine]:
    """Return the lines after accepting ``records``; lines of other tests are kept as they are.

    A timing within the noise of its line keeps the stored value, and so do a counter and an answer
    within their tolerance, so that a diff shows real change; what could not be measured keeps its line.
    """
    lines = dict(baseline.lines)
    for record in records:
        old = baseline.of(record.test)
        for metric in old:
            if not record.lacks(metric):
                lines.pop((record.test, metric), None)
        for measurement in record.measurements:
            if measurement.metric.kind is Kind.GAUGE:
                continue
            line = _line(record, measurement, environment)
            before = old.get(line.metric.name)
            lines[line.key] = line if before is None else _settled(before, line)
    return lines


def prune(
    lines: Mapping[tuple[str, str], BaselineLine], gone: Iterable[Row]
) -> dict[tuple[str, str], BaselineLine]:
    """Return ``lines`` without those that ``gone`` names."""
    dropped = {(row.test, row.metric) for row in gone}
    return {key: line for key, line in lines.items() if key not in dropped}


def _line(record: TestRecord, measurement: Measurement, environment: Environment) -> BaselineLine:
    metric, value = measurement.metric, measurement.value
    is_timing = metric.kind is Kind.TIMING
    noise = None
    if is_timing and isinstance(value, int | float):
        spread = measurement.detail.get("noise")
        noise = float(f"{spread:.2g}") if spread is not None else None
        value = _rounded(value, noise or 0.0)
    elif metric.kind is Kind.COUNTER and isinstance(value, int | float) and value:
        spread = abs((measurement.high or value) - (measurement.low or value)) / abs(value)
        noise = float(f"{spread:.2g}") or None
    return BaselineLine(
        test=record.test,
        metric=metric,
        value=value,
        noise=noise,
        machine=environment.machine if is_timing else measurement.detail.get("machine"),
        tree=environment.source_tree if is_timing else None,
        code=record.code if is_timing else None,
        text=measurement.text,
        dependencies=environment.dependencies,
    )


def _rounded(value: float, noise: float) -> float:
    """Round to the digit of the noise: 3 to 6 significant digits."""
    digits = min(6, max(3, 1 - math.floor(math.log10(noise)) if noise > 0 else 6))
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded == int(rounded) else rounded


def _settled(before: BaselineLine, line: BaselineLine) -> BaselineLine:
    """Return the old value and noise on the new line where the change is within noise."""
    old, new = before.value, line.value
    same_machine = before.machine == line.machine and before.metric == line.metric
    if not same_machine:
        return line
    if line.metric.kind is Kind.DIGEST:
        is_equal = (
            before.text and line.text and not first_difference(before.text, line.text, line.metric.relative)
        )
        return replace(line, value=before.value, text=before.text) if is_equal else line
    if not isinstance(old, int | float) or not isinstance(new, int | float):
        return line
    spread = max(before.noise or 0.0, line.noise or 0.0, line.metric.relative)
    is_noise = abs(new - old) <= spread * abs(old) + line.metric.absolute
    is_same_code = line.tree is not None and (line.tree, line.code, line.dependencies) == (
        before.tree,
        before.code,
        before.dependencies,
    )
    if is_same_code and min(old, new) > 0:  # what differs is the load of the machine
        is_noise |= max(old, new) <= SAME_CODE_FACTOR * min(old, new)
    if not is_noise:
        return line
    return replace(line, value=old, noise=before.noise, text=before.text)


def summary_of_waivers(records: Iterable[TestRecord], today: dt.date) -> list[str]:
    """Return a line for every waiver: what is accepted and until when, or that it has expired."""
    lines = []
    for record in records:
        waiver = record.accept
        if waiver is None:
            continue
        if dt.date.fromisoformat(waiver.until) < today:
            state = f"expired on {waiver.until}, judged at its own threshold again: remove it or extend it"
        else:
            state = f"accepts {100 * waiver.fraction:g} % until {waiver.until}: {waiver.reason}"
        lines.append(f"waiver of {printable(record.test)} {state}")
    return lines


def with_noise(rows: Iterable[Row], records: Iterable[TestRecord]) -> list[Row]:
    """Return rows whose undecided timings say what disturbed them, where something was seen to."""
    noise = {
        (record.test, m.metric.name): m.detail["disturbed"]
        for record in records
        for m in record.measurements
        if m.detail.get("disturbed")
    }
    return [
        replace(row, note=f"{row.note}; noise seen: {noise[row.test, row.metric]}")
        if row.verdict is Verdict.UNDECIDED and (row.test, row.metric) in noise
        else row
        for row in rows
    ]
