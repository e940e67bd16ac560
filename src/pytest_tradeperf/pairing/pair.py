"""One process pair: started, spoken to with deadlines, ended with everything below it."""

import json
import os
import random
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psutil

from pytest_tradeperf.pairing.parent import BEAT, COMMAND, REST, SLEEP, WATCH
from pytest_tradeperf.pairing.protocol import Channel, ClosedError, LateError

SIDES: Final = ("base", "head")

_ONE_THREAD: Final = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "NUMEXPR_NUM_THREADS",
    ),
    "1",
)
_NOT_INHERITED: Final = (
    "PYTEST_ADDOPTS",
    "PYTEST_XDIST",
    "PYTEST_CURRENT_TEST",
    "PYTEST_TRADEPERF",
    "COV_CORE",
    "COVERAGE_PROCESS",  # nothing may trace what is timed
)
_HEAVY: Final = ("numpy", "pandas", "sqlalchemy", "pydantic", "asyncio", "logging", "email")
_INSTALLED: Final = ("site-packages", "dist-packages")
_OWN: Final = (Path(__file__).resolve().parents[1],)
_PAD_BYTES: Final = 4096
_PADS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PairPlan:
    """What both sides are started with.

    ``base`` is a link to the accepted code, beside a link ``head`` to rootdir. ``tests`` are the files in
    which tests were collected, relative to rootdir: the present ones on both sides, as is what ``overlay``
    names.

    ``entry`` is the ``module:function`` that serves a side; ``payload`` is handed to it unread.
    ``preload`` names libraries imported before the fork; they must not be the project's.
    """

    head: Path
    base: Path
    sources: tuple[str, ...]
    entry: str
    payload: Mapping[str, Any]
    scratch: Path
    cwd: Path
    tests: tuple[str, ...] = ()
    overlay: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()
    path: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))
    flags: tuple[str, ...] = ()

    @property
    def folders(self) -> dict[str, Path]:
        """Where each side takes the sources from; paths of one length, as ``pairing.redirect`` wants."""
        return {"base": self.base, "head": self.base.with_name("head")}


