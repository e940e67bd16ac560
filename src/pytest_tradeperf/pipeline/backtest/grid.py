"""Run a strategy over a grid of parameters, on one core or on any executor."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import tempfile
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pytest_tradeperf.pipeline.backtest.checkpoint import Checkpoint
from pytest_tradeperf.pipeline.backtest.engine import EngineName, choose_engine, merged_costs
from pytest_tradeperf.pipeline.backtest.jobs import Chunk, Job, chunk_size, run_chunk, write_bars
from pytest_tradeperf.pipeline.backtest.metrics import METRIC_NAMES
from pytest_tradeperf.pipeline.backtest.settings import Settings
from pytest_tradeperf.pipeline.errors import DataError, SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import pandas as pd
    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.marketdata.bars import Bars

# Chunks given to an executor beyond those that can run: enough to never wait, few enough to stop soon.
AHEAD = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class SweepResult:
    """Metrics of every combination, in the order of the grid (the last parameter varies fastest).

    Attributes
    ----------
    parameters
        Parameter names.
    rows
        The values of each combination.
    table
        float64 ndarray of shape (n_rows, n_metrics), columns as in ``METRIC_NAMES``; NaN where not done or
        failed.
    errors
        Message by row number, for combinations that failed.
    done
        Boolean ndarray of shape (n_rows,); not all True after an interruption.
    engine, note
        The engine used, and why not a faster one.
    """

    parameters: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    table: NDArray[np.float64]
    errors: dict[int, str]
    done: NDArray[np.bool_]
    engine: str
    note: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether every combination was run."""
        return bool(self.done.all())

    def metric(self, name: str) -> NDArray[np.float64]:
        """Return one metric of every combination, float64 ndarray of shape (n_rows,).

        Raises
        ------
        SettingError
            There is no such metric.
        """
        if name not in METRIC_NAMES:
            raise SettingError(f"metric {name!r} does not exist: expected one of {', '.join(METRIC_NAMES)}")
        return self.table[:, METRIC_NAMES.index(name)]

    def best(self, metric: str = "sharpe", *, smallest: bool = False) -> dict[str, Any]:
        """Return the parameters of the first combination with the largest (or smallest) value.

        Raises
        ------
        SettingError
            No combination has a value.
        """
        values = self.metric(metric) * (-1.0 if smallest else 1.0)
        known = np.where(np.isnan(values), -np.inf, values)
        if not known.size or known.max() == -np.inf:
            raise SettingError(f"no combination has a {metric}: see result.errors, or give a wider grid")
        return dict(zip(self.parameters, self.rows[int(known.argmax())], strict=True))

    def heat_map(self, metric: str) -> tuple[list[Any], list[Any], NDArray[np.float64]]:
        """Return values of the first two parameters and each pair's best metric, (n_first, n_second).

        Raises
        ------
        SettingError
            The sweep has fewer than two parameters.
        """
        if len(self.parameters) < 2:  # noqa: PLR2004 - a map has two sides
            raise SettingError(f"a heat map needs two parameters, the sweep has {self.parameters}")
        sides = [list(dict.fromkeys(row[side] for row in self.rows)) for side in (0, 1)]
        places = [{value: place for place, value in enumerate(side)} for side in sides]
        grid = np.full((len(sides[0]), len(sides[1])), np.nan)
        for row, value in zip(self.rows, self.metric(metric).tolist(), strict=True):
            cell = places[0][row[0]], places[1][row[1]]
            grid[cell] = np.fmax(grid[cell], value)
        return sides[0], sides[1], grid

    def to_frame(self) -> pd.DataFrame:
        """Return one row a combination: parameters, metrics and error, as a pandas DataFrame."""
        import pandas as pd

        frame = pd.DataFrame(list(self.rows), columns=list(self.parameters))
        metrics = pd.DataFrame(self.table, columns=list(METRIC_NAMES))
        errors = pd.Series(
            [self.errors.get(row, "") for row in range(len(self.rows))], name="error", dtype=object
        )
        return pd.concat([frame, metrics, errors], axis=1)

    @property
    def digest(self) -> str:
        """SHA-256 over parameters, metrics and errors: the same for every engine and executor."""
        state = hashlib.sha256(repr((self.parameters, self.rows, sorted(self.errors.items()))).encode())
        state.update(np.ascontiguousarray(self.table).tobytes())
        return state.hexdigest()


