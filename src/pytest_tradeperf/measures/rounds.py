"""Timing a callable: calibration, warm-up and rounds with the garbage collector off.

The decision *what to run next* is a generator (a ``Schedule``), the running is a ``Batch``. A plain
run, a gate run and a paired worker differ only in the schedule; a function and a coroutine function
differ only in the driver.
"""

import gc
import inspect
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from pytest_tradeperf.errors import MeasureError
from pytest_tradeperf.model import Sample

CLOCKS: Final = (time.perf_counter_ns, time.process_time_ns)
"""Wall and CPU clock, taken before any test may freeze or replace those of ``time``.

In a tuple, because freezegun replaces what modules hold by name.
"""


class Cost(NamedTuple):
    """What one round took, in nanoseconds for all its iterations together.

    ``untimed_ns`` is what their preparation took besides.
    """

    wall_ns: int
    cpu_ns: int
    untimed_ns: int = 0


Schedule: TypeAlias = Generator[int, Cost, Sample]
"""Yields the iterations of the next round, is sent its cost, returns the sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much measuring is worth: rounds of at least ``round_ns``, until ``total_ns`` is spent.

    At least ``min_rounds`` and at most ``max_rounds`` are kept, unless one call alone takes
    ``total_ns`` or more: then its first call is the sample. ``rounds`` fixes the number. With
    ``cold`` the first call is the sample, whatever it takes.
    """

    round_ns: int
    total_ns: int
    min_rounds: int
    max_rounds: int
    rounds: int | None = None
    cold: bool = False


QUICK: Final = Plan(round_ns=1_000_000, total_ns=100_000_000, min_rounds=3, max_rounds=20)
"""For plain runs, where only absolute limits are judged."""

CAREFUL: Final = Plan(round_ns=5_000_000, total_ns=1_000_000_000, min_rounds=5, max_rounds=50)
"""For runs whose values are stored or compared."""

_MAX_ITERATIONS: Final = 10_000_000


def calibrated(plan: Plan) -> Schedule:
    """Return the schedule of a process that measures alone."""
    first = yield 1
    if plan.cold or (first.wall_ns >= plan.total_ns and plan.rounds is None):
        return Sample(iterations=1, wall_ns=(first.wall_ns,), cpu_ns=(first.cpu_ns,))
    cost = yield 1  # the first call was the warm-up: imports and caches say nothing about the next
    iterations = 1
    wall, cpu = [cost.wall_ns], [cost.cpu_ns]
    while cost.wall_ns < plan.round_ns and iterations < _MAX_ITERATIONS:
        # The aim is a fifth above the target, so that a slightly lucky round need not be repeated.
        grown = iterations * 1.2 * plan.round_ns / max(cost.wall_ns, 1)
        if cost.untimed_ns:  # a preparation that outweighs the call must not be repeated for minutes
            room = plan.total_ns / plan.min_rounds - cost.wall_ns - cost.untimed_ns
            if room <= 0:
                wall, cpu = [cost.wall_ns], [cost.cpu_ns]
                break
            grown = min(grown, iterations * (1 + room / cost.untimed_ns))
        iterations = min(max(iterations + 1, round(min(grown, iterations * 100))), _MAX_ITERATIONS)
        cost = yield iterations
        wall, cpu = [], []  # rounds of calibration are warm-up too
    spent = sum(wall) + cost.untimed_ns * len(wall)
    least = plan.rounds or plan.min_rounds
    most = plan.rounds or plan.max_rounds
    while len(wall) < least or (len(wall) < most and spent + cost.wall_ns + cost.untimed_ns <= plan.total_ns):
        cost = yield iterations
        wall.append(cost.wall_ns)
        cpu.append(cost.cpu_ns)
        spent += cost.wall_ns + cost.untimed_ns
    return Sample(iterations=iterations, wall_ns=tuple(wall), cpu_ns=tuple(cpu))


def once() -> Schedule:
    """Return the schedule that runs one iteration and no more."""
    cost = yield 1
    return Sample(iterations=1, wall_ns=(cost.wall_ns,), cpu_ns=(cost.cpu_ns,))


