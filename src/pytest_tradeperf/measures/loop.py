"""How long callbacks hold the event loop: the longest block, where it was, and the time on the loop.

While a block is watched every callback of the standard library's loops passes through one more Python
function, a few microseconds each; other loops have a heartbeat instead. A thread looks at the stack of
what takes long.
"""

import asyncio
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from pytest_tradeperf.errors import UnavailableError
from pytest_tradeperf.measures.heartbeat import listening
from pytest_tradeperf.measures.places import Places

SLOW_NS: Final = 50_000_000
"""From here on a callback is called slow: half of what asyncio's debug mode complains about."""

_LOOK_S: Final = 0.005
_KEPT: Final = 5
_LOOP_FRAMES: Final = ("run_forever", "run_until_complete")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowCallback:
    """One callback that held its loop: for how long, what it was, and the line it was seen in most."""

    held_ns: int
    what: str
    where: str | None = None

    def __str__(self) -> str:
        place = f" in {self.where}" if self.where else ""
        return f"{self.held_ns / 1e6:.1f} ms by {self.what}{place}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopUse:
    """What the loops did in a block.

    Times are wall time less what the thread waited for a CPU, where the system tells (Linux).
    ``slow`` holds the longest callbacks above 50 ms, longest first; ``is_debug`` that a loop ran in
    debug mode, which is several times slower. Of loops that are not asyncio's own the callbacks and the
    time on the loop are not known: ``heartbeats`` came every 2 ms, and a block made one late.
    """

    callbacks: int
    on_loop_ns: int
    longest: SlowCallback
    heartbeats: int = 0
    slow: tuple[SlowCallback, ...] = ()
    slow_count: int = 0
    is_debug: bool = False


@dataclass(slots=True)
class _Run:
    """A callback that is running now, or the heartbeat that is due next."""

    start_ns: int
    loop: Any
    handle: Any
    outer: "_Run | None"
    before: bytes
    seen: Counter[tuple[tuple[str, str, int], ...]] = field(default_factory=Counter)