def sweep(
    bars: Bars,
    strategy: Callable[..., Any],
    *,
    constraint: Callable[..., bool] | None = None,
    settings: Settings | None = None,
    fees_bps: float = 0.0,
    engine: EngineName = "auto",
    executor: Executor | None = None,
    n_workers: int | None = None,
    memory_limit: int = 128_000_000,
    ship: Literal["auto", "value", "file"] = "auto",
    progress: Callable[[int, int], None] | None = None,
    checkpoint: str | Path | None = None,
    precompute_features: bool = True,
    fast_window: bool = True,
    **grid: Iterable[Any],
) -> SweepResult:
    """Return the metrics of every combination of parameters.

    Parameters
    ----------
    strategy
        Called with one keyword argument a parameter; usually a strategy class.
    constraint
        ``constraint(**parameters)`` answers whether to run a combination.
    settings, fees_bps
        As in :func:`~.engine.run_backtest`; ``fees_bps`` is short for settings with only that.
    executor
        Anything with ``submit`` (threads, processes, loky, dask's ``Client.get_executor()``); None runs here.
    n_workers
        How many the executor has, where it does not say so itself.
    memory_limit
        Bytes that all chunks at work may take together, about.
    ship
        How bars get to workers: ``file`` (once a process), ``value`` (with every chunk); ``auto`` gives
        threads
        the bars themselves and others a file.
    progress
        Called with the number of combinations done, and of all.
    checkpoint
        File in which finished chunks are kept; a sweep of the same bars, grid and settings goes on from it.
        After Ctrl-C the partial result is returned, with ``is_complete`` False.
    precompute_features
        Compute each indicator once for all combinations, where the strategy's class can (the moving-average
        cross does). Without, every combination asks its own strategy: slow, and the same answer.
    fast_window
        Indicators and strategies read views of the bars; without, copies: the same answer.
    **grid
        Values by parameter name.

    Raises
    ------
    SettingError
        An empty grid, or an argument out of range.
    EngineError
        The engine lacks something asked for.

    Examples
    --------
    >>> from pytest_tradeperf.pipeline.marketdata import load_bars
    >>> from pytest_tradeperf.pipeline.backtest import MovingAverageCross
    >>> result = sweep(
    ...     load_bars("FB"), MovingAverageCross, fast=[3, 5], slow=[5, 20],
    ...     constraint=lambda fast, slow: fast < slow,
    ... )
    >>> len(result.rows), result.best("total_return")
    (3, {'fast': 3, 'slow': 5})
    """
    if settings is not None and fees_bps:
        raise SettingError(f"fees_bps={fees_bps!r} and settings both set the fee: give one of them")
    settings = settings or Settings(costs=merged_costs(fees_bps, None))
    chosen, note = choose_engine(engine, settings)
    names, rows = _combinations(grid, constraint)
    workers = 1 if executor is None else n_workers or _worker_count(executor)
    if memory_limit <= 0 or workers <= 0:
        raise SettingError(f"memory_limit={memory_limit!r} and n_workers={n_workers!r} must be above 0")
    size = chunk_size(len(bars), len(rows), memory_limit=memory_limit, n_workers=workers)
    table = np.full((len(rows), len(METRIC_NAMES)), np.nan)
    errors: dict[int, str] = {}
    done = np.zeros(len(rows), dtype=np.bool_)
    job = Job(
        bars=bars,
        strategy=strategy,
        names=names,
        settings=settings,
        engine=chosen,
        precompute_features=precompute_features,
        fast_window=fast_window,
    )
    store = None if checkpoint is None else Checkpoint(Path(checkpoint), job, rows)
    if store is not None:
        store.restore(table, errors, done)
    starts = [start for start in range(0, len(rows), size) if not done[start : start + size].all()]
    tasks = [(start, list(rows[start : start + size])) for start in starts]
    try:
        for chunk in _run(job, tasks, executor, workers, ship):
            part = slice(chunk.start, chunk.start + len(chunk.table))
            table[part], done[part] = chunk.table, True
            errors.update(chunk.errors)
            if store is not None:
                store.save(table, errors, done)
            if progress is not None:
                progress(int(done.sum()), len(rows))
    except KeyboardInterrupt:
        note = f"interrupted after {int(done.sum())} of {len(rows)} combinations. {note}".strip()
    return SweepResult(
        parameters=names, rows=rows, table=table, errors=errors, done=done, engine=chosen, note=note
    )


