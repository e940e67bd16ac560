"""The command ``tradeperf explain``: what was compared in the last session, and why that verdict."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import click

from pytest_tradeperf.errors import BaselineError
from pytest_tradeperf.model import Row, RunRecord, Verdict
from pytest_tradeperf.store.record import LAST_RECORD, load_record
from pytest_tradeperf.units import counted, format_percent, format_quantity

_SHOWN: Final = 3
_CLOCKS: Final = {
    "cpu": ", by cpu time",
    "wall": ", by wall time",
    "all": ", by the mean cpu time of all calls",
}


@click.command(name="explain")
@click.argument("test")
@click.option(
    "--record",
    type=click.Path(path_type=Path),
    default=None,
    help=f"A run record (--perf-report json=PATH); default {LAST_RECORD} here or above.",
)
def explain(test: str, record: Path | None) -> None:
    """Say what was compared for TEST (any part of its id) in the last gate, against or selftest session."""
    path = record if record is not None else _find(Path.cwd())
    found = load_record(path)
    rows = [row for row in found.verdicts if test in row.test]
    if not rows:
        known = sorted({row.test for row in found.verdicts})
        shown = ", ".join(known[:_SHOWN]) + (" ..." if len(known) > _SHOWN else "")
        raise BaselineError(f"no test with {test!r} in {path}; it has {shown or 'no judged tests'}")
    for line in described(rows, found):
        click.echo(line)


def _find(folder: Path) -> Path:
    for place in (folder, *folder.parents):
        if (place / LAST_RECORD).is_file():
            return place / LAST_RECORD
    raise BaselineError(
        f"no {LAST_RECORD} in {str(folder)!r} or above: run pytest --perf-gate, --perf-against or "
        "--perf-selftest first, or name a record with --record"
    )


def described(rows: Iterable[Row], record: RunRecord) -> Iterator[str]:
    """Yield the lines about ``rows`` of ``record``."""
    for row in rows:
        evidence = row.evidence
        yield f"{row.test} {row.metric}: {row.verdict.replace('_', ' ')}"
        for label, text in (
            ("because", _because(row)),
            ("compared", _compared(row, record)),
            ("values", _values(row)),
            ("change", _change(row)),
            ("measured", _measured(row)),
            ("rule", _rule(row)),
            ("pair by pair", " ".join(_pairs(row))),
        ):
            if text:
                yield f"  {label:<13}{text}"
        for growth in evidence.get("where_to_look", ()):
            yield f"  {'look at':<13}{growth}"


def _because(row: Row) -> str:
    if row.verdict is Verdict.REGRESSED and row.pairs:
        return (
            "so many pairs lie above the threshold that a change at or below it would do this with a "
            f"chance of at most {_alpha(row):.2g}"
        )
    if row.verdict is Verdict.OK and row.pairs and row.detectable is not None:
        return f"{row.note}; that is within the threshold"
    return row.note


def _compared(row: Row, record: RunRecord) -> str:
    evidence = row.evidence
    if "against" not in evidence:
        return ""
    parts = [str(evidence["against"])]
    if evidence.get("tree"):
        parts.append(f"tree {evidence['tree']}")
    if evidence.get("commit"):
        parts.append(f"commit {evidence['commit']}")
    return f"{', '.join(parts)} with the working tree ({record.environment.source_tree or 'no tree id'})"


def _values(row: Row) -> str:
    if not isinstance(row.accepted, int | float) or not isinstance(row.measured, int | float):
        return ""
    return f"{format_quantity(row.accepted, row.unit)} -> {format_quantity(row.measured, row.unit)}"


def _change(row: Row) -> str:
    if row.change is None:
        return ""
    ends = [_percent(row.change_low), _percent(row.change_high)]
    return f"{_percent(row.change)}, interval {ends[0]} .. {ends[1]} (each end 95 %, for all looks together)"


def _measured(row: Row) -> str:
    evidence = row.evidence
    if not row.pairs:
        return ""
    clock = _CLOCKS.get(str(evidence.get("clock")), "")
    how = ", both sides at once" if evidence.get("at_once") else ""
    seconds = f"{evidence.get('seconds', 0):g} s"
    return f"{row.pairs} process pairs in {seconds}{clock}{how}; seed {evidence.get('seed')}"


def _rule(row: Row) -> str:
    if row.threshold is None:
        return ""
    shared = ""
    if "alpha" in row.evidence:
        shared = (
            f", alpha {format_percent(row.evidence['alpha'])} of the session shared over "
            f"{counted(row.evidence['comparisons'], 'timing')}"
        )
    seen = f", smallest regression that would have shown {_percent(row.detectable)}" if row.detectable else ""
    return f"threshold {format_percent(row.threshold)}{shared}{seen}"


def _pairs(row: Row) -> list[str]:
    ratios = row.evidence.get("log_ratios") or ()
    return [format_percent(math.expm1(ratio), sign=True).replace(" ", "") for ratio in ratios]


def _alpha(row: Row) -> float:
    alpha = float(row.evidence.get("alpha", 0.0))
    return alpha / max(1, int(row.evidence.get("comparisons", 1)))


def _percent(value: float | None) -> str:
    return "?" if value is None else format_percent(value, sign=True)
