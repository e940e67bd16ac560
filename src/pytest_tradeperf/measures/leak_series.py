"""What could be left behind by a call, counted: bytes, blocks, files, threads, tasks."""

import asyncio
import gc
import os
import sys
import threading
from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

SIGNALS: Final = ("bytes", "blocks", "files", "threads", "tasks")


class Series:
    """Snapshots in arrays made beforehand: an observer that allocates would see itself leak."""

    def __init__(self, rounds: int) -> None:
        self._values = {name: array("q", bytes(8 * rounds)) for name in SIGNALS}
        self._round = 0
        self._has_heap = _heap_bytes() is not None

    def snapshot(self) -> None:
        """Collect garbage, then take one round's values."""
        gc.collect()
        values, i = self._values, self._round
        values["blocks"][i] = sys.getallocatedblocks()
        values["bytes"][i] = _heap_bytes() or 0
        values["files"][i] = _open_files()
        values["threads"][i] = threading.active_count()
        values["tasks"][i] = _live_tasks()
        self._round += 1

    def of(self, name: str) -> Sequence[int]:
        """Return one signal's values, a round each."""
        return self._values[name].tolist()

    def settled(self, name: str) -> Sequence[int] | None:
        """Return one signal's values without the first third; None where it cannot be counted here."""
        if name == "bytes" and not self._has_heap:
            return None
        return self.of(name)[self._round // 3 :]


def _heap_bytes() -> int | None:
    """Return the bytes in use by the C library's allocator, or None where it does not tell."""
    try:
        import psutil
    except ImportError:
        return None
    info = getattr(psutil, "heap_info", None)
    if info is None:
        return None
    heap = info()
    return int(heap.heap_used + heap.mmap_used)


def _open_files() -> int:
    for folder in ("/proc/self/fd", "/dev/fd"):
        if Path(folder).is_dir():
            return len(os.listdir(folder))  # noqa: PTH208 - a list of names leaves least behind
    return 0


def _live_tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:  # no loop runs in this thread
        return 0


def open_names() -> Counter[str]:
    """Return what is open now by name: files, threads and tasks."""
    found = Counter(f"thread {thread.name}" for thread in threading.enumerate())
    for entry in Path("/proc/self/fd").glob("*"):
        try:
            found[f"file {entry.readlink().name}"] += 1
        except OSError:  # the listing's own descriptor is gone
            continue
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:
        tasks = set()
    found.update(f"task {getattr(task.get_coro(), '__qualname__', task.get_name())}" for task in tasks)
    return found
