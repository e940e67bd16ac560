"""Watching the GPU during a block: a thread that reads the boards, and what that adds up to."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Final, Self

from pytest_tradeperf.errors import UnavailableError
from pytest_tradeperf.measures.gpu import frameworks
from pytest_tradeperf.measures.gpu.provider import Device, Provider, Reading, open_provider

EVERY_S: Final = 0.05
"""Seconds between readings: the driver keeps utilisation samples itself, memory must be polled."""

ENERGY_STEP_S: Final = 0.1
"""The energy counter is renewed about so often, so an interval is wrong by up to one step."""

ENOUGH_S: Final = 1.0
"""From here on the step is below a tenth and energy is a measurement; below it is an estimate."""

UNDERUSED: Final = 0.20
SATURATED: Final = 0.80


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuUse:
    """What a block did on all boards this process may use, each figure None where it is not known.

    ``utilization`` is the mean share of time with a kernel running on the busiest board, from
    ``utilization_source``. ``energy_j`` is uncertain by ``energy_error_j`` and an estimate when
    ``energy_is_estimate``. ``device_ns`` is the time between events before and after the block on the
    framework's current stream. ``peak_source`` says whose peak ``peak_bytes`` is.
    """

    seconds: float
    boards: tuple[str, ...]
    peak_bytes: int | None = None
    peak_source: str = ""
    utilization: float | None = None
    utilization_source: str = ""
    energy_j: float | None = None
    energy_error_j: float = 0.0
    energy_is_estimate: bool = False
    device_ns: float | None = None
    throttled: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def advice(self) -> str | None:
        """What the utilisation suggests, or None between the bands."""
        if self.utilization is None:
            return None
        if self.utilization < UNDERUSED:
            return (
                "GPU underused (below 20 %): batch more work into each call, keep data on the device, "
                "overlap loading with computing, or use the CPU"
            )
        if self.utilization > SATURATED:
            return (
                "GPU saturated (above 80 %): faster now means fewer or cheaper kernels (lower precision, "
                "fused operations, smaller models) or another board"
            )
        return None


class GpuWatch:
    """Context manager: watches the boards from entering to leaving.

    ``unavailable`` says why there are no figures; the block runs all the same.
    """

    def __init__(
        self,
        *,
        provider: Callable[[], Provider] = open_provider,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.perf_counter,
        modules: Mapping[str, ModuleType] | None = None,
    ) -> None:
        self._open, self._every_s, self._clock, self._modules = provider, every_s, clock, modules
        self._use: GpuUse | None = None
        self._failures: list[str] = []
        self.unavailable: str | None = None

    @property
    def use(self) -> GpuUse:
        """What the block did; raises UnavailableError where no board can be asked."""
        if self._use is None:
            raise UnavailableError(self.unavailable or "the block has not ended")
        return self._use

    def __enter__(self) -> Self:
        try:
            self._provider = self._open()
        except UnavailableError as error:
            self.unavailable = str(error)
            return self
        try:
            self._boards = [_Board(device) for device in self._provider.devices()]
        except UnavailableError as error:
            self.unavailable = str(error)
            self._provider.close()
            return self
        self._framework, self._mark = frameworks.active(self._modules), None
        if self._framework is not None:
            try:
                self._framework.begin()
                self._mark = self._framework.mark()
            except RuntimeError as error:
                self._failures.append(f"no kernel time: {self._framework.name} says {_short(error)}")
        self._start = self._clock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="tradeperf-gpu", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        if self.unavailable is not None and not hasattr(self, "_thread"):
            return
        self._done.set()
        self._thread.join()
        device_ns = self._device_ns()
        seconds = self._clock() - self._start
        try:
            for board in self._boards:
                board.look()
        except UnavailableError as error:
            self.unavailable = str(error)
        finally:
            self._provider.close()
        if self.unavailable is None:
            self._use = self._summed(seconds, device_ns)

    def _device_ns(self) -> float | None:
        """Return the time between the marks; a device in trouble must not hide why the block failed."""
        if self._framework is None or self._mark is None:
            return None
        try:
            return self._framework.between_ns(self._mark, self._framework.mark())
        except RuntimeError as error:
            self._failures.append(f"no kernel time: {self._framework.name} says {_short(error)}")
            return None

    def _poll(self) -> None:
        try:
            while not self._done.wait(self._every_s):
                for board in self._boards:
                    board.look()
        except UnavailableError as error:
            self.unavailable = str(error)

    def _summed(self, seconds: float, device_ns: float | None) -> GpuUse:
        boards = self._boards
        peak, source, notes = self._peak()
        notes += self._failures
        busiest = max(boards, key=lambda board: board.utilization or 0.0)
        energies = [energy for board in boards if (energy := board.energy(seconds)) is not None]
        if seconds < ENOUGH_S:
            notes.append(
                "the block is shorter than the driver's averaging (up to 1 s): repeat the work in it"
            )
        for board in boards:
            notes += [f"{board.device.label}: {note}" for note in board.notes()]
        return GpuUse(
            seconds=seconds,
            boards=tuple(board.device.label for board in boards),
            peak_bytes=peak,
            peak_source=source,
            utilization=busiest.utilization,
            utilization_source=busiest.source,
            energy_j=sum(e[0] for e in energies) if len(energies) == len(boards) else None,
            energy_error_j=sum(e[1] for e in energies),
            energy_is_estimate=seconds < ENOUGH_S or any(e[2] for e in energies),
            device_ns=device_ns,
            throttled=tuple(dict.fromkeys(reason for board in boards for reason in board.throttled)),
            notes=tuple(notes),
        )

    def _peak(self) -> tuple[int | None, str, list[str]]:
        """Return the most precise peak there is: the allocator's, this process's, the whole board's."""
        framework = self._framework or frameworks.active(self._modules)
        exact = None
        if framework is not None:
            try:
                exact = framework.peak_bytes()
            except RuntimeError as error:
                self._failures.append(f"no allocator peak: {framework.name} says {_short(error)}")
        if framework is not None and exact is not None:
            return exact, f"{framework.name} allocator", []
        own = [board.process_peak for board in self._boards if board.process_peak is not None]
        if own:
            return sum(own), "this process, polled", []
        whole = [board.board_peak for board in self._boards if board.board_peak is not None]
        if whole:
            return (
                sum(whole),
                "whole board, polled",
                ["memory includes other processes: this one is not listed"],
            )
        return None, "", []


