from __future__ import annotations

import os
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pytest_tradeperf.pipeline.charts import ChartCache, ChartQueue, GaugeChart, clean_up
from pytest_tradeperf.pipeline.charts.keys import file_name
from pytest_tradeperf.pipeline.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LONG = 30.0  # far longer than anything here takes: a deadline against hanging, not a measure


@dataclass
class Fake:
    """A chart whose picture is its name."""

    name: str
    calls: list[str] = field(default_factory=list)
    before: Callable[[], object] = lambda: None
    same_as: str = ""

    def key(self) -> str:
        return self.same_as or self.name

    def render(self) -> bytes:
        self.before()
        self.calls.append(self.name)
        return self.name.encode()


@dataclass(frozen=True)
class Sent:
    """A chart for another process."""

    name: str
    deed: str = "draw"

    def key(self) -> str:
        return self.name

    def render(self) -> bytes:
        if self.deed == "die":
            os._exit(3)
        if self.deed == "raise":
            raise ValueError("no data")
        return f"{self.name} {os.getpid()}".encode()


def fail() -> None:
    raise ValueError("no data")


def test_results_come_in_the_order_asked() -> None:
    with ChartQueue(workers=3) as queue:
        results = queue.draw([Fake(f"c{number}") for number in range(20)])
    assert [result.png for result in results] == [f"c{number}".encode() for number in range(20)]
    assert queue.counts().drawn == 20
    assert queue.counts().waiting == 0


def test_workers_draw_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=LONG)
    with ChartQueue(workers=3) as queue:
        results = queue.draw([Fake(f"c{number}", before=together.wait) for number in range(3)])
    assert [result.error for result in results] == [""] * 3


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_failing_chart_leaves_the_rest(kind: Any) -> None:
    charts = [Sent("a"), Sent("b", deed="raise"), Sent("c")]
    with ChartQueue(workers=1, kind=kind) as queue:
        results = queue.draw(charts, timeout_s=LONG)
    assert [result.png is not None for result in results] == [True, False, True]
    assert results[1].error == "ValueError: no data"
    assert queue.counts().failed == 1


def test_a_chart_that_kills_its_process_leaves_the_rest() -> None:
    charts = [Sent("a"), Sent("b", deed="die"), Sent("c"), Sent("d")]
    with ChartQueue(workers=1, kind="process") as queue:
        results = queue.draw(charts, timeout_s=LONG)
        assert [result.png is not None for result in results] == [True, False, True, True]
        assert "BrokenProcessPool" in results[1].error
        assert queue.draw([Sent("e")], timeout_s=LONG)[0].png is not None


def test_processes_are_other_processes() -> None:
    with ChartQueue(workers=1, kind="process") as queue:
        (result,) = queue.draw([Sent("a")], timeout_s=LONG)
    assert result.png is not None
    assert int(result.png.split()[1]) != os.getpid()


@pytest.mark.parametrize("wrong", ["name", "key"])
def test_a_chart_that_cannot_even_be_named_fails_alone(wrong: str) -> None:
    class Bad:
        @property
        def name(self) -> str:
            if wrong == "name":
                fail()
            return "bad"

        def key(self) -> str:
            fail()
            return ""

        def render(self) -> bytes:
            return b""

    with ChartQueue(workers=1) as queue:
        bad, good = (queue.submit(chart).result(LONG) for chart in (Bad(), Fake("good")))
    assert bad.error == "ValueError: no data"
    assert good.png == b"good"


def test_a_picture_that_is_no_bytes_is_an_error() -> None:
    chart = Fake("x")
    chart.render = lambda: "text"  # type: ignore[method-assign, assignment, return-value]
    with ChartQueue(workers=1) as queue:
        assert queue.draw([chart])[0].error == "TypeError: render() returned str, expected PNG bytes"


def test_an_error_is_not_remembered() -> None:
    chart = Fake("x", before=fail)
    with ChartQueue(workers=1) as queue:
        assert queue.draw([chart])[0].error
        chart.before = lambda: None
        assert queue.draw([chart])[0].png == b"x"


