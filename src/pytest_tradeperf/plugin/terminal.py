"""What the session prints: one header line, the table, what was stored, and the next step."""

import datetime as dt
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from pytest_tradeperf.errors import RevisionError
from pytest_tradeperf.model import BaselineLine, Environment, Row, Verdict
from pytest_tradeperf.pairing.git import ask_git
from pytest_tradeperf.plugin.settings import Mode, Settings
from pytest_tradeperf.report.table import abridged, counts, sorted_rows, table
from pytest_tradeperf.store.baseline import Baseline
from pytest_tradeperf.units import counted, format_percent, printable

_COLOURS = {
    Verdict.REGRESSED: {"red": True, "bold": True},
    Verdict.OVER_BUDGET: {"red": True, "bold": True},
    Verdict.ERROR: {"red": True},
    Verdict.UNDECIDED: {"yellow": True},
    Verdict.MISMATCH: {"yellow": True},
    Verdict.MISSING: {"yellow": True},
    Verdict.NEW: {"cyan": True},
    Verdict.IMPROVED: {"green": True},
    Verdict.OK: {"green": True},
}


LOG_SECONDS: Final = 10.0
"""Least time between two lines of progress where they cannot be overwritten, as in a CI log."""

CALM_TESTS: Final = 100
"""Tests without a finding that a table lists; a suite of thousands would push the findings off the screen."""

_SAID = pytest.StashKey[float]()


def today() -> dt.date:
    """Return the current day, by which waivers expire."""
    return dt.datetime.now(dt.UTC).date()


def header(settings: Settings, environment: Environment, baseline: Baseline) -> list[str]:
    """Return the line(s) of the session header; none for a child or a plain run."""
    if settings.mode is Mode.SELFTEST:
        return [f"perf: measuring the working tree against itself; {environment.machine}"]
    if settings.mode is Mode.AGAINST:
        rule = f"threshold {format_percent(settings.threshold)}, alpha {format_percent(settings.alpha)}"
        return [f"perf: against {settings.against}; {rule}; {environment.machine}"]
    if settings.mode not in (Mode.GATE, Mode.UPDATE):
        return []
    where = _relative(baseline.path, settings.root)
    age = _age_in_days(baseline.path, settings.root)
    state = "not there yet" if age is None else "written today" if age == 0 else f"{age} days old"
    rule = (
        f"threshold {format_percent(settings.threshold)}, alpha {format_percent(settings.alpha)}"
        if settings.mode is Mode.GATE
        else "accepting"
    )
    return [f"perf: {rule}; {environment.machine}; {where} ({state})"]


def summary(reporter: Any, rows: Sequence[Row], messages: Iterable[str], failure: str | None) -> None:
    """Print the table and the messages: under -q only what needs attention, under -v every test."""
    verbosity = reporter.config.get_verbosity()
    quiet, left = verbosity < 0, 0
    ordered, messages = sorted_rows(rows), list(messages)
    if verbosity <= 0:
        ordered, left = abridged(ordered, 0 if quiet else CALM_TESTS)
    if rows and not quiet:
        reporter.section("perf", sep="-")
    width = max(60, min(reporter._tw.fullwidth, 100))  # noqa: SLF001 - pytest's own reporters use it
    for line, verdict in table(ordered, width):
        reporter.write_line(line, **_COLOURS[verdict])
    if left and not quiet:
        reporter.write_line(f"... and {counted(left, 'more test')} without a finding (-v shows them)")
    for message in messages:
        reporter.write_line(message)
    if rows:
        reporter.write_line(f"perf: {counts(rows)}")
    if failure is not None:
        reporter.write_line(f"ERROR: {failure}", red=True)


def advice(rows: Sequence[Row], baseline: Baseline) -> list[str]:
    """Return what to do next: accept a first run, or look into what is undecided."""
    lines = []
    if rows and not baseline.exists and any(row.verdict is Verdict.NEW for row in rows):
        beside = f" (for other environments there is {', '.join(baseline.others)})" if baseline.others else ""
        lines.append(
            f"NO BASELINE for {baseline.key}{beside}: accept these values with  pytest --perf-update"
        )
    return lines


def stored(
    baseline: Baseline,
    lines: Mapping[tuple[str, str], BaselineLine],
    written: Sequence[Path],
    tests: Collection[str],
    gone: Sequence[Row],
) -> list[str]:
    """Return what an update changed."""
    changed = sum(1 for key, line in lines.items() if baseline.lines.get(key) != line)
    dropped = sum(1 for key in baseline.lines if key not in lines)
    names = ", ".join(path.name for path in written) or "nothing changed"
    what = f"{counted(changed, 'line')} written, {dropped} dropped, {len(lines)} in all"
    messages = [f"perf: accepted {counted(len(tests), 'test')}: {what} ({names})"]
    if gone:
        count = len({row.test for row in gone})
        messages.append(f"perf: {counted(count, 'stored test')} gone; drop with --perf-update --perf-prune")
    return messages


def progress(config: pytest.Config, text: str) -> None:
    """Say what is being measured, unless quiet; on a terminal the line is overwritten by the next."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    if reporter is None or config.get_verbosity() < 0:
        return
    if reporter.isatty:
        reporter.ensure_newline()
        reporter.rewrite(one_line(f"perf: {text}", reporter._tw.fullwidth - 1), erase=True)  # noqa: SLF001
    elif time.monotonic() - config.stash.get(_SAID, 0.0) >= LOG_SECONDS:
        config.stash[_SAID] = time.monotonic()
        reporter.ensure_newline()
        reporter.write_line(f"perf: {text}")


def one_line(text: str, width: int) -> str:
    """Return printable text of at most ``width``; a line that wraps could not be overwritten.

    Its middle goes, where names stand: counts come first, times last.

    Examples
    --------
    >>> one_line("pair 4: a_name_that_is_long +0.3 %, 9 s left", 30)
    'pair 4: a_... +0.3 %, 9 s left'
    """
    clean = printable(text)
    head = width // 3
    return clean if len(clean) <= width else f"{clean[:head]}...{clean[head + 3 - width :]}"


def _age_in_days(path: Path, root: Path) -> int | None:
    """Return whole days since the file was committed, or written where git does not keep it as it is."""
    if not path.exists():
        return None
    written = path.stat().st_mtime
    try:
        if not ask_git(root, "status", "--porcelain", "--", str(path)):
            written = float(ask_git(root, "log", "-1", "--format=%ct", "--", str(path)) or written)
    except RevisionError:
        pass
    return max(0, int((time.time() - written) / 86400))


def _relative(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
