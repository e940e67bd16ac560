"""An asyncio loop whose clock jumps: minutes of waiting pass in milliseconds, in a fixed order.

Only waiting is skipped. Work handed to threads still takes real time, during which the clock stands
still; sockets work, but time jumps over their latency, so measure networks on a real loop.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_THREAD_POLL_SECONDS = 0.01


class StalledError(RuntimeError):
    """Everything waits for something that nothing in this loop will ever do."""


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that answers a wait by moving the clock instead of sleeping."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.busy_threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if self.busy_threads:
            return super().select(_THREAD_POLL_SECONDS)
        if timeout is None and len(self.get_map()) > 1:  # more than the loop's own wake-up pipe: sockets
            return super().select(None)
        if timeout is None:
            raise StalledError("every task waits and no timer is set: a future nobody will ever complete")
        self.now += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual seconds, starting at 0.

    Examples
    --------
    >>> run(asyncio.sleep(3600, "an hour later"))
    'an hour later'
    """

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the virtual seconds since the loop was made."""
        return self._jumping.now

    def run_in_executor(  # type: ignore[override]  # the typed variadics of typeshed gain nothing here
        self, executor: Any, func: Any, *args: Any
    ) -> "asyncio.Future[Any]":
        """Run ``func`` in a thread as usual; the clock stands still until it is done."""
        self._jumping.busy_threads += 1
        future: asyncio.Future[Any] = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_is_done)
        return future

    async def shutdown_default_executor(self, *args: Any) -> None:
        """Join the threads of the default executor; the clock stands still meanwhile."""
        self._jumping.busy_threads += 1
        try:
            await super().shutdown_default_executor(*args)
        finally:
            self._jumping.busy_threads -= 1

    def _thread_is_done(self, _: "asyncio.Future[Any]") -> None:
        self._jumping.busy_threads -= 1


def run(main: Coroutine[Any, Any, T]) -> T:
    """Return what ``main`` returns, run to its end on virtual time.

    Raises
    ------
    StalledError
        Nothing left could ever wake the waiting tasks.
    """
    results: list[T] = []

    async def keep() -> None:
        results.append(await main)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(keep())  # the runner formats its task and all that it returns, which for arrays is slow
    return results[0]
