"""What is kept with one measured test while it runs."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pytest_tradeperf.errors import MarkerError
from pytest_tradeperf.gate.budgets import BudgetSpec, read_budget
from pytest_tradeperf.gate.imports import ImportSpec, read_imports
from pytest_tradeperf.gate.leaks import LeakSpec, read_leak
from pytest_tradeperf.measures.recorder import Perf, Recorder
from pytest_tradeperf.measures.rounds import Schedule, once
from pytest_tradeperf.model import Row, Sample, TestRecord


@dataclass(slots=True)
class ItemState:
    """The budget of a test, what it measured, and why its marker cannot be used, if so.

    ``rows`` are judgements that measures reached on their own; a test that is not ``is_timed`` asks for
    other measures alone.
    """

    spec: BudgetSpec
    recorder: Recorder
    problem: str | None = None
    leak: LeakSpec | None = None
    imports: tuple[ImportSpec, ...] = ()
    is_timed: bool = True
    whole: Sample | None = None
    record: TestRecord | None = None
    rows: list[Row] = field(default_factory=list)
    over: tuple[Row, ...] = ()


STATE = pytest.StashKey[ItemState]()


class Unmeasured:
    """The mode of ``--perf-off``: callables run once, nothing is kept."""

    def schedule(self, test: str, part: str, *, cache: str | None, is_async: bool, cold: bool) -> Schedule:
        """Return a schedule of one call."""
        del test, part, cache, is_async, cold
        return once()


def test_id(item: pytest.Item) -> str:
    """Return the name a test is stored under: its node id, which must name a file.

    For files outside rootdir pytest leaves the path empty; it is filled in relative to rootdir.
    """
    path, separator, rest = item.nodeid.partition("::")
    if path:
        return item.nodeid
    relative = os.path.relpath(item.path, item.config.rootpath)
    return f"{Path(relative).as_posix()}{separator}{rest}"


def prepare(item: pytest.Item, mode: Any) -> ItemState:
    """Read the markers of ``item`` and give it a fresh recorder."""
    problem, spec = None, BudgetSpec()
    try:
        spec = read_budget(_markers(item, "perf_budget"))
        leak, imports = read_leak(_markers(item, "perf_leak")), read_imports(_markers(item, "perf_imports"))
    except MarkerError as error:
        problem, leak, imports = str(error), None, ()
    state = ItemState(
        spec=spec,
        recorder=Recorder(test=test_id(item), mode=mode),
        problem=problem,
        leak=leak,
        imports=imports,
        is_timed=_is_timed(item),
    )
    item.stash[STATE] = state
    return state


def _markers(item: pytest.Item, name: str) -> list[tuple[tuple[Any, ...], Mapping[str, Any]]]:
    return [(mark.args, mark.kwargs) for mark in item.iter_markers(name)]


def _is_timed(item: pytest.Item) -> bool:
    """Return whether the body as a whole is worth timing: asked for, and without a tracker inside."""
    fixtures = getattr(item, "fixturenames", ())
    asked = item.get_closest_marker("perf_budget") is not None or "perf" in fixtures
    return asked and "perf_memory" not in fixtures


def recorder_of(item: Any) -> Recorder:
    """Return the recorder of ``item``; one that nobody reads under ``--perf-off``."""
    state = item.stash.get(STATE, None)
    return state.recorder if state is not None else Recorder(test=test_id(item), mode=Unmeasured())


def perf_of(item: Any) -> Perf:
    """Return the object behind the fixture ``perf`` of ``item``."""
    state = item.stash.get(STATE, None)
    if state is None:
        return Perf(Recorder(test=test_id(item), mode=Unmeasured()))
    return Perf(state.recorder, _cache=state.spec.cache)
