"""Which tests this session saw: enough to tell a deleted test from one that was not selected."""

from collections.abc import Iterable
from pathlib import Path

import pytest


class Collected:
    """Tests collected, deselected, begun and answered for."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self.tests: set[str] = set()
        self._partial: set[str] = set()
        self._files: set[str] = set()
        self._begun: dict[str, None] = {}
        self._answered: set[str] = set()
        self._had_errors = False
        option = config.option
        # --lf hides tests of a file without saying so; an xdist controller sees no worker's deselecting.
        self._is_blind = bool(getattr(option, "lf", False)) or (
            config.getoption("dist", "no") != "no"
            and bool(option.keyword or option.markexpr or option.deselect)
        )

    def add(self, tests: Iterable[str]) -> None:
        """Note collected tests."""
        for test in tests:
            self.tests.add(test)
            self._files.add(_file(test))

    def deselect(self, tests: Iterable[str]) -> None:
        """Note tests taken out by -k, -m and their like."""
        for test in tests:
            self.tests.discard(test)
            self._partial.add(_file(test))

    def look(self, report: pytest.CollectReport) -> None:
        """Note a collected file, also an empty one."""
        self._had_errors |= report.failed
        if report.passed and report.nodeid and "::" not in report.nodeid:
            self._files.add(report.nodeid)

    def started(self, test: str) -> None:
        """Note that a test began."""
        self._begun[test] = None

    def answered(self, test: str) -> None:
        """Note that a test has a report."""
        self._answered.add(test)

    def lost(self) -> list[str]:
        """Return tests that began and were never answered for."""
        return [test for test in self._begun if test not in self._answered]

    def is_whole(self, file: str) -> bool:
        """Return whether every test of ``file`` was selected, so that an absent one is gone."""
        if self._had_errors or self._is_blind or file in self._partial:
            return False
        path = self._config.rootpath / file
        covered = any(_covers(self._target(arg), path) for arg in self._config.args if "::" not in arg)
        narrowed = any("::" in arg and self._target(arg) == path for arg in self._config.args)
        if not covered or narrowed:
            return False
        return file in self._files or not path.exists()

    def _target(self, argument: str) -> Path:
        return Path(self._config.invocation_params.dir, argument.partition("::")[0]).resolve()


def _file(test: str) -> str:
    return test.partition("::")[0]


def _covers(target: Path, path: Path) -> bool:
    resolved = path.resolve()
    return resolved == target or target in resolved.parents
