"""Heap use of a block by memray: its high-water mark, how often it allocated, and where.

Tracking slows Python calls several times over, so it is a pass of its own: nothing is timed inside.
memray is imported on entering a block and not before.
"""

import gc
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from pytest_tradeperf.errors import MeasureError
from pytest_tradeperf.measures.places import Places
from pytest_tradeperf.measures.turns import taking_turns

if TYPE_CHECKING:
    from memray import AllocationRecord, Tracker

SITES: Final = 10
"""Allocation sites kept: those that hold the most at the high-water mark."""

_FRAMES: Final = 50
"""Frames looked through from the innermost outwards for one in the user's own code."""


class HeapMode(StrEnum):
    """What counts as an allocation.

    ``PYTHON`` sees every object. ``MALLOC`` sees what reaches the C library: it slows Python code a
    quarter as much, but small objects appear as arenas of 1 MiB, or not at all where one has room.
    """

    PYTHON = "python"
    MALLOC = "malloc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One place in the code and what it held: ``pkg/mod.py:12 in load``."""

    where: str
    bytes: int
    allocations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeapUse:
    """What a block asked the heap for.

    ``peak_bytes`` is the high-water mark above what was allocated when the block began, ``allocations``
    the number of requests (None when not counted), ``sites`` what made up the mark, largest first.
    ``left`` holds what the block allocated and had not freed at its end, largest first. ``in_turn`` says
    that its threads could not interrupt each other.
    """

    peak_bytes: int
    mode: HeapMode
    allocations: int | None = None
    sites: tuple[Site, ...] = ()
    left: tuple[Site, ...] = ()
    in_turn: bool = False


class HeapTracker:
    """Context manager: what the block asks of the heap, in all threads.

    Parameters
    ----------
    mode
        Which allocations are seen.
    count
        Whether to count all allocations, about 7 bytes of temporary file for each.
    left
        List what is still allocated at the end by code that allocated at least so many times.
    in_turn
        Let threads take turns, so that they do the same every time; see ``turns``.
    root
        Sites below this folder are named relative to it (default: the working directory).

    Raises
    ------
    MeasureError
        On entering, when another memray tracker is running in this process.

    Examples
    --------
    >>> with HeapTracker() as heap:
    ...     block = bytearray(3_000_000)
    >>> heap.unavailable is not None or 3_000_000 <= heap.use.peak_bytes < 3_100_000
    True
    """

    def __init__(
        self,
        *,
        mode: HeapMode = HeapMode.PYTHON,
        count: bool = False,
        left: int | None = None,
        in_turn: bool = False,
        root: Path | None = None,
    ) -> None:
        self._mode, self._count, self._left = mode, count, left
        self._in_turn, self._root = in_turn, root
        self._use: HeapUse | None = None
        self._path: str | None = None
        self._tracker: Tracker | None = None
        self._close, self._turns = ExitStack(), ExitStack()
        self.unavailable: str | None = None

    @property
    def use(self) -> HeapUse:
        """What the block used; raises MeasureError before its end or where memray is missing."""
        if self._use is None:
            raise MeasureError(f"no heap figures: {self.unavailable or 'the block has not ended'}")
        return self._use

    def __enter__(self) -> Self:
        self.unavailable = missing_instrument()
        if self.unavailable is not None:
            return self
        import memray

        self._path = self._close.enter_context(_destination(in_memory=not self._count))
        self._tracker = memray.Tracker(
            destination=memray.FileDestination(self._path, overwrite=True, compress_on_exit=False),
            trace_python_allocators=self._mode is HeapMode.PYTHON,
            file_format=(
                memray.FileFormat.ALL_ALLOCATIONS if self._count else memray.FileFormat.AGGREGATED_ALLOCATIONS
            ),
        )
        if self._in_turn:
            self._turns.enter_context(taking_turns())
        gc.collect()
        try:
            self._tracker.__enter__()
        except RuntimeError as error:
            self._turns.close()
            self._close.close()
            raise MeasureError(
                "the heap is already being tracked (a perf_memory block inside another, pytest-memray, or "
                "memray run): memray allows one tracker in a process, so leave the other out"
            ) from error
        return self

    def __exit__(self, *failure: object) -> None:
        if self._tracker is None or self._path is None:
            return
        try:
            self._tracker.__exit__(None, None, None)
            self._turns.close()
            if failure[0] is None:
                self._use = self._read(self._path)
        finally:
            self._turns.close()
            self._close.close()

    def _read(self, path: str) -> HeapUse:
        from memray import FileReader

        root = self._root or Path.cwd()
        with FileReader(path) as reader:
            held = _sites(reader.get_high_watermark_allocation_records(merge_threads=True), root)
            left = []
            if self._left is not None:
                records = reader.get_leaked_allocation_records(merge_threads=True)
                left = _sites((r for r in records if r.n_allocations >= self._left), root)
            peak = reader.metadata.peak_memory
        return HeapUse(
            peak_bytes=peak,
            mode=self._mode,
            allocations=_allocations(path) if self._count else None,
            sites=tuple(held[:SITES]),
            left=tuple(left[:SITES]),
            in_turn=self._in_turn,
        )


def missing_instrument() -> str | None:
    """Return why the heap cannot be tracked here, or None."""
    if sys.platform == "win32":
        return "heap figures need memray, which has no Windows version: use peak_rss there"
    try:
        import memray  # noqa: F401 - asks whether it can be loaded
    except ImportError as error:
        return f"heap figures need memray ({error}): pip install memray"
    return None


@contextmanager
def _destination(*, in_memory: bool) -> Iterator[str]:
    """Yield a path for one capture; a small one lives in memory where files without a name can."""
    if in_memory and hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("tradeperf-heap")
        try:
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        with tempfile.TemporaryDirectory(prefix="tradeperf-") as folder:
            yield str(Path(folder) / "heap.bin")


def _allocations(path: str) -> int:
    """Return how many allocations a capture of all of them holds.

    ``metadata.total_allocations`` also counts releases; the statistics do not.
    """
    from memray._memray import compute_statistics  # what `memray stats` and pytest-memray call

    return int(compute_statistics(path).total_num_allocations)


def _sites(records: Iterable["AllocationRecord"], root: Path) -> list[Site]:
    """Return records added up by the line of code that caused them, largest first."""
    totals: dict[str, tuple[int, int]] = {}
    places = Places(root)
    for record in records:
        where = places.of(record.stack_trace(max_stacks=_FRAMES))
        held, count = totals.get(where, (0, 0))
        totals[where] = (held + record.size, count + record.n_allocations)
    ordered = sorted(totals.items(), key=lambda entry: (-entry[1][0], entry[0]))
    return [Site(where=where, bytes=held, allocations=count) for where, (held, count) in ordered]
