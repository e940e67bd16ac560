"""What is kept with one measured test while it runs."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_tradeperf.errors import MarkerError
from pytest_tradeperf.gate.budgets import BudgetSpec, read_budget
from pytest_tradeperf.measures.recorder import Perf, Recorder
from pytest_tradeperf.measures.rounds import Schedule, once
from pytest_tradeperf.model import Row, Sample, TestRecord


@dataclass(slots=True)
class ItemState:
    """The budget of a test, what it measured, and why its marker cannot be used, if so."""

    spec: BudgetSpec
    recorder: Recorder
    problem: str | None = None
    whole: Sample | None = None
    record: TestRecord | None = None
    over: tuple[Row, ...] = ()


STATE = pytest.StashKey[ItemState]()


class Unmeasured:
    """The mode of ``--perf-off``: callables run once, nothing is kept."""

    def schedule(self, test: str, part: str, *, is_async: bool, cold: bool) -> Schedule:
        """Return a schedule of one call."""
        del test, part, is_async, cold
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
        spec = read_budget((mark.args, mark.kwargs) for mark in item.iter_markers("perf_budget"))
    except MarkerError as error:
        problem = str(error)
    state = ItemState(spec=spec, recorder=Recorder(test=test_id(item), mode=mode), problem=problem)
    item.stash[STATE] = state
    return state


def perf_of(item: Any) -> Perf:
    """Return the object behind the fixture ``perf`` of ``item``."""
    state = item.stash.get(STATE, None)
    if state is None:
        return Perf(Recorder(test=test_id(item), mode=Unmeasured()))
    return Perf(state.recorder, _cache=state.spec.cache)
