"""Held reports: a measured test is run without logging, and logged once after its judgement."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import pytest
from _pytest.runner import runtestprotocol  # pytest-rerunfailures and pytest-xdist build on it too

from pytest_tradeperf.model import Row


class Crash(NamedTuple):
    """Where a failure is, in the shape terminal and JUnit look for."""

    path: str
    lineno: int
    message: str


class FailureText:
    """A failure that has no traceback: the lines of a judgement."""

    def __init__(self, lines: list[str], path: str, lineno: int) -> None:
        self._lines = lines
        self.reprcrash = Crash(path, lineno, lines[0])

    def __str__(self) -> str:
        return "\n".join(self._lines)

    def toterminal(self, tw: Any) -> None:
        """Write the lines as pytest writes a traceback."""
        for line in self._lines:
            tw.line(line, red=True)


def run_held(item: pytest.Item, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
    """Run one test and return its reports without logging them."""
    return runtestprotocol(item, log=False, nextitem=nextitem)


def log(config: pytest.Config, reports: Iterable[pytest.TestReport], *, start: bool = True) -> None:
    """Log the reports of one test as the test loop would have."""
    reports = list(reports)
    hook, first = config.hook, reports[0]
    if start:
        hook.pytest_runtest_logstart(nodeid=first.nodeid, location=first.location)
    for report in reports:
        hook.pytest_runtest_logreport(report=report)
    hook.pytest_runtest_logfinish(nodeid=first.nodeid, location=first.location)


def failed(report: pytest.TestReport, rows: Iterable[Row]) -> pytest.TestReport:
    """Turn a passed call report into one that fails for ``rows``.

    The best explained comes first, for it is what summaries quote; a clock that only follows another
    says nothing of its own.
    """
    lines: list[str] = []
    told = [row for row in rows if not row.is_follower] or list(rows)
    for row in sorted(told, key=lambda row: -len(row.detail)):
        label = "regressed" if row.verdict == "regressed" else f"{row.verdict} (--perf-strict)"
        lines += [f"{label}: {row.metric} {row.note}".rstrip(), *(f"  {line}" for line in row.detail)]
    path, lineno, _ = report.location
    report.outcome = "failed"
    report.longrepr = FailureText(lines, path, (lineno or 0) + 1)  # type: ignore[assignment]
    return report


def over(report: pytest.TestReport, rows: Iterable[Row]) -> pytest.TestReport:
    """Turn a passed call report into one that fails because limits were exceeded."""
    lines: list[str] = []
    for row in rows:
        label = row.verdict.replace("_", " ")
        lines += [f"{label}: {row.note}", *(f"  {line}" for line in row.detail)]
    path, lineno, _ = report.location
    report.outcome = "failed"
    report.longrepr = FailureText(lines, path, (lineno or 0) + 1)  # type: ignore[assignment]
    return report


def synthetic(nodeid: str, message: str) -> pytest.TestReport:
    """Return a failed report for a test that has none of its own."""
    path = nodeid.partition("::")[0]
    return pytest.TestReport(
        nodeid=nodeid,
        location=(path, 0, nodeid),
        keywords={},
        outcome="failed",
        longrepr=FailureText([message], path, 1),  # type: ignore[arg-type]
        when="call",
    )


def reason_of(report: pytest.TestReport) -> str:
    """Return in one line why a test did not pass."""
    if report.skipped and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr or report.outcome)
    return (text.strip().splitlines() or ["no message"])[0][:300]
