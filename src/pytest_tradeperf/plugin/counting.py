"""Pytest in the process that runs under valgrind: sets tests up as ever, then counts copies of their calls.

Loaded with ``-p``. The call phase of each test happens in a forked copy, so that no test leaves anything
behind that the next would count with, and one that crashes or hangs takes nothing with it.
"""

import functools
import json
import os
import random
import signal
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from _pytest.runner import runtestprotocol  # as plugin.reports

from pytest_tradeperf.errors import MeasureError
from pytest_tradeperf.measures.rounds import CLOCKS, Schedule
from pytest_tradeperf.measures.work import WorkCounter, check_alone, counted_by, ending, total_of
from pytest_tradeperf.model import Measurement
from pytest_tradeperf.pairing.parent import die_with_parent
from pytest_tradeperf.plugin import is_gated
from pytest_tradeperf.plugin.carried import take_over
from pytest_tradeperf.plugin.item import STATE, prepare, test_id
from pytest_tradeperf.plugin.reports import reason_of
from pytest_tradeperf.plugin.session import NAME
from pytest_tradeperf.plugin.work import PLAN_VARIABLE, RESULTS
from pytest_tradeperf.store.record import to_json
from pytest_tradeperf.units import format_duration

_LOOK_SECONDS: Final = 0.02


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Take the place of the measuring session; carry over options that conftests declared."""
    die_with_parent(signal.SIGKILL)
    plan = Path(os.environ[PLAN_VARIABLE])
    config.pluginmanager.register(Counting(json.loads(plan.read_text(encoding="utf-8")), plan.parent), NAME)


class Counting:
    """Counts the tests of a plan, one after the other."""

    def __init__(self, plan: dict[str, Any], folder: Path) -> None:
        self._plan, self._folder = plan, folder
        self._counter = WorkCounter(functools.partial(total_of, folder), on_fork=_begin)
        self._ends_ns = CLOCKS[0]() + round(plan["seconds"] * 1e9)

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Set the options of the session that started this one."""
        take_over(config, self._plan["options"])

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the tests of the plan and write what they count."""
        self._counter.warm_up()
        wanted = set(self._plan["tests"])
        items = [item for item in session.items if test_id(item) in wanted]
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        """Run a test without logging it; through the hook, so that its warning filters apply as ever."""
        for report in runtestprotocol(item, log=False, nextitem=nextitem):
            if report.when == "setup" and not report.passed:
                self._write(test_id(item), why=f"under valgrind its set-up failed: {reason_of(report)}")
        return True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Give a test its recorder."""
        if is_gated(item):
            prepare(item, self)

    def schedule(self, test: str, part: str, *, cache: str | None, is_async: bool, cold: bool) -> Schedule:
        """Return the schedule that counts a callable."""
        del test, part, cache, is_async
        return self._counter.schedule(cold=cold)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Run the call in a forked copy, which writes what it counted and ends."""
        try:
            check_alone()
            copy = os.fork()
        except MeasureError as error:
            self._write(test_id(item), why=str(error))
            copy = None
        if copy == 0:
            yield from self._count(item)
        item.runtest = _nothing  # type: ignore[method-assign]  # it runs in the copy
        try:
            return (yield)
        finally:
            del item.runtest
            if copy is not None:
                self._wait(copy, test_id(item))

    def _count(self, item: pytest.Item) -> Generator[None, Any, None]:
        """Run the call of a test, write what it counted, and end this process and any copy that gets here."""
        process, is_written = os.getpid(), False
        try:
            _begin()
            test, why = test_id(item), None
            try:
                yield
                item.stash[STATE].recorder.check_complete()
            except MeasureError as error:
                why = str(error)
            except BaseException as error:  # noqa: BLE001 - pytest's own outcomes, and exits of the test
                told = (str(error).strip().splitlines() or [""])[0][:300]
                why = f"under valgrind it did not pass: {type(error).__name__}: {told}"
            if os.getpid() == process:
                self._write(test, why=why, metrics=self._metrics(item))
                is_written = True
        finally:
            os._exit(0 if is_written else 1)

    def _metrics(self, item: pytest.Item) -> list[Measurement]:
        machine = counted_by(self._plan["version"])
        samples = item.stash[STATE].recorder.samples
        return [
            count.measurement(machine, part, cache)
            for (part, cache), count in zip(samples, self._counter.counts, strict=True)
        ]

    def _wait(self, copy: int, test: str) -> None:
        """Wait for the copy that counts a test, at most for half of the time left; say why it failed."""
        now_ns = CLOCKS[0]
        limit_ns = (self._ends_ns - now_ns()) // 2
        gives_up_ns = now_ns() + limit_ns
        while True:
            ended, status = os.waitpid(copy, os.WNOHANG)
            if ended:
                break
            if now_ns() > gives_up_ns:
                os.kill(copy, signal.SIGKILL)
                os.waitpid(copy, 0)
                took = format_duration(limit_ns)
                self._write(test, why=f"counting took longer than {took}, half of what --perf-time left")
                return
            time.sleep(_LOOK_SECONDS)
        (self._folder / str(copy)).unlink(missing_ok=True)
        if status:
            self._write(test, why=f"under valgrind it ended with {ending(status)}")

    def _write(self, test: str, *, why: str | None, metrics: Sequence[Measurement] = ()) -> None:
        line = {"test": test, "why": why, "metrics": to_json(metrics)}
        with (self._folder / RESULTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _nothing() -> None:
    """Stand in for a test."""


def _begin() -> None:
    """Begin the life of a copy: it dies with its parent and draws the same random numbers every time."""
    die_with_parent(signal.SIGKILL)
    random.seed(0)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(0)
