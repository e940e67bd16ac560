import asyncio
import gc
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from pytest_tradeperf.errors import MeasureError
from pytest_tradeperf.measures.rounds import (
    Batch,
    Cost,
    Plan,
    calibrated,
    collector_off,
    drive,
    drive_async,
    once,
)
from pytest_tradeperf.model import Sample

PLAN = Plan(round_ns=1_000, total_ns=10_000, min_rounds=3, max_rounds=5)


class Clock:
    """Moves only when the measured code says so."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now

    def work(self, ns: int) -> Callable[[], int]:
        def call() -> int:
            self.now += ns
            return self.now

        return call


def ran(plan: Plan, cost: Callable[[int, int], int]) -> tuple[Sample, list[int]]:
    """Run a schedule whose rounds cost ``cost(number of the round, iterations)``; return what it asked for."""
    asked: list[int] = []

    def run(iterations: int) -> Cost:
        asked.append(iterations)
        wall = cost(len(asked), iterations)
        return Cost(wall, wall // 2)

    return drive(calibrated(plan), run), asked


def test_rounds_of_a_fast_call_reach_the_wanted_length() -> None:
    sample, _ = ran(PLAN, lambda _, n: 20 * n)
    assert sample.iterations == 60
    assert set(sample.wall_ns) == {1_200}


def test_the_number_of_iterations_is_the_same_in_every_kept_round() -> None:
    sample, asked = ran(PLAN, lambda _, n: 10 * n)
    assert set(asked[-len(sample.wall_ns) :]) == {sample.iterations}


def test_a_slow_first_call_does_not_make_the_rounds_of_a_fast_callable_short() -> None:
    sample, _ = ran(PLAN, lambda number, n: 5_000 if number == 1 else 10 * n)
    assert min(sample.wall_ns) >= PLAN.round_ns


def test_a_lucky_calibration_round_does_not_end_calibration_early() -> None:
    sample, _ = ran(PLAN, lambda number, n: 1 if number == 2 else 10 * n)
    assert min(sample.wall_ns) >= PLAN.round_ns


def test_the_first_call_is_warm_up_and_not_kept() -> None:
    sample, _ = ran(PLAN, lambda number, n: 9_999 if number == 1 else 2_000 * n)
    assert 9_999 not in sample.wall_ns


def test_a_slow_callable_is_called_once_more_than_its_rounds() -> None:
    sample, asked = ran(PLAN, lambda _, n: 9_000 * n)
    assert len(sample.wall_ns) == PLAN.min_rounds
    assert asked == [1] * (PLAN.min_rounds + 1)


def test_a_first_call_beyond_the_whole_time_is_the_sample() -> None:
    sample, asked = ran(PLAN, lambda _, n: 10_000 * n)
    assert (sample.wall_ns, asked) == ((10_000,), [1])


def test_fixed_rounds_are_run_however_long_a_call_takes() -> None:
    sample, asked = ran(replace(PLAN, rounds=4), lambda _, n: 50_000 * n)
    assert len(sample.wall_ns) == 4
    assert len(asked) == 5


@pytest.mark.parametrize("rounds", [1, 2, 7])
def test_fixed_rounds_override_least_and_most(rounds: int) -> None:
    sample, _ = ran(replace(PLAN, rounds=rounds), lambda _, n: 10 * n)
    assert len(sample.wall_ns) == rounds


def test_cold_keeps_the_first_call_alone() -> None:
    sample, asked = ran(replace(PLAN, cold=True, rounds=9), lambda _, n: 10 * n)
    assert (sample.wall_ns, asked) == ((10,), [1])


def test_rounds_end_at_the_most_allowed() -> None:
    sample, _ = ran(replace(PLAN, total_ns=10**9), lambda _, n: 10 * n)
    assert len(sample.wall_ns) == PLAN.max_rounds


def test_rounds_end_when_the_next_would_exceed_the_time() -> None:
    sample, _ = ran(replace(PLAN, total_ns=5_000), lambda _, n: 20 * n)
    assert len(sample.wall_ns) == 4


def test_a_clock_that_stands_still_ends_calibration() -> None:
    sample, _ = ran(PLAN, lambda _number, _n: 0)
    assert sample.iterations == 10_000_000


def test_wall_and_cpu_totals_are_kept_apart() -> None:
    sample, _ = ran(PLAN, lambda _, n: 2_000 * n)
    assert sample.cpu_ns == tuple(w // 2 for w in sample.wall_ns)


def test_once_runs_one_iteration() -> None:
    assert drive(once(), lambda n: Cost(7 * n, 5 * n)) == Sample(iterations=1, wall_ns=(7,), cpu_ns=(5,))


def test_the_collector_is_off_while_rounds_run_and_back_on_afterwards() -> None:
    seen: list[bool] = []

    def run(_: int) -> Cost:
        seen.append(gc.isenabled())
        return Cost(1, 1)

    assert gc.isenabled()
    drive(once(), run)
    assert seen == [False]
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with collector_off():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_collector_is_back_on_after_a_failure() -> None:
    with pytest.raises(KeyError), collector_off():
        raise KeyError
    assert gc.isenabled()


def test_a_batch_times_what_the_function_takes() -> None:
    wall, cpu = Clock(), Clock()

    def fn() -> None:
        wall.now += 5
        cpu.now += 3

    batch = Batch(fn, (), {}, wall_clock=wall, cpu_clock=cpu)
    assert batch.run(1) == Cost(5, 3)
    assert batch.run(10) == Cost(50, 30)


def test_a_batch_keeps_the_first_result() -> None:
    results = iter(range(100))
    batch = Batch(lambda: next(results), (), {})
    batch.run(1)
    batch.run(5)
    assert batch.result == 0


def test_a_first_result_of_none_is_kept_too() -> None:
    results = iter([None, 1, 2])
    batch = Batch(lambda: next(results), (), {})
    batch.run(1)
    batch.run(1)
    assert batch.result is None


@pytest.mark.parametrize("iterations", [1, 4])
def test_arguments_reach_every_call(iterations: int) -> None:
    seen: list[tuple[object, ...]] = []
    batch = Batch(lambda a, *, b: seen.append((a, b)), (1,), {"b": 2})
    batch.run(1)
    batch.run(iterations)
    assert seen == [(1, 2)] * (1 + iterations)


def test_setup_is_not_timed_and_runs_before_every_call() -> None:
    clock, prepared = Clock(), []

    def prepare() -> list[int]:
        clock.now += 1_000
        prepared.append(1)
        return [3, 1, 2]

    def fn(values: list[int], by: int) -> list[int]:
        clock.now += by
        return sorted(values)

    batch = Batch(fn, (7,), {}, prepare, wall_clock=clock, cpu_clock=clock)
    assert batch.run(3) == Cost(21, 21, untimed_ns=3000)
    assert len(prepared) == 3
    assert batch.result == [1, 2, 3]


def test_setup_that_returns_none_adds_no_argument() -> None:
    batch = Batch(lambda *args: args, ("x",), {}, lambda: None)
    batch.run(1)
    assert batch.result == ("x",)


def test_an_exception_of_the_function_passes_unchanged() -> None:
    def fn() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        drive(once(), Batch(fn, (), {}).run)


def test_an_exhausted_iterator_is_an_error_of_the_caller_and_not_an_end_of_rounds() -> None:
    empty: Iterator[int] = iter(())
    with pytest.raises(StopIteration):
        drive(once(), Batch(next, (empty,), {}).run)


def test_a_plain_function_that_returns_an_awaitable_is_refused_after_one_call() -> None:
    made: list[int] = []

    async def fetch() -> None: ...

    def start() -> object:
        made.append(1)
        return fetch()

    with pytest.raises(MeasureError, match=r"start' returned an awaitable .*pass the coroutine function"):
        Batch(start, (), {}).run(50)
    assert made == [1]


def test_coroutine_functions_are_awaited_in_the_running_loop() -> None:
    clock, loops = Clock(), set()

    async def fetch(url: str) -> str:
        clock.now += 4
        loops.add(asyncio.get_running_loop())
        return url

    batch = Batch(fetch, ("u",), {}, wall_clock=clock, cpu_clock=clock)

    async def both() -> tuple[Cost, Cost]:
        return await batch.run_async(1), await batch.run_async(10)

    assert asyncio.run(both()) == (Cost(4, 4), Cost(40, 40))
    assert len(loops) == 1
    assert batch.result == "u"


def test_an_async_setup_is_awaited_untimed() -> None:
    clock = Clock()

    async def prepare() -> int:
        clock.now += 1_000
        return 5

    async def fn(value: int) -> int:
        clock.now += value
        return value

    batch = Batch(fn, (), {}, prepare, wall_clock=clock, cpu_clock=clock)
    assert asyncio.run(batch.run_async(2)) == Cost(10, 10, untimed_ns=2000)


def test_the_async_driver_follows_the_same_schedule() -> None:
    async def run(iterations: int) -> Cost:
        return Cost(20 * iterations, iterations)

    sample = asyncio.run(drive_async(calibrated(PLAN), run))
    assert sample.iterations == 60
    assert min(sample.wall_ns) >= PLAN.round_ns


def test_a_cancelled_measurement_turns_the_collector_back_on() -> None:
    async def run(_: int) -> Cost:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(drive_async(once(), run))
    assert gc.isenabled()


def test_the_result_of_one_call_is_released_outside_the_time_of_the_next() -> None:
    clock = Clock()

    class Slow:
        def __del__(self) -> None:
            clock.now += 100

    batch = Batch(Slow, (), {}, lambda: None, wall_clock=clock, cpu_clock=clock)
    batch.run(1)
    assert batch.run(3) == Cost(0, 0, untimed_ns=300)


def test_a_preparation_that_outweighs_the_call_is_not_repeated_for_minutes() -> None:
    plan = Plan(round_ns=1_000_000, total_ns=100_000_000, min_rounds=4, max_rounds=20)
    spent = 0

    def run(iterations: int) -> Cost:
        nonlocal spent
        spent += 10_001_000 * iterations
        return Cost(1_000 * iterations, 1_000 * iterations, untimed_ns=10_000_000 * iterations)

    sample = drive(calibrated(plan), run)
    assert len(sample.wall_ns) >= 4
    assert spent < 300_000_000