def _combinations(
    grid: dict[str, Iterable[Any]], constraint: Callable[..., bool] | None
) -> tuple[tuple[str, ...], tuple[tuple[Any, ...], ...]]:
    names = tuple(grid)
    if not names:
        raise SettingError("the grid is empty: give values by parameter name, like fast=range(2, 50)")
    values = []
    for name in names:
        if isinstance(grid[name], str) or not hasattr(grid[name], "__iter__"):
            raise SettingError(
                f"{name} is {grid[name]!r}: expected several values, like {name}=[10] or a range"
            )
        values.append(list(grid[name]))
    rows = tuple(itertools.product(*values))
    if constraint is not None:
        rows = tuple(itertools.compress(rows, _verdicts(constraint, names, rows)))
    if not rows:
        raise SettingError(
            f"the grid over {', '.join(names)} has no combination: an empty range, or the constraint "
            f"refuses all"
        )
    return names, rows


def _verdicts(
    constraint: Callable[..., bool], names: tuple[str, ...], rows: tuple[tuple[Any, ...], ...]
) -> Iterator[bool]:
    """Ask the constraint about every combination; by position where that is the same, which is faster."""
    try:
        parameters = list(inspect.signature(constraint).parameters.values())
    except (TypeError, ValueError):  # some callables made in C do not tell
        parameters = []
    is_plain = all(parameter.kind is parameter.POSITIONAL_OR_KEYWORD for parameter in parameters)
    if is_plain and {parameter.name for parameter in parameters} == set(names):
        columns = list(zip(*rows, strict=True))
        return map(constraint, *(columns[names.index(parameter.name)] for parameter in parameters))
    return (constraint(**dict(zip(names, row, strict=True))) for row in rows)


def _worker_count(executor: Executor) -> int:
    return int(getattr(executor, "_max_workers", 0) or 4)


def _run(
    job: Job,
    tasks: list[tuple[int, list[tuple[Any, ...]]]],
    executor: Executor | None,
    workers: int,
    ship: str,
) -> Iterator[Chunk]:
    if ship not in ("auto", "value", "file"):
        raise SettingError(f"ship is {ship!r}: expected auto, value or file")
    if executor is None:
        for start, rows in tasks:
            yield run_chunk(job, start, rows)
        return
    by_file = ship == "file" or (ship == "auto" and not isinstance(executor, ThreadPoolExecutor))
    with tempfile.TemporaryDirectory(prefix="tradeperf-sweep-") as folder:
        if by_file and not isinstance(job.bars, Path):
            path = Path(folder) / "bars.npz"
            write_bars(job.bars, path)
            job = replace(job, bars=path)
        yield from _submit(job, tasks, executor, workers + AHEAD)


def _submit(
    job: Job, tasks: list[tuple[int, list[tuple[Any, ...]]]], executor: Executor, at_once: int
) -> Iterator[Chunk]:
    waiting = iter(tasks)
    running: set[Future[Chunk]] = set()
    try:
        while True:
            running |= {
                executor.submit(run_chunk, job, *task)
                for task in itertools.islice(waiting, at_once - len(running))
            }
            if not running:
                return
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield _chunk_of(future)
    finally:
        for future in running:
            future.cancel()


def _chunk_of(future: Future[Chunk]) -> Chunk:
    try:
        return future.result()
    except (AttributeError, TypeError) as error:
        if "pickle" not in str(error).lower():
            raise
        raise DataError(
            f"the executor cannot send the sweep to its workers: {error}; define the strategy in a module "
            "(no lambda, nothing local), or use threads"
        ) from error
