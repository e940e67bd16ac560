"""The summary table of a session: one row per (test, metric), most severe first, at most 80 columns."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from pytest_tradeperf.model import Row, Verdict
from pytest_tradeperf.units import format_percent, format_quantity, printable

WIDTH: Final = 80
UNREMARKABLE: Final = (Verdict.OK, Verdict.NEW, Verdict.IMPROVED)
"""Verdicts that call for no action: left out under -q, and beyond the first tests of a long table."""

_VERDICT, _CHANGE = 11, 9
_VALUES: Final = 2 + _VERDICT + 1 + 22 + 1 + _CHANGE


def sorted_rows(rows: Iterable[Row]) -> list[Row]:
    """Return rows by severity, then by test and metric."""
    return sorted(rows, key=lambda row: (row.verdict.severity, row.test, row.metric))


def abridged(rows: Sequence[Row], most: int) -> tuple[list[Row], int]:
    """Return ``rows`` without the unremarkable tests after the first ``most``, and how many tests went.

    A test with anything to look into is always kept.
    """
    calm = [row.test for row in rows if row.verdict in UNREMARKABLE]
    gone = set(list(dict.fromkeys(calm))[most:])
    kept = [row for row in rows if row.verdict not in UNREMARKABLE or row.test not in gone]
    return kept, len(gone)


def counts(rows: Iterable[Row]) -> str:
    """Return "1 regressed, 12 ok", most severe first."""
    found = Counter(row.verdict for row in rows)
    return ", ".join(f"{found[v]} {v.replace('_', ' ')}" for v in Verdict if v in found) or "nothing judged"


def table(rows: Sequence[Row], width: int = WIDTH) -> list[tuple[str, Verdict]]:
    """Return the lines of the table with the verdict each belongs to (for colour).

    A test's name stands above its metrics once; names longer than the line keep their end, and
    values that do not fit beside their metric stand below it.
    """
    lines: list[tuple[str, Verdict]] = []
    previous = None
    for row in rows:
        if (row.verdict, row.test) != previous:
            lines.append((_shortened(row.test, width), row.verdict))
            previous = (row.verdict, row.test)
        lines += ((line, row.verdict) for line in _lines(row, width))
    return lines


def _lines(row: Row, width: int) -> list[str]:
    verdict = row.verdict.replace("_", " ")
    change = format_percent(row.change, sign=True) if row.change is not None else ""
    note = row.note
    if not change and len(note) <= _CHANGE:  # "same code" says what the empty column would
        change, note = note, ""
    head = f"  {verdict:<{_VERDICT}} {_shortened(row.metric, 22):<22} {change:>{_CHANGE}}".rstrip()
    values = _values(row)
    beside = f"{head:<{_VALUES}}  {values}"
    lines = [beside.rstrip()] if len(beside) <= width else [head, f"      {_shortened(values, width - 6)}"]
    if note:
        lines += [f"      {part}" for part in _wrapped(note, width - 6)]
    return lines


def _values(row: Row) -> str:
    old, new = row.accepted, row.measured
    if isinstance(old, str) or isinstance(new, str):
        return ""
    parts = [format_quantity(value, row.unit) for value in (old, new) if value is not None]
    return " -> ".join(parts)


def _shortened(text: str, width: int) -> str:
    """Return printable text that fits, keeping the end, which tells tests apart."""
    clean = printable(text)
    return clean if len(clean) <= width else "..." + clean[-(width - 3) :]


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width, break_long_words=True) or [""]
