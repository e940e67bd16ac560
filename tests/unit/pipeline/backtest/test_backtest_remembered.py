from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from pytest_tradeperf.pipeline.backtest import (
    Breakout,
    Costs,
    MovingAverageCross,
    Settings,
    SweepResult,
    sweep,
)
from pytest_tradeperf.pipeline.features.result_cache import ResultCache
from pytest_tradeperf.pipeline.marketdata import frame_from_bars, load_bars, read_bars

if TYPE_CHECKING:
    from pathlib import Path

BARS = load_bars("FB")
READ = "read from the result cache"


@pytest.fixture
def cache(tmp_path: Path) -> ResultCache:
    return ResultCache(tmp_path / "sweeps")


def swept(cache: ResultCache | None, **changed: Any) -> SweepResult:
    chosen: dict[str, Any] = {
        "bars": BARS,
        "strategy": MovingAverageCross,
        "fast": [2, 3, 50],
        "slow": [9, 14],
    }
    chosen |= changed
    return sweep(chosen.pop("bars"), chosen.pop("strategy"), result_cache=cache, **chosen)


def test_a_second_sweep_is_read_and_the_answer_does_not_move(cache: ResultCache) -> None:
    first, second = swept(cache), swept(cache)
    assert (first.note, second.note) == ("", READ)
    assert first.digest == second.digest == swept(None).digest
    assert (second.rows, second.errors, second.is_complete) == (first.rows, first.errors, True)
    assert list(second.errors) == [4, 5]


def test_another_engine_reads_what_one_has_computed(cache: ResultCache) -> None:
    swept(cache, engine="reference")
    again = swept(cache, engine="lanes")
    assert (again.note, again.engine) == (READ, "reference")


@pytest.mark.parametrize(
    "changed",
    [
        {"bars": BARS[1:]},
        {"bars": load_bars("GOOG")},
        {"slow": [9, 15]},
        {"average": ["ema"]},
        {"settings": Settings(cash=5_000.0)},
        {"strategy": Breakout, "entry": [5]},
    ],
    ids=["fewer bars", "other bars", "grid", "parameter", "settings", "strategy"],
)
def test_whatever_is_different_is_computed(cache: ResultCache, changed: dict[str, Any]) -> None:
    swept(cache)
    if "strategy" in changed:
        assert sweep(BARS, Breakout, result_cache=cache, entry=[5]).note == ""
    else:
        assert swept(cache, **changed).note == ""
    assert cache.counts().hits == 0


def test_a_changed_file_is_computed_again(cache: ResultCache, tmp_path: Path) -> None:
    file = tmp_path / "fb.csv"
    frame_from_bars(BARS).to_csv(file)
    bars = read_bars(file)
    assert [swept(cache, bars=bars, data_file=file).note for _ in range(2)] == ["", READ]
    file.write_text(file.read_text() + "\n")
    assert swept(cache, bars=bars, data_file=file).note == ""
    assert cache.counts().stale == 1


def test_a_damaged_file_is_computed_again(cache: ResultCache, tmp_path: Path) -> None:
    whole = swept(cache)
    (file,) = (tmp_path / "sweeps").iterdir()
    file.write_bytes(file.read_bytes()[:-20])
    again = swept(cache)
    assert (again.note, again.digest, cache.counts().corrupt) == ("", whole.digest, 1)


def test_an_interrupted_sweep_is_not_kept(cache: ResultCache) -> None:
    def interrupting(done: int, total: int) -> None:
        raise KeyboardInterrupt

    partial = swept(cache, progress=interrupting, memory_limit=5000)
    assert not partial.is_complete
    assert swept(cache).note == ""


def fee(shares: float, price: float) -> float:
    return 1.0


class Choice:
    """A value whose text does not say what it is."""

    def __repr__(self) -> str:
        return "Choice"

    def cross(self, fast: int, slow: int) -> MovingAverageCross:
        return MovingAverageCross(fast=fast, slow=slow)


@pytest.mark.parametrize(
    "changed",
    [
        {"strategy": lambda fast, slow: MovingAverageCross(fast=fast, slow=slow)},
        {"strategy": functools.partial(MovingAverageCross, side="both")},
        {"strategy": Choice().cross},
        {"settings": Settings(costs=Costs(fee=fee))},
        {"fast": [Choice()]},
    ],
    ids=["lambda", "partial", "bound method", "fee function", "object"],
)
def test_what_could_change_unseen_is_not_kept(cache: ResultCache, changed: dict[str, Any]) -> None:
    assert [swept(cache, **changed).note.startswith("read") for _ in range(2)] == [False, False]
    assert cache.counts().absent == 0
