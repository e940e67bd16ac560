"""Named stages of a test: a tree of wall time, safe across tasks and threads."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pytest_tradeperf.errors import MeasureError


class Stages:
    """Adds up calls and wall time by stage path (``"cycle/feeds"``).

    The current path lives in a context variable, so tasks started inside a stage nest under it and
    concurrent tasks do not disturb each other; their times add up to more than the wall time then.
    A new thread begins at the top, unless it is run in a copy of the context that started it.
    """

    def __init__(self, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self._clock = clock
        self._path: ContextVar[str] = ContextVar("tradeperf_stage", default="")
        self._totals: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block as ``name`` under the stage it runs in.

        Raises
        ------
        MeasureError
            For an empty name or one with ``/``, which joins names to paths.
        """
        if not isinstance(name, str) or not name or "/" in name:
            raise MeasureError(f"a stage needs a non-empty name without '/', not {name!r}")
        parent = self._path.get()
        path = f"{parent}/{name}" if parent else name
        with self._lock:
            self._totals.setdefault(path, (0, 0))  # keeps the order in which stages began
        token = self._path.set(path)
        start = self._clock()
        try:
            yield
        finally:
            spent = self._clock() - start
            self._path.reset(token)
            with self._lock:
                calls, total = self._totals[path]
                self._totals[path] = (calls + 1, total + spent)

    def totals(self) -> tuple[tuple[str, int, int], ...]:
        """Return (path, calls, wall ns) for every stage, in the order they began."""
        with self._lock:
            return tuple((path, calls, wall) for path, (calls, wall) in self._totals.items())
