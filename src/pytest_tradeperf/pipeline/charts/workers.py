"""Threads or processes that draw; a chart that kills its process takes no other with it."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Literal

from pytest_tradeperf.pipeline.charts.model import Drawing

if TYPE_CHECKING:
    from pytest_tradeperf.pipeline.charts.model import Chart

Kind = Literal["thread", "process"]


class Workers:
    """A pool of threads or processes.

    A process that dies breaks its whole pool, and nobody can tell which of the charts in it was to blame. So
    all of them are drawn once more, each in a process of its own: the guilty one fails alone.

    Parameters
    ----------
    n_workers
        Charts drawn at once.
    kind
        ``"thread"`` or ``"process"``.
    """

    def __init__(self, n_workers: int, kind: Kind) -> None:
        self._n_workers = n_workers
        self._kind: Kind = kind
        self._lock = threading.Lock()
        self._pool = _pool(kind, n_workers)
        self._second_try = ThreadPoolExecutor(1, thread_name_prefix="charts-again")

    def submit(self, chart: Chart) -> Future[Drawing]:
        """Return the drawing to come, or the chart's own error; RuntimeError after :meth:`close`."""
        answer: Future[Drawing] = Future()
        answer.set_running_or_notify_cancel()
        pool = self._pool
        try:
            work = pool.submit(drawn, chart)
        except BrokenExecutor:
            pool = self._replaced(pool)
            work = pool.submit(drawn, chart)
        work.add_done_callback(lambda done: self._finish(done, answer, chart, pool))
        return answer

    def close(self, *, cancel: bool) -> None:
        """Wait for what is being drawn and stop; with `cancel`, drop what has not begun."""
        self._pool.shutdown(wait=True, cancel_futures=cancel)
        self._second_try.shutdown(wait=True, cancel_futures=cancel)

    def _finish(self, done: Future[Drawing], answer: Future[Drawing], chart: Chart, pool: Executor) -> None:
        if not done.cancelled() and isinstance(done.exception(), BrokenExecutor):
            self._replaced(pool)
            again = self._second_try.submit(_drawn_alone, chart)
            again.add_done_callback(lambda second: _hand_over(second, answer))
        else:
            _hand_over(done, answer)

    def _replaced(self, broken: Executor) -> Executor:
        """Return a pool that works; only the first who finds it broken makes a new one.

        The broken one is left to end by itself: it may be telling us with its lock held (Python 3.13), and
        shutting it down would then wait for that lock for ever.
        """
        with self._lock:
            if self._pool is broken:
                self._pool = _pool(self._kind, self._n_workers)
            return self._pool


def drawn(chart: Chart) -> Drawing:
    """Return the picture and how long it took."""
    started = time.perf_counter()
    png = chart.render()
    return Drawing(png, time.perf_counter() - started)


def _drawn_alone(chart: Chart) -> Drawing:
    with _pool("process", 1) as pool:
        return pool.submit(drawn, chart).result()


def _pool(kind: Kind, n_workers: int) -> Executor:
    if kind == "thread":
        return ThreadPoolExecutor(n_workers, thread_name_prefix="charts")
    # Started anew, not forked: a fork of a process with threads (this one has them) can deadlock.
    # Ctrl-C is for the parent to handle: a worker that dies of it would print and break the pool.
    ignore_interrupt = (signal.SIGINT, signal.SIG_IGN)
    return ProcessPoolExecutor(
        n_workers, mp_context=get_context("spawn"), initializer=signal.signal, initargs=ignore_interrupt
    )


def _hand_over(done: Future[Drawing], answer: Future[Drawing]) -> None:
    if done.cancelled():
        answer.set_exception(InterruptedError("the queue was closed before the chart was drawn"))
        return
    error = done.exception()
    if error is None:
        answer.set_result(done.result())
    else:
        answer.set_exception(error)
