"""The object behind the fixture ``perf_memory``: heap use and leaks of blocks and callables."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pytest_tradeperf.errors import MeasureError
from pytest_tradeperf.measures import leaks, metrics
from pytest_tradeperf.measures.heap import HeapMode, HeapTracker, HeapUse
from pytest_tradeperf.measures.heap_passes import heap_measurements, schedule
from pytest_tradeperf.measures.leaks import LeakReport
from pytest_tradeperf.measures.recorder import Recorder
from pytest_tradeperf.units import parse_duration_ns, parse_size_bytes

Forgetting: TypeAlias = Callable[[], AbstractContextManager[Callable[[], None]]]


@contextmanager
def _nothing_to_forget() -> Iterator[Callable[[], None]]:
    yield lambda: None


@dataclass(slots=True)
class _Kept:
    """What one test's views share."""

    recorder: Recorder
    root: Path
    is_kept: bool
    judge_leak: Callable[[str, LeakReport], None]
    refusal: str | None
    forgetting: Forgetting
    last: HeapUse | None = None


class PerfMemory:
    """Heap use and leaks of what a test chooses. Get it as the fixture ``perf_memory``.

    Calling it with a function and its arguments runs the function under memray and returns its result;
    a coroutine function gives an awaitable that does. ``track()`` does the same for a block. The peak
    and the number of allocations become the metrics ``peak_memory`` and ``allocations`` of the test.
    """

    def __init__(self, kept: _Kept, part: str = "", mode: HeapMode = HeapMode.PYTHON) -> None:
        self._kept, self._part, self._mode = kept, part, mode

    @classmethod
    def of(
        cls,
        recorder: Recorder,
        *,
        root: Path,
        is_kept: bool,
        judge_leak: Callable[[str, LeakReport], None],
        mode: HeapMode = HeapMode.PYTHON,
        refusal: str | None = None,
        forgetting: Forgetting = _nothing_to_forget,
    ) -> "PerfMemory":
        """Return the view of one test; callables are tracked several times where figures are kept.

        ``refusal`` says why nothing may be tracked in this process; ``forgetting`` surrounds a search
        for leaks and gives what drops, after each call, what others keep of it.
        """
        kept = _Kept(
            recorder=recorder,
            root=root,
            is_kept=is_kept,
            judge_leak=judge_leak,
            refusal=refusal,
            forgetting=forgetting,
        )
        return cls(kept, mode=mode)

    def __call__(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run ``fn(*args, **kwargs)`` once as a warm-up, then tracked, and return the first result.

        Where values are stored or judged it is tracked three times or more and the smallest figures count.
        """
        if not callable(fn):
            raise MeasureError(f"perf_memory needs a callable and its arguments, not {fn!r}")
        if inspect.iscoroutinefunction(fn):
            return self._run_async(fn, args, kwargs)
        result = fn(*args, **kwargs)
        uses: list[HeapUse] = []
        for in_turn in schedule(uses, is_kept=self._kept.is_kept, count=True):
            with self._tracker(in_turn=in_turn) as tracker:
                fn(*args, **kwargs)
            if tracker.unavailable is not None:
                self._lack(tracker.unavailable)
                return result
            uses.append(tracker.use)
        self._keep(uses)
        return result

    async def _run_async(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = await fn(*args, **kwargs)
        uses: list[HeapUse] = []
        for in_turn in schedule(uses, is_kept=self._kept.is_kept, count=True):
            with self._tracker(in_turn=in_turn) as tracker:
                await fn(*args, **kwargs)
            if tracker.unavailable is not None:
                self._lack(tracker.unavailable)
                return result
            uses.append(tracker.use)
        self._keep(uses)
        return result

    @contextmanager
    def track(self) -> Iterator[HeapTracker]:
        """Track a block, once; ``.use`` of what it yields holds the figures afterwards."""
        with self._tracker() as tracker:
            yield tracker
        if tracker.unavailable is None:
            self._keep([tracker.use])
        else:
            self._lack(tracker.unavailable)

    def named(self, name: str) -> "PerfMemory":
        """Return a view whose metrics are prefixed ``name.``, for several in one test."""
        if not isinstance(name, str) or not metrics.is_name(name):
            raise MeasureError(f"perf_memory.named needs letters, digits, '_' and '-', not {name!r}")
        return PerfMemory(self._kept, name, self._mode)

    def leak(
        self,
        fn: Callable[..., Any],
        *args: Any,
        calls: int | None = None,
        allow: str | None = None,
        time: str | None = None,
        fail: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Call ``fn`` again and again and return a LeakReport (an awaitable for a coroutine function).

        Parameters
        ----------
        calls
            Calls per round (default: what takes 20 ms).
        allow
            Growth per call that is tolerated, ``"16 B"`` (default: 8 bytes).
        time
            Time the search may take, ``"30 s"`` (default: a minute).
        fail
            Whether a leak fails the test at its end.
        """
        options: dict[str, Any] = {
            "calls": calls,
            "floor_bytes": parse_size_bytes(allow) if allow is not None else None,
            "limit_ns": parse_duration_ns(time) if time is not None else leaks.LIMIT_NS,
        }
        name = getattr(fn, "__qualname__", repr(fn))
        if inspect.iscoroutinefunction(fn):
            return self._leak_async(name, fn, args, kwargs, options, fail=fail)
        with self._kept.forgetting() as forget:

            def once() -> None:
                fn(*args, **kwargs)
                forget()

            report = leaks.find(once, **options)
        if fail:
            self._kept.judge_leak(name, report)
        return report

    async def _leak_async(
        self,
        name: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: dict[str, Any],
        *,
        fail: bool,
    ) -> LeakReport:
        with self._kept.forgetting() as forget:

            async def once() -> None:
                await fn(*args, **kwargs)
                forget()

            report = await leaks.find_async(once, **options)
        if fail:
            self._kept.judge_leak(name, report)
        return report

    @property
    def last(self) -> HeapUse:
        """The most recent figures: ``perf_memory.last.peak_bytes``, ``.allocations``, ``.sites``."""
        if self._kept.last is None:
            raise MeasureError("perf_memory.last is empty: call perf_memory(fn, ...) first")
        return self._kept.last

    def _tracker(self, *, in_turn: bool = False) -> HeapTracker:
        if self._kept.recorder.running is not None:
            raise MeasureError(
                f"perf_memory inside {self._kept.recorder.running}: tracking slows Python several times "
                "over, so measure time and memory one after the other"
            )
        if self._kept.refusal is not None:
            raise MeasureError(self._kept.refusal)
        return HeapTracker(mode=self._mode, count=True, in_turn=in_turn, root=self._kept.root)

    def _lack(self, why: str) -> None:
        names = (metrics.qualified(m, self._part).name for m in (metrics.PEAK_MEMORY, metrics.ALLOCATIONS))
        self._kept.recorder.unavailable |= dict.fromkeys(names, why)

    def _keep(self, uses: Sequence[HeapUse]) -> None:
        self._kept.last = min(uses, key=lambda use: (use.in_turn, use.peak_bytes))
        for measurement in heap_measurements(uses, self._part):
            self._kept.recorder.add(measurement)