class ProcessPair:
    """Two processes forked from one fresh parent; a context manager that leaves none behind."""

    def __init__(self, plan: PairPlan, *, seed: int, parallel: bool) -> None:
        self._plan = plan
        self._random = random.Random(seed)
        self._parallel = parallel
        self._has_parted = False
        self.outputs = {name: plan.scratch / f"{name}-{seed:x}.txt" for name in SIDES}

    def __enter__(self) -> Self:
        """Start the parent, which forks the sides."""
        plan, dice = self._plan, self._random
        pipes = {name: (os.pipe(), os.pipe()) for name in SIDES}
        order = list(SIDES)
        dice.shuffle(order)
        given = {
            "head": str(plan.head),
            "sources": plan.sources,
            "tests": plan.tests,
            "overlay": plan.overlay,
            "cache": str(plan.scratch),
            "entry": plan.entry,
            "payload": plan.payload,
            "preload": () if self._parallel else plan.preload,
            "path": plan.path,
            "order": order,
            "padding": [dice.randrange(_PAD_BYTES) for _ in range(dice.randrange(_PADS))],
            "sides": {
                name: {
                    "read": down[0],
                    "write": up[1],
                    "folder": str(plan.folders[name]),
                    "output": str(self.outputs[name]),
                }
                for name, (down, up) in pipes.items()
            },
        }
        plan_file = plan.scratch / f"plan-{dice.getrandbits(32):08x}.json"
        ours = [fd for down, up in pipes.values() for fd in (up[0], down[1])]
        theirs = [fd for down, up in pipes.values() for fd in (down[0], up[1])]
        try:
            plan_file.write_text(json.dumps(given), encoding="utf-8")
            with (plan.scratch / "parent.txt").open("ab") as complaints:
                self._parent = subprocess.Popen(
                    [sys.executable, *plan.flags, "-c", COMMAND, str(plan_file)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=complaints,
                    cwd=plan.cwd,
                    env=self._environment(),
                    pass_fds=theirs,
                    start_new_session=True,
                )
        except BaseException:
            for fd in ours:
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        self.channels = {name: Channel(up[0], down[1]) for name, (down, up) in pipes.items()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the parent, which ends the sides and what they started."""
        for channel in self.channels.values():
            channel.close()
        if self._parent.stdin is not None:
            with suppress(OSError):
                self._parent.stdin.close()
        try:
            self._parent.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._parent.kill()  # the sides die with it
            self._parent.wait()

    def move(self, cpus: list[int]) -> None:
        """Let parent and sides, which are still starting, run on ``cpus``."""
        with suppress(psutil.Error):  # what has ended is missed elsewhere
            parent = psutil.Process(self._parent.pid)
            parent.cpu_affinity(cpus)
            for side in parent.children():  # those forked meanwhile have it from the parent
                side.cpu_affinity(cpus)

    def metronome(self, cpus: Sequence[int]) -> AbstractContextManager[None]:
        """Let the kernel change between both sides on ``cpus`` every millisecond while the block runs."""
        return self._told(cpus, BEAT, REST)

    def kept_awake(self, cpus: Sequence[int]) -> AbstractContextManager[None]:
        """Let ``cpus`` not idle while the block runs, so that whoever waits there wakes up in time."""
        return self._told(cpus, WATCH, SLEEP)

    @contextmanager
    def _told(self, cpus: Sequence[int], first: bytes, last: bytes) -> Iterator[None]:
        with suppress(OSError):
            os.sched_setaffinity(self._parent.pid, cpus)
        self._tell_parent(first)
        try:
            yield
        finally:
            self._tell_parent(last)

    def _tell_parent(self, word: bytes) -> None:
        if self._parent.stdin is not None:
            with suppress(OSError):  # gone, as its sides, who are missed elsewhere
                os.write(self._parent.stdin.fileno(), word)

    def farewell(self, seconds: float) -> None:
        """Let both sides tear their fixtures down, for ``seconds`` at most; said again it does nothing."""
        if self._has_parted:
            return
        self._has_parted = True
        ends = time.monotonic() + seconds
        for channel in self.channels.values():
            with suppress(ClosedError):
                channel.send({"do": "bye"})
        for channel in self.channels.values():
            with suppress(ClosedError, LateError):
                while channel.receive(max(0.0, ends - time.monotonic()))["is"] != "gone":
                    channel.send({"do": "bye"})  # the first one ended the test it was in

    def last_words(self, name: str) -> str:
        """Return the last line that a side printed, or what the interpreter died of, or nothing."""
        try:
            with self.outputs[name].open("rb") as file:
                file.seek(max(0, self.outputs[name].stat().st_size - 4000))
                lines = file.read().decode(errors="replace").strip().splitlines()
        except OSError:
            return ""
        fatal = [line for line in lines if line.startswith("Fatal Python error")]
        return (fatal or lines or [""])[-1].strip()

    def _environment(self) -> dict[str, str]:
        dice = self._random
        return measuring_environment(is_parallel=self._parallel) | {
            "PYTHONHASHSEED": str(dice.randrange(1, 2**32)),
            "TRADEPERF_PADDING": "x" * dice.randrange(_PAD_BYTES),  # moves the stack
        }


def measuring_environment(*, is_parallel: bool) -> dict[str, str]:
    """Return this process's environment for one that measures: not traced, and with one thread or many."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_NOT_INHERITED)}
    return environment if is_parallel else environment | _ONE_THREAD


def interpreter_flags() -> tuple[str, ...]:
    """Return the options this interpreter runs under, for another one like it."""
    return tuple(subprocess._args_from_interpreter_flags())  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing


def preloadable(root: Path, sources: Sequence[str], tooling: Iterable[str]) -> tuple[str, ...]:
    """Return modules, loaded here, that both sides can share from before the fork.

    Those of ``tooling`` (what was loaded before the first test) and a few heavy libraries, as long as
    they are installed ones. Sharing them takes most of the start of a pair away.
    """
    # That of the system may lie beside the environment's own.
    shared = [path for path in sys.path if Path(path).name in _INSTALLED]
    folders = {os.path.realpath(path) for path in (*sysconfig.get_paths().values(), *shared, *map(str, _OWN))}
    libraries = tuple(f"{folder}{os.sep}" for folder in folders)
    excluded = tuple(f"{(root / source).resolve()}" for source in sources)
    wanted = {*tooling, *_HEAVY}
    found = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name not in wanted or name == "__main__" or not isinstance(file, str):
            continue
        path = os.path.realpath(file)
        if path.startswith(libraries) and not path.startswith(excluded):
            found.append(name)
    return tuple(found)
