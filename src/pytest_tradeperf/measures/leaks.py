"""Whether calling something again and again leaves anything behind: memory, files, threads, tasks.

Two stages. Rounds of k calls, each ending with a garbage collection and a snapshot, make a series; a
series that rises significantly *and* by a real amount per call is a suspect. More rounds then tell a
leak, which goes on, from a cache, which fills up. What leaks memory is found with memray.
"""

import asyncio
import gc
import math
import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, TypeAlias

from pytest_tradeperf.errors import MeasureError
from pytest_tradeperf.measures.heap import HeapTracker, Site, missing_instrument
from pytest_tradeperf.measures.leak_series import Series, open_names
from pytest_tradeperf.stats.leaks import rising_p_value, theil_sen_slope
from pytest_tradeperf.units import format_duration, format_quantity

ROUNDS: Final = 12
"""Rounds of the first stage; the first third is dropped as still settling."""

MORE_ROUNDS: Final = 24
SIGNIFICANT: Final = 0.01
KEEPS_ON: Final = 0.5
"""A leak keeps at least this share of its first slope."""

FLOORS: Final = {"bytes": 8.0, "blocks": 0.05, "files": 0.05, "threads": 0.05, "tasks": 0.05}
"""Smallest growth per call that is called a leak: below lie allocator and interpreter moods."""

_MEMORY: Final = ("bytes", "blocks")

ROUND_NS: Final = 20_000_000
"""Length a round aims at, so that k is large for quick calls and small caches fill in the warm-up."""

LIMIT_NS: Final = 60_000_000_000
_MAX_CALLS: Final = 20_000
_MIN_CALLS: Final = 10
_PROBE: Final = 10
_PATIENCE: Final = 4
"""Second stages run while something grows ever more slowly, before it is called still warming."""

_ENOUGH: Final = {
    "bytes": 512 * 1024**2,
    "blocks": 1_000_000,  # every round ends with a collection, which looks at each of them
    "files": 200,
    "threads": 200,
    "tasks": 20_000,
}
"""How much may be leaked while looking."""

_EXTRAPOLATED: Final = 1_000_000
_BLOCK_BYTES: Final = 512
"""The largest block that CPython counts; bigger ones come from the C library (Objects/obmalloc.c)."""


class LeakVerdict(StrEnum):
    """What repeated calls showed."""

    CLEAN = "clean"
    LEAKING = "leaking"
    WARMING = "still warming"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """One thing that grew: how much per call, in each stage and at the end, with the p-value."""

    signal: str
    per_call: float
    later: float
    last: float
    p_value: float

    def __str__(self) -> str:
        if self.signal == "bytes":
            rate = format_quantity(self.later, "B")
            return f"+{rate} per call ({format_quantity(self.later * _EXTRAPOLATED, 'B')} per million calls)"
        many = format_quantity(round(self.later * _EXTRAPOLATED), "1")
        return f"+{self.later:.3g} {self.signal} per call ({many} per million calls)"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakReport:
    """The answer: a verdict, what grew, where it was allocated, and what was not looked at."""

    verdict: LeakVerdict
    calls: int
    growth: tuple[Growth, ...] = ()
    sites: tuple[Site, ...] = ()
    names: tuple[str, ...] = ()
    note: str = ""

    def describe(self) -> list[str]:
        """Return the report as lines, the verdict first."""
        head = f"{self.verdict} after {self.calls} calls" + (f": {self.note}" if self.note else "")
        lines = [head, *(str(growth) for growth in self.growth)]
        lines += [f"{format_quantity(s.bytes, 'B')} held by {s.where}" for s in self.sites]
        return lines + [f"left open: {name}" for name in self.names]


Search: TypeAlias = Generator[int, int, LeakReport]
"""Yields how many calls to make next, is sent the nanoseconds they took, returns the report."""


def find(
    fn: Callable[..., Any],
    *args: Any,
    calls: int | None = None,
    floor_bytes: float | None = None,
    limit_ns: int = LIMIT_NS,
    **kwargs: Any,
) -> LeakReport:
    """Call ``fn`` some hundreds to thousands of times and return what that left behind.

    Parameters
    ----------
    fn
        Any callable but a coroutine function, for which there is ``find_async``.
    calls
        Calls per round (default: as many as take 20 ms, at least 10 unless one takes long).
    floor_bytes
        Growth of memory per call that is tolerated, in bytes (default: 8, and 1 block in 20 calls).
    limit_ns
        Time beyond which nothing is begun: the report is *undecided* then.
    """
    search = searching(calls=calls, floor_bytes=floor_bytes, limit_ns=limit_ns)
    try:
        count = next(search)
        while True:
            start = time.perf_counter_ns()
            for _ in range(count):
                fn(*args, **kwargs)
            count = search.send(time.perf_counter_ns() - start)
    except StopIteration as finished:
        report: LeakReport = finished.value
        return report
    finally:
        search.close()


