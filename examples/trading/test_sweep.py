"""A sweep must stay fast, small and parallel, and find the same."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pytest_tradeperf.pipeline.backtest import MovingAverageCross, sweep

GRID = {"fast": range(2, 30), "slow": range(30, 70)}


class Counting(ThreadPoolExecutor):
    """Counts how many tasks were ever at work at once, and the CPU time that they had or queued for.

    A sweep that went serial shows in both, at any load: tasks that wait while others have the processor
    at work, a worker that was given nothing is not.
    """

    def __init__(self, workers):
        super().__init__(workers)
        self.lock = threading.Lock()
        self.running = self.most = 0
        self.busy = 0.0

    def submit(self, fn, /, *args, **kwargs):
        def counted():
            before = wanted_seconds()
            with self.lock:
                self.running += 1
                self.most = max(self.most, self.running)
            try:
                return fn(*args, **kwargs)
            finally:
                with self.lock:
                    self.running -= 1
                    self.busy += wanted_seconds() - before

        return super().submit(counted)


def wanted_seconds():
    """CPU time of this thread, and what it waited for a processor, which Linux tells."""
    waited = Path("/proc/thread-self/schedstat")
    return time.thread_time() + (int(waited.read_text().split()[1]) / 1e9 if waited.exists() else 0.0)


@pytest.mark.perf_budget(wall="10 s", peak_memory="100 MB", threshold="5%")
def test_sweep(perf, goog):
    result = perf(sweep, goog, MovingAverageCross, fees_bps=5, engine="lanes", **GRID)
    perf.digest("sweep", result.digest)
    perf.record("combinations", len(result.rows), better="same")


@pytest.mark.perf_budget(wall="10 s", threshold="10%")
def test_parallel_sweep(perf, goog):
    with Counting(2) as pool:
        result = perf(sweep, goog, MovingAverageCross, fees_bps=5, engine="lanes", executor=pool, **GRID)
    perf.digest("sweep", result.digest)
    perf.record("tasks_at_once", pool.most, better="same")


@pytest.mark.perf_budget(wall="20 s", threshold="10%", limits={"parallel_efficiency": ">= 0.65"})
def test_parallel_efficiency(perf, goog):
    """CPU time over wall times workers: 0.9 in parallel, and at most 0.5 in a sweep that went serial."""
    pytest.importorskip("numba")  # without the interpreter's lock, unlike many small steps of numpy
    grid = {"fast": range(2, 82), "slow": range(100, 250)}
    with Counting(2) as pool:
        wall = 0.0

        def run():
            nonlocal wall
            start = time.perf_counter()
            found = sweep(goog, MovingAverageCross, fees_bps=5, engine="compiled", executor=pool, **grid)
            wall += time.perf_counter() - start
            return found

        run()  # loads the kernel, and compiles it the first time ever
        pool.busy, wall = 0.0, 0.0
        result = perf(run)
    perf.digest("sweep", result.digest)
    perf.record("parallel_efficiency", pool.busy / (2 * wall), better="higher", tolerance="25%")