@contextmanager
def collector_off() -> Iterator[None]:
    """Collect once, then keep the garbage collector from running inside the block."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Batch:
    """Runs a function a number of times under two clocks and keeps its first result.

    ``prepare`` runs before every call, untimed; what it returns (unless None) becomes the first
    argument; in ``run_async`` it may be a coroutine function. Times include the call itself, a few
    tens of nanoseconds.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        prepare: Callable[[], Any] | None = None,
        *,
        wall_clock: Callable[[], int] = CLOCKS[0],
        cpu_clock: Callable[[], int] = CLOCKS[1],
    ) -> None:
        self._fn, self._args, self._kwargs, self._prepare = fn, args, kwargs, prepare
        self._wall, self._cpu = wall_clock, cpu_clock
        self.result: Any = None
        self._has_result = False

    def run(self, iterations: int) -> Cost:
        """Call the function ``iterations`` times and return what that took.

        Raises
        ------
        MeasureError
            When the function returns an awaitable, whose work would not be in the time.
        """
        __tracebackhide__ = True
        fn, kwargs = self._fn, self._kwargs
        if self._prepare is None and iterations > 1 and self._has_result:
            args = self._args
            wall, cpu = self._wall(), self._cpu()
            if kwargs:
                for _ in range(iterations):
                    fn(*args, **kwargs)
            else:
                for _ in range(iterations):
                    fn(*args)
            cpu_end, wall_end = self._cpu(), self._wall()
            return Cost(wall_end - wall, cpu_end - cpu)
        total_wall = total_cpu = 0
        began = self._wall() if self._prepare is not None else None
        for _ in range(iterations):
            args = self._arguments()
            wall, cpu = self._wall(), self._cpu()
            result = fn(*args, **kwargs)
            cpu_end, wall_end = self._cpu(), self._wall()
            if not self._has_result and inspect.isawaitable(result):
                getattr(result, "close", lambda: None)()
                raise MeasureError(
                    f"{getattr(fn, '__qualname__', fn)!r} returned an awaitable that perf cannot time: "
                    "pass the coroutine function and its arguments instead"
                )
            self._keep(result)
            del result  # or its release would be timed with the next call
            total_wall += wall_end - wall
            total_cpu += cpu_end - cpu
        untimed = self._wall() - began - total_wall if began is not None else 0
        return Cost(total_wall, total_cpu, untimed)

    async def run_async(self, iterations: int) -> Cost:
        """Await the coroutine function ``iterations`` times in the running loop; else as ``run``."""
        __tracebackhide__ = True
        fn, kwargs = self._fn, self._kwargs
        if self._prepare is None and iterations > 1 and self._has_result:
            args = self._args
            wall, cpu = self._wall(), self._cpu()
            for _ in range(iterations):
                await fn(*args, **kwargs)
            cpu_end, wall_end = self._cpu(), self._wall()
            return Cost(wall_end - wall, cpu_end - cpu)
        total_wall = total_cpu = 0
        began = self._wall() if self._prepare is not None else None
        for _ in range(iterations):
            args = await self._arguments_async()
            wall, cpu = self._wall(), self._cpu()
            result = await fn(*args, **kwargs)
            cpu_end, wall_end = self._cpu(), self._wall()
            self._keep(result)
            del result  # or its release would be timed with the next call
            total_wall += wall_end - wall
            total_cpu += cpu_end - cpu
        untimed = self._wall() - began - total_wall if began is not None else 0
        return Cost(total_wall, total_cpu, untimed)

    def _arguments(self) -> tuple[Any, ...]:
        return self._with(self._prepare() if self._prepare is not None else None)

    async def _arguments_async(self) -> tuple[Any, ...]:
        prepared = self._prepare() if self._prepare is not None else None
        return self._with(await prepared if inspect.isawaitable(prepared) else prepared)

    def _with(self, prepared: object) -> tuple[Any, ...]:
        return self._args if prepared is None else (prepared, *self._args)

    def _keep(self, result: object) -> None:
        if not self._has_result:
            self.result, self._has_result = result, True


def drive(schedule: Schedule, run: Callable[[int], Cost]) -> Sample:
    """Run what ``schedule`` asks for and return its sample."""
    __tracebackhide__ = True
    with collector_off():
        iterations: int | Sample = next(schedule)
        while not isinstance(iterations, Sample):
            iterations = _next(schedule, run(iterations))
        return iterations


async def drive_async(schedule: Schedule, run: Callable[[int], Awaitable[Cost]]) -> Sample:
    """Run what ``schedule`` asks for inside the running loop and return its sample."""
    __tracebackhide__ = True
    with collector_off():
        iterations: int | Sample = next(schedule)
        while not isinstance(iterations, Sample):
            iterations = _next(schedule, await run(iterations))
        return iterations


def _next(schedule: Schedule, cost: Cost) -> int | Sample:
    """Return what ``schedule`` says next; apart, so that a StopIteration of the measured code passes."""
    try:
        return schedule.send(cost)
    except StopIteration as finished:
        sample: Sample = finished.value
        return sample
