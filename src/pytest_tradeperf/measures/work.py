"""Work of a callable: the machine instructions that it executes, counted by valgrind's cachegrind.

A process started under valgrind warms the callable up and forks copies of itself that call it so many
times and end at once. Valgrind writes a total for each; the difference between two of them, over the
calls, is the work of one call. Work is not time: it says nothing of caches, waiting, or other processes.
"""

import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from pytest_tradeperf.errors import MeasureError, UnavailableError
from pytest_tradeperf.measures import metrics
from pytest_tradeperf.measures.rounds import Cost, Schedule
from pytest_tradeperf.model import Measurement, Sample

OLDEST: Final = (3, 15)
"""The oldest valgrind that is asked: of Ubuntu 20.04. Older ones meet instructions they do not know."""

ENOUGH: Final = 10_000_000
"""Instructions a difference should hold: one fork more than its fellow costs 3,500, so 0.035 % of it."""

PLENTY: Final = 1_000_000_000
"""Instructions of one call, 10 s under valgrind, from which one call is enough.

Below it the first call of each copy is left out: it costs some 100,000 more than the next.
"""

MOST_CALLS: Final = 65_536
WARM_CALLS: Final = 64
"""Calls after which CPython has specialised what it will; fewer for callables that execute more."""

PASSES: Final = 5
MORE_PASSES: Final = 9
"""Passes over work that differs from pass to pass, so that its own spread is known."""

STEADY: Final = 0.001
"""Spread of passes over one callable above which they are repeated: small beside the tolerance."""

_WARM_COPIES: Final = 16
_POOL_BYTES: Final = 16 * 1024  # of pymalloc, as are the sizes below
_SIZES: Final = range(16, 513, 16)

LABEL: Final = "work, not time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Valgrind:
    """A valgrind that can count: where it is, and its version."""

    path: str
    version: str

    def command(self, folder: Path, program: Sequence[str]) -> list[str]:
        """Return the command that counts ``program``; each process writes ``folder/<its id>`` as it ends."""
        return [
            self.path,
            "-q",
            "--tool=cachegrind",
            "--cache-sim=no",
            f"--cachegrind-out-file={folder}/%p",
            *program,
        ]


