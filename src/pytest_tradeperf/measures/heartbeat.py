"""Event loops that are not asyncio's own: how late a callback comes that is due every 2 ms.

Their callbacks pass through no Python code that could be watched. What holds such a loop makes the
heartbeat late, by the length of the block or up to 2 ms less.
"""

import asyncio
import functools
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Final, Protocol

EVERY_S: Final = 0.002


class Listener(Protocol):
    """Hears a loop's heart."""

    def due(self, loop: Any, at_ns: int) -> None:
        """Learn when the next beat of the loop in this thread is due."""

    def came(self) -> None:
        """Learn that it came, or that the loop ended."""


def other_loops() -> list[type]:
    """Return the loaded implementations of event loops whose callbacks are not asyncio's."""
    found: list[type] = []
    pending: list[type] = [asyncio.AbstractEventLoop]
    while pending:
        children: list[type] = pending.pop().__subclasses__()
        for kind in children:
            if not issubclass(kind, asyncio.BaseEventLoop):
                found.append(kind)
                pending.append(kind)
    return found


@contextmanager
def listening(
    listener: Listener, *, clock: Callable[[], int] = time.perf_counter_ns, every_s: float = EVERY_S
) -> Iterator[None]:
    """Give a heart to every loop, of another implementation than asyncio's, that starts in the block."""
    running: set[int] = set()

    def beating(loop: Any) -> AbstractContextManager[None]:
        return _beating(loop, listener, clock, round(every_s * 1e9))

    with ExitStack() as stack:
        for kind in other_loops():
            if getattr(kind, "run_forever", None) is not asyncio.AbstractEventLoop.run_forever:
                stack.callback(_wrap(kind, running, beating))
        yield


def _wrap(
    kind: type, running: set[int], beating: Callable[[Any], AbstractContextManager[None]]
) -> Callable[[], None]:
    """Put a heartbeat around ``kind.run_forever``; return the way back."""
    original: Callable[[Any], Any] = kind.run_forever  # type: ignore[attr-defined]
    own = vars(kind).get("run_forever")

    @functools.wraps(original)
    def run_forever(loop: Any) -> Any:
        if id(loop) in running:  # a class that calls its parent's
            return original(loop)
        running.add(id(loop))
        try:
            with beating(loop):
                return original(loop)
        finally:
            running.discard(id(loop))

    def restore() -> None:
        if own is None:
            del kind.run_forever  # type: ignore[attr-defined]
        else:
            kind.run_forever = own  # type: ignore[attr-defined]

    try:
        kind.run_forever = run_forever  # type: ignore[attr-defined]
    except TypeError:  # a class of an extension that cannot be changed: not seen
        return lambda: None
    return restore


@contextmanager
def _beating(loop: Any, listener: Listener, clock: Callable[[], int], every_ns: int) -> Iterator[None]:
    timer: Any = None

    def beat() -> None:
        nonlocal timer
        listener.came()
        listener.due(loop, clock() + every_ns)
        timer = loop.call_later(every_ns / 1e9, beat)

    listener.due(loop, clock())
    timer = loop.call_soon(beat)
    try:
        yield
    finally:
        timer.cancel()
        listener.came()
