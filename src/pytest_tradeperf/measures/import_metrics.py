"""An import report as measurements: the module set exactly, memory closely, time loosely."""

import hashlib
import json
from typing import Final

from pytest_tradeperf.measures.imports import ImportReport
from pytest_tradeperf.model import Better, Kind, Measurement, Metric

MEMORY_SHARE: Final = 0.02
MEMORY_BYTES: Final = 512 * 1024
"""Retained memory was within 0.3 % from process to process; a page of another library is free."""

TIME_SHARE: Final = 1.0
TIME_NS: Final = 100_000_000
COUNT_SHARE: Final = 0.02
COUNT: Final = 2


def import_measurements(report: ImportReport) -> dict[str, Measurement]:
    """Return the measurements by the names that limits have, and ``cpu``, ``set`` and ``failures``.

    ``wall`` is for limits alone: what is stored of time is ``cpu``. ``set`` is the set of top-level modules
    loaded from outside the package: what is new there is a regression, whatever it costs. How many modules
    each brings is left to ``modules``.
    """
    itself = report.itself
    found = {
        "wall": (itself.wall_ns, "ns", TIME_SHARE, TIME_NS),
        "cpu": (itself.cpu_ns, "ns", TIME_SHARE, TIME_NS),
        "memory": (itself.memory_bytes, "B", MEMORY_SHARE, MEMORY_BYTES),
        "modules": (len(itself.loaded), "1", COUNT_SHARE, COUNT),
        "failures": (len(report.failures), "1", 0.0, 0),
    }
    counters = {
        name: Measurement(
            metric=Metric(
                name=f"import_{name}:{report.package}",
                kind=Kind.COUNTER,
                unit=unit,
                relative=relative,
                absolute=absolute,
            ),
            value=value,
        )
        for name, (value, unit, relative, absolute) in found.items()
        if value is not None
    }
    return {**counters, "set": _set(report.package, itself.outside())}


def missing_imports(report: ImportReport) -> dict[str, str]:
    """Return why a measurement of ``report`` is not there, by metric name."""
    why = "retained memory is read from /proc, which could not be"
    return {f"import_memory:{report.package}": why} if report.itself.memory_bytes is None else {}


def _set(package: str, names: tuple[str, ...]) -> Measurement:
    metric = Metric(name=f"import_set:{package}", kind=Kind.DIGEST, better=Better.LOWER)
    text = json.dumps({"set": list(names)}, separators=(",", ":"))
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:32]
    return Measurement(metric=metric, value=f"sha256:{fingerprint}", text=text)
