"""Peak resident memory of this process during a block: what the operating system had to provide.

Not the heap (``heap``: what the program asked for) and not the kernel's lifetime maximum, which a child
inherits through fork and exec. Memory of child processes is not included.
"""

import contextlib
import ctypes
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

HIGH_WATER: Final = "high-water mark"
SAMPLED: Final = "sampled"

SAMPLE_S: Final = 0.002
"""Seconds between two samples of the fallback; peaks shorter than this can be missed."""

_RESET_HIGH_WATER: Final = "5"
"""What ``/proc/PID/clear_refs`` takes to set VmHWM back to the present resident size (proc(5))."""


class ResidentPeak:
    """Context manager: the highest resident memory between entering and leaving the block.

    On Linux the kernel keeps the mark, at no cost while the block runs: freed memory is first handed back
    (else the block would reuse it unseen) and the mark is reset. Elsewhere, or where the kernel refuses,
    a thread samples every 2 ms and ``method`` says so. Blocks must not overlap: the mark is one per process.

    Attributes
    ----------
    bytes : int
        Highest resident size of the process in the block, in bytes; 0 before it ends.
    start_bytes : int
        Resident size when the block began, after freed memory was handed back.
    method : str
        ``"high-water mark"`` or ``"sampled"``.
    unavailable : str or None
        Why there is no number, or None.

    Examples
    --------
    >>> with ResidentPeak() as peak:
    ...     block = bytearray(8 * 1024**2)
    >>> peak.unavailable is not None or peak.bytes > 0
    True
    """

    def __init__(self, *, proc: Path = Path("/proc/self"), sample_s: float = SAMPLE_S) -> None:
        self._proc = proc
        self._sample_s = sample_s
        self._sampler: _Sampler | None = None
        self.bytes = 0
        self.start_bytes = 0
        self.method = HIGH_WATER
        self.unavailable: str | None = None

    def __enter__(self) -> Self:
        trim_heap()
        start = self._reset()
        if start is not None:
            self.start_bytes = start
            return self
        try:
            resident = _psutil_resident()
        except ImportError:
            self.unavailable = "resident memory needs /proc/self/clear_refs or psutil: pip install psutil"
            return self
        self.method = SAMPLED
        self._sampler = _Sampler(resident, self._sample_s)
        self.start_bytes = self._sampler.peak
        return self

    def __exit__(self, *failure: object) -> None:
        if self._sampler is not None:
            self.bytes = self._sampler.stop()
        elif self.unavailable is None:
            self.bytes = _status_bytes(self._proc, "VmHWM") or 0
            if not self.bytes:
                self.unavailable = f"{self._proc}/status has no VmHWM"

    def _reset(self) -> int | None:
        """Set the mark to the present size and return it; None where that is refused."""
        if not sys.platform.startswith("linux"):
            return None
        try:
            (self._proc / "clear_refs").write_text(_RESET_HIGH_WATER)
        except OSError:
            return None
        mark, resident = (_status_bytes(self._proc, name) for name in ("VmHWM", "VmRSS"))
        # Some sandboxes accept the write and ignore it: the mark then stays where it was.
        if mark is None or resident is None or mark > resident + max(1024**2, resident // 50):
            return None
        return resident


def trim_heap() -> bool:
    """Hand freed memory back to the system; return whether there was a way to."""
    with contextlib.suppress(ImportError):
        import psutil

        trim: Callable[[], object] | None = getattr(psutil, "heap_trim", None)
        if trim is not None:
            with contextlib.suppress(OSError):
                trim()
                return True
    try:
        malloc_trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # musl and macOS have none, Windows refuses None
        return False
    malloc_trim(0)
    return True


def _status_bytes(proc: Path, name: str) -> int | None:
    try:
        text = (proc / "status").read_text()
    except OSError:
        return None
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _psutil_resident() -> Callable[[], int]:
    import psutil

    process = psutil.Process()
    return lambda: int(process.memory_info().rss)


class _Sampler:
    """A thread that keeps the largest of the sizes it sees."""

    def __init__(self, resident: Callable[[], int], every_s: float) -> None:
        self._resident, self._every_s = resident, every_s
        self.peak = resident()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="tradeperf-resident", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._done.wait(self._every_s):
            self.peak = max(self.peak, self._resident())

    def stop(self) -> int:
        """End the thread and return the peak."""
        self._done.set()
        self._thread.join()
        self.peak = max(self.peak, self._resident())
        return self.peak
