"""Pytest inside one side of a pair: collects the pending tests, then runs what the controller asks for."""

import asyncio
import gc
import os
import traceback
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

import psutil
import pytest
from _pytest.assertion.rewrite import AssertionRewritingHook
from _pytest.runner import runtestprotocol  # as plugin.reports

from pytest_tradeperf.measures.rounds import CLOCKS, Schedule
from pytest_tradeperf.model import Kind
from pytest_tradeperf.pairing import side
from pytest_tradeperf.pairing.parent import SideContext
from pytest_tradeperf.pairing.profiles import Profiler
from pytest_tradeperf.pairing.protocol import Message
from pytest_tradeperf.plugin import is_gated
from pytest_tradeperf.plugin.carried import take_over
from pytest_tradeperf.plugin.item import STATE, prepare, test_id
from pytest_tradeperf.plugin.reports import reason_of, synthetic
from pytest_tradeperf.plugin.session import NAME

ENTRY: Final = f"{__name__}:serve"

_IMPORT_FRAMES: Final = ("importlib", "<frozen", "pairing/redirect.py", "_pytest/")


def serve(context: SideContext) -> None:
    """Run pytest in this forked side until the controller says goodbye."""
    payload = context.payload
    os.chdir(payload["cwd"])
    # Shared from before the fork on purpose; under `-W error` the warning would end pytest.
    AssertionRewritingHook._warn_already_imported = _say_nothing  # type: ignore[assignment,method-assign]  # noqa: SLF001
    worker = Worker(context)
    status = pytest.main(payload["arguments"], plugins=[worker])
    if not worker.is_ready:
        kind, text = worker.problem or ("silent", f"pytest ended with {status!s} before the first test")
        context.channel.send({"is": "ended", "kind": kind, "message": text})


