from __future__ import annotations

import functools
import importlib
import pickle
import sys
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from backtest_worlds import bars_of
from test_backtest_identity import ENGINES

from pytest_tradeperf.pipeline.backtest import (
    Breakout,
    Costs,
    MovingAverageCross,
    Settings,
    Stops,
    run_backtest,
    sweep,
)
from pytest_tradeperf.pipeline.backtest.jobs import chunk_size
from pytest_tradeperf.pipeline.backtest.metrics import METRIC_NAMES
from pytest_tradeperf.pipeline.errors import EngineError, PipelineError, SettingError, StoreError
from pytest_tradeperf.pipeline.marketdata import Bars, Timeframe, load_bars

if TYPE_CHECKING:
    from pathlib import Path

BARS = load_bars("FB")
GRID: dict[str, Any] = {"fast": range(2, 8), "slow": range(5, 20, 3)}
GRID_OF_MIXED: dict[str, Any] = {"fast": [0, 2, 5, 50], "slow": [5, 9]}


def shorter(fast: int, slow: int) -> bool:
    return fast < slow


@pytest.mark.parametrize("engine", [*ENGINES, "reference"])
@pytest.mark.parametrize("average", ["sma", "ema"])
def test_every_row_is_the_run_of_its_parameters(engine: Any, average: Any) -> None:
    result = sweep(
        BARS,
        MovingAverageCross,
        fees_bps=3,
        engine=engine,
        fast=[2, 5],
        slow=[9, 14],
        average=[average],
        side=["both"],
    )
    assert result.parameters == ("fast", "slow", "average", "side")
    for row, values in enumerate(result.rows):
        strategy = MovingAverageCross(**dict(zip(result.parameters, values, strict=True)))
        alone = run_backtest(BARS, strategy, fees_bps=3, engine="reference").metrics
        expected = [getattr(alone, name) for name in METRIC_NAMES]
        np.testing.assert_array_equal(result.table[row], expected)


def test_strategies_without_a_batch_method_run_one_by_one() -> None:
    result = sweep(BARS, Breakout, entry=[5, 10], exit=[3])
    assert result.metric("n_trades").tolist() == [
        run_backtest(BARS, Breakout(entry=entry, exit=3)).n_trades for entry in (5, 10)
    ]


def test_a_constraint_leaves_combinations_out() -> None:
    result = sweep(BARS, MovingAverageCross, constraint=shorter, **GRID)
    assert all(fast < slow for fast, slow in result.rows)
    assert result.is_complete


def test_a_failing_combination_is_a_row_with_its_error() -> None:
    result = sweep(BARS, MovingAverageCross, fast=[5, 50], slow=[10])
    assert result.errors == {
        1: "SettingError: fast=50 is not below slow=10: the fast window must be the shorter one"
    }
    assert np.isnan(result.table[1]).all()
    assert not np.isnan(result.metric("final_equity")[0])


@pytest.mark.parametrize("engine", [*ENGINES, "reference"])
def test_valid_combinations_do_not_suffer_from_invalid_ones(engine: Any) -> None:
    mixed = sweep(BARS, MovingAverageCross, engine=engine, **GRID_OF_MIXED)
    assert sorted(mixed.errors) == [0, 1, 4, 6, 7]
    apart = sweep(BARS, MovingAverageCross, engine="reference", precompute_features=False, **GRID_OF_MIXED)
    assert mixed.digest == apart.digest


class Rarely(MovingAverageCross):
    """A class made from a bundled one, with a mind of its own."""

    def signals(self, bars: Any) -> np.ndarray:
        codes = super().signals(bars)
        codes[::2] = 0
        return codes


def test_a_class_made_from_a_bundled_one_gives_its_own_signals() -> None:
    swept = sweep(BARS, Rarely, fast=[2, 3], slow=[9])
    expected = [run_backtest(BARS, Rarely(fast=fast, slow=9)).final_equity for fast in (2, 3)]
    assert swept.metric("final_equity").tolist() == expected
    assert swept.digest != sweep(BARS, MovingAverageCross, fast=[2, 3], slow=[9]).digest


