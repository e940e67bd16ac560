"""What a side does between two messages: run rounds under the clocks, one side at a time.

Schedules for ``measures.rounds``; the part that knows pytest is ``plugin.worker``.
"""

import ctypes
import os
import sys
import threading
import time
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

from pytest_tradeperf.model import Sample
from pytest_tradeperf.pairing.profiles import Profiler
from pytest_tradeperf.pairing.protocol import Channel

Schedule: TypeAlias = Generator[int, Any, Sample]
"""As ``measures.rounds.Schedule``, of which this rung knows the shape and not the module."""


_DEVICES: Final = ("/dev/nvidia", "/dev/kfd", "/dev/dri")

_OTHERS: Final = 0.1
_process_ns, _thread_ns = time.process_time_ns, time.thread_time_ns  # before a test may patch them

_MALLOC_TRIM: Final = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None


class AbortedError(BaseException):
    """Ends a test that the other side cannot follow; no test's ``except Exception`` may keep it."""


class RunQueue:
    """How long this thread was ready to run and did not: time taken by others, not by the code."""

    def __init__(self) -> None:
        self._fd: int | None = None
        with suppress(OSError):
            self._fd = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)

    def delay_ns(self) -> int:
        """Return the nanoseconds so far; always 0 where the kernel does not tell."""
        if self._fd is None:
            return 0
        try:
            return int(os.pread(self._fd, 96, 0).split()[1])
        except (OSError, IndexError, ValueError):
            return 0


def lockstep(channel: Channel, part: str, *, is_cold: bool) -> Schedule:
    """Run the rounds that the controller asks for, one message each, until it says ``finish``."""
    queue = RunQueue()
    channel.send({"is": "part", "part": part, "cold": is_cold})
    rounds: list[tuple[int, int, int]] = []
    while (message := channel.receive())["do"] != "finish":
        iterations = message.get("n", 1)
        match message["do"]:
            case "burst":
                trim()
                costs, setup_ns = [], 0
                for _ in range(message["rounds"]):
                    before = queue.delay_ns()
                    cost = yield iterations
                    costs.append((cost.wall_ns, cost.cpu_ns, queue.delay_ns() - before))
                    setup_ns += cost.untimed_ns
                rounds += [(iterations, max(wall - delay, 1), cpu) for wall, cpu, delay in costs]
                answer = {"is": "costs", "costs": costs, "setup": setup_ns}
                channel.send(answer | {"device": holds_device()} if len(rounds) == 1 else answer)
            case "profile":
                with Profiler() as profiler:
                    yield iterations
                channel.send({"is": "profile", "functions": profiler.functions(iterations)})
            case _:
                raise AbortedError(part)
    last = rounds[-1][0] if rounds else 1
    kept = [(wall, cpu) for n, wall, cpu in rounds if n == last] or [(1, 0)]
    return Sample(iterations=last, wall_ns=tuple(w for w, _ in kept), cpu_ns=tuple(c for _, c in kept))


class Block:
    """The rounds of one part inside a running event loop: all in one go, so that the loop never waits.

    ``plan`` is (iterations, rounds, whether a warm-up call comes first); ``setup_ns`` is what a call took
    besides its time.
    """

    def __init__(self, plan: tuple[int, int, bool]) -> None:
        self.iterations, self._rounds, self._warm = plan
        self.costs: list[list[int]] = []
        self.setup_ns = 0
        self.functions: dict[str, list[float]] = {}

    def schedule(self, *, profile: bool = False) -> Schedule:
        """Return the schedule of this block."""
        queue = RunQueue()
        if self._warm:
            yield 1
        for _ in range(self._rounds):
            before = queue.delay_ns()
            cost = yield self.iterations
            self.costs.append([cost.wall_ns, cost.cpu_ns, queue.delay_ns() - before])
            self.setup_ns = max(self.setup_ns, cost.untimed_ns // self.iterations)
        if profile:
            with Profiler() as profiler:
                yield self.iterations
            self.functions = profiler.functions(self.iterations)
        return Sample(
            iterations=self.iterations,
            wall_ns=tuple(max(wall - delay, 1) for wall, _, delay in self.costs),
            cpu_ns=tuple(cpu for _, cpu, _ in self.costs),
        )


def holds_device(files: Path = Path("/proc/self/fd")) -> bool:
    """Return whether this process has a GPU open, for which a CPU may wait as busily as it computes."""
    try:
        found = list(files.iterdir())
    except OSError:
        return False
    for file in found:
        with suppress(OSError):  # closed meanwhile, as the one that listed the folder
            if str(file.readlink()).startswith(_DEVICES):
                return True
    return False


class OtherThreads:
    """Whether other threads of this process compute for this one, as those of a pool do."""

    def __init__(self) -> None:
        self._began = _process_ns(), _thread_ns()

    def compute(self) -> bool:
        """Return whether they had a tenth of the process's CPU time since this object was made."""
        whole, own = _process_ns() - self._began[0], _thread_ns() - self._began[1]
        return whole - own > _OTHERS * whole


def trim() -> None:
    """Give free memory back, so that what comes next lies on other pages.

    Which physical pages a large array got decides some percent of its speed, by what they evict from
    the cache; a process would else keep its luck from the first round to the last (numpy, 160 kB
    arrays: the spread of a pair falls from 1.3-2.6 % to 0.4 %).
    """
    if _MALLOC_TRIM is not None:
        _MALLOC_TRIM(0)


def pin(cpus: list[int], *, others: list[int]) -> bool:
    """Keep this thread on ``cpus``, those started before on ``others``; False where that cannot be done."""
    if sys.platform != "linux":
        return False
    try:
        os.sched_setaffinity(0, cpus)
    except OSError:
        return False
    for thread in Path("/proc/self/task").iterdir():
        if int(thread.name) != threading.get_native_id():
            with suppress(OSError):  # ended meanwhile
                os.sched_setaffinity(int(thread.name), others)
    return True
