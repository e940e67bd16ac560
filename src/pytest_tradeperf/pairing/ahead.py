"""Starting pairs ahead: the next one collects its tests while the present one measures."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Final, Self

from pytest_tradeperf.pairing.cpus import kept_on
from pytest_tradeperf.pairing.pair import ProcessPair

_FAREWELL_SECONDS: Final = 2.0
"""What a pair gets for tearing down when it ends before its time: on Ctrl-C, or when one side is gone."""


class PairsAhead:
    """Pairs one after the other, as ``start`` starts them; a context manager that leaves none behind."""

    def __init__(self, start: Callable[[], AbstractContextManager[ProcessPair]]) -> None:
        self._start = start
        self._spare: ProcessPair | None = None
        self._held = ExitStack()

    def __enter__(self) -> Self:
        """Nothing is started before it is asked for."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the pair that nobody needed."""
        with self._held:
            if self._spare is not None:
                self._spare.farewell(_FAREWELL_SECONDS)

    @contextmanager
    def next(self) -> Iterator[ProcessPair]:
        """Give the pair that was prepared, or a new one."""
        with self._held.pop_all() as held:
            if self._spare is None:
                pair = held.enter_context(self._start())
            else:
                pair, self._spare = self._spare, None
                pair.move(sorted(os.sched_getaffinity(0)))  # the CPU that was measured on is free now
            try:
                yield pair
            finally:
                pair.farewell(_FAREWELL_SECONDS)

    def prepare(self, cpus: Sequence[int]) -> None:
        """Start the next pair on ``cpus``, which the present one leaves free."""
        with kept_on(cpus), suppress(OSError):  # what is wrong, the next start will say
            self._spare = self._held.enter_context(self._start())