async def find_async(
    fn: Callable[..., Awaitable[Any]],
    *args: Any,
    calls: int | None = None,
    floor_bytes: float | None = None,
    limit_ns: int = LIMIT_NS,
    **kwargs: Any,
) -> LeakReport:
    """Await ``fn`` again and again in the running loop; else as ``find``."""
    search = searching(calls=calls, floor_bytes=floor_bytes, limit_ns=limit_ns)
    try:
        count = next(search)
        while True:
            start = time.perf_counter_ns()
            for _ in range(count):
                await fn(*args, **kwargs)
            await asyncio.sleep(0)  # callbacks of finished tasks run before anything is counted
            count = search.send(time.perf_counter_ns() - start)
    except StopIteration as finished:
        report: LeakReport = finished.value
        return report
    finally:
        search.close()


def searching(
    *,
    calls: int | None,
    floor_bytes: float | None,
    limit_ns: int,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Search:
    """Return the search as a generator, so that plain and coroutine functions share it."""
    began = clock()
    if calls is not None and calls < 1:
        raise MeasureError(f"calls={calls!r}: a round needs at least one call")
    floors = _floors(floor_bytes)
    yield 1  # the first call imports and fills what is filled once
    spent = yield 1
    per_call_ns = max(spent, 1)
    k, made = calls or _calls_per_round(per_call_ns), 2
    if calls is None and k > _PROBE:
        probe = Series(2)
        probe.snapshot()
        yield _PROBE
        probe.snapshot()
        k, made = min(k, _affordable(probe)), made + _PROBE
    needed = (2 + ROUNDS) * k * per_call_ns
    if needed > limit_ns:
        note = (
            f"a call takes {format_duration(per_call_ns)}, so {(2 + ROUNDS) * k} calls would take "
            f"{format_duration(needed)} of the {format_duration(limit_ns)} allowed: give calls= or time="
        )
        return LeakReport(verdict=LeakVerdict.UNDECIDED, calls=made, note=note)
    yield 2 * k
    thaw = _freeze()
    try:
        first = Series(ROUNDS)
        for _ in range(ROUNDS):
            yield k
            first.snapshot()
        made += (2 + ROUNDS) * k
        suspects = [g for name in floors if (g := _suspect(name, first, k, floors[name])) is not None]
        if not suspects:
            return LeakReport(verdict=LeakVerdict.CLEAN, calls=made)
        passed = clock() - began  # with the collections, which take long where much was left behind
        more = passed * MORE_ROUNDS // (2 + ROUNDS)
        if passed + more > limit_ns:
            note = (
                f"{suspects[0].signal} grew; to tell a leak from a cache would take {format_duration(more)} "
                f"more, beyond the {format_duration(limit_ns)} allowed: give calls= or time="
            )
            return LeakReport(verdict=LeakVerdict.UNDECIDED, calls=made, growth=tuple(suspects), note=note)
        opened = open_names()
        judged, stages = yield from _second_stages(suspects, k, floors, lambda: clock() - began > limit_ns)
        made += stages * MORE_ROUNDS * k
        growth = tuple(g for g, verdict in judged if verdict is LeakVerdict.LEAKING)
        if not growth:
            warming = tuple(g for g, verdict in judged if verdict is LeakVerdict.WARMING)
            if warming:
                note = "growing, but ever more slowly: a cache that is still filling, or a slow leak"
                return LeakReport(verdict=LeakVerdict.WARMING, calls=made, growth=warming, note=note)
            return LeakReport(verdict=LeakVerdict.CLEAN, calls=made, note="what grew at first settled")
        left = (open_names() - opened).most_common(5)
        names = tuple(f"{name} ({count} x)" for name, count in left)
        return (yield from _leaking(growth, k, made, names, floor_bytes))
    finally:
        thaw()


def _floors(floor_bytes: float | None) -> Mapping[str, float]:
    """Return the growth per call that is not looked at, by signal."""
    if floor_bytes is None:
        return FLOORS
    return {**FLOORS, "bytes": floor_bytes, "blocks": max(FLOORS["blocks"], floor_bytes / _BLOCK_BYTES)}


def _leaking(
    growth: tuple[Growth, ...], k: int, made: int, names: tuple[str, ...], floor_bytes: float | None
) -> Search:
    """Return the report on what grows, with its sites; memory that is allowed to grow is left out."""
    sites: tuple[Site, ...] = ()
    note = ""
    if any(g.signal in _MEMORY for g in growth):
        sites, growth, note = yield from _attribute(growth, k)
        made += k
        held = next((g for g in growth if g.signal == "bytes"), None)
        if floor_bytes is not None and sites and held is not None and held.later <= floor_bytes:
            growth, sites = tuple(g for g in growth if g.signal not in _MEMORY), ()
            note = f"memory grows by {format_quantity(held.later, 'B')} per call, which is allowed"
    verdict = LeakVerdict.LEAKING if growth else LeakVerdict.CLEAN
    return LeakReport(
        verdict=verdict, calls=made, growth=growth, sites=sites, names=names if growth else (), note=note
    )


def _second_stages(
    suspects: Sequence[Growth], k: int, floors: Mapping[str, float], is_late: Callable[[], bool]
) -> Generator[int, int, tuple[list[tuple[Growth, LeakVerdict]], int]]:
    """Run second stages until something leaks or nothing grows; return the last one's verdicts."""
    stages = 0
    while True:
        series = Series(MORE_ROUNDS)
        for _ in range(MORE_ROUNDS):
            yield k
            series.snapshot()
        stages += 1
        judged = [_persisting(growth, series, k, floors[growth.signal]) for growth in suspects]
        verdicts = {verdict for _, verdict in judged}
        is_open = LeakVerdict.WARMING in verdicts and LeakVerdict.LEAKING not in verdicts
        if not is_open or stages == _PATIENCE or is_late():
            return judged, stages


def _calls_per_round(per_call_ns: int) -> int:
    wanted = ROUND_NS // per_call_ns
    patient = 10 * ROUND_NS // per_call_ns  # a slow call gets longer rounds before it gets few calls
    return max(1, min(max(wanted, min(_MIN_CALLS, patient)), _MAX_CALLS))


def _affordable(probe: "Series") -> int:
    """Return how many calls a round may have so that a bad leak exhausts neither memory nor descriptors."""
    most = _MAX_CALLS
    for name, enough in _ENOUGH.items():
        before, after = probe.of(name)
        per_call = (after - before) / _PROBE
        if per_call >= FLOORS[name]:
            most = min(most, int(enough / per_call / (2 + ROUNDS + MORE_ROUNDS)))
    return max(most, 1)


def _suspect(name: str, series: "Series", k: int, floor: float) -> Growth | None:
    values = series.settled(name)
    if values is None:
        return None
    slope, p_value = theil_sen_slope(values) / k, rising_p_value(values)
    if slope < floor or p_value >= SIGNIFICANT:
        return None
    return Growth(signal=name, per_call=slope, later=slope, last=slope, p_value=p_value)


def _persisting(growth: Growth, series: "Series", k: int, floor: float) -> tuple[Growth, LeakVerdict]:
    values = series.of(growth.signal)
    later, last = theil_sen_slope(values) / k, theil_sen_slope(values[-len(values) // 3 :]) / k
    p_value = rising_p_value(values)
    seen = Growth(signal=growth.signal, per_call=growth.per_call, later=later, last=last, p_value=p_value)
    if last < floor or later < floor or p_value >= SIGNIFICANT:
        return seen, LeakVerdict.CLEAN
    if min(later, last) < KEEPS_ON * growth.per_call:
        return seen, LeakVerdict.WARMING
    return seen, LeakVerdict.LEAKING


def _attribute(
    growth: tuple[Growth, ...], k: int
) -> Generator[int, int, tuple[tuple[Site, ...], tuple[Growth, ...], str]]:
    """Run one more round under memray: where the growth is allocated, and its size in bytes."""
    if (reason := missing_instrument()) is not None:
        return (), growth, f"where it is allocated is unknown: {reason}"
    # A list that grows is moved now and then as a whole: what is allocated so rarely is not the leak.
    rate = max((g.later for g in growth if g.signal == "blocks"), default=1.0)
    tracker = HeapTracker(left=max(2, math.ceil(min(rate, 1.0) * k / 4)) if k > 1 else 1)
    try:
        tracker.__enter__()
    except MeasureError as error:
        return (), growth, f"where it is allocated is unknown: {error}"
    try:
        yield k
        gc.collect()
    finally:
        tracker.__exit__(None, None, None)
    sites = tracker.use.left
    size = sum(site.bytes for site in sites) / k
    seen = next((g for g in growth if g.signal == "bytes"), None)
    if seen is None or size > seen.later:  # the C library does not see small Python objects
        template = seen or next(g for g in growth if g.signal == "blocks")
        found = replace(template, signal="bytes", per_call=size, later=size, last=size)
        growth = (found, *(g for g in growth if g is not seen))
    return sites[:5], growth, ""


def _freeze() -> Callable[[], None]:
    """Take what exists out of the collector's sight, so that collecting stays quick; return the way back."""
    gc.collect()
    if gc.get_freeze_count():
        return lambda: None
    gc.freeze()
    return gc.unfreeze
