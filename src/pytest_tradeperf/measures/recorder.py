"""The object behind the fixture ``perf``: collects what one test measures about itself.

``Recorder`` is the state of one test, ``Perf`` the view its author calls. A view is immutable;
``named``, ``setup`` and ``cold`` return another view of the same recorder.
"""

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any, Protocol

from pytest_tradeperf.errors import MeasureError, UnitError
from pytest_tradeperf.measures import metrics
from pytest_tradeperf.measures.digest import digest
from pytest_tradeperf.measures.rounds import Batch, Schedule, drive, drive_async
from pytest_tradeperf.measures.stages import Stages
from pytest_tradeperf.model import Better, Kind, Measurement, Metric, Sample
from pytest_tradeperf.stats.estimators import low_decile, quantile, robust_sd
from pytest_tradeperf.units import format_duration, parse_fraction


class Mode(Protocol):
    """Decides how the callables of a test are run; beside its consumer, implemented by sessions."""

    def schedule(self, test: str, part: str, *, cache: str | None, is_async: bool, cold: bool) -> Schedule:
        """Return the schedule of one measured callable of ``test``.

        ``cache`` names its metrics beside ``part``; ``cold`` is whether only its first call counts.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A duration per iteration: the low decile over rounds, with the extremes seen."""

    ns: float
    low_ns: float
    high_ns: float

    @property
    def seconds(self) -> float:
        """The low decile in seconds."""
        return self.ns / 1e9

    def __str__(self) -> str:
        return (
            f"{format_duration(self.ns)} ({format_duration(self.low_ns)} .. {format_duration(self.high_ns)})"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What one ``perf`` call measured, per iteration."""

    wall: Spread
    cpu: Spread
    rounds: int
    iterations: int


def timing(sample: Sample) -> Timing:
    """Return the per-iteration estimates of a sample."""
    return Timing(
        wall=_spread([w / sample.iterations for w in sample.wall_ns]),
        cpu=_spread([c / sample.iterations for c in sample.cpu_ns]),
        rounds=len(sample.wall_ns),
        iterations=sample.iterations,
    )


def _spread(values: list[float]) -> Spread:
    return Spread(ns=low_decile(values), low_ns=min(values), high_ns=max(values))


def timing_measurements(sample: Sample, part: str = "", cache: str | None = None) -> list[Measurement]:
    """Return the wall and CPU measurements of a sample."""
    result = []
    for metric, totals in ((metrics.WALL, sample.wall_ns), (metrics.CPU, sample.cpu_ns)):
        values = [t / sample.iterations for t in totals]
        result.append(
            Measurement(
                metric=metrics.qualified(metric, part, cache),
                value=low_decile(values),
                low=min(values),
                high=quantile(values, 0.9),
                detail={
                    "rounds": len(values),
                    "iterations": sample.iterations,
                    "noise": robust_sd(values) / median(values) if len(values) > 1 and any(values) else None,
                },
            )
        )
    return result


def _is_async(fn: Callable[..., Any]) -> bool:
    """Return whether calling ``fn`` gives a coroutine: `async def`, or an object with such a `__call__`."""
    call = getattr(type(fn), "__call__", None)  # noqa: B004 - looks for `async def __call__`
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(call)


def _tolerance(name: str, kind: Kind, text: str) -> float:
    if kind is Kind.TIMING:
        raise MeasureError(
            f"perf.record({name!r}): a time or a rate has no tolerance: write perf_budget(threshold={text!r})"
        )
    try:
        return parse_fraction(text)
    except UnitError as error:
        raise MeasureError(f"perf.record({name!r}): tolerance: {error}") from error


@dataclass(slots=True)
class Recorder:
    """Everything one test has measured so far, and why what it asked for could not be, by metric name."""

    test: str
    mode: Mode
    stages: Stages = field(default_factory=Stages)
    samples: dict[tuple[str, str | None], Sample] = field(default_factory=dict)
    extra: list[Measurement] = field(default_factory=list)
    unavailable: dict[str, str] = field(default_factory=dict)
    last: Timing | None = None
    running: str | None = None
    unawaited: int = 0

    def measurements(self, whole: Sample | None) -> tuple[Measurement, ...]:
        """Return all measurements; ``whole`` is the call phase, used when no callable was measured."""
        timed: list[Measurement] = []
        for (part, cache), sample in self.samples.items():
            timed += timing_measurements(sample, part, cache)
        if not self.samples and whole is not None:
            timed += timing_measurements(whole)
        return (*timed, *self.extra)

    def check_complete(self) -> None:
        """Raise MeasureError when a coroutine function was given to ``perf`` and not awaited."""
        if self.unawaited:
            raise MeasureError("perf(...) of a coroutine function was not awaited: write `await perf(...)`")

    def begin(self, part: str, cache: str | None) -> None:
        """Claim the name of a measured callable; raises MeasureError when it is taken."""
        __tracebackhide__ = True
        label = (f"perf.named({part!r})" if part else "perf") + (f" ({cache})" if cache else "")
        if self.running is not None:
            raise MeasureError(
                f"{label} started while {self.running} was being measured: measure one after the other"
            )
        if (part, cache) in self.samples:
            raise MeasureError(
                f"{label} was called twice in one test: give each call a name of its own, "
                "perf.named('parse')(parse, doc)"
            )
        self.running = label

    def finish(self, part: str, cache: str | None, sample: Sample) -> None:
        """Keep the sample of a measured callable."""
        self.samples[part, cache] = sample
        self.last = timing(sample)

    def add(self, measurement: Measurement) -> None:
        """Keep a recorded value or digest; raises MeasureError for a name used twice."""
        if any(m.metric.name == measurement.metric.name for m in self.extra):
            raise MeasureError(f"{measurement.metric.name!r} was recorded twice in one test: use two names")
        self.extra.append(measurement)


@dataclass(frozen=True, slots=True, repr=False)
class Perf:
    """Measures callables, stages and values of a test. Get it as the fixture ``perf``.

    Call it with a function and its arguments: the function is calibrated, warmed up and run in
    rounds with the garbage collector off, and its first result is returned. A coroutine function
    gives an awaitable that does the same inside the running loop.
    """

    _recorder: Recorder
    _part: str = ""
    _prepare: Callable[[], Any] | None = None
    _cache: str | None = None

    def __repr__(self) -> str:
        return f"<perf of {self._recorder.test}>"

    def __call__(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Measure ``fn(*args, **kwargs)`` and return its first result.

        Raises
        ------
        MeasureError
            When ``fn`` is not callable, is measured twice under one name, runs inside another
            measurement, or is a plain function that returns an awaitable.
        """
        __tracebackhide__ = True
        if not callable(fn):
            hint = ": pass the function itself, perf(fetch, url), not its result"
            if inspect.iscoroutine(fn):
                fn.close()
            raise MeasureError(f"perf needs a callable, not {type(fn).__name__}{hint}")
        recorder = self._recorder
        batch = Batch(fn, args, kwargs, self._prepare)
        is_async = _is_async(fn)
        if not is_async and self._prepare is not None and _is_async(self._prepare):
            raise MeasureError("perf.setup was given a coroutine function, but what is measured is none")
        # Where setup empties the cache every call is cold, else only the first of a process.
        cold = self._cache == "cold" and self._prepare is None
        schedule = recorder.mode.schedule(
            recorder.test, self._part, cache=self._cache, is_async=is_async, cold=cold
        )
        if is_async:
            recorder.unawaited += 1
            return self._measure_async(batch, schedule)
        recorder.begin(self._part, self._cache)
        try:
            recorder.finish(self._part, self._cache, drive(schedule, batch.run))
        finally:
            recorder.running = None
        return batch.result

    async def _measure_async(self, batch: Batch, schedule: Schedule) -> Any:
        __tracebackhide__ = True
        recorder = self._recorder
        recorder.unawaited -= 1
        recorder.begin(self._part, self._cache)
        try:
            recorder.finish(self._part, self._cache, await drive_async(schedule, batch.run_async))
        finally:
            recorder.running = None
        return batch.result

    def named(self, name: str, *, cache: str | None = None) -> "Perf":
        """Return a view whose metrics are prefixed ``name.``, for several calls in one test.

        ``cache`` separates ``"cold"`` from ``"warm"`` measurements of the same callable. Cold means
        no warm-up: one call in each process, or every call when ``setup`` empties the cache.
        """
        if not isinstance(name, str) or not metrics.is_name(name):
            raise MeasureError(f"perf.named needs a name of letters, digits, '_' and '-', not {name!r}")
        return replace(self, _part=name, _cache=metrics.checked_cache(cache) or self._cache)

    def setup(self, prepare: Callable[[], Any]) -> "Perf":
        """Return a view that calls ``prepare()`` untimed before every iteration.

        What ``prepare`` returns, unless None, is passed to the measured callable as its first argument.
        It may be a coroutine function where the measured callable is one.
        """
        if not callable(prepare):
            raise MeasureError(f"perf.setup needs a callable without arguments, not {prepare!r}")
        return replace(self, _prepare=prepare)

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Return a context manager that times its block as a stage; stages nest into a tree."""
        return self._recorder.stages.stage(name)

    def record(
        self,
        name: str,
        value: float,
        *,
        unit: str = "1",
        better: str = "lower",
        tolerance: str | None = None,
    ) -> None:
        """Keep a number of your own: stored by ``--perf-update`` and judged by ``--perf-gate``.

        Parameters
        ----------
        name
            Unique within the test.
        value
            A finite number in ``unit``.
        unit
            ``"1"`` for counts; a time or a rate (``"s"``, ``"ms"``, ``"1/s"``) makes it a noisy
            timing, anything else a counter.
        better
            ``"lower"``, ``"higher"``, or ``"same"`` when any change is wrong.
        tolerance
            Allowed relative change of a counter, such as ``"0.5%"``; default: none for whole
            numbers, 1e-9 for floats.

        Raises
        ------
        MeasureError
            For a name that is built in, used twice or no name, a value that is no finite number, a
            unit that is no text, or a tolerance that is no percentage or given for a timing.
        """
        number = metrics.checked_number(name, value)
        scaled, kind, base = metrics.checked_unit(name, number, unit)
        relative = 0.0 if kind is Kind.TIMING or isinstance(number, int) else metrics.FLOAT_TOLERANCE
        if tolerance is not None:
            relative = _tolerance(name, kind, tolerance)
        if not isinstance(name, str) or not metrics.is_name(name) or name in metrics.RESERVED:
            raise MeasureError(
                f"perf.record needs a name of letters, digits, '_' and '-' that is not built in, not {name!r}"
            )
        if better not in list(Better):
            raise MeasureError(f"better={better!r} for {name!r}: write 'lower', 'higher' or 'same'")
        metric = Metric(name=name, kind=kind, unit=base, better=Better(better), relative=relative)
        self._recorder.add(Measurement(metric=metric, value=scaled, low=scaled, high=scaled))

    def digest(self, name: str, value: object, *, exact: bool = False) -> None:
        """Keep the fingerprint of an answer, which must not change either.

        Arrays, frames, dataclasses and plain containers are accepted. Floats compare at a relative
        1e-9 unless ``exact``; the fingerprint is the same in every process and for every hash seed.

        Raises
        ------
        MeasureError
            For a name used twice or no name, and a value without a canonical form.
        """
        if not isinstance(name, str) or not metrics.is_name(name):
            raise MeasureError(f"perf.digest needs a name of letters, digits, '_' and '-', not {name!r}")
        fingerprint, text = digest(value, exact=exact)
        self._recorder.add(Measurement(metric=metrics.digest_metric(name), value=fingerprint, text=text))

    @property
    def last(self) -> Timing:
        """The most recent measurement: ``perf.last.wall.seconds``, ``perf.last.cpu.ns``, ``.rounds``."""
        if self._recorder.last is None:
            raise MeasureError("perf.last is empty: call perf(fn, ...) first")
        return self._recorder.last
