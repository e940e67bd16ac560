"""The extra pass that counts instructions: one process under valgrind for all tests that ask for it.

Before the first test, so that no test's own time limit has to cover it. Parallel workers share what the
first of them counts.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from pytest_tradeperf.errors import UnavailableError
from pytest_tradeperf.measures import metrics
from pytest_tradeperf.model import Json, Measurement
from pytest_tradeperf.plugin.item import test_id
from pytest_tradeperf.plugin.settings import Settings
from pytest_tradeperf.store.record import from_json

if TYPE_CHECKING:
    from pytest_tradeperf.measures.work import Valgrind

NAME: Final = metrics.INSTRUCTIONS.name
COUNTING: Final = "pytest_tradeperf.plugin.counting"
PLAN_VARIABLE: Final = "PYTEST_TRADEPERF_WORK"
"""The path of what is to be counted, as JSON: ``tests``, ``options``, ``seconds``, valgrind's ``version``."""

RESULTS: Final = "counts.jsonl"
"""Beside the plan: a line for each test counted, with its ``metrics``, or ``why`` there are none."""

NO_CALLABLE: Final = "instructions are those of a callable: write perf(fn, ...) in the test"

_GRACE_SECONDS: Final = 30.0
"""What starting pytest under valgrind and collecting may take beyond the time for counting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What the pass says of one test: its metrics, or why it has none."""

    metrics: tuple[Measurement, ...] = ()
    why: str | None = None


def is_work(name: str) -> bool:
    """Return whether a metric, or a limit on one, is a count of instructions: ``parse.instructions@cold``."""
    return name.partition("@")[0].rpartition(".")[2] == NAME


def asks_for_work(item: pytest.Item, settings: Settings) -> bool:
    """Return whether instructions of a test are counted; without a limit only where values are kept."""
    marks = [mark.kwargs for mark in item.iter_markers("perf_budget")]
    if any(is_work(str(name)) for kwargs in marks for name in _names(kwargs.get("limits"))):
        return True
    asked = next((kwargs[NAME] for kwargs in marks if NAME in kwargs), None)
    return asked is not None and (settings.keeps_values or asked is not True)


def _names(limits: object) -> Iterable[object]:
    return limits if isinstance(limits, Mapping) else ()


class WorkPass:
    """Counts once, before the first test, and hands out what was counted."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config, self._settings = config, settings
        self._counted: Mapping[str, Counted] = {}

    def of(self, test: str) -> Counted:
        """Return what was counted of a test."""
        return self._counted.get(test, Counted(why="the process that counts did not get to this test"))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, Any, Any]:
        """Count what the collected tests ask for."""
        asking = [item for item in session.items if asks_for_work(item, self._settings)]
        if asking and not session.config.option.collectonly and not session.testsfailed:
            from pytest_tradeperf.measures.work import find_valgrind

            tests = list(dict.fromkeys(test_id(item) for item in asking))
            try:
                found = _counts(self._shared(tests, find_valgrind()))
            except UnavailableError as error:
                found = {test: Counted(why=str(error)) for test in tests}
            self._counted = found
        return (yield)

    def _shared(self, tests: list[str], valgrind: "Valgrind") -> str:
        """Return the counts of this session, which one of its parallel workers makes for all."""
        factory = getattr(self._config, "_tmp_path_factory", None)
        if not self._settings.is_xdist_worker or factory is None:
            return self._count(tests, valgrind)
        import fcntl

        place: Path = factory.getbasetemp().parent  # as pytest-xdist's documentation shares fixtures
        kept = place / "tradeperf-work.jsonl"
        with (place / "tradeperf-work.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # given back by the kernel when a worker dies
            if not kept.exists():
                kept.write_text(self._count(tests, valgrind), encoding="utf-8")
            return kept.read_text(encoding="utf-8")

    def _count(self, tests: list[str], valgrind: "Valgrind") -> str:
        """Run the tests under valgrind; return a JSON line for each, with its metrics or why it has none."""
        from pytest_tradeperf.plugin.carried import carried_options
        from pytest_tradeperf.plugin.terminal import progress
        from pytest_tradeperf.units import counted

        seconds = self._settings.time_ns / 1e9
        progress(self._config, f"counting instructions of {counted(len(tests), 'test')} under valgrind")
        with tempfile.TemporaryDirectory(prefix="tradeperf-") as name:
            folder = Path(name)
            plan = {"tests": tests, "options": carried_options(self._config), "seconds": seconds}
            path = folder / "plan.json"
            path.write_text(json.dumps({**plan, "version": valgrind.version}), encoding="utf-8")
            ended = self._run(valgrind.command(folder, self._program(tests)), path, seconds + _GRACE_SECONDS)
            results = folder / RESULTS
            text = results.read_text(encoding="utf-8") if results.exists() else ""
        told = {json.loads(line)["test"] for line in text.splitlines()}
        lines = [
            json.dumps({"test": test, "why": ended, "metrics": []}) for test in tests if test not in told
        ]
        return text + "".join(f"{line}\n" for line in lines)

    def _program(self, tests: list[str]) -> list[str]:
        from pytest_tradeperf.pairing.pair import interpreter_flags
        from pytest_tradeperf.plugin.children import session_arguments

        files = sorted({str(self._config.rootpath / test.partition("::")[0]) for test in tests})
        own = ["-p", COUNTING, "-o", "addopts="]
        return [
            sys.executable,
            *interpreter_flags(),
            "-m",
            "pytest",
            *session_arguments(self._config),
            *own,
            *files,
        ]

    def _run(self, command: list[str], plan: Path, seconds: float) -> str:
        """Run the counting process; return why it may have left tests out."""
        from pytest_tradeperf.pairing.pair import measuring_environment

        environment = measuring_environment(is_parallel=False) | {
            "PYTHONHASHSEED": "0",
            PLAN_VARIABLE: str(plan),
        }
        with (plan.parent / "output").open("w+", encoding="utf-8", errors="replace") as output:
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=self._config.invocation_params.dir,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                code = process.wait(seconds)
            except subprocess.TimeoutExpired:
                return "counting instructions took longer than --perf-time"
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # the copies it forked too
                process.wait()
            output.seek(0)
            last = output.read().strip().splitlines()[-1:] or ["no output"]
        if code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            return "the process under valgrind did not collect this test"
        return f"the process under valgrind ended with exit code {code}: {last[0][:300]}"


def _counts(text: str) -> dict[str, Counted]:
    """Return what the lines of a counting process say, by test."""
    found = {}
    for line in text.splitlines():
        entry: dict[str, Json] = json.loads(line)
        measured = tuple(from_json(Measurement, data) for data in entry["metrics"])
        found[entry["test"]] = Counted(metrics=measured, why=entry["why"])
    return found


WORK = pytest.StashKey[WorkPass]()