class _Board:
    """What the readings of one board add up to."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.process_peak: int | None = None
        self.board_peak: int | None = None
        self.throttled: list[str] = []
        self.source = ""
        self._latest_us = max((stamp for stamp, _ in device.read(0).utilization), default=0)
        self._shares: list[float] = []
        self._powers: list[int] = []
        self._missing: dict[str, str] = {}
        self._others = 0
        self._first = self._last = self.look()

    def look(self) -> Reading:
        """Take one reading."""
        reading = self.device.read(self._latest_us)
        self.process_peak = _larger(self.process_peak, reading.process_bytes)
        self.board_peak = _larger(self.board_peak, reading.board_bytes)
        for stamp, share in reading.utilization:
            self._latest_us = max(self._latest_us, stamp)
            self._shares.append(share)
            self.source = "driver samples" if stamp else "polled"
        if reading.power_mw is not None:
            self._powers.append(reading.power_mw)
        self.throttled += [reason for reason in reading.throttled if reason not in self.throttled]
        self._others = max(self._others, reading.others)
        self._missing |= reading.missing
        self._last = reading
        return reading

    @property
    def utilization(self) -> float | None:
        return sum(self._shares) / len(self._shares) if self._shares else None

    def energy(self, seconds: float) -> tuple[float, float, bool] | None:
        """Return (joules, uncertainty, whether estimated), from the counter or else from power."""
        power_w = sum(self._powers) / len(self._powers) / 1000 if self._powers else None
        if self._first.energy_mj is not None and self._last.energy_mj is not None:
            joules = (self._last.energy_mj - self._first.energy_mj) / 1000
            step = (power_w if power_w is not None else joules / max(seconds, 1e-9)) * ENERGY_STEP_S
            return joules, step, False
        if power_w is None:
            return None
        return power_w * seconds, power_w * ENERGY_STEP_S, True

    def notes(self) -> list[str]:
        """Return what to know about the figures."""
        notes = list(self.device.notes)
        if self._others:
            notes.append(f"shared with {self._others} other processes: utilisation and energy include theirs")
        return notes + [f"no {what}: {why}" for what, why in self._missing.items()]


def _short(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _larger(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else max(one, other)