def find_valgrind(system: str = sys.platform) -> Valgrind:
    """Return the valgrind on the path; raises UnavailableError saying why there is none to be used."""
    if system != "linux":
        raise UnavailableError(f"instructions are counted by valgrind on Linux, and this is {system}")
    path = shutil.which("valgrind")
    if path is None:
        raise UnavailableError(
            "instructions are counted by valgrind, which is not on the PATH: apt-get install valgrind"
        )
    try:
        told = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"{path} does not start: {error}") from error
    found = re.search(r"valgrind-((\d+)\.(\d+)[\w.]*)", told.stdout)
    if found is None:
        answer = (told.stdout + told.stderr).strip().splitlines()[:1] or ["nothing"]
        raise UnavailableError(f"{path} --version says {answer[0]!r}, which names no version of valgrind")
    if (int(found[2]), int(found[3])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise UnavailableError(f"valgrind {found[1]} is too old to count with: {oldest} or newer is needed")
    return Valgrind(path=path, version=found[1])


def counted_by(version: str) -> str:
    """Return what a count depends on besides the code: build of Python, C library, vector unit, valgrind.

    Two builds of one Python version differ by many percent, and libraries choose their loops by what the
    CPU has.
    """
    python = f"{platform.python_implementation()} {platform.python_version()}"
    build = f"{platform.python_build()[1]}, {platform.python_compiler()}"
    library = " ".join(platform.libc_ver()).strip() or "another C library"
    return f"{python} ({build}), {library}, {_vectors()}, valgrind {version}"


def _vectors(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the widest vector unit that valgrind passes on, which it does with AVX2 but not AVX-512."""
    try:
        flags = set(cpuinfo.read_text(encoding="ascii", errors="replace").split())
    except OSError:
        flags = set()
    return next((name for name in ("avx2", "avx", "asimd") if name in flags), platform.machine())


def total_of(folder: Path, process: int) -> int:
    """Return the instructions of an ended process, and remove its file; raises MeasureError without one."""
    path = folder / str(process)
    try:
        _, _, text = path.read_text(encoding="utf-8", errors="replace").rpartition("summary:")
        path.unlink()
        return int(text)
    except (OSError, ValueError) as error:
        raise MeasureError(f"valgrind left no total for a counted process ({error})") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Instructions of one call: the middle of the passes, and where all but one on each side lie."""

    instructions: float
    low: float
    high: float
    passes: int
    calls: int

    def measurement(self, machine: str, part: str = "", cache: str | None = None) -> Measurement:
        """Return the metric of a callable counted on ``machine``, as ``counted_by`` names it."""
        return Measurement(
            metric=metrics.qualified(metrics.INSTRUCTIONS, part, cache),
            value=self.instructions,
            low=self.low,
            high=self.high,
            detail={"label": LABEL, "machine": machine, "passes": self.passes, "calls": self.calls},
        )


@dataclass(slots=True)
class WorkCounter:
    """Counts the callables of one test, in a process under valgrind.

    ``total`` reads what valgrind counted in an ended process; ``on_fork`` is called in each copy first.
    """

    total: Callable[[int], int]
    on_fork: Callable[[], None] = lambda: None
    counts: list[Count] = field(default_factory=list)

    def warm_up(self) -> None:
        """Fork until this interpreter has specialised what does it, which would be counted otherwise."""
        for _ in range(_WARM_COPIES):
            list(self._work(0, 0))

    def schedule(self, *, cold: bool) -> Schedule:
        """Return the schedule that counts a callable; a cold one is counted at its first call, once."""
        if cold:
            work = yield from self._work(0, 1)
            first = yield 1
            self._keep([work], 1)
        else:
            first = yield 1
            yield 1  # imports and caches of the first call say nothing about the next
            yield from self._warm()
        return Sample(iterations=1, wall_ns=(first.wall_ns,), cpu_ns=(first.cpu_ns,))

    def _warm(self) -> Generator[int, Cost, None]:
        """Count a callable that has been called."""
        work = yield from self._work(0, 1)
        if work >= PLENTY:
            self._keep([work], 1)
            return
        yield min(WARM_CALLS, -(-ENOUGH // work))
        calls, work = 1, (yield from self._work(1, 2))
        while work < ENOUGH and calls < MOST_CALLS:
            calls = min(MOST_CALLS, calls << (-(-ENOUGH // work) - 1).bit_length())
            work = yield from self._work(1, 1 + calls)
        works, passes = [work], PASSES
        while len(works) < passes:
            works.append((yield from self._work(1, 1 + calls)))
            if len(works) == PASSES and sorted(works)[-2] - sorted(works)[1] > STEADY * work:
                passes = MORE_PASSES
        self._keep([work / calls for work in works], calls)

    def _keep(self, works: Sequence[float], calls: int) -> None:
        ordered = sorted(works)
        inner = ordered[1:-1] or ordered
        middle, low, high = (round(work, 1) for work in (median(ordered), inner[0], inner[-1]))
        self.counts.append(Count(instructions=middle, low=low, high=high, passes=len(works), calls=calls))

    def _work(self, few: int, many: int) -> Generator[int, Cost, int]:
        """Return the instructions of ``many`` calls less those of ``few``, each made by a copy."""
        less = yield from self._copy(few)
        more = yield from self._copy(many)
        return max(1, self.total(more) - self.total(less))

    def _copy(self, calls: int) -> Generator[int, Cost, int]:
        """Fork a copy that makes ``calls`` calls and ends; return its process id."""
        check_alone()
        process = os.fork()
        if process == 0:
            status = 1
            try:
                self.on_fork()
                kept = settled_heap()
                if calls:
                    yield calls
                del kept
                status = 0
            finally:  # however the calls end, nothing of the session may run twice
                os._exit(status)
        _, status = os.waitpid(process, 0)
        if status:
            raise MeasureError(f"called again to be counted, it ended with {ending(status)}")
        return process


def settled_heap() -> list[list[object]]:
    """Return objects that leave free room in the pool of every small size.

    Code that takes and frees one object at the end of a full pool opens and closes a pool each time: up to
    3.6 % more instructions for the same loop, by what other tests have left behind.
    """
    kept: list[list[object]] = []
    for size in _SIZES:
        count = 3 * _POOL_BYTES // size
        taken: list[object]
        if size == _SIZES[0]:
            taken = [object() for _ in range(count)]
        elif size == _SIZES[1]:
            taken = [10**6 + i for i in range(count)]
        else:
            taken = [bytes(size - sys.getsizeof(b"")) for _ in range(count)]
        kept.append(taken[::2])
    return kept


def ending(status: int) -> str:
    """Return how a process ended that did not end well, from what waiting for it gave."""
    code = os.waitstatus_to_exitcode(status)
    return "an error" if code > 0 else signal.Signals(-code).name


def check_alone() -> None:
    """Raise MeasureError where this process has threads, which a fork would leave behind."""
    names = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    count = len(os.listdir("/proc/self/task")) if Path("/proc/self/task").exists() else 1 + len(names)  # noqa: PTH208 - one call of many
    if count > 1:
        told = f" ({', '.join(names)})" if names else " of a library"
        raise MeasureError(f"{count - 1} more threads run{told}: they would not survive the fork that counts")
