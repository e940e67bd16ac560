"""How often a block is tracked where its figures are kept, and what the passes say together."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from pytest_tradeperf.measures import metrics
from pytest_tradeperf.measures.heap import HeapMode, HeapUse
from pytest_tradeperf.model import Json, Measurement, Metric

MOST: Final = 5
"""Passes at most of each kind: threads free to interrupt each other, and threads that take turns."""

BLOCK_PASSES: Final = 3
"""Runs of a test whose blocks are tracked."""

_SAME: Final = 0.02
"""Two passes agree when they differ by less than this share of what is tolerated: threads, whose peaks
differ by some percent, must not seem steady by chance."""

_ALIKE: Final = 0.25
"""Free threads did the same as threads in turn when their counts differ by less than this share."""

_NAMED: Final = 3
_WORTH_NAMING: Final = 0.005
"""Share of the peak below which a site is left out: pytest's own frames, mostly."""


def schedule(uses: Sequence[HeapUse], *, is_kept: bool, count: bool) -> Iterator[bool]:
    """Yield, for each pass to make, whether threads take turns in it; ``uses`` holds those made so far.

    Limits need one pass, with threads as they are. For what is stored or judged, peaks come from passes
    like that (taking turns, a producer would run far ahead of its consumer) and counts from passes in
    turn, which repeat themselves. Code with one thread does the same in both.
    """
    yield False
    if not is_kept:
        return
    yield count
    yield False
    while True:
        free, in_turn = _peaks(uses), _counts(uses)[1]
        if len(free) < MOST and not _agree(free, _metric(uses)):
            yield False
        elif 0 < len(in_turn) < MOST and not _agree(_counted(uses)[1], _counted(uses)[0]):
            yield True
        else:
            return


def heap_measurements(uses: Sequence[HeapUse], part: str = "") -> list[Measurement]:
    """Return the smallest peak and count over passes, with the sites that made up the peak.

    Only additions disturb these figures (a cache filled by the first pass, another thread), so the
    smallest pass is the truest. ``high`` is the largest, or the next smallest where two passes agree: the
    others then only filled caches. Code whose passes never agree is known by its spread.
    """
    free = [use for use in uses if not use.in_turn]
    least = min(free, key=lambda use: use.peak_bytes)
    metric, peaks = _metric(uses), _peaks(uses)
    detail: dict[str, Json] = {"mode": least.mode.value, "passes": len(uses)}
    large = [site for site in least.sites if site.bytes >= _WORTH_NAMING * least.peak_bytes]
    named = [[site.where, site.bytes] for site in large[:_NAMED]]
    sites = {_without_line(site.where): [site.where, site.bytes] for site in reversed(large)}
    found = [
        Measurement(
            metric=metrics.qualified(metric, part),
            value=least.peak_bytes,
            low=peaks[0],
            high=_settled(peaks, metric),
            text=json.dumps(dict(sorted(sites.items())), ensure_ascii=True),
            detail={**detail, "sites": named},
        )
    ]
    metric, counts, is_in_turn = _counted(uses)
    if counts:
        found.append(
            Measurement(
                metric=metrics.qualified(metric, part),
                value=counts[0],
                low=counts[0],
                high=_settled(counts, metric),
                detail={**detail, "threads": "in turn" if is_in_turn else "free"},
            )
        )
    return found


def least_of(passes: Sequence[Measurement]) -> Measurement:
    """Return the smallest of one metric's measurements in several passes of a test."""
    values = sorted(float(m.value) for m in passes)
    least = min(passes, key=lambda m: float(m.value))
    detail = {**least.detail, "passes": len(passes)}
    return replace(least, low=values[0], high=_settled(values, least.metric), detail=detail)


def _metric(uses: Sequence[HeapUse]) -> Metric:
    return metrics.PEAK_MEMORY if uses[0].mode is HeapMode.PYTHON else metrics.PEAK_MEMORY_MALLOC


def _peaks(uses: Iterable[HeapUse]) -> list[int]:
    return sorted(use.peak_bytes for use in uses if not use.in_turn)


def _counts(uses: Iterable[HeapUse]) -> tuple[list[int], list[int]]:
    """Return the counts of passes with free threads and of those in turn, each sorted."""
    counted = [(use.in_turn, use.allocations) for use in uses if use.allocations is not None]
    return sorted(n for in_turn, n in counted if not in_turn), sorted(n for in_turn, n in counted if in_turn)


def _counted(uses: Sequence[HeapUse]) -> tuple[Metric, list[int], bool]:
    """Return the metric, the counts that stand for the code, and whether these are of threads in turn."""
    metric = metrics.ALLOCATIONS if uses[0].mode is HeapMode.PYTHON else metrics.ALLOCATIONS_MALLOC
    free, in_turn = _counts(uses)
    if not in_turn:
        return metric, free, False
    if abs(free[0] - in_turn[0]) <= _ALIKE * _tolerated(metric, in_turn[0]):
        return metric, sorted((*free, *in_turn)), False
    return metric, in_turn, True


def _agree(values: Sequence[float], metric: Metric) -> bool:
    """Return whether the two smallest of sorted values are one and the same."""
    return len(values) > 1 and values[1] - values[0] <= max(1, _SAME * _tolerated(metric, values[0]))


def _settled(values: Sequence[float], metric: Metric) -> float:
    return values[1] if _agree(values, metric) else values[-1]


def _tolerated(metric: Metric, value: float) -> float:
    return metric.relative * value + metric.absolute


def _without_line(where: str) -> str:
    file, separator, rest = where.rpartition(":")
    return f"{file} {rest.partition(' ')[2]}" if separator else where
