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
from pytest_tradeperf.pipeline.backtest.metrics import metric_rows
from pytest_tradeperf.pipeline.backtest.plan import Plan, plan_of
from pytest_tradeperf.pipeline.backtest.totals import TOTAL_NAMES, rows_of, totals_from_rows, totals_of
from pytest_tradeperf.pipeline.errors import DataError
from pytest_tradeperf.pipeline.marketdata.bars import PRICE_FIELDS, Bars
from pytest_tradeperf.pipeline.marketdata.timeframe import Timeframe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.backtest.crosses import Crosses
    from pytest_tradeperf.pipeline.backtest.settings import Settings

# Runs whose codes are made at once: lanes want to be many, the compiled engine wants them near the processor.
AT_ONCE = {"reference": 256, "lanes": 8192, "compiled": 512}
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
    precompute_features, fast_window
        See :func:`~.grid.sweep`.
    """

    bars: Bars | Path
    strategy: Callable[..., Any]
    names: tuple[str, ...]
    settings: Settings
    engine: str
    precompute_features: bool = True
    fast_window: bool = True


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
    sums = np.full((len(rows), len(TOTAL_NAMES)), np.nan)
    errors: dict[int, str] = {}
    for places, codes in _blocks(job, bars, rows, errors):
        sums[places] = _sums(job.engine, plan, codes)
    table = metric_rows(
        totals_from_rows(sums),
        cash=job.settings.cash,
        n_bars=len(bars),
        periods_per_year=bars.timeframe.periods_per_year,
    )
    return Chunk(start=start, table=table, errors={start + row: text for row, text in errors.items()})


def _blocks(
    job: Job, bars: Bars, rows: list[tuple[Any, ...]], errors: dict[int, str]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int8]]]:
    """Yield numbers of rows and their codes, valid until the next ones; note what fails."""
    step = AT_ONCE[job.engine]
    batch = _batch(job, bars, rows)
    is_left = np.ones(len(rows), dtype=np.bool_)
    if batch is not None:
        room = batch.room(
            min(step, batch.places.size)
        )  # one for all: fresh memory costs as much as the codes
        for first in range(0, batch.places.size, step):
            part = slice(first, first + step)
            yield batch.places[part], batch.codes(part, room, compiled=job.engine == "compiled")
        is_left[batch.places] = False
    left = np.flatnonzero(is_left)
    for first in range(0, left.size, step):
        some = left[first : first + step]
        codes = np.zeros((some.size, len(bars)), dtype=np.int8)
        is_good = np.ones(some.size, dtype=np.bool_)
        for place, row in enumerate(some.tolist()):
            try:
                strategy = job.strategy(**dict(zip(job.names, rows[row], strict=True)))
                codes[place] = strategy_signals(strategy, bars, fast_window=job.fast_window)
            except Exception as error:  # noqa: BLE001 - whatever a strategy raises is that row's result
                errors[row] = f"{type(error).__name__}: {error}"
                is_good[place] = False
        if is_good.any():
            yield some[is_good], codes[is_good]


def _batch(job: Job, bars: Bars, rows: list[tuple[Any, ...]]) -> Crosses | None:
    """Return the codes of all combinations that the strategy's class can make at once, if it can."""
    many = getattr(job.strategy, "signal_batch", None)
    if many is None or not job.precompute_features:
        return None
    columns = dict(zip(job.names, zip(*rows, strict=True), strict=True))
    batch: Crosses | None = many(bars, columns, fast_window=job.fast_window)
    return batch


def _sums(engine: str, plan: Plan, codes: NDArray[np.int8]) -> NDArray[np.float64]:
    if engine == "compiled":
        from pytest_tradeperf.pipeline.backtest.compiled import rows_compiled

        return rows_compiled(plan, codes)
    if engine == "lanes":
        from pytest_tradeperf.pipeline.backtest.lanes import rows_in_lanes

        return rows_in_lanes(plan, codes)
    from pytest_tradeperf.pipeline.backtest.reference import simulate

    cash = plan.settings.cash
    rows = [rows_of(totals_of(*simulate(plan, row), cash=cash)) for row in codes[:, : plan.open.size]]
    return np.concatenate(rows) if rows else np.empty((0, len(TOTAL_NAMES)))


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