def test_a_chart_drawn_before_comes_from_the_cache() -> None:
    calls: list[str] = []
    with ChartQueue(workers=1) as queue:
        first, again = (queue.draw([Fake("x", calls)])[0] for _ in range(2))
    assert calls == ["x"]
    assert (first.from_cache, again.from_cache) == (False, True)
    assert again.seconds == 0
    assert queue.counts().cached == 1


def test_the_same_chart_is_drawn_once_for_all_who_ask_meanwhile() -> None:
    calls: list[str] = []
    open_gate = threading.Event()
    with ChartQueue(workers=2) as queue:
        futures = [
            queue.submit(Fake(f"n{number}", calls, lambda: open_gate.wait(LONG), same_as="k"))
            for number in range(5)
        ]
        open_gate.set()
        results = [future.result(LONG) for future in futures]
    assert calls == ["n0"]
    assert [result.name for result in results] == [f"n{number}" for number in range(5)]
    assert {result.png for result in results} == {b"n0"}
    assert queue.counts().shared == 4


def test_cancelling_ones_own_future_disturbs_no_one() -> None:
    open_gate = threading.Event()
    with ChartQueue(workers=1) as queue:
        first = queue.submit(Fake("x", before=lambda: open_gate.wait(LONG)))
        second = queue.submit(Fake("x"))
        assert first.cancel()
        open_gate.set()
        assert second.result(LONG).png == b"x"
        with pytest.raises(CancelledError):
            first.result()


def test_a_deadline_leaves_the_late_ones_and_keeps_the_done() -> None:
    open_gate = threading.Event()
    late = Fake("late", before=lambda: open_gate.wait(LONG))
    with ChartQueue(workers=2) as queue:
        assert queue.draw([Fake("early")])[0].png == b"early"
        results = queue.draw([Fake("early"), late], timeout_s=0.01)
        open_gate.set()
    assert results[0].png == b"early"
    assert results[1].error == "not drawn within 0.01 s"


def test_a_closed_queue_says_so() -> None:
    queue = ChartQueue(workers=1)
    queue.close()
    with pytest.raises(SettingError, match="came after the queue was closed"):
        queue.submit(Fake("x"))
    assert queue.counts().waiting == 0


def test_closing_in_an_error_drops_what_has_not_begun() -> None:
    begun, open_gate = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        open_gate.wait(LONG)

    queue = ChartQueue(workers=1)
    first = queue.submit(Fake("first", before=wait))
    second = queue.submit(Fake("second"))
    begun.wait(LONG)
    second.add_done_callback(lambda _: open_gate.set())
    queue.__exit__(KeyError, KeyError(), None)
    assert first.result(LONG).png == b"first"
    assert second.result(LONG).error == "InterruptedError: the queue was closed before the chart was drawn"


def test_many_threads_share_a_queue() -> None:
    calls: list[str] = []
    with ChartQueue(workers=2) as queue, ThreadPoolExecutor(8) as callers:
        results = list(callers.map(lambda n: queue.draw([Fake(f"c{n % 5}", calls)])[0], range(100)))
    assert all(result.png == f"c{place % 5}".encode() for place, result in enumerate(results))
    assert sorted(calls) == [f"c{number}" for number in range(5)]


def test_pictures_are_written_whole_under_safe_names(tmp_path: Path) -> None:
    chart = Fake("../../etc/pass wd")
    with ChartQueue(workers=1, folder=tmp_path / "new") as queue:
        for _ in range(2):
            (result,) = queue.draw([chart])
            assert result.path is not None
            assert result.path.parent == tmp_path / "new"
            assert result.path.read_bytes() == result.png
    assert [file.name for file in (tmp_path / "new").iterdir()] == [file_name("etc-pass-wd", chart.key())]


def test_a_folder_that_cannot_be_written_keeps_the_picture(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with ChartQueue(workers=1, folder=tmp_path / "file") as queue:
        (result,) = queue.draw([Fake("x")])
    assert result.png == b"x"
    assert result.error.startswith("drawn but not written")
    assert result.path is None


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, None])
def test_workers_are_a_whole_number(workers: Any) -> None:
    with pytest.raises(SettingError, match="workers is"):
        ChartQueue(workers=workers)


