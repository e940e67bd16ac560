"""Blocks of the event loop are found, sized and named; waiting is none."""

import asyncio
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pytest_tradeperf.errors import UnavailableError
from pytest_tradeperf.measures.loop import LoopUse, LoopWatch


def watch(main: Callable[[], Awaitable[object]], *, debug: bool = False) -> LoopUse:
    with LoopWatch(root=Path(__file__).parent) as seen:
        asyncio.run(main(), debug=debug)  # type: ignore[arg-type]
    return seen.use


def crunch(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


async def blocking() -> None:
    await asyncio.sleep(0)
    crunch(0.1)


async def friendly() -> None:
    for _ in range(50):
        await asyncio.sleep(0.0005)


def test_a_block_of_100_ms_is_found_and_its_line_named() -> None:
    use = watch(blocking)
    assert 95_000_000 <= use.longest.held_ns < 500_000_000
    assert use.longest.what == "blocking"
    assert use.longest.where is not None
    assert use.longest.where.startswith("test_loop.py:")
    assert use.longest.where.endswith("in crunch")
    assert use.slow_count == 1
    assert use.slow == (use.longest,)
    assert " ms by blocking in test_loop.py:" in str(use.longest)


def test_waiting_is_not_holding() -> None:
    use = watch(friendly)
    assert use.callbacks >= 50
    assert use.longest.held_ns < 40_000_000
    assert use.slow == ()
    assert use.on_loop_ns < 200_000_000


def test_every_slow_callback_counts_and_the_longest_come_first() -> None:
    async def twice() -> None:
        crunch(0.055)
        await asyncio.sleep(0)
        crunch(0.09)

    use = watch(twice)
    assert use.slow_count == 2
    assert [c.held_ns for c in use.slow] == sorted((c.held_ns for c in use.slow), reverse=True)


def test_plain_callbacks_are_named_too() -> None:
    def tick() -> None:
        crunch(0.06)

    async def schedules() -> None:
        asyncio.get_running_loop().call_soon(tick)
        await asyncio.sleep(0)

    assert watch(schedules).longest.what.endswith("tick")


def test_debug_mode_is_flagged() -> None:
    assert watch(friendly, debug=True).is_debug
    assert not watch(friendly).is_debug


def test_an_exception_passes_through_and_the_loop_is_given_back() -> None:
    original = asyncio.Handle._run

    async def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), LoopWatch():
        asyncio.run(fails())
    assert asyncio.Handle._run is original


def test_without_a_loop_there_are_no_figures() -> None:
    with LoopWatch() as seen:
        pass
    assert "no event loop was seen to run" in (seen.unavailable or "")
    with pytest.raises(UnavailableError, match="no event loop"):
        _ = seen.use


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="schedstat")
def test_time_without_a_cpu_is_not_held_against_the_callback(monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_tradeperf.measures import loop

    monkeypatch.setattr(loop._Waits, "since", lambda _self, _before: 10**12)
    use = watch(blocking)
    assert use.longest.held_ns < 50_000_000
    assert use.slow_count == 0


def test_loops_in_threads_one_after_the_other_are_watched_and_end() -> None:
    """A thread that ended leaves its identifier to the next one."""
    ended = []

    def run() -> None:
        asyncio.run(asyncio.sleep(0.001))
        ended.append(threading.get_ident())

    with LoopWatch() as seen:
        for _ in range(4):
            thread = threading.Thread(target=run, daemon=True)
            thread.start()
            thread.join(30)
    assert len(ended) == 4
    assert seen.use.callbacks >= 4