class Worker:
    """The measuring session of one side."""

    def __init__(self, context: SideContext) -> None:
        self._channel, self._redirect = context.channel, context.redirect
        self._payload = context.payload
        self._problems: dict[str, tuple[str, str]] = {}
        self._items: dict[str, pytest.Item] = {}
        self._blocks: dict[str, side.Block] = {}
        self._plan: dict[str, tuple[int, int, bool]] = {}
        self._is_profiling = self._is_alone = False
        self._call: tuple[int, int, int] = (0, 0, 0)
        self._has_threads = False
        self._reports: list[pytest.TestReport] = []
        self._functions: dict[str, list[float]] = {}
        self._queue = side.RunQueue()
        self.is_ready = False
        self.problem: tuple[str, str] | None = None

    # -- starting

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Take the place of the measuring session; carry over options that conftests declared."""
        self._redirect.keep_first()
        config.pluginmanager.register(_Place(), NAME)
        take_over(config, self._payload["options"])

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_load_initial_conftests(self) -> Generator[None, Any, Any]:
        """Stay before the finder that pytest has put first; keep why a conftest cannot be loaded."""
        self._redirect.keep_first()
        try:
            return (yield)
        except Exception as error:
            self.problem = self._describe(error)
            raise

    @pytest.hookimpl(tryfirst=True)
    def pytest_exception_interact(self, call: pytest.CallInfo[Any], report: Any) -> None:
        """Keep why a file could not be collected."""
        if isinstance(report, pytest.CollectReport) and call.excinfo is not None:
            self._problems[report.nodeid] = self._describe(call.excinfo.value)

    def _describe(self, error: BaseException) -> tuple[str, str]:
        """Return (kind, text): ``broken`` when this side's code fails, ``absent`` when it lacks something."""
        while True:
            cause = getattr(error, "cause", None) or error.__cause__
            if not isinstance(cause, BaseException) or isinstance(error, ImportError):
                break
            error = cause
        frames = [
            frame.filename
            for frame in traceback.extract_tb(error.__traceback__)
            if not any(inner in frame.filename for inner in _IMPORT_FRAMES)
        ]
        is_own = bool(frames) and self._redirect.is_own(frames[-1])
        kind = "broken" if is_own or not isinstance(error, ImportError | AttributeError) else "absent"
        text = (str(error).strip().splitlines() or [""])[0][:300]
        where = f" (at {Path(frames[-1]).name})" if frames else ""
        return kind, f"{type(error).__name__}: {text}{where}"

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> NoReturn:
        """Serve the controller instead of running the tests in turn."""
        wanted = set(self._payload["tests"])
        found = {test_id(item): item for item in session.items}
        self._items = {test: item for test, item in found.items() if test in wanted}
        gc.collect()
        gc.freeze()
        self.is_ready = True
        self._channel.send(
            {
                "is": "ready",
                "tests": list(self._items),
                "problems": self._problems,
                "bytes": psutil.Process().memory_info().rss,
                "device": side.holds_device(),
            }
        )
        while (message := self._channel.receive())["do"] != "bye":
            self._channel.send(self._answer(session, message))
        try:
            with suppress(BaseException):  # as of a file that the other side has removed already
                session._setupstate.teardown_exact(None)  # noqa: SLF001 - what runtestprotocol calls
            self._channel.send({"is": "gone"})
        finally:
            # Hooks that end a session would write its reports again, and undo what it still needs.
            os._exit(0)

    def _answer(self, session: pytest.Session, message: Message) -> Message:
        match message["do"]:
            case "pin":
                return {"is": "pinned", "ok": side.pin(message["cpus"], others=message["others"])}
            case "modules":
                right, wrong = self._redirect.loaded()
                return {"is": "modules", "right": right, "wrong": wrong, "absent": self._redirect.absent}
            case "test":
                return self._test(session, message)
            case unknown:
                return {"is": "confused", "message": f"unknown message {unknown!r}"}

    # -- one test

    def _test(self, session: pytest.Session, message: Message) -> Message:
        item = self._items[message["test"]]
        self._plan = {part: tuple(plan) for part, plan in message.get("block", {}).items()}
        self._is_profiling, self._is_alone = bool(message.get("profile")), bool(message.get("alone"))
        session._setupstate.teardown_exact(item)  # noqa: SLF001 - ends fixtures of other modules only
        side.trim()
        costs, setup_ns = [], 0
        for _ in range(message.get("times", 1)):
            self._blocks = {}
            began = CLOCKS[0]()
            for report in self._run(item):
                if not report.passed:
                    return {"is": "done", "outcome": report.outcome, "message": reason_of(report)}
            costs.append(self._call)
            setup_ns = max(setup_ns, CLOCKS[0]() - began - self._call[0])
        return {
            "is": "done",
            "outcome": "passed",
            "costs": costs,
            "setup": setup_ns,
            "device": side.holds_device(),
            "threads": self._has_threads,
            "functions": self._functions,
            "values": self._values(item),
            "blocks": {
                part: {
                    "n": block.iterations,
                    "costs": block.costs,
                    "setup": block.setup_ns,
                    "functions": block.functions,
                }
                for part, block in self._blocks.items()
            },
        }

    def _run(self, item: pytest.Item) -> list[pytest.TestReport]:
        """Run a test through its hook: what wraps it in any session, as its warning filters, does so here."""
        self._reports = []
        item.ihook.pytest_runtest_protocol(item=item, nextitem=item.parent)
        return self._reports or [synthetic(item.nodeid, "another plug-in runs this test in its own way")]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool:
        """Run a test once; fixtures of a scope above the function stay."""
        self._reports = runtestprotocol(item, log=False, nextitem=item.parent)  # type: ignore[arg-type]
        return True

    @pytest.hookimpl(tryfirst=True, optionalhook=True)
    def pytest_timeout_set_timer(self) -> bool:
        """Start no timer of pytest-timeout: a side waits for the other, and the controller keeps time."""
        return True

    @staticmethod
    def _values(item: pytest.Item) -> dict[str, float]:
        extra = item.stash[STATE].recorder.extra if STATE in item.stash else []
        return {
            m.metric.name: m.value
            for m in extra
            if m.metric.kind is Kind.TIMING and isinstance(m.value, int | float)
        }

    def schedule(self, test: str, part: str, *, cache: str | None, is_async: bool, cold: bool) -> Schedule:
        """Return rounds on demand, or one block where a loop or the other side must not be kept waiting."""
        del test
        name = f"{part}@{cache}" if cache else part  # as in the names of its metrics
        if not (is_async or self._is_alone or _has_running_loop()):
            return side.lockstep(self._channel, name, is_cold=cold)
        block = side.Block((1, 1, False) if cold else self._plan.get(name, (1, 1, False)))
        self._blocks[name] = block
        return block.schedule(profile=self._is_profiling)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Give a measured test its recorder, fresh for every repetition."""
        if is_gated(item):
            prepare(item, self)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Time the body of a test that measures nothing itself."""
        del item
        gc.collect()
        gc.disable()
        try:
            if self._is_profiling:
                with Profiler() as profiler:
                    result = yield
                self._functions = profiler.functions(1)
                return result
            wall_clock, cpu_clock = CLOCKS
            others = side.OtherThreads()
            delay, wall, cpu = self._queue.delay_ns(), wall_clock(), cpu_clock()
            result = yield
            cpu_end, wall_end = cpu_clock(), wall_clock()
            self._call = (wall_end - wall, cpu_end - cpu, self._queue.delay_ns() - delay)
            self._has_threads = others.compute()
            return result
        finally:
            gc.enable()


def _say_nothing(*_: object) -> None:
    """Stand in for a warning."""


class _Place:
    """Holds the name of the measuring session, so that no other one is registered."""


def _has_running_loop() -> bool:
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        return True
    return False
