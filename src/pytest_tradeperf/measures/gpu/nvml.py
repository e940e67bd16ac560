"""NVIDIA boards through NVML. The library is loaded when a provider is made and not before.

Every figure is asked for by itself: an old driver, a partition or a missing permission takes away one
figure, never the others.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from pytest_tradeperf.errors import UnavailableError
from pytest_tradeperf.measures.gpu.provider import Reading

_T = TypeVar("_T")

REASONS: Final = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""Bits of the clocks' event reasons (nvml.h) that mean the board ran slower than it could."""


class NvmlProvider:
    """The NVIDIA boards this process may use.

    Raises
    ------
    UnavailableError
        Without nvidia-ml-py, the driver's library, a loaded driver or a board.
    """

    def __init__(self) -> None:
        try:
            import pynvml
        except ImportError as error:
            raise UnavailableError(
                f"NVIDIA figures need nvidia-ml-py ({error}): pip install nvidia-ml-py"
            ) from error
        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise UnavailableError(f"no NVIDIA GPU can be asked: NVML says {error}") from error
        try:
            count = pynvml.nvmlDeviceGetCount()
            handles = [(i, pynvml.nvmlDeviceGetHandleByIndex(i)) for i in range(count)]
        except pynvml.NVMLError as error:
            pynvml.nvmlShutdown()
            raise UnavailableError(f"NVIDIA boards cannot be listed: NVML says {error}") from error
        chosen = _visible(handles, os.environ.get("CUDA_VISIBLE_DEVICES"), self._uuid)
        if not chosen:
            pynvml.nvmlShutdown()
            hidden = f" ({count} hidden by CUDA_VISIBLE_DEVICES)" if count else ""
            raise UnavailableError(f"there is no NVIDIA board{hidden}")
        self._devices = [NvmlDevice(pynvml, index, handle) for index, handle in chosen]

    def devices(self) -> "Sequence[NvmlDevice]":
        """Return the boards, as restricted by CUDA_VISIBLE_DEVICES."""
        return self._devices

    def close(self) -> None:
        """Shut NVML down; the library itself stays loaded."""
        try:
            self._nvml.nvmlShutdown()
        except self._nvml.NVMLError:  # the driver is gone: nothing to give back
            return

    def _uuid(self, handle: Any) -> str:
        try:
            return str(self._nvml.nvmlDeviceGetUUID(handle))
        except self._nvml.NVMLError:
            return ""


class NvmlDevice:
    """One NVIDIA board."""

    def __init__(self, nvml: Any, index: int, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle
        self._missing: dict[str, str] = {}
        name = self._ask("name", lambda: nvml.nvmlDeviceGetName(handle)) or "NVIDIA GPU"
        self.label = f"{name} #{index}"
        mig = self._ask("MIG mode", lambda: nvml.nvmlDeviceGetMigMode(handle))
        partitioned = mig is not None and mig[0] == nvml.NVML_DEVICE_MIG_ENABLE
        self.notes: tuple[str, ...] = (
            ("MIG is on: board memory, utilisation and energy are those of all partitions together",)
            if partitioned
            else ()
        )

    def read(self, after_us: int) -> Reading:
        """Return the board's state now; raises UnavailableError when it fell off the bus."""
        nvml, handle = self._nvml, self._handle
        self._missing = {}
        memory = self._ask("memory", lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used)
        processes = self._ask("processes", self._processes)
        pid = os.getpid()
        mine = [process.usedGpuMemory for process in processes or () if process.pid == pid]
        reasons = self._ask("throttle reasons", self._reasons) or 0
        return Reading(
            board_bytes=memory,
            process_bytes=sum(mine) if mine and None not in mine else None,
            utilization=self._utilization(after_us),
            energy_mj=self._ask("energy", lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle)),
            power_mw=self._ask("power", lambda: nvml.nvmlDeviceGetPowerUsage(handle)),
            throttled=tuple(text for bit, text in REASONS.items() if reasons & bit),
            others=sum(process.pid != pid for process in processes or ()),
            missing=dict(self._missing),
        )

    def _ask(self, what: str, call: Callable[[], _T]) -> _T | None:
        nvml = self._nvml
        try:
            return call()
        except nvml.NVMLError as error:
            if error.value == nvml.NVML_ERROR_GPU_IS_LOST:
                raise UnavailableError(f"{self.label} was lost while it was watched") from error
            self._missing[what] = str(error)
            return None

    def _processes(self) -> list[Any]:
        """Return the computing processes; drivers before 510 know only the older call."""
        nvml = self._nvml
        try:
            return list(nvml.nvmlDeviceGetComputeRunningProcesses_v3(self._handle))
        except nvml.NVMLError as error:
            if error.value != nvml.NVML_ERROR_FUNCTION_NOT_FOUND:
                raise
        return list(nvml.nvmlDeviceGetComputeRunningProcesses_v2(self._handle))

    def _reasons(self) -> int:
        """Return the clocks' event reasons, called throttle reasons before driver 535."""
        nvml = self._nvml
        try:
            return int(nvml.nvmlDeviceGetCurrentClocksEventReasons(self._handle))
        except nvml.NVMLError as error:
            if error.value != nvml.NVML_ERROR_FUNCTION_NOT_FOUND:
                raise
        return int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle))

    def _utilization(self, after_us: int) -> tuple[tuple[int, float], ...]:
        samples = self._ask("driver samples", lambda: self._samples(after_us))
        if samples is not None:
            return samples
        rates = self._ask("utilisation", lambda: self._nvml.nvmlDeviceGetUtilizationRates(self._handle))
        return () if rates is None else ((0, rates.gpu / 100),)

    def _samples(self, after_us: int) -> tuple[tuple[int, float], ...]:
        nvml = self._nvml
        try:
            _, found = nvml.nvmlDeviceGetSamples(self._handle, nvml.NVML_GPU_UTILIZATION_SAMPLES, after_us)
        except nvml.NVMLError as error:
            if error.value != nvml.NVML_ERROR_NOT_FOUND:
                raise
            return ()  # the buffer holds nothing newer
        return tuple((int(s.timeStamp), s.sampleValue.uiVal / 100) for s in found if s.timeStamp > after_us)


def _visible(
    handles: Sequence[tuple[int, Any]], variable: str | None, uuid: Callable[[Any], str]
) -> list[tuple[int, Any]]:
    """Return the boards ``CUDA_VISIBLE_DEVICES`` leaves: indices or starts of UUIDs, up to a wrong one."""
    if variable is None:
        return list(handles)
    chosen = []
    for wanted in (part.strip() for part in variable.split(",")):
        found = [
            entry
            for entry in handles
            if wanted == str(entry[0])
            or (wanted.startswith(("GPU-", "MIG-")) and uuid(entry[1]).startswith(wanted))
        ]
        if not found and wanted.startswith("MIG-"):
            return list(handles)  # a partition: which board it is on cannot be told from its id
        if not found:
            break
        chosen += found
    return chosen
