"""Where a session's tests stand and what of the project they loaded: whether comparisons see their code."""

import os
import sys
from collections.abc import Iterable
from typing import Final, TypedDict

import pytest

from pytest_tradeperf.errors import SettingsError
from pytest_tradeperf.pairing.reach import Reach, reach
from pytest_tradeperf.pairing.trees import resolve_sources
from pytest_tradeperf.plugin import TOOLING
from pytest_tradeperf.plugin.settings import Settings
from pytest_tradeperf.units import counted

_SHOWN: Final = 3


class Handed(TypedDict):
    """What an xdist worker says of itself."""

    tests: list[str]
    is_inside: bool
    outside: list[str]


class Reached:
    """Test files and loaded modules of the processes that ran the tests: this one, or the xdist workers."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._root, self._is_controller = settings.root, settings.is_xdist_controller
        self._tooling = config.stash.get(TOOLING, frozenset())
        self._found, self._modules = Reach(), 0
        self.tests: set[str] = set()
        try:
            self.sources = resolve_sources(settings.root, settings.sources)
        except SettingsError:
            self.sources = ()

    def add(self, items: Iterable[pytest.Item]) -> None:
        """Note in which files tests stand; a doctest makes no test file of the module it is in."""
        top = os.path.realpath(self._root)
        files = {item.path for item in items if isinstance(item, pytest.Function)}
        self.tests |= {os.path.relpath(os.path.realpath(file), top).replace(os.sep, "/") for file in files}

    @property
    def is_inside(self) -> bool:
        """Whether anything of the sources was loaded so far."""
        return self._found.is_inside or self.look().is_inside

    def look(self) -> Reach:
        """Return what was loaded so far; looks again only when there are other modules than before."""
        if not self._is_controller and self._modules != len(sys.modules):
            self._modules = len(sys.modules)
            self._found = reach(
                sys.modules, root=self._root, sources=self.sources, tests=self.tests, tooling=self._tooling
            )
        return self._found

    def hand_over(self) -> Handed:
        """Return what the controller is told."""
        found = self.look()
        return Handed(tests=sorted(self.tests), is_inside=found.is_inside, outside=list(found.outside))

    def take_over(self, data: Handed) -> None:
        """Add what an xdist worker ran and loaded."""
        self.tests.update(data["tests"])
        self._found |= Reach(is_inside=data["is_inside"], outside=tuple(data["outside"]))

    def why_unseen(self) -> str:
        """Return why unchanged sources decide nothing here, and the cure."""
        names = ", ".join(self.sources)
        return f"the tests load nothing from perf_source ({names}): set perf_source to the code they time"

    def advice(self) -> list[str]:
        """Return a line on code of the project that no comparison sees, if such code was loaded."""
        outside = self.look().outside
        if not outside:
            return []
        more = len(outside) - _SHOWN
        names = ", ".join(outside[:_SHOWN]) + (f" and {counted(more, 'more module')}" if more > 0 else "")
        where = ", ".join(self.sources) or "nothing"
        them = "it" if len(outside) == 1 else "them"
        cure = "set perf_source to the code you time"
        return [f"perf: changes in {names} are not seen: perf_source ({where}) does not hold {them}; {cure}"]
