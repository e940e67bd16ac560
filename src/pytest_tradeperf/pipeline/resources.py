"""What the machine gave to a run: memory of this process, and the GPU where there is one."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Bytes resident now and at their peak; GPU figures of the whole board, None without one.

    ``gpu_note`` says why there are none.
    """

    rss_bytes: int
    peak_rss_bytes: int
    gpu_name: str | None = None
    gpu_utilisation: float | None = None
    gpu_memory_bytes: int | None = None
    gpu_note: str = ""

    def __str__(self) -> str:
        mib = 1024**2
        memory = f"memory {self.rss_bytes / mib:.0f} MiB, peak {self.peak_rss_bytes / mib:.0f} MiB"
        if self.gpu_name is None:
            return f"{memory}; no GPU ({self.gpu_note})"
        used = f"{(self.gpu_memory_bytes or 0) / mib:.0f} MiB"
        return f"{memory}; {self.gpu_name} {self.gpu_utilisation or 0:.0%} busy, {used} in use"


def read_resources() -> Resources:
    """Return what this process holds now. Costs about a millisecond, more the first time."""
    import psutil

    memory = psutil.Process().memory_info()
    peak = _peak_rss_bytes() or int(memory.rss)
    return Resources(rss_bytes=int(memory.rss), peak_rss_bytes=max(peak, int(memory.rss)), **_gpu())


def _peak_rss_bytes() -> int | None:
    """Return the kernel's high-water mark (not ``ru_maxrss``, which a child inherits), None elsewhere."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - a kernel file
            lines = dict(line.split(":", 1) for line in status if ":" in line)
        return int(lines["VmHWM"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def _gpu() -> dict[str, Any]:
    try:
        import pynvml
    except ImportError:
        return {"gpu_note": "nvidia-ml-py is not installed"}
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return {"gpu_note": str(error).lower()}
    try:
        board = pynvml.nvmlDeviceGetHandleByIndex(0)
        name = pynvml.nvmlDeviceGetName(board)
        return {
            "gpu_name": name if isinstance(name, str) else name.decode(),
            "gpu_utilisation": pynvml.nvmlDeviceGetUtilizationRates(board).gpu / 100,
            "gpu_memory_bytes": int(pynvml.nvmlDeviceGetMemoryInfo(board).used),
        }
    except pynvml.NVMLError as error:
        return {"gpu_note": str(error).lower()}
    finally:
        pynvml.nvmlShutdown()
