"""Loops that are not asyncio's own are watched by a heartbeat: one written here, and uvloop where it is."""

import asyncio
import heapq
import time
from collections.abc import Callable
from contextvars import Context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_tradeperf.measures.heartbeat import listening, other_loops
from pytest_tradeperf.measures.loop import LoopWatch


class Loop(asyncio.AbstractEventLoop):
    """The least that runs coroutines, on a clock of its own that only work and waiting move."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[tuple[float, int, SimpleNamespace]] = []
        self._made = 0

    def get_debug(self) -> bool:
        return False

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, **_: Any) -> Any:
        self._made += 1
        timer = SimpleNamespace(run=lambda: callback(*args), is_off=False)
        timer.cancel = lambda: setattr(timer, "is_off", True)
        heapq.heappush(self._timers, (when, self._made, timer))
        return timer

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Any:
        del context
        return self.call_at(self.now, callback, *args)

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any, **_: Any) -> Any:
        return self.call_at(self.now + delay, callback, *args)

    def run_forever(self) -> None:
        self._is_stopped = False
        while self._timers and not self._is_stopped:
            when, _, timer = heapq.heappop(self._timers)
            if not timer.is_off:
                self.now = max(self.now, when)
                timer.run()

    def stop(self) -> None:
        self._is_stopped = True


class Child(Loop):
    def run_forever(self) -> None:
        super().run_forever()


class Heart:
    def __init__(self, loop: Loop) -> None:
        self._loop, self._due = loop, 0
        self.late_ms: list[float] = []

    def due(self, loop: object, at_ns: int) -> None:
        assert loop is self._loop
        self._due = at_ns

    def came(self) -> None:
        self.late_ms.append(round(self._loop.now * 1e3 - self._due / 1e6, 3))


@pytest.mark.parametrize("kind", [Loop, Child])
def test_a_block_makes_the_heartbeat_late_by_its_length_at_most(kind: type[Loop]) -> None:
    loop = kind()
    heart = Heart(loop)

    def block() -> None:
        loop.now += 0.100

    with listening(heart, clock=lambda: round(loop.now * 1e9)):
        loop.call_later(0.0205, block)
        loop.call_later(0.3, loop.stop)
        loop.run_forever()
    assert 98 <= max(heart.late_ms) <= 100
    assert sum(late > 0 for late in heart.late_ms) == 1
    assert len(heart.late_ms) == pytest.approx(100, abs=3)


def test_a_block_before_the_first_beat_counts() -> None:
    loop = Loop()
    heart = Heart(loop)

    def block() -> None:
        loop.now += 0.100
        loop.stop()

    with listening(heart, clock=lambda: round(loop.now * 1e9)):
        loop.call_soon(block)
        loop.run_forever()
    assert max(heart.late_ms) == 100


def test_loops_are_given_back_as_they_were() -> None:
    before = vars(Loop)["run_forever"], vars(Child)["run_forever"]
    with listening(Heart(Loop())):
        assert vars(Loop)["run_forever"] is not before[0]
    assert (vars(Loop)["run_forever"], vars(Child)["run_forever"]) == before


def test_asyncios_own_loops_need_no_heartbeat() -> None:
    assert Loop in other_loops()
    assert not any(issubclass(kind, asyncio.BaseEventLoop) for kind in other_loops())


def crunch(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


async def blocking() -> None:
    await asyncio.sleep(0.01)
    crunch(0.1)
    await asyncio.sleep(0.01)


async def friendly() -> None:
    for _ in range(20):
        await asyncio.sleep(0.002)


@pytest.mark.slow
def test_uvloop_is_watched_and_the_line_named() -> None:
    uvloop = pytest.importorskip("uvloop")
    with (
        LoopWatch(root=Path(__file__).parent) as watch,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as r,
    ):
        r.run(blocking())
    assert 90_000_000 <= watch.use.longest.held_ns < 500_000_000
    assert watch.use.longest.what == "blocking"
    assert str(watch.use.longest.where).endswith("in crunch")
    assert watch.use.slow_count == 1
    with LoopWatch() as watch:
        uvloop.run(friendly())
    assert watch.use.longest.held_ns < 40_000_000
    assert (watch.use.callbacks, watch.use.heartbeats >= 5) == (0, True)
