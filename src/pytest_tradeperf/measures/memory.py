"""The object behind the fixture ``perf_memory``: heap use and leaks of blocks and callables."""

import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pytest_tradeperf.errors import MeasureError
from pytest_tradeperf.measures import leaks, metrics
from pytest_tradeperf.measures.heap import HeapMode, HeapTracker, HeapUse
from pytest_tradeperf.measures.leaks import LeakReport
from pytest_tradeperf.measures.recorder import Recorder
from pytest_tradeperf.model import Json, Measurement
from pytest_tradeperf.units import parse_duration_ns, parse_size_bytes

_NAMED: Final = 3
_WORTH_NAMING: Final = 0.005
"""Share of the peak below which a site is left out: pytest's own frames, mostly."""


def heap_measurements(uses: Sequence[HeapUse], part: str = "") -> list[Measurement]:
    """Return the smallest peak and count over passes, with the sites that made up the peak.

    Only additions disturb these figures (a cache filled by the first pass, another thread), so the
    smallest pass is the truest. ``high`` is the largest, or the smallest where two passes agree on it: the
    others then only filled caches. Code whose passes never agree (threads) is known by its spread.
    """
    peaks = sorted(use.peak_bytes for use in uses)
    counts = sorted(use.allocations for use in uses if use.allocations is not None)
    least = min(uses, key=lambda use: use.peak_bytes)
    is_python = least.mode is HeapMode.PYTHON
    peak = metrics.PEAK_MEMORY if is_python else metrics.PEAK_MEMORY_MALLOC
    detail: dict[str, Json] = {"mode": least.mode.value, "passes": len(uses)}
    large = [site for site in least.sites if site.bytes >= _WORTH_NAMING * least.peak_bytes]
    named = [[site.where, site.bytes] for site in large[:_NAMED]]
    sites = {_without_line(site.where): [site.where, site.bytes] for site in reversed(large)}
    found = [
        Measurement(
            metric=metrics.qualified(peak, part),
            value=least.peak_bytes,
            low=peaks[0],
            high=_settled(peaks),
            text=json.dumps(dict(sorted(sites.items())), ensure_ascii=True),
            detail={**detail, "sites": named},
        )
    ]
    if counts:
        metric = metrics.ALLOCATIONS if is_python else metrics.ALLOCATIONS_MALLOC
        found.append(
            Measurement(
                metric=metrics.qualified(metric, part),
                value=counts[0],
                low=counts[0],
                high=_settled(counts),
                detail=detail,
            )
        )
    return found


def _settled(values: Sequence[int]) -> int:
    """Return the upper end of sorted values, their lower end where two agree on that."""
    return values[0] if values[1:2] == values[:1] else values[-1]


def _without_line(where: str) -> str:
    file, separator, rest = where.rpartition(":")
    return f"{file} {rest.partition(' ')[2]}" if separator else where


@dataclass(slots=True)
class _Kept:
    """What one test's views share."""

    recorder: Recorder
    root: Path
    passes: int
    judge_leak: Callable[[str, LeakReport], None]
    refusal: str | None = None
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
        passes: int,
        judge_leak: Callable[[str, LeakReport], None],
        mode: HeapMode = HeapMode.PYTHON,
        refusal: str | None = None,
    ) -> "PerfMemory":
        """Return the view of one test; callables are tracked ``passes`` times after a warm-up.

        ``refusal`` says why nothing may be tracked in this process.
        """
        kept = _Kept(recorder=recorder, root=root, passes=passes, judge_leak=judge_leak, refusal=refusal)
        return cls(kept, mode=mode)

    def __call__(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run ``fn(*args, **kwargs)`` once as a warm-up, then tracked, and return the first result.

        Where values are stored or judged it is tracked three times and the smallest figures count.
        """
        if not callable(fn):
            raise MeasureError(f"perf_memory needs a callable and its arguments, not {fn!r}")
        if inspect.iscoroutinefunction(fn):
            return self._run_async(fn, args, kwargs)
        result = fn(*args, **kwargs)
        uses = []
        for _ in range(self._kept.passes):
            tracker = self._tracker()
            with tracker:
                fn(*args, **kwargs)
            uses.append(tracker)
        self._keep(uses)
        return result

    async def _run_async(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = await fn(*args, **kwargs)
        uses = []
        for _ in range(self._kept.passes):
            tracker = self._tracker()
            with tracker:
                await fn(*args, **kwargs)
            uses.append(tracker)
        self._keep(uses)
        return result

    @contextmanager
    def track(self) -> Iterator[HeapTracker]:
        """Track a block, once; ``.use`` of what it yields holds the figures afterwards."""
        tracker = self._tracker()
        with tracker:
            yield tracker
        self._keep([tracker])

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
        report = leaks.find(fn, *args, **options, **kwargs)
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
        report = await leaks.find_async(fn, *args, **options, **kwargs)
        if fail:
            self._kept.judge_leak(name, report)
        return report

    @property
    def last(self) -> HeapUse:
        """The most recent figures: ``perf_memory.last.peak_bytes``, ``.allocations``, ``.sites``."""
        if self._kept.last is None:
            raise MeasureError("perf_memory.last is empty: call perf_memory(fn, ...) first")
        return self._kept.last

    def _tracker(self) -> HeapTracker:
        if self._kept.recorder.running is not None:
            raise MeasureError(
                f"perf_memory inside {self._kept.recorder.running}: tracking slows Python several times "
                "over, so measure time and memory one after the other"
            )
        if self._kept.refusal is not None:
            raise MeasureError(self._kept.refusal)
        return HeapTracker(mode=self._mode, count=True, root=self._kept.root)

    def _keep(self, trackers: Sequence[HeapTracker]) -> None:
        if any(tracker.unavailable for tracker in trackers):
            return
        uses = [tracker.use for tracker in trackers]
        self._kept.last = min(uses, key=lambda use: use.peak_bytes)
        for measurement in heap_measurements(uses, self._part):
            self._kept.recorder.add(measurement)