class LoopWatch:
    """Context manager: watches the event loops of this process.

    Examples
    --------
    >>> async def blocks():
    ...     time.sleep(0.06)
    >>> with LoopWatch() as watch:
    ...     asyncio.run(blocks())
    >>> watch.use.longest.held_ns >= 55_000_000, watch.use.slow_count
    (True, 1)
    """

    def __init__(self, *, root: Path | None = None, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self._places = Places(root or Path.cwd())
        self._clock = clock
        self._running: dict[int, _Run] = {}
        self._waits: dict[int, _Waits] = {}
        self._finished: list[SlowCallback] = []
        self._callbacks = self._heartbeats = self._on_loop_ns = self._slow_count = 0
        self._longest: SlowCallback | None = None
        self._is_debug = False
        self._done = threading.Event()
        self._original: Any = None
        self._listening = ExitStack()

    @property
    def unavailable(self) -> str | None:
        """Why there are no figures, or None."""
        if self._longest is not None:
            return None
        return (
            "no event loop was seen to run: loops of asyncio are, and of other implementations (uvloop) "
            "those that are loaded before the test and start in it"
        )

    @property
    def use(self) -> LoopUse:
        """What was seen; raises UnavailableError when no loop ran."""
        if self._longest is None:
            raise UnavailableError(str(self.unavailable))
        return LoopUse(
            callbacks=self._callbacks,
            on_loop_ns=self._on_loop_ns,
            longest=self._longest,
            heartbeats=self._heartbeats,
            slow=tuple(self._finished),
            slow_count=self._slow_count,
            is_debug=self._is_debug,
        )

    def __enter__(self) -> Self:
        self._original = original = asyncio.Handle._run  # noqa: SLF001 - every callback passes here
        watch = self

        def run(handle: asyncio.Handle) -> Any:
            running = watch._begin(watch._clock(), handle._loop, handle)  # type: ignore[attr-defined]  # noqa: SLF001
            try:
                return original(handle)
            finally:
                held = watch._end(running)
                watch._callbacks += 1
                if running.outer is None:
                    watch._on_loop_ns += held

        asyncio.Handle._run = run  # type: ignore[method-assign,assignment]  # noqa: SLF001
        self._listening.enter_context(listening(self, clock=self._clock))
        threading.Thread(target=self._look, name="tradeperf-loop", daemon=True).start()
        return self

    def __exit__(self, *failure: object) -> None:
        asyncio.Handle._run = self._original  # type: ignore[method-assign]  # noqa: SLF001
        self._listening.close()
        self._done.set()
        for waits in self._waits.values():
            waits.close()

    def due(self, loop: Any, at_ns: int) -> None:
        """Take the heartbeat of a loop that is not asyncio's for a callback that starts when it is due."""
        self._begin(at_ns, loop, None)

    def came(self) -> None:
        """Take what the heartbeat came late for time the loop was held."""
        self._end(self._running[threading.get_ident()])
        self._heartbeats += 1

    def _begin(self, start_ns: int, loop: Any, handle: Any) -> _Run:
        thread = threading.get_ident()
        waits = self._waits.get(thread) or self._waits.setdefault(thread, _Waits())
        running = _Run(start_ns, loop, handle, self._running.get(thread), waits.read())
        self._running[thread] = running
        return running

    def _end(self, running: _Run) -> int:
        """Return how long the callback held its loop, and keep it when it is the longest or slow."""
        held = max(0, self._clock() - running.start_ns)
        thread = threading.get_ident()
        if running.outer is None:
            del self._running[thread]
        else:
            self._running[thread] = running.outer
        if held >= SLOW_NS // 10:
            held = max(0, held - self._waits[thread].since(running.before))
        is_longest = self._longest is None or held > self._longest.held_ns
        if not is_longest and held < SLOW_NS:
            return held
        seen = running.seen.most_common(1)
        where = self._places.of(seen[0][0]) if seen else None
        outermost = seen[0][0][-1][0] if seen and seen[0][0] else "a callback"
        what = _name(running.handle) if running.handle is not None else outermost
        callback = SlowCallback(held_ns=held, what=what, where=where)
        if is_longest:
            self._longest = callback
            self._is_debug |= running.loop.get_debug()
        if held >= SLOW_NS:
            self._slow_count += 1
            self._finished = sorted([*self._finished, callback], key=lambda c: -c.held_ns)[:_KEPT]
        return held

    def _look(self) -> None:
        while not self._done.wait(_LOOK_S):
            frames = sys._current_frames()  # noqa: SLF001 - the documented way to see another thread's stack
            for thread, running in list(self._running.items()):
                frame = frames.get(thread)
                if frame is None or self._clock() - running.start_ns < _LOOK_S * 1e9:
                    continue
                stack = []
                while frame is not None and frame.f_code.co_name not in _LOOP_FRAMES:
                    stack.append((frame.f_code.co_name, frame.f_code.co_filename, frame.f_lineno))
                    frame = frame.f_back
                running.seen[tuple(stack)] += 1
            del frames


class _Waits:
    """How long a thread was ready to run but had no CPU, in nanoseconds (proc(5): schedstat)."""

    def __init__(self) -> None:
        self._file = self._opened()

    def read(self) -> bytes:
        """Return the calling thread's line; one that ended leaves its identifier to the next."""
        try:
            return self._line()
        except OSError:
            self.close()
            self._file = self._opened()
            return self._line()

    def since(self, before: bytes) -> int:
        after = self.read()
        return int(after.split()[1]) - int(before.split()[1]) if before and after else 0

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _line(self) -> bytes:
        return os.pread(self._file, 64, 0) if self._file is not None else b""

    @staticmethod
    def _opened() -> int | None:
        try:
            return os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        except OSError:
            return None


def _name(handle: Any) -> str:
    """Return the coroutine a handle steps, or the function it calls."""
    callback = handle._callback  # noqa: SLF001 - what asyncio's own debug mode prints
    task = getattr(callback, "__self__", None)
    if isinstance(task, asyncio.Task):
        coroutine = task.get_coro()
        return getattr(coroutine, "__qualname__", None) or task.get_name()
    return getattr(callback, "__qualname__", None) or type(callback).__name__