def by_name(*, slow: int, fast: int) -> bool:
    return fast < slow


def with_more(slow: int, fast: int, gap: int = 0) -> bool:
    return fast + gap < slow


def with_rest(fast: int, **rest: int) -> bool:
    return fast < rest["slow"]


def other_order(slow: int, fast: int) -> bool:
    return fast < slow


@pytest.mark.parametrize("constraint", [by_name, with_more, with_rest, other_order])
def test_a_constraint_is_asked_by_name_whatever_its_signature(constraint: Any) -> None:
    assert (
        sweep(BARS, MovingAverageCross, constraint=constraint, **GRID).rows
        == sweep(BARS, MovingAverageCross, constraint=shorter, **GRID).rows
    )


class Inline(Executor):
    """Runs at once, but through pickles, as remote executors do."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        fn, args = pickle.loads(pickle.dumps((fn, args)))
        future.set_result(fn(*args, **kwargs))
        return future


@pytest.mark.parametrize("ship", ["auto", "value", "file"])
def test_every_way_of_shipping_gives_the_same_answer(ship: Any) -> None:
    alone = sweep(BARS, MovingAverageCross, constraint=shorter, **GRID)
    assert (
        sweep(BARS, MovingAverageCross, constraint=shorter, executor=Inline(), ship=ship, **GRID).digest
        == alone.digest
    )


def test_threads_give_the_same_answer() -> None:
    alone = sweep(BARS, MovingAverageCross, constraint=shorter, **GRID)
    with ThreadPoolExecutor(2) as pool:
        assert (
            sweep(BARS, MovingAverageCross, constraint=shorter, executor=pool, **GRID).digest == alone.digest
        )


def test_processes_give_the_same_answer() -> None:
    alone = sweep(BARS, MovingAverageCross, constraint=shorter, **GRID)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert (
            sweep(BARS, MovingAverageCross, constraint=shorter, executor=pool, **GRID).digest == alone.digest
        )


def test_loky_gives_the_same_answer() -> None:
    loky = pytest.importorskip("loky", reason="loky is not installed: pip install loky")
    alone = sweep(BARS, MovingAverageCross, constraint=shorter, **GRID)
    pool = loky.ProcessPoolExecutor(2)
    try:
        assert (
            sweep(BARS, MovingAverageCross, constraint=shorter, executor=pool, **GRID).digest == alone.digest
        )
    finally:
        pool.shutdown(kill_workers=True)


def test_dask_gives_the_same_answer() -> None:
    distributed = pytest.importorskip(
        "distributed", reason="dask is not installed: pip install 'dask[distributed]'"
    )
    alone = sweep(BARS, MovingAverageCross, constraint=shorter, **GRID)
    # In this process: how chunks get to other processes is Inline's and loky's business above.
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
        client.get_executor() as pool,
    ):
        answer = sweep(BARS, MovingAverageCross, constraint=shorter, executor=pool, n_workers=2, **GRID)
    assert answer.digest == alone.digest


def test_a_strategy_that_cannot_be_sent_is_explained() -> None:
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        pytest.raises(PipelineError, match="cannot send"),
    ):
        sweep(BARS, lambda fast: MovingAverageCross(fast=fast), executor=pool, fast=[2])


def test_progress_counts_combinations() -> None:
    seen: list[tuple[int, int]] = []
    sweep(
        BARS,
        Breakout,
        progress=lambda done, total: seen.append((done, total)),
        memory_limit=2000,
        entry=[5, 10, 15],
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_chunks_follow_the_memory_limit_and_keep_workers_busy() -> None:
    assert chunk_size(1000, 10_000, memory_limit=6_400_000, n_workers=1) == 1000
    assert chunk_size(1000, 800, memory_limit=10**9, n_workers=4) == 50
    assert chunk_size(10**9, 800, memory_limit=1, n_workers=1) == 1


def interrupting(done: int, total: int) -> None:
    if done >= 6:
        raise KeyboardInterrupt


def test_an_interrupted_sweep_keeps_what_is_done_and_goes_on_from_there(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "constraint": shorter,
        "memory_limit": 5000,
        "checkpoint": tmp_path / "c.npz",
        **GRID,
    }
    whole = sweep(BARS, MovingAverageCross, constraint=shorter, **GRID)
    partial = sweep(BARS, MovingAverageCross, progress=interrupting, **options)
    assert not partial.is_complete
    assert partial.done.sum() >= 6
    assert partial.note.startswith("interrupted after")
    counted: list[int] = []
    resumed = sweep(BARS, MovingAverageCross, progress=lambda done, total: counted.append(done), **options)
    assert len(counted) < len(whole.rows) - 4
    assert resumed.digest == whole.digest


def test_a_corrupt_checkpoint_is_computed_again(tmp_path: Path) -> None:
    file = tmp_path / "c.npz"
    file.write_bytes(b"PK\x03\x04 not a zip at all")
    whole = sweep(BARS, Breakout, entry=[5, 10])
    assert sweep(BARS, Breakout, entry=[5, 10], checkpoint=file).digest == whole.digest


def test_a_checkpoint_of_another_sweep_is_refused(tmp_path: Path) -> None:
    sweep(BARS, Breakout, entry=[5, 10], checkpoint=tmp_path / "c.npz")
    with pytest.raises(StoreError, match="belongs to a sweep of other"):
        sweep(BARS, Breakout, entry=[5, 11], checkpoint=tmp_path / "c.npz")


def around_the_clock(bars: Bars) -> Bars:
    return replace(bars, timeframe=Timeframe(minutes=bars.timeframe.minutes, calendar="continuous"))


@pytest.mark.parametrize(
    "other",
    [around_the_clock(BARS), replace(BARS, volume=BARS.volume + 1.0)],
    ids=["calendar", "volume"],
)
def test_a_checkpoint_does_not_answer_for_other_bars(tmp_path: Path, other: Bars) -> None:
    sweep(BARS, Breakout, entry=[5, 10], checkpoint=tmp_path / "c.npz")
    with pytest.raises(StoreError, match="belongs to a sweep of other bars, timeframe"):
        sweep(other, Breakout, entry=[5, 10], checkpoint=tmp_path / "c.npz")


@pytest.mark.parametrize("inherits", [False, True])
def test_a_checkpoint_does_not_answer_for_changed_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inherits: bool
) -> None:
    """Of the strategy itself, or of a class in another file that it inherits from."""
    monkeypatch.syspath_prepend(tmp_path)
    names = ("base_to_change", "mine_to_change")
    base = "from pytest_tradeperf.pipeline.backtest import Breakout\n\nclass Base(Breakout): ...\n"
    mine = "from base_to_change import Base\n\nclass Mine(Base): ...\n"

    def strategy() -> Any:
        for name, text in zip(names, (base, mine), strict=True):
            (tmp_path / f"{name}.py").write_text(text)
            monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        return importlib.import_module(names[1]).Mine

    file = tmp_path / "c.npz"
    sweep(BARS, strategy(), entry=[5], checkpoint=file)
    assert sweep(BARS, strategy(), entry=[5], checkpoint=file).is_complete
    if inherits:
        base += "# changed\n"
    else:
        mine += "# changed\n"
    with pytest.raises(StoreError, match="belongs to a sweep of other"):
        sweep(BARS, strategy(), entry=[5], checkpoint=file)


class Maker:
    """Makes strategies by what it holds, which its name does not say."""

    def __init__(self, side: Any) -> None:
        self.side = side

    def cross(self, fast: int) -> MovingAverageCross:
        return MovingAverageCross(fast=fast, side=self.side)


def fee(shares: float, price: float) -> float:
    return 1.0


@pytest.mark.parametrize(
    ("strategy", "changed", "message"),
    [
        (lambda fast: MovingAverageCross(fast=fast), {}, "class or function that a module holds by its name"),
        (Maker("both").cross, {}, "class or function that a module holds by its name"),
        (functools.partial(MovingAverageCross, side="both"), {}, "class or function that a module holds"),
        (MovingAverageCross, {"settings": Settings(costs=Costs(fee=fee))}, "fee function .* use fees_bps"),
        (MovingAverageCross, {"fast": [np.array(3)]}, r"over array\(3\) .* give numbers"),
    ],
    ids=["lambda", "bound method", "partial", "fee function", "object"],
)
def test_a_checkpoint_is_refused_for_what_could_change_unseen(
    tmp_path: Path, strategy: Any, changed: dict[str, Any], message: str
) -> None:
    chosen = {"fast": [3, 5]} | changed
    with pytest.raises(SettingError, match=rf"c\.npz': a sweep .*{message}"):
        sweep(BARS, strategy, checkpoint=tmp_path / "c.npz", **chosen)
    assert not (tmp_path / "c.npz").exists()


def test_a_checkpoint_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        sweep(BARS, Breakout, entry=[5], checkpoint=tmp_path / "missing" / "c.npz")


def test_best_and_heat_map_point_at_the_largest_value() -> None:
    result = sweep(BARS, MovingAverageCross, constraint=shorter, **GRID)
    best = result.best("total_return")
    values = result.metric("total_return")
    assert tuple(best.values()) == result.rows[int(np.nanargmax(values))]
    first, second, grid = result.heat_map("total_return")
    assert grid[first.index(best["fast"]), second.index(best["slow"])] == np.nanmax(values)
    assert np.isnan(grid[first.index(7), second.index(5)])  # the constraint left it out


def test_the_frame_has_parameters_metrics_and_errors() -> None:
    frame = sweep(BARS, MovingAverageCross, fast=[5, 50], slow=[10]).to_frame()
    assert frame.columns.tolist() == ["fast", "slow", *METRIC_NAMES, "error"]
    assert frame["error"].str.startswith("SettingError").tolist() == [False, True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "the grid is empty"),
        ({"fast": []}, "no combination"),
        ({"fast": 5}, "fast is 5: expected several values"),
        ({"average": "sma"}, "average is 'sma': expected several values"),
        ({"fast": [5], "memory_limit": 0}, "memory_limit=0"),
        ({"fast": [5], "ship": "boat", "executor": Inline()}, "ship is 'boat'"),
        ({"fast": [5], "settings": Settings(), "fees_bps": 1.0}, "both set the fee"),
    ],
)
def test_wrong_grids_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        sweep(BARS, MovingAverageCross, **options)


def test_unknown_metrics_are_refused_by_name() -> None:
    result = sweep(BARS, Breakout, entry=[5])
    with pytest.raises(SettingError, match="metric 'luck' does not exist: expected one of final_equity"):
        result.best("luck")
    with pytest.raises(SettingError, match="needs two parameters"):
        result.heat_map("sharpe")


def test_no_combination_with_a_value_is_said() -> None:
    with pytest.raises(SettingError, match="no combination has a sharpe"):
        sweep(bars_of([10.0, 10.0]), Breakout, entry=[5]).best("sharpe")


def test_a_sweep_with_stops_says_why_it_uses_the_reference() -> None:
    settings = Settings(stops=Stops(stop_loss=0.1))
    result = sweep(BARS, Breakout, settings=settings, entry=[5])
    assert (result.engine, result.note) == (
        "reference",
        "reference instead of lanes, which lacks stop_loss, take_profit and trailing",
    )
    with pytest.raises(EngineError, match="'lanes' does not support"):
        sweep(BARS, Breakout, settings=settings, engine="lanes", entry=[5])
