"""How long tests take beyond what is timed in them: what another process must be given for the same."""

from collections.abc import Generator, Iterable
from typing import Any

import pytest

from pytest_tradeperf.measures.rounds import CLOCKS
from pytest_tradeperf.plugin.item import test_id


class Durations:
    """Seconds of whole runs by test, as if each had set up all its fixtures itself."""

    def __init__(self) -> None:
        self._wide: dict[Any, float] = {}
        self.seconds: dict[str, float] = {}

    def watch(self, fixture: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        """Time the set-up of a fixture that outlives its test, which the next test finds ready."""
        if fixture.scope == "function":
            return (yield)
        wall_clock, _ = CLOCKS
        began = wall_clock()
        try:
            return (yield)
        finally:
            self._wide[fixture] = max(self._wide.get(fixture, 0.0), (wall_clock() - began) / 1e9)

    def add(self, item: pytest.Item, reports: Iterable[pytest.TestReport]) -> None:
        """Note how long ``item`` took."""
        info = getattr(item, "_fixtureinfo", None)
        found = info.name2fixturedefs.values() if info is not None else ()
        wide = sum(self._wide.get(fixture, 0.0) for fixtures in found for fixture in fixtures)
        self.seconds[test_id(item)] = sum(report.duration for report in reports) + wide