def test_workers_are_of_a_known_kind() -> None:
    with pytest.raises(SettingError, match="expected 'thread' or 'process'"):
        ChartQueue(kind="greenlet")  # type: ignore[arg-type]


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_picture_lives_as_long_as_the_ttl() -> None:
    clock = Clock()
    cache = ChartCache(ttl_s=10, now=clock)
    cache.put("a", b"x")
    clock.now = 9.99
    assert cache.get("a") == b"x"
    clock.now = 10.0
    assert cache.get("a") is None
    counts = cache.counts()
    assert (counts.hits, counts.misses, counts.expired, counts.entries, counts.n_bytes) == (1, 1, 1, 0, 0)


def test_purging_forgets_only_the_old() -> None:
    clock = Clock()
    cache = ChartCache(ttl_s=10, now=clock)
    cache.put("old", b"x")
    clock.now = 5
    cache.put("new", b"y")
    clock.now = 12
    assert cache.purge() == 1
    assert cache.get("new") == b"y"


def test_the_bound_holds_and_the_least_recently_used_goes() -> None:
    cache = ChartCache(max_bytes=10)
    cache.put("a", b"1234")
    cache.put("b", b"1234")
    cache.get("a")
    cache.put("c", b"1234")
    assert [cache.get(key) is not None for key in "abc"] == [True, False, True]
    cache.put("a", b"12")
    assert cache.counts().n_bytes == 6
    cache.put("huge", b"x" * 11)
    assert cache.counts().entries == 2


def test_a_ttl_of_nothing_keeps_nothing() -> None:
    cache = ChartCache(ttl_s=0)
    cache.put("a", b"x")
    assert cache.get("a") is None


@pytest.mark.parametrize(
    "arguments", [{"ttl_s": -1}, {"ttl_s": float("nan")}, {"max_bytes": -1}, {"max_bytes": 1.5}]
)
def test_bounds_of_the_cache_are_checked(arguments: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=f"{next(iter(arguments))} is"):
        ChartCache(**arguments)


def test_clean_up_takes_old_charts_and_nothing_else(tmp_path: Path) -> None:
    with ChartQueue(workers=1, folder=tmp_path) as queue:
        old, new = (result.path for result in queue.draw([GaugeChart(score=0.1), GaugeChart(score=0.2)]))
    assert old is not None
    assert new is not None
    outside = tmp_path / "outside"
    outside.mkdir()
    target = outside / "photo.png"
    others = [tmp_path / "photo.png", tmp_path / "notes-0123456789abcdef.txt", target]
    for file in others:
        file.write_text("mine")
    draft = tmp_path / f"{old.name}.0123456789abcdef.draft"
    draft.write_bytes(b"half")
    link, folder = tmp_path / file_name("link", "0" * 16), tmp_path / file_name("folder", "1" * 16)
    link.symlink_to(target)
    folder.mkdir()
    for file in (old, draft, *others, folder):
        os.utime(file, (1_000, 1_000))
    n_bytes = old.stat().st_size + 4
    done = clean_up(tmp_path, timedelta(days=1))
    assert (done.removed, done.n_bytes, done.failed) == (2, n_bytes, ())
    assert new.exists()
    assert link.is_symlink()
    assert all(file.exists() for file in (*others, folder))


def test_clean_up_counts_age_from_its_clock(tmp_path: Path) -> None:
    file = tmp_path / file_name("x", "0" * 16)
    file.write_bytes(b"x")
    os.utime(file, (1_000, 1_000))
    assert clean_up(tmp_path, timedelta(seconds=60), now=lambda: 1_060.0).removed == 0
    assert clean_up(tmp_path, timedelta(seconds=60), now=lambda: 1_061.0).removed == 1


def test_clean_up_of_no_folder_and_of_a_negative_age(tmp_path: Path) -> None:
    assert clean_up(tmp_path / "none", timedelta(days=1)).removed == 0
    with pytest.raises(SettingError, match="expected an age"):
        clean_up(tmp_path, timedelta(days=-1))
