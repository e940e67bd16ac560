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

VALUE_FIELDS: Final = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""Fields of a sample's union by its value type (nvmlValueType_t); utilisation is an unsigned int today."""

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
        variable = os.environ.get("CUDA_VISIBLE_DEVICES")
        chosen = _visible(handles, variable, self._uuid, self._partition)
        if not chosen:
            pynvml.nvmlShutdown()
            hidden = f" ({count} hidden by CUDA_VISIBLE_DEVICES)" if count else ""
            raise UnavailableError(f"there is no NVIDIA board{hidden}")
        self._devices = [NvmlDevice(pynvml, *board) for board in chosen]
        is_numbered = variable is not None and any(part.strip().isdigit() for part in variable.split(","))
        if is_numbered and os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
            names = {NvmlDevice(pynvml, index, handle).name for index, handle in handles}
            if len(names) > 1:  # CUDA puts the fastest first, NVML counts along the bus
                for device in self._devices:
                    device.notes += (
                        "boards differ, and CUDA may number them otherwise: set CUDA_DEVICE_ORDER=PCI_BUS_ID",
                    )

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

    def _partition(self, uuid: str) -> tuple[int, Any, Any] | None:
        """Return (number of the board, board, partition) of a MIG device, None where NVML cannot tell."""
        nvml = self._nvml
        try:
            partition = nvml.nvmlDeviceGetHandleByUUID(uuid)
            board = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(partition)
            return nvml.nvmlDeviceGetIndex(board), board, partition
        except nvml.NVMLError:
            return None


class NvmlDevice:
    """One NVIDIA board, or one partition of it: that has memory and processes of its own and no more."""

    def __init__(self, nvml: Any, index: int, handle: Any, partition: Any = None) -> None:
        self._nvml, self._handle = nvml, handle
        self._holder = handle if partition is None else partition
        self._missing: dict[str, str] = {}
        self.name = str(self._ask("name", lambda: nvml.nvmlDeviceGetName(handle)) or "NVIDIA GPU")
        self.label = f"{self.name} #{index}" + (" (MIG partition)" if partition is not None else "")
        mig = self._ask("MIG mode", lambda: nvml.nvmlDeviceGetMigMode(handle))
        self.notes: tuple[str, ...] = ()
        if partition is not None:
            self.notes = ("a MIG partition: utilisation and energy are those of the whole board",)
        elif mig is not None and mig[0] == nvml.NVML_DEVICE_MIG_ENABLE:
            self.notes = (
                "MIG is on: board memory, utilisation and energy are those of all partitions together",
            )

    def read(self, after_us: int) -> Reading:
        """Return the board's state now; raises UnavailableError when it fell off the bus."""
        nvml, handle = self._nvml, self._handle
        self._missing = {}
        memory = self._ask("memory", lambda: nvml.nvmlDeviceGetMemoryInfo(self._holder).used)
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
            return list(nvml.nvmlDeviceGetComputeRunningProcesses_v3(self._holder))
        except nvml.NVMLError as error:
            if error.value != nvml.NVML_ERROR_FUNCTION_NOT_FOUND:
                raise
        return list(nvml.nvmlDeviceGetComputeRunningProcesses_v2(self._holder))

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
            kind, found = nvml.nvmlDeviceGetSamples(self._handle, nvml.NVML_GPU_UTILIZATION_SAMPLES, after_us)
        except nvml.NVMLError as error:
            if error.value not in (nvml.NVML_ERROR_NOT_FOUND, nvml.NVML_ERROR_NO_DATA):
                raise
            return ()  # the buffer holds nothing newer
        field = VALUE_FIELDS[kind]
        return tuple(
            (int(s.timeStamp), getattr(s.sampleValue, field) / 100) for s in found if s.timeStamp > after_us
        )


def _visible(
    handles: Sequence[tuple[int, Any]],
    variable: str | None,
    uuid: Callable[[Any], str],
    partition: Callable[[str], tuple[int, Any, Any] | None],
) -> list[tuple[Any, ...]]:
    """Return the boards ``CUDA_VISIBLE_DEVICES`` leaves: indices or starts of UUIDs, up to a wrong one.

    Each is (number, handle), or (number, handle, partition) for a MIG device.
    """
    if variable is None:
        return list(handles)
    chosen: list[tuple[Any, ...]] = []
    for wanted in (part.strip() for part in variable.split(",")):
        found: tuple[Any, ...] | None
        if wanted.startswith("MIG-"):
            found = partition(wanted)
            if found is None:
                return list(handles)  # which board it is on cannot be told from its id
        else:
            matching = [
                entry
                for entry in handles
                if wanted == str(entry[0])
                or (wanted.startswith("GPU-") and uuid(entry[1]).startswith(wanted))
            ]
            if not matching:
                break
            found = matching[0]
        if found not in chosen:
            chosen.append(found)
    return chosen
