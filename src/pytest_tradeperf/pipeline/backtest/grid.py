"""Run a strategy over a grid of parameters, on one core or on any executor."""

from __future__ import annotations

import itertools
import tempfile
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pytest_tradeperf.pipeline.backtest.checkpoint import Checkpoint
from pytest_tradeperf.pipeline.backtest.combinations import combinations
from pytest_tradeperf.pipeline.backtest.engine import EngineName, choose_engine, merged_costs
from pytest_tradeperf.pipeline.backtest.jobs import Chunk, Job, chunk_size, run_chunk, write_bars
from pytest_tradeperf.pipeline.backtest.metrics import METRIC_NAMES
from pytest_tradeperf.pipeline.backtest.remembered import remembered
from pytest_tradeperf.pipeline.backtest.settings import Settings
from pytest_tradeperf.pipeline.backtest.sweep_result import SweepResult
from pytest_tradeperf.pipeline.errors import DataError, SettingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pytest_tradeperf.pipeline.features.result_cache import ResultCache
    from pytest_tradeperf.pipeline.marketdata.bars import Bars

# Chunks given to an executor beyond those that can run: enough to never wait, few enough to stop soon.
AHEAD = 2


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
    result_cache: ResultCache | None = None,
    data_file: Path | None = None,
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
        File in which finished chunks are kept; a sweep of the same bars, grid, settings and code of the
        strategy goes on from it, another one is refused, and so is one that could not be told from others (a
        lambda, a fee function). After Ctrl-C the partial result is returned, with ``is_complete`` False.
    precompute_features
        Compute each indicator once for all combinations, where the strategy's class can (the moving-average
        cross does). Without, every combination asks its own strategy: slow, and the same answer.
    fast_window
        Indicators and strategies read views of the bars; without, copies: the same answer.
    result_cache
        Where complete sweeps are kept: one of the same bars, grid, settings and code of the strategy is read
        from there, and its ``note`` says so. The answer is the same whichever engine computed it.
    data_file
        The file that the bars came from; kept results are then believed only while it is what it was.
    **grid
        Values by parameter name.

    Raises
    ------
    SettingError
        An empty grid, an argument out of range, or a checkpoint for what it could not recognise.
    StoreError
        The checkpoint belongs to another sweep, or cannot be written.
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
    names, rows = combinations(grid, constraint)
    workers = 1 if executor is None else n_workers or _worker_count(executor)
    if memory_limit <= 0 or workers <= 0:
        raise SettingError(f"memory_limit={memory_limit!r} and n_workers={n_workers!r} must be above 0")
    job = Job(
        bars=bars,
        strategy=strategy,
        names=names,
        settings=settings,
        engine=chosen,
        precompute_features=precompute_features,
        fast_window=fast_window,
    )

    def run() -> SweepResult:
        size = chunk_size(len(bars), len(rows), memory_limit=memory_limit, n_workers=workers)
        store = None if checkpoint is None else Checkpoint(Path(checkpoint), job, rows)
        chunks = lambda tasks: _run(job, tasks, executor, workers, ship)  # noqa: E731 - one line, used once
        return _collected(job, rows, size, chunks, store=store, progress=progress, note=note)

    return run() if result_cache is None else remembered(result_cache, job, rows, run, data_file=data_file)


def _collected(
    job: Job,
    rows: tuple[tuple[Any, ...], ...],
    size: int,
    chunks: Callable[[list[tuple[int, list[tuple[Any, ...]]]]], Iterator[Chunk]],
    *,
    store: Checkpoint | None,
    progress: Callable[[int, int], None] | None,
    note: str,
) -> SweepResult:
    """Return what the chunks that are not done yet answer; after Ctrl-C, what is done."""
    table = np.full((len(rows), len(METRIC_NAMES)), np.nan)
    errors: dict[int, str] = {}
    done = np.zeros(len(rows), dtype=np.bool_)
    if store is not None:
        store.restore(table, errors, done)
    starts = [start for start in range(0, len(rows), size) if not done[start : start + size].all()]
    try:
        for chunk in chunks([(start, list(rows[start : start + size])) for start in starts]):
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
        parameters=job.names, rows=rows, table=table, errors=errors, done=done, engine=job.engine, note=note
    )


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
