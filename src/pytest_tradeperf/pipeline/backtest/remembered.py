"""Sweeps kept between processes in the optimiser's result cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_tradeperf.pipeline.backtest.sweep_key import Rows, bars_of, columns_of, sweep_key
from pytest_tradeperf.pipeline.backtest.sweep_result import SweepResult
from pytest_tradeperf.pipeline.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_tradeperf.pipeline.backtest.jobs import Job
    from pytest_tradeperf.pipeline.features.result_cache import ResultCache


class _NotKeptError(Exception):
    """Leaves the cache without an entry; the answer is known already."""


def remembered(
    cache: ResultCache, job: Job, rows: Rows, run: Callable[[], SweepResult], *, data_file: Path | None
) -> SweepResult:
    """Return what ``run`` answers, from the cache where the same sweep was completed before.

    A sweep that could not be told from another one is run and not kept.
    """
    try:
        parameters = sweep_key(job, rows)
    except SettingError:
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

    data = tuple(columns_of(bars_of(job))) if data_file is None else Path(data_file)
    try:
        kept = cache.get("sweep", compute, data=data, parameters=parameters)
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
