"""Sweeps kept between processes in the optimiser's result cache, and what makes two of them the same."""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_tradeperf.pipeline.backtest.sweep_result import SweepResult
from pytest_tradeperf.pipeline.features.cache import data_digest
from pytest_tradeperf.pipeline.marketdata.bars import PRICE_FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.backtest.jobs import Job
    from pytest_tradeperf.pipeline.features.result_cache import ResultCache

Rows = tuple[tuple[Any, ...], ...]

# To be raised when a sweep's numbers change their meaning.
VERSION = 2
# Values whose ``repr`` says all there is to them.
PLAIN = (bool, int, float, str, type(None), np.bool_, np.integer, np.floating)


class _NotKeptError(Exception):
    """Leaves the cache without an entry; the answer is known already."""


def remembered(
    cache: ResultCache, job: Job, rows: Rows, run: Callable[[], SweepResult], *, data_file: Path | None
) -> SweepResult:
    """Return what ``run`` answers, from the cache where the same sweep was completed before."""
    parameters = _parameters(job, rows)
    if parameters is None:
        return run()
    fresh: list[SweepResult] = []

    def compute() -> dict[str, Any]:
        fresh.append(run())
        if not fresh[0].is_complete:
            raise _NotKeptError
        return {
            "table": fresh[0].table,
            "errors": json.dumps(fresh[0].errors),
            "engine": fresh[0].engine,
        }

    data = tuple(_columns(job)) if data_file is None else Path(data_file)
    try:
        kept = cache.get("sweep", compute, data=data, parameters=parameters, version=VERSION)
    except _NotKeptError:
        return fresh[0]
    if fresh:
        return fresh[0]
    return SweepResult(
        parameters=job.names,
        rows=rows,
        table=kept["table"],
        errors={int(row): text for row, text in json.loads(str(kept["errors"])).items()},
        done=np.ones(len(rows), dtype=np.bool_),
        engine=str(kept["engine"]),
        note="read from the result cache",
    )


def _parameters(job: Job, rows: Rows) -> dict[str, Any] | None:
    """Return all that the answer depends on but the data, or None where that cannot be told.

    The bars are in it as well: from one file, several can be made. A fee function, a strategy that is not a
    class or function of a module, and values that are objects could change and look the same.
    """
    code = _code_of(job.strategy)
    is_plain = all(isinstance(value, PLAIN) for row in rows for value in row)
    if code is None or not is_plain or job.settings.costs.fee is not None or isinstance(job.bars, Path):
        return None
    columns = b"".join(data_digest(column) for column in _columns(job))
    return {
        "strategy": f"{job.strategy.__module__}.{job.strategy.__qualname__}",
        "code": code,
        "names": list(job.names),
        "rows": hashlib.sha256(repr(rows).encode()).hexdigest(),
        "settings": repr(job.settings),
        "bars": columns.hex(),
        "timeframe": repr(job.bars.timeframe),
        "engine": importlib.metadata.version("pytest-tradeperf"),
    }


def _columns(job: Job) -> list[NDArray[Any]]:
    return [getattr(job.bars, name) for name in ("timestamps", *PRICE_FIELDS, "volume")]


def _code_of(strategy: Callable[..., Any]) -> str | None:
    """Return the digest of the file that a strategy is written in, None where it has no name or file."""
    if "<" in getattr(strategy, "__qualname__", "<"):
        return None
    try:
        file = inspect.getsourcefile(strategy)
        return None if file is None else hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except (TypeError, OSError):
        return None
