"""What measuring costs: CPU time of four workloads inside each measure, over that outside.

    python benchmarks/overhead.py [--rounds 7]

Prints one ratio of CPU times per measure and workload (minima of alternating rounds), and what entering
and leaving the measure costs by itself. None of this falls on a timing: heap, leak and loop have passes
of their own.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np

from pytest_tradeperf.errors import UnavailableError
from pytest_tradeperf.measures.gpu.provider import Reading
from pytest_tradeperf.measures.gpu.watch import GpuWatch
from pytest_tradeperf.measures.heap import HeapMode, HeapTracker
from pytest_tradeperf.measures.loop import LoopWatch
from pytest_tradeperf.measures.resident import SAMPLED, ResidentPeak
from pytest_tradeperf.measures.witness import NoiseWitness


def python_calls() -> None:
    def step(value: int) -> int:
        return value + 1

    total = 0
    for _ in range(150_000):
        total = step(total)


def small_objects() -> None:
    rows = [{"price": float(i), "name": str(i)} for i in range(15_000)]
    json.loads(json.dumps(rows))


def large_arrays() -> None:
    prices = np.ones(400_000)
    for _ in range(10):
        prices = np.cumsum(prices) / np.arange(1, prices.size + 1)


def event_loop() -> None:
    async def main() -> None:
        for _ in range(3_000):
            await asyncio.sleep(0)

    asyncio.run(main())


class PlayedBoard:
    """A board that answers as quickly as Python can, so that the cost is ours and not a driver's."""

    label = "played"
    notes = ()

    def read(self, after_us: int) -> Reading:
        return Reading(board_bytes=1, process_bytes=1, utilization=((after_us + 1, 0.5),), power_mw=1)


class PlayedProvider:
    def devices(self) -> list[PlayedBoard]:
        return [PlayedBoard()]

    def close(self) -> None:
        pass


@contextmanager
def sampled() -> Iterator[None]:
    from pathlib import Path

    with ResidentPeak(proc=Path("/nowhere")) as peak:
        yield
    if peak.method != SAMPLED:
        raise UnavailableError("sampling was not used")


MEASURES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "nothing (the same again)": nullcontext,
    "noise witness": NoiseWitness,
    "peak RSS, high-water mark": ResidentPeak,
    "peak RSS, sampled (fallback)": sampled,
    "GPU watch (played board)": lambda: GpuWatch(provider=PlayedProvider),
    "event loop watch": LoopWatch,
    "heap, malloc": lambda: HeapTracker(mode=HeapMode.MALLOC),
    "heap, python": lambda: HeapTracker(mode=HeapMode.PYTHON),
    "heap, python, counted": lambda: HeapTracker(mode=HeapMode.PYTHON, count=True),
}
WORKLOADS = (python_calls, small_objects, large_arrays, event_loop)


def seconds(workload: Callable[[], None]) -> float:
    start = time.process_time()
    workload()
    return time.process_time() - start


def compare(
    make: Callable[[], AbstractContextManager[object]], workload: Callable[[], None], rounds: int
) -> float:
    outside, inside = [], []
    for _ in range(rounds):
        outside.append(seconds(workload))
        with make():
            inside.append(seconds(workload))
    return min(inside) / min(outside)


def entering(make: Callable[[], AbstractContextManager[object]], rounds: int) -> float:
    costs = []
    for _ in range(rounds):
        start = time.perf_counter()
        with make():
            pass
        costs.append(time.perf_counter() - start)
    return min(costs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    for workload in WORKLOADS:
        workload()
    names = [workload.__name__.replace("_", " ") for workload in WORKLOADS]
    print(f"{'measure':<30}" + "".join(f"{name:>15}" for name in names) + f"{'enter + leave':>16}")
    for label, make in MEASURES.items():
        ratios = [compare(make, workload, rounds) for workload in WORKLOADS]
        cost = entering(make, rounds)
        print(
            f"{label:<30}" + "".join(f"{r:>14.2f}x" for r in ratios) + f"{cost * 1e3:>13.2f} ms", flush=True
        )


if __name__ == "__main__":
    main()
