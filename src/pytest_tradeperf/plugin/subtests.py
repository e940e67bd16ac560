"""Subtests, which pytest logs the moment they end: told in the first pass of a test, not in later ones."""

from collections.abc import Generator
from typing import Any

import pytest


class ToldError(Exception):
    """A subtest's report that the first pass has shown already; never leaves this module."""


class Subtests:
    """Which subtests of the running test are told, and which tests had one that failed."""

    def __init__(self) -> None:
        self.is_repeating = False
        self.failed: set[str] = set()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, Any, Any]:
        """Stop the report of a subtest in a later pass; one that fails only there is news."""
        if hasattr(report, "context"):  # of a subtest: pytest 9, pytest-subtests
            if report.failed:
                self.failed.add(report.nodeid)
            elif self.is_repeating:
                raise ToldError
        return (yield)


class Swallow:
    """Ends the journey of a report that was stopped: a hook can be left early only by raising."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self) -> Generator[None, Any, Any]:
        """Let nobody hear of it."""
        try:
            return (yield)
        except ToldError:
            return []


SUBTESTS = pytest.StashKey[Subtests]()


def watch_subtests(config: pytest.Config) -> None:
    """Begin to watch the reports of subtests."""
    config.stash[SUBTESTS] = subtests = Subtests()
    config.pluginmanager.register(subtests, "tradeperf-subtests")
    config.pluginmanager.register(Swallow(), "tradeperf-swallow")  # called before what was registered before
