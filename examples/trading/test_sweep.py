"""A sweep must stay fast, small and parallel, and find the same."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pytest_tradeperf.pipeline.backtest import MovingAverageCross, sweep

GRID = {"fast": range(2, 30), "slow": range(30, 70)}


class Counting(ThreadPoolExecutor):
    """Counts how many tasks were ever at work at once: a sweep that went serial shows, at any load."""

    def __init__(self, workers):
        super().__init__(workers)
        self.lock = threading.Lock()
        self.running = self.most = 0

    def submit(self, fn, /, *args, **kwargs):
        def counted():
            with self.lock:
                self.running += 1
                self.most = max(self.most, self.running)
            try:
                return fn(*args, **kwargs)
            finally:
                with self.lock:
                    self.running -= 1

        return super().submit(counted)


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
