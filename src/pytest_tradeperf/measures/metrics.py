"""The built-in metrics and the rules their names, units and tolerances follow."""

import math
import re
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Final

from pytest_tradeperf.errors import MeasureError, UnitError
from pytest_tradeperf.model import Better, Kind, Metric
from pytest_tradeperf.units import parse_limit

WALL: Final = Metric(name="wall", kind=Kind.TIMING, unit="ns")
CPU: Final = Metric(name="cpu", kind=Kind.TIMING, unit="ns")
PEAK_RSS: Final = Metric(name="peak_rss", kind=Kind.GAUGE, unit="B")
"""Of the whole process, so it moves with what ran before."""

PEAK_RSS_GROWTH: Final = Metric(
    name="peak_rss_growth",
    kind=Kind.COUNTER,
    unit="B",
    relative=0.10,
    absolute=4 * 1024**2,  # pages of shared libraries come and go with the kernel's mood
)
"""Peak over start, in a pass after the ordinary one: what the test itself needed, which can be gated."""

PEAK_MEMORY: Final = Metric(
    name="peak_memory",
    kind=Kind.COUNTER,
    unit="B",
    relative=0.01,
    absolute=28 * 1024,  # a state that is saved, a cache that fills: random.getstate() alone takes 24.4 KiB
)
"""High-water mark of the heap, every object seen."""

PEAK_MEMORY_MALLOC: Final = Metric(
    name="peak_memory@malloc",
    kind=Kind.COUNTER,
    unit="B",
    relative=0.05,
    absolute=2 * 1024**2,  # small objects appear as arenas of 1 MiB
)
ALLOCATIONS: Final = Metric(name="allocations", kind=Kind.COUNTER, relative=0.005, absolute=8)
ALLOCATIONS_MALLOC: Final = Metric(name="allocations@malloc", kind=Kind.COUNTER, relative=0.005, absolute=8)

INSTRUCTIONS: Final = Metric(name="instructions", kind=Kind.COUNTER, relative=0.0075)
"""Work: machine instructions of one call. Where the objects of a process lie moves it by up to 0.5 %."""

LOOP_LAG: Final = Metric(
    name="loop_lag",
    kind=Kind.COUNTER,
    unit="ns",
    relative=1.0,  # a single longest block on a shared machine
    absolute=50_000_000,
)

GPU_MEMORY: Final = Metric(
    name="gpu_memory", kind=Kind.COUNTER, unit="B", relative=0.02, absolute=2 * 1024**2
)
GPU_UTILIZATION: Final = Metric(
    name="gpu_utilization",
    kind=Kind.COUNTER,
    unit="fraction",
    better=Better.HIGHER,
    relative=0.25,  # "a kernel ran in the last 1/6 to 1 s" says little more than that
    absolute=0.05,
)
GPU_ENERGY: Final = Metric(name="gpu_energy", kind=Kind.COUNTER, unit="J", relative=0.25, absolute=5.0)
GPU_TIME: Final = Metric(name="gpu_time", kind=Kind.COUNTER, unit="ns", relative=0.10, absolute=50_000)

FLOAT_TOLERANCE: Final = 1e-9
"""Relative tolerance of a recorded float that names none: rounding, not change."""

RESERVED: Final = frozenset(
    {"wall", "cpu", "peak_rss", "peak_memory", "allocations", "loop_lag", "instructions"}
    | {"gpu_memory", "gpu_utilization", "gpu_energy", "gpu_time"}
)
_NAME: Final = re.compile(r"[\w-]{1,100}")


def is_name(name: str) -> bool:
    """Return whether a user's name fits into a metric's name."""
    return _NAME.fullmatch(name) is not None


def checked_cache(cache: str | None) -> str | None:
    """Return ``cache`` if it is one of None, "cold", "warm"; raises MeasureError."""
    if cache not in (None, "cold", "warm"):
        raise MeasureError(f"cache={cache!r}: write 'cold' or 'warm'")
    return cache


def qualified(metric: Metric, part: str = "", cache: str | None = None) -> Metric:
    """Return ``metric`` named for one part and cache state: ``parse.wall@cold``."""
    if not part and cache is None:
        return metric
    prefix = f"{part}." if part else ""
    suffix = f"@{cache}" if cache else ""
    return replace(metric, name=f"{prefix}{metric.name}{suffix}")


def digest_metric(name: str) -> Metric:
    """Return the metric of a fingerprint; portable, so it is stored once for all platforms."""
    return Metric(name=f"digest:{name}", kind=Kind.DIGEST, better=Better.SAME, relative=1e-9, portable=True)


def checked_number(name: object, value: object) -> float:
    """Return a recorded value as int or float; raises MeasureError unless it is one finite number.

    Scalars of numpy and its like, decimals and fractions are converted.
    """
    try:
        number = value.item() if hasattr(value, "item") else value
        if isinstance(number, Decimal | Fraction):
            number = float(number)
        if isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number):
            return number
    except (TypeError, ValueError, ArithmeticError, RuntimeError):  # arrays, huge integers, tensors
        pass
    raise MeasureError(f"perf.record({name!r}, {_short(value)}): the value must be a finite number")


def _short(value: object) -> str:
    text = " ".join(repr(value).split()) if not isinstance(value, int) else f"{value:#x}"
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - a message is one line


def checked_unit(name: object, value: float, unit: str) -> tuple[float, Kind, str]:
    """Return (value in the package's unit, kind, that unit) for a recorded value.

    A unit this package knows is converted; any other text ("orders", "bars/s") is kept as a label, per
    second, minute or hour as a timing, else as a counter.
    """
    if not isinstance(unit, str) or not unit or not unit.isprintable():
        raise MeasureError(
            f"perf.record({name!r}): unit={unit!r} must be text such as 's', '1/s' or 'orders'"
        )
    try:
        scale = parse_limit(f"1 {unit.removeprefix('1') if unit.startswith('1/') else unit}")
    except UnitError:
        is_rate = unit.endswith(("/s", "/min", "/h"))
        return value, Kind.TIMING if is_rate else Kind.COUNTER, unit
    kind = Kind.TIMING if scale.unit in ("ns", "1/s") else Kind.COUNTER
    scaled = value if scale.value == 1 else value * scale.value
    if not math.isfinite(scaled):
        raise MeasureError(f"perf.record({name!r}, {value!r}, unit={unit!r}): too large to keep")
    return scaled, kind, scale.unit
