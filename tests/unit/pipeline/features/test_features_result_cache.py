from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pytest_tradeperf.pipeline.errors import DataError, SettingError
from pytest_tradeperf.pipeline.features.result_cache import STAMP_STEP_NS, ResultCache

if TYPE_CHECKING:
    from pathlib import Path

LATER_NS = 4_000_000_000 * 10**9  # far after any file of the test was written


class Sweep:
    """A costly function over a data file that counts its calls."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.calls = 0

    def __call__(self) -> dict[str, Any]:
        self.calls += 1
        numbers = [float(part) for part in self.file.read_text().split()]
        return {"equity": np.cumsum(numbers), "best": max(numbers), "name": "Ü", "file": 1}


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    file = tmp_path / "bars.csv"
    file.write_text("1 2 3")
    return Sweep(file)


def made(tmp_path: Path, now_ns: int = LATER_NS, *, enabled: bool = True) -> ResultCache:
    return ResultCache(tmp_path / "cache", enabled=enabled, now_ns=lambda: now_ns)


def ask(cache: ResultCache, sweep: Sweep, **changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {"data": sweep.file, "parameters": {"fast": [5, 10]}} | changes
    return cache.get("sweep", sweep, **settings)


def cached_file(tmp_path: Path) -> Path:
    (file,) = (tmp_path / "cache").iterdir()
    return file


def test_a_result_is_computed_once_and_read_back_to_the_bit(tmp_path: Path, sweep: Sweep) -> None:
    first = ask(made(tmp_path), sweep)
    again = made(tmp_path)
    second = ask(again, sweep)
    assert sweep.calls == 1
    assert again.counts().hits == 1
    assert first.keys() == second.keys()
    for name, array in first.items():
        assert array.dtype == second[name].dtype
        assert array.shape == second[name].shape
        assert array.tobytes() == second[name].tobytes()
        assert not array.flags.writeable
        assert not second[name].flags.writeable


def test_switched_off_it_answers_the_same_and_writes_nothing(tmp_path: Path, sweep: Sweep) -> None:
    on = ask(made(tmp_path), sweep)
    off = ask(made(tmp_path / "other", enabled=False), sweep)
    assert {name: (array.dtype, array.tobytes()) for name, array in on.items()} == {
        name: (array.dtype, array.tobytes()) for name, array in off.items()
    }
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("changes", [{"parameters": {"fast": [5]}}, {"version": 2}])
def test_other_parameters_or_version_are_computed(
    tmp_path: Path, sweep: Sweep, changes: dict[str, Any]
) -> None:
    cache = made(tmp_path)
    ask(cache, sweep)
    ask(cache, sweep, **changes)
    assert sweep.calls == 2
    ask(cache, sweep)
    assert sweep.calls == 2


def test_changed_data_is_computed_again(tmp_path: Path, sweep: Sweep) -> None:
    cache = made(tmp_path)
    ask(cache, sweep)
    sweep.file.write_text("1 2 4 5")
    assert ask(cache, sweep)["best"] == 5
    assert cache.counts().stale == 1


def test_changed_data_of_the_same_size_and_time_is_computed_again(tmp_path: Path, sweep: Sweep) -> None:
    cache = made(tmp_path)
    ask(cache, sweep)
    before = sweep.file.stat()
    sweep.file.write_text("1 2 9")
    os.utime(sweep.file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert ask(cache, sweep)["best"] == 9


def test_a_touched_file_is_recognised_by_its_digest(tmp_path: Path, sweep: Sweep) -> None:
    cache = made(tmp_path)
    ask(cache, sweep)
    os.utime(sweep.file, ns=(1, 1))
    ask(cache, sweep)
    assert (sweep.calls, cache.counts().hits) == (1, 1)


def test_an_old_file_that_looks_unchanged_is_not_read_again(
    tmp_path: Path, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(made(tmp_path), sweep)
    monkeypatch.setattr(
        "pytest_tradeperf.pipeline.features.result_cache._file_digest", lambda _: pytest.fail("read")
    )
    ask(made(tmp_path), sweep)
    assert sweep.calls == 1


def test_a_file_stamped_as_it_changed_is_always_digested(
    tmp_path: Path, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    just_now = sweep.file.stat().st_ctime_ns + STAMP_STEP_NS // 2
    ask(made(tmp_path, just_now), sweep)
    digests: list[Path] = []

    def other(file: Path) -> str:
        digests.append(file)
        return "other"

    monkeypatch.setattr("pytest_tradeperf.pipeline.features.result_cache._file_digest", other)
    ask(made(tmp_path, just_now), sweep)
    assert digests
    assert sweep.calls == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content[:-20] + bytes([content[-20] ^ 1]) + content[-19:],
        lambda content: b"{}\n" + content,
        lambda content: b"\xff" * len(content),
        lambda content: content.replace(b'"format": 1', b'"format": 9'),
        lambda content: content.replace(b'"key": "', b'"key": "x'),
        lambda content: b"[]" + content[content.index(b"\n") :],
    ],
)
def test_a_corrupt_file_is_computed_and_written_again(tmp_path: Path, sweep: Sweep, damage: Any) -> None:
    first = ask(made(tmp_path), sweep)
    file = cached_file(tmp_path)
    file.write_bytes(damage(file.read_bytes()))
    cache = made(tmp_path)
    assert ask(cache, sweep)["equity"].tobytes() == first["equity"].tobytes()
    assert cache.counts().corrupt == 1
    assert file.name in cache.counts().problem
    ask(cache, sweep)
    assert (sweep.calls, cache.counts().hits) == (2, 1)


def test_a_file_that_is_a_folder_is_not_the_end(tmp_path: Path, sweep: Sweep) -> None:
    ask(made(tmp_path), sweep)
    file = cached_file(tmp_path)
    file.unlink()
    file.mkdir()
    cache = made(tmp_path)
    assert ask(cache, sweep)["best"] == 3
    assert (cache.counts().corrupt, cache.counts().unwritten) == (1, 1)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [file.name]


def test_a_folder_that_cannot_be_made_does_not_stop_the_answer(tmp_path: Path, sweep: Sweep) -> None:
    (tmp_path / "cache").write_text("in the way")
    cache = made(tmp_path)
    assert ask(cache, sweep)["best"] == 3
    assert cache.counts().unwritten == 1
    assert "cannot be written" in cache.counts().problem


def test_data_that_changes_during_the_computation_is_not_kept(tmp_path: Path, sweep: Sweep) -> None:
    def meddled() -> dict[str, Any]:
        answer = sweep()
        sweep.file.write_text("7 7 7 7")
        return answer

    cache = made(tmp_path)
    cache.get("sweep", meddled, data=sweep.file, parameters={})
    assert cache.counts().unwritten == 1
    assert not (tmp_path / "cache").exists()


def test_arrays_are_recognised_by_their_values(tmp_path: Path, sweep: Sweep) -> None:
    cache, closes = made(tmp_path), np.arange(5.0)
    ask(cache, sweep, data=closes)
    ask(cache, sweep, data=closes.copy())
    assert sweep.calls == 1
    ask(cache, sweep, data=(closes, closes))
    closes[0] = 1.0
    ask(cache, sweep, data=closes)
    assert sweep.calls == 3


def test_missing_data_is_named(tmp_path: Path, sweep: Sweep) -> None:
    with pytest.raises(DataError, match=r"none.csv.* cannot be read"):
        ask(made(tmp_path), sweep, data=tmp_path / "none.csv")


@pytest.mark.parametrize("name", ["", "../up", "a b", "ü", "a/b"])
def test_a_name_is_a_name(tmp_path: Path, sweep: Sweep, name: str) -> None:
    with pytest.raises(SettingError, match="expected letters"):
        made(tmp_path).get(name, sweep, data=sweep.file, parameters={})


def test_parameters_are_json(tmp_path: Path, sweep: Sweep) -> None:
    with pytest.raises(SettingError, match="cannot be a key"):
        ask(made(tmp_path), sweep, parameters={"x": object()})


def test_objects_are_no_results(tmp_path: Path, sweep: Sweep) -> None:
    with pytest.raises(DataError, match="expected numbers or texts"):
        made(tmp_path).get("sweep", lambda: {"x": None}, data=sweep.file, parameters={})  # type: ignore[dict-item]
