"""A work queue for calls that cost time or money: priorities, a bounded number at once, cache, deduplication.

There are no idle worker tasks: a free slot takes the most urgent job, so a queue that is never closed
leaks nothing. Equal keys share one run; the run is cancelled only when nobody waits for it any more.
"""

import asyncio
import heapq
import itertools
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from pytest_tradeperf.pipeline.llm.errors import QueueError

T = TypeVar("T")
Work = Callable[[], Awaitable[T]]
Callback = Callable[["asyncio.Future[Any]"], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStats:
    """A queue at one moment. Seconds are the loop's; ``mean_seconds`` covers runs that ended by themselves.

    ``requests = hits + joined + rejected + runs started or pending``; ``utilisation`` is the share of
    worker time spent working since the first request.
    """

    requests: int
    hits: int
    joined: int
    rejected: int
    completed: int
    failed: int
    cancelled: int
    pending: int
    busy: int
    workers: int
    peak_pending: int
    peak_busy: int
    mean_seconds: float
    max_seconds: float
    utilisation: float

    @property
    def hit_rate(self) -> float:
        """Share of requests that needed no run of their own; 0 without requests."""
        return (self.hits + self.joined) / self.requests if self.requests else 0.0


class _Job:
    """One run, everybody who waits for it, and the most urgent of their priorities."""

    __slots__ = ("is_over", "key", "priority", "started", "task", "ttl", "waiters", "work")

    def __init__(self, key: Hashable | None, work: Work[Any], priority: int, ttl: float) -> None:
        self.key, self.work, self.priority, self.ttl = key, work, priority, ttl
        self.waiters: list[asyncio.Future[Any]] = []
        self.task: asyncio.Future[Any] | None = None
        self.started = 0.0
        self.is_over = False


class WorkQueue:
    """Runs coroutine functions, at most ``workers`` at once, the smallest ``priority`` number first.

    Parameters
    ----------
    workers
        Runs at once, at least 1.
    max_pending
        Jobs that may wait for a slot; beyond it ``submit`` waits and ``submit_nowait`` refuses.
    cache_ttl
        Seconds a result answers equal keys; 0 turns the cache off. Failures are never cached.
    cache_size
        Results kept, least recently used out first.
    """

    def __init__(
        self, *, workers: int = 4, max_pending: int = 1000, cache_ttl: float = 300.0, cache_size: int = 1024
    ) -> None:
        for name, value, least in (
            ("workers", workers, 1),
            ("max_pending", max_pending, 1),
            ("cache_ttl", cache_ttl, 0),
            ("cache_size", cache_size, 0),
        ):
            if not value >= least:
                raise ValueError(f"{name} must be at least {least}, not {value!r}")
        self.workers, self.max_pending = workers, max_pending
        self.cache_ttl, self.cache_size = cache_ttl, cache_size
        self._heap: list[tuple[int, int, _Job]] = []
        self._order = itertools.count()
        self._by_key: dict[Hashable, _Job] = {}
        self._running: set[_Job] = set()
        self._cache: OrderedDict[Hashable, tuple[float, Any]] = OrderedDict()
        self._room: deque[asyncio.Future[None]] = deque()
        self._is_closed = False
        self._pending = self._peak_pending = self._peak_busy = 0
        self._requests = self._hits = self._joined = self._rejected = 0
        self._completed = self._failed = self._cancelled = 0
        self._busy_seconds = self._run_seconds = self._max_seconds = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._first_request = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose(drain=kind is None)

    async def run(self, key: Hashable | None, work: Work[T], *, priority: int = 0) -> T:
        """Return what ``work`` returns, from the cache or from an equal run where there is one.

        Cancelling this call cancels the run, unless others wait for it too.
        """
        result: T = await (await self.submit(key, work, priority=priority))
        return result

    async def submit(
        self,
        key: Hashable | None,
        work: Work[Any],
        *,
        priority: int = 0,
        ttl: float | None = None,
        callback: Callback | None = None,
    ) -> "asyncio.Future[Any]":
        """Return a future of the result, waiting for room while too many jobs are pending.

        ``key`` None means: neither cache nor share. ``callback`` is called with the done future.

        Raises
        ------
        QueueError
            The queue is closed, also while waiting for room.
        """
        while self._is_full_for(key):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._room.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._give_room()  # the place was ours already: pass it on
                raise
        return self.submit_nowait(key, work, priority=priority, ttl=ttl, callback=callback)

    def submit_nowait(
        self,
        key: Hashable | None,
        work: Work[Any],
        *,
        priority: int = 0,
        ttl: float | None = None,
        callback: Callback | None = None,
    ) -> "asyncio.Future[Any]":
        """Return a future of the result; raises QueueError where the queue is full or closed."""
        loop = asyncio.get_running_loop()
        if self._is_closed:
            raise QueueError("the work queue is closed: submit before aclose()")
        if self._loop is None:
            self._loop, self._first_request = loop, loop.time()
        self._requests += 1
        waiter: asyncio.Future[Any] = loop.create_future()
        if callback is not None:
            waiter.add_done_callback(callback)
        if self._is_cached(key):
            self._cache.move_to_end(key)
            self._hits += 1
            waiter.set_result(self._cache[key][1])
            return waiter
        job = self._by_key.get(key) if key is not None else None
        if job is not None:
            self._joined += 1
        elif self._is_full_for(key):
            self._rejected += 1
            raise QueueError(
                f"{self._pending} jobs are pending, no more than max_pending={self.max_pending} may:"
                " wait with submit() or raise the limit"
            )
        else:
            job = _Job(key, work, priority, self.cache_ttl if ttl is None else ttl)
            self._enter(job)
        job.waiters.append(waiter)
        waiter.add_done_callback(partial(self._waiter_is_done, job))
        if job.task is None and priority < job.priority:
            job.priority = priority
            heapq.heappush(self._heap, (priority, next(self._order), job))  # the old entry is skipped later
        self._pump()
        return waiter

    def stats(self) -> QueueStats:
        """Return the counts and times so far."""
        ended = self._completed + self._failed
        now = self._loop.time() if self._loop else 0.0
        working = self._busy_seconds + sum(now - job.started for job in self._running)
        offered = (now - self._first_request) * self.workers
        return QueueStats(
            requests=self._requests,
            hits=self._hits,
            joined=self._joined,
            rejected=self._rejected,
            completed=self._completed,
            failed=self._failed,
            cancelled=self._cancelled,
            pending=self._pending,
            busy=len(self._running),
            workers=self.workers,
            peak_pending=self._peak_pending,
            peak_busy=self._peak_busy,
            mean_seconds=self._run_seconds / ended if ended else 0.0,
            max_seconds=self._max_seconds,
            utilisation=working / offered if offered > 0 else 0.0,
        )

    def clear_cache(self) -> None:
        """Forget every cached result."""
        self._cache.clear()

    async def aclose(self, *, drain: bool = True, grace_seconds: float = 5.0) -> None:
        """Refuse new work, then finish what is queued (``drain``) or cancel it; return when all is over.

        Cancelled runs get ``grace_seconds`` to clean up; one that ignores its cancellation is left behind.
        """
        self._is_closed = True
        while self._room:
            turn = self._room.popleft()
            if not turn.done():
                turn.set_result(None)  # wakes into "closed"
        if not drain:
            self._cancel_everything()
        interrupted: asyncio.CancelledError | None = None
        while self._running:
            runs = [job.task for job in self._running if job.task is not None]
            patience = None if drain else grace_seconds
            try:
                _, unfinished = await asyncio.wait(runs, timeout=patience)
            except asyncio.CancelledError as error:
                if interrupted is not None:
                    raise
                interrupted, drain = error, False
                self._cancel_everything()
                continue
            if unfinished:
                break
        if interrupted is not None:
            raise interrupted

    def _enter(self, job: _Job) -> None:
        if job.key is not None:
            self._by_key[job.key] = job
        heapq.heappush(self._heap, (job.priority, next(self._order), job))
        self._pending += 1
        if len(self._running) >= self.workers:
            self._peak_pending = max(self._peak_pending, self._pending)

    def _is_full_for(self, key: Hashable | None) -> bool:
        """Return whether a job for ``key`` would have to wait for room; shared and cached ones never do."""
        if self._is_closed or self._pending < self.max_pending:
            return False
        return key is None or (key not in self._by_key and not self._is_cached(key))

    def _is_cached(self, key: Hashable | None) -> bool:
        """Return whether a result for ``key`` is there and still good; forget it when it is not."""
        if key is None or key not in self._cache:
            return False
        if asyncio.get_running_loop().time() >= self._cache[key][0]:
            del self._cache[key]
            return False
        return True

    def _pump(self) -> None:
        """Start jobs while there are slots: most urgent first, first come first served among equals."""
        while len(self._running) < self.workers and self._heap:
            _, _, job = heapq.heappop(self._heap)
            if job.task is not None or job.is_over:
                continue  # started under a more urgent priority, or nobody waits for it
            self._pending -= 1
            job.started = asyncio.get_running_loop().time()
            job.task = asyncio.ensure_future(job.work())
            self._running.add(job)
            self._peak_busy = max(self._peak_busy, len(self._running))
            job.task.add_done_callback(partial(self._job_is_done, job))
        self._give_room()

    def _give_room(self) -> None:
        free = self.max_pending - self._pending
        while free > 0 and self._room:
            turn = self._room.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1

    def _job_is_done(self, job: _Job, task: "asyncio.Future[Any]") -> None:
        now = task.get_loop().time()
        self._running.discard(job)
        self._forget(job)
        seconds = now - job.started
        self._busy_seconds += seconds
        if task.cancelled():
            self._cancelled += 1
        else:
            self._run_seconds += seconds
            self._max_seconds = max(self._max_seconds, seconds)
        for waiter in job.waiters:
            self._hand_over(task, waiter)
        if not task.cancelled():
            if task.exception() is None:
                self._completed += 1
                self._remember(job, task.result(), now)
            else:
                self._failed += 1
        self._pump()

    @staticmethod
    def _hand_over(task: "asyncio.Future[Any]", waiter: "asyncio.Future[Any]") -> None:
        if waiter.done():
            return
        if task.cancelled():
            waiter.cancel()
        elif (error := task.exception()) is not None:
            waiter.set_exception(error)
        else:
            waiter.set_result(task.result())

    def _remember(self, job: _Job, value: Any, now: float) -> None:
        if job.key is None or job.ttl <= 0 or not self.cache_size:
            return
        self._cache[job.key] = (now + job.ttl, value)
        self._cache.move_to_end(job.key)
        while len(self._cache) > self.cache_size:
            self._cache.popitem(last=False)

    def _waiter_is_done(self, job: _Job, waiter: "asyncio.Future[Any]") -> None:
        """Drop the job when its last waiter has gone before it ended."""
        if not waiter.cancelled() or job.is_over:
            return
        job.waiters = [w for w in job.waiters if w is not waiter]
        if not job.waiters:
            self._drop(job)

    def _drop(self, job: _Job) -> None:
        if job.task is not None:
            self._forget(job)  # whoever asks now gets a run of his own
            job.task.cancel()
            return
        self._forget(job)
        self._pending -= 1
        self._cancelled += 1
        self._give_room()

    def _forget(self, job: _Job) -> None:
        job.is_over = True
        if job.key is not None and self._by_key.get(job.key) is job:
            del self._by_key[job.key]

    def _cancel_everything(self) -> None:
        for job in [*self._running, *(entry[2] for entry in self._heap)]:
            if job.is_over:
                continue
            self._drop(job)
            for waiter in job.waiters:
                waiter.cancel()
