"""What the array library itself knows: peak memory of its allocator, time between device events.

A library is asked only when the program has loaded it already; none is imported here. Its own peak is
exact, where polling the driver misses what is short, and unsynchronised clocks on the host measure how
long it takes to *submit* work.
"""

import sys
import time
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final, Protocol

from pytest_tradeperf.errors import UnavailableError


class Framework(Protocol):
    """One array library that is in use."""

    name: str

    def begin(self) -> None:
        """Start a new peak."""

    def peak_bytes(self) -> int | None:
        """Return the most its allocator held since ``begin``, None where it cannot tell."""

    def timed_ns(self, work: Callable[[], object]) -> float:
        """Return the device time from before to after ``work``, synchronised once at the end."""

    def mark(self) -> Any:
        """Return a mark in the device's queue of work, None where there are none."""

    def between_ns(self, start: Any, end: Any) -> float:
        """Wait for ``end`` and return the device time between two marks."""


def active(modules: Mapping[str, ModuleType] | None = None) -> "Framework | None":
    """Return the library that is loaded and has a device, torch first; None when there is none."""
    loaded = sys.modules if modules is None else modules
    for name, make in _KNOWN.items():
        module = loaded.get(name)
        if module is not None:
            try:
                return make(module)
            except (UnavailableError, AttributeError, RuntimeError):  # half imported, or without a device
                continue
    return None


class Torch:
    """PyTorch on CUDA (or ROCm, which it calls cuda too)."""

    name = "torch"

    def __init__(self, torch: Any) -> None:
        if not torch.cuda.is_available():
            raise UnavailableError("torch has no CUDA device")
        self._torch, self._cuda = torch, torch.cuda

    def begin(self) -> None:
        """Reset the peak of every device that is in use."""
        if self._cuda.is_initialized():
            for device in range(self._cuda.device_count()):
                self._cuda.reset_peak_memory_stats(device)

    def peak_bytes(self) -> int | None:
        """Return the sum of the devices' peaks."""
        if not self._cuda.is_initialized():
            return None
        return sum(int(self._cuda.max_memory_allocated(i)) for i in range(self._cuda.device_count()))

    def timed_ns(self, work: Callable[[], object]) -> float:
        """Return the time between two events on the current stream."""
        start = self.mark()
        work()
        return self.between_ns(start, self.mark())

    def mark(self) -> Any:
        """Return an event recorded now on the current stream."""
        event = self._cuda.Event(enable_timing=True)
        event.record()
        return event

    def between_ns(self, start: Any, end: Any) -> float:
        """Synchronise and return the time between two events."""
        self._cuda.synchronize()
        return float(start.elapsed_time(end)) * 1e6


class Cupy:
    """CuPy: its memory pool has no resettable peak, so only kernel time is exact."""

    name = "cupy"

    def __init__(self, cupy: Any) -> None:
        if not cupy.cuda.is_available():
            raise UnavailableError("cupy has no CUDA device")
        self._cupy = cupy

    def begin(self) -> None:
        """Give unused blocks back, so that the pool's size at the end is what the work needed."""
        self._cupy.get_default_memory_pool().free_all_blocks()

    def peak_bytes(self) -> int | None:
        """Return the size the pool grew to: what was in use at most, rounded up to its blocks."""
        return int(self._cupy.get_default_memory_pool().total_bytes())

    def timed_ns(self, work: Callable[[], object]) -> float:
        """Return the time between two events on the current stream."""
        start = self.mark()
        work()
        return self.between_ns(start, self.mark())

    def mark(self) -> Any:
        """Return an event recorded now on the current stream."""
        event = self._cupy.cuda.Event()
        event.record()
        return event

    def between_ns(self, start: Any, end: Any) -> float:
        """Synchronise and return the time between two events."""
        end.synchronize()
        return float(self._cupy.cuda.get_elapsed_time(start, end)) * 1e6


class Jax:
    """JAX: no events, so the host's clock around a wait for the result; its peak is never reset."""

    name = "jax"

    def __init__(self, jax: Any) -> None:
        self._devices = [device for device in jax.local_devices() if device.platform != "cpu"]
        if not self._devices:
            raise UnavailableError("jax has no accelerator")
        self._jax = jax
        self._before = 0

    def begin(self) -> None:
        """Remember the lifetime peak so far."""
        self._before = self._lifetime()

    def peak_bytes(self) -> int | None:
        """Return the lifetime peak if the block raised it; otherwise it cannot be told."""
        now = self._lifetime()
        return now if now > self._before else None

    def _lifetime(self) -> int:
        return sum(int((d.memory_stats() or {}).get("peak_bytes_in_use", 0)) for d in self._devices)

    def timed_ns(self, work: Callable[[], object]) -> float:
        """Return the wall time until the result of ``work`` is there."""
        start = time.perf_counter_ns()
        self._jax.block_until_ready(work())
        return float(time.perf_counter_ns() - start)

    def mark(self) -> Any:
        """Return None: without events only a result can be waited for, see ``timed_ns``."""

    def between_ns(self, start: Any, end: Any) -> float:
        """Refuse: JAX has no events."""
        raise UnavailableError(f"jax has no device events, so there is no time between {start} and {end}")


_KNOWN: Final[Mapping[str, Callable[[Any], Framework]]] = {"torch": Torch, "cupy": Cupy, "jax": Jax}


def kernel_time_ns(
    work: Callable[[], object], framework: Framework, *, repeats: int = 10, warm_ups: int = 3
) -> float:
    """Return device nanoseconds per call of ``work``: warm-up first, one synchronisation at the end."""
    for _ in range(warm_ups):
        work()

    def many() -> object:
        result = None
        for _ in range(repeats):
            result = work()
        return result

    framework.timed_ns(work)  # leaves an empty queue, and first use of events is slow
    return framework.timed_ns(many) / repeats
