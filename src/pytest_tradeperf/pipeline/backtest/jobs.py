"""One chunk of a sweep, in whatever thread, process or machine an executor runs it.

Bars travel once: to threads as they are, to other processes as a file that each process reads a single time.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - a field of Job
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_tradeperf.pipeline.backtest.engine import strategy_signals
from pytest_tradeperf.pipeline.backtest.metrics import METRIC_NAMES, metric_table
from pytest_tradeperf.pipeline.backtest.plan import Plan, plan_of
from pytest_tradeperf.pipeline.backtest.totals import TOTAL_NAMES, Totals, totals_of
from pytest_tradeperf.pipeline.errors import DataError
from pytest_tradeperf.pipeline.marketdata.bars import PRICE_FIELDS, Bars
from pytest_tradeperf.pipeline.marketdata.timeframe import Timeframe

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.backtest.settings import Settings

# What a lane needs for each bar beside its code: fills are few, their arrays are wide.
BYTES_PER_CODE = 6
BYTES_PER_LANE = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What every chunk of a sweep shares.

    Attributes
    ----------
    bars
        The bars, or the file that :func:`write_bars` made of them.
    strategy
        Called with one keyword argument a parameter; answers a strategy.
    """

    bars: Bars | Path
    strategy: Callable[..., Any]
    names: tuple[str, ...]
    settings: Settings
    engine: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chunk:
    """Metrics of some combinations, float64 of shape (n_rows, n_metrics), and what went wrong where."""

    start: int
    table: NDArray[np.float64]
    errors: dict[int, str] = field(default_factory=dict)


def run_chunk(job: Job, start: int, rows: list[tuple[Any, ...]]) -> Chunk:
    """Return the metrics of consecutive combinations; one that fails is a row of NaN with its error."""
    bars = job.bars if isinstance(job.bars, Bars) else read_shipped(str(job.bars))
    plan = plan_of(bars, job.settings)
    codes, errors = _codes(job, bars, rows)
    good = [row for row in range(len(rows)) if row not in errors]
    table = np.full((len(rows), len(METRIC_NAMES)), np.nan)
    if good:
        totals = _totals(job.engine, plan, codes if not errors else codes[good])
        metrics = metric_table(
            totals, cash=job.settings.cash, n_bars=len(bars), periods_per_year=bars.timeframe.periods_per_year
        )
        table[good] = np.stack(list(metrics.values()), axis=1)
    return Chunk(start=start, table=table, errors={start + row: text for row, text in errors.items()})


def _codes(job: Job, bars: Bars, rows: list[tuple[Any, ...]]) -> tuple[NDArray[np.int8], dict[int, str]]:
    many = getattr(job.strategy, "signal_table", None)
    if many is not None:
        columns = dict(zip(job.names, zip(*rows, strict=True), strict=True))
        codes = many(bars, columns, compiled=job.engine == "compiled")
        if codes is not None:
            return codes, {}
    table = np.zeros((len(rows), len(bars)), dtype=np.int8)
    errors = {}
    for row, values in enumerate(rows):
        try:
            strategy = job.strategy(**dict(zip(job.names, values, strict=True)))
            table[row] = strategy_signals(strategy, bars)
        except Exception as error:  # noqa: BLE001 - whatever a strategy raises is that row's result
            errors[row] = f"{type(error).__name__}: {error}"
    return table, errors


def _totals(engine: str, plan: Plan, codes: NDArray[np.int8]) -> Totals:
    if engine == "compiled":
        from pytest_tradeperf.pipeline.backtest.compiled import totals_compiled

        return totals_compiled(plan, codes)
    if engine == "lanes":
        from pytest_tradeperf.pipeline.backtest.lanes import totals_in_lanes

        return totals_in_lanes(plan, codes)
    from pytest_tradeperf.pipeline.backtest.reference import simulate

    runs = [totals_of(*simulate(plan, row), cash=plan.settings.cash) for row in codes]
    return Totals(**{name: np.concatenate([getattr(run, name) for run in runs]) for name in TOTAL_NAMES})


def chunk_size(n_bars: int, n_rows: int, *, memory_limit: int, n_workers: int) -> int:
    """Return how many combinations a chunk holds: what fits, in enough chunks to keep workers busy."""
    fitting = memory_limit // n_workers // (n_bars * BYTES_PER_CODE + BYTES_PER_LANE)
    if n_workers > 1:
        fitting = min(fitting, -(-n_rows // (4 * n_workers)))
    return max(1, min(fitting, n_rows))


def write_bars(bars: Bars, path: Path) -> None:
    """Write bars to a file for :func:`read_shipped`."""
    columns = {name: getattr(bars, name) for name in (*PRICE_FIELDS, "volume")}
    frame = np.array([bars.timeframe.minutes, bars.timeframe.calendar == "continuous"], dtype=np.int64)
    stamps = bars.timestamps.view(np.int64)
    np.savez(path, symbol=np.array(bars.symbol), timestamps=stamps, timeframe=frame, **columns)


@functools.lru_cache(maxsize=4)
def read_shipped(path: str) -> Bars:
    """Return the bars of a file, read once a process.

    Raises
    ------
    DataError
        The file is not there: the worker does not share a file system with the sweep.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            columns = {name: archive[name] for name in (*PRICE_FIELDS, "volume")}
            minutes, continuous = archive["timeframe"].tolist()
            stamps, symbol = archive["timestamps"].view("datetime64[ns]"), str(archive["symbol"])
    except OSError as error:
        raise DataError(
            f"worker cannot read the bars at {path!r}: {error}; give the sweep ship='value' where workers "
            "do not share its disk"
        ) from error
    frame = Timeframe(minutes=minutes, calendar="continuous" if continuous else "stocks")
    return Bars(symbol=symbol, timestamps=stamps, timeframe=frame, **columns)
