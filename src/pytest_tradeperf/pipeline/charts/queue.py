"""Charts drawn side by side: workers, one cache, and a failure that stays with its own chart."""

from __future__ import annotations

import secrets
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pytest_tradeperf.pipeline.charts.cache import ChartCache
from pytest_tradeperf.pipeline.charts.keys import file_name
from pytest_tradeperf.pipeline.charts.model import Chart, ChartResult, Drawing, QueueCounts
from pytest_tradeperf.pipeline.charts.workers import Workers
from pytest_tradeperf.pipeline.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from pytest_tradeperf.pipeline.charts.workers import Kind


class ChartQueue:
    """Workers that draw charts.

    Parameters
    ----------
    workers
        Charts drawn at once, at least 1.
    kind
        ``"process"`` draws on several processors, and pays about a second to start and the price of pickling;
        ``"thread"`` starts at once and keeps the caller free, but matplotlib holds the interpreter while it
        draws, so two threads draw no more than one.
    cache
        Shared with other queues where given; by default one of its own.
    folder
        Pictures are written there too, whole or not at all; None writes none.

    Examples
    --------
    >>> from pytest_tradeperf.pipeline.charts import GaugeChart
    >>> with ChartQueue(workers=2) as queue:
    ...     results = queue.draw([GaugeChart(score=0.5), GaugeChart(score=-0.5)])
    >>> [result.png[1:4] for result in results]
    [b'PNG', b'PNG']
    """

    def __init__(
        self,
        *,
        workers: int = 2,
        kind: Kind = "thread",
        cache: ChartCache | None = None,
        folder: Path | str | None = None,
    ) -> None:
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise SettingError(f"workers is {workers!r}: expected a whole number, at least 1")
        if kind not in {"thread", "process"}:
            raise SettingError(f"kind is {kind!r}: expected 'thread' or 'process'")
        self._workers = Workers(workers, kind)
        self._cache = ChartCache() if cache is None else cache
        self._folder = None if folder is None else Path(folder)
        self._lock = threading.Lock()
        self._drawing: dict[str, Future[ChartResult]] = {}
        self._drawn = self._cached = self._shared = self._failed = 0
        self._draw_seconds = 0.0

    def __enter__(self) -> Self:
        """Return the queue."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the workers; what has not begun is dropped when an error is the reason."""
        self.close(cancel=error is not None)

    def submit(self, chart: Chart) -> Future[ChartResult]:
        """Return a future whose result says what went wrong, if anything; it never raises.

        The same chart is drawn once for all who ask meanwhile; cancelling one's own future disturbs no one
        else.

        Raises
        ------
        SettingError
            The queue is closed.
        """
        answer: Future[ChartResult] = Future()
        try:
            name, key = str(chart.name), chart.key()
        except Exception as error:  # noqa: BLE001 - a chart is foreign code, and its failure is its own
            _answer(answer, self._failure("chart", error))
            return answer
        with self._lock:
            running = self._drawing.get(key)
            picture = self._cache.get(key) if running is None else None
            if running is not None:
                self._shared += 1
            elif picture is not None:
                self._cached += 1
            else:
                shared = self._drawing[key] = Future()
        if picture is not None:
            _answer(answer, self._written(ChartResult(name=name, png=picture, from_cache=True), key))
        elif running is not None:
            running.add_done_callback(lambda done: _answer(answer, _shared(done.result(), name)))
        else:
            shared.add_done_callback(lambda done: _answer(answer, done.result()))
            self._begin(chart, shared, name, key)
        return answer

    def draw(self, charts: Iterable[Chart], *, timeout_s: float | None = None) -> list[ChartResult]:
        """Return the results in the order of the charts.

        Parameters
        ----------
        timeout_s
            For all of them together; a chart not done by then has an error, and is still drawn for the cache.
        """
        futures = [(str(getattr(chart, "name", "chart")), self.submit(chart)) for chart in charts]
        ends = None if timeout_s is None else time.monotonic() + timeout_s
        results = []
        for name, future in futures:
            left = None if ends is None else max(0.0, ends - time.monotonic())
            try:
                results.append(future.result(left))
            except FutureTimeoutError:
                results.append(ChartResult(name=name, error=f"not drawn within {timeout_s:g} s"))
        return results

    def counts(self) -> QueueCounts:
        """Return what the queue did so far."""
        with self._lock:
            return QueueCounts(
                drawn=self._drawn,
                cached=self._cached,
                shared=self._shared,
                failed=self._failed,
                waiting=len(self._drawing),
                draw_seconds=self._draw_seconds,
            )

    def close(self, *, cancel: bool = False) -> None:
        """Wait for what is being drawn and stop the workers; with `cancel`, drop what has not begun."""
        self._workers.close(cancel=cancel)

    def _begin(self, chart: Chart, shared: Future[ChartResult], name: str, key: str) -> None:
        try:
            work = self._workers.submit(chart)
        except RuntimeError as error:
            self._settle(shared, ChartResult(name=name, error="the queue is closed"), key)
            raise SettingError(f"chart {name!r} came after the queue was closed: open a new one") from error
        work.add_done_callback(lambda done: self._finish(done, shared, name, key))

    def _finish(self, done: Future[Drawing], shared: Future[ChartResult], name: str, key: str) -> None:
        error = done.exception()
        if error is not None:
            self._settle(shared, self._failure(name, error), key)
            return
        drawing = done.result()
        if not isinstance(drawing.png, bytes):
            wrong = TypeError(f"render() returned {type(drawing.png).__name__}, expected PNG bytes")
            self._settle(shared, self._failure(name, wrong), key)
            return
        self._cache.put(key, drawing.png)
        with self._lock:
            self._drawn += 1
            self._draw_seconds += drawing.seconds
        self._settle(
            shared, self._written(ChartResult(name=name, png=drawing.png, seconds=drawing.seconds), key), key
        )

    def _settle(self, shared: Future[ChartResult], result: ChartResult, key: str) -> None:
        with self._lock:
            self._drawing.pop(key, None)
        shared.set_result(result)

    def _failure(self, name: str, error: BaseException) -> ChartResult:
        with self._lock:
            self._failed += 1
        return ChartResult(name=name, error=f"{type(error).__name__}: {error}")

    def _written(self, result: ChartResult, key: str) -> ChartResult:
        """Return the result with its file, written under another name and renamed."""
        if self._folder is None or result.png is None:
            return result
        path = self._folder / file_name(result.name, key)
        draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}.draft")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(result.png)
            draft.replace(path)
        except OSError as error:
            return replace(result, error=f"drawn but not written: {error}")
        return replace(result, path=path)


def _answer(answer: Future[ChartResult], result: ChartResult) -> None:
    if answer.set_running_or_notify_cancel():
        answer.set_result(result)


def _shared(result: ChartResult, name: str) -> ChartResult:
    return replace(result, name=name, from_cache=result.png is not None, seconds=0.0)
