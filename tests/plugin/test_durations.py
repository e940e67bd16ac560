from itertools import count
from types import SimpleNamespace

import pytest

from pytest_tradeperf.plugin import durations


class Fixture:
    """As much of a fixture definition as its set-up is timed by."""

    def __init__(self, scope):
        self.scope = scope


@pytest.fixture
def seconds_of(monkeypatch):
    """Set fixtures up, each in 6 s, and return how long a test that uses them is said to take."""
    ticks = count(step=6_000_000_000)
    monkeypatch.setattr(durations, "CLOCKS", (lambda: next(ticks), None))

    def run(*scopes, reports=(0.1, 0.2, 0.1)):
        found, fixtures = durations.Durations(), [Fixture(scope) for scope in scopes]
        for fixture in fixtures:
            steps = found.watch(fixture)
            next(steps)
            with pytest.raises(StopIteration, match="made"):
                steps.send("made")
        info = SimpleNamespace(name2fixturedefs={str(n): [f] for n, f in enumerate(fixtures)})
        item = SimpleNamespace(nodeid="test_it.py::test_a", _fixtureinfo=info)
        found.add(item, [SimpleNamespace(duration=seconds) for seconds in reports])
        return found.seconds["test_it.py::test_a"]

    return run


def test_run_takes_as_long_as_its_phases(seconds_of):
    assert seconds_of() == pytest.approx(0.4)
    assert seconds_of("function") == pytest.approx(0.4), "its own set-up phase holds it already"


def test_wider_fixtures_count_for_every_test_that_uses_them(seconds_of):
    assert seconds_of("session", "module") == pytest.approx(12.4)
