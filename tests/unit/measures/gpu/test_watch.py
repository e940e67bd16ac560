"""What readings of boards add up to, with boards and array libraries that are played."""

import sys
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_tradeperf.errors import UnavailableError
from pytest_tradeperf.measures.gpu import frameworks
from pytest_tradeperf.measures.gpu.frameworks import Cupy, Jax, Torch, kernel_time_ns
from pytest_tradeperf.measures.gpu.provider import Reading, open_provider
from pytest_tradeperf.measures.gpu.watch import GpuUse, GpuWatch


class Board:
    label = "Played #0"
    notes: Sequence[str] = ()

    def __init__(self, readings: list[Reading]) -> None:
        self._readings = readings

    def read(self, after_us: int) -> Reading:
        del after_us
        return self._readings.pop(0) if len(self._readings) > 1 else self._readings[0]


class Vendor:
    def __init__(self, *boards: Board) -> None:
        self._boards = boards
        self.closed = False

    def devices(self) -> Sequence[Board]:
        return self._boards

    def close(self) -> None:
        self.closed = True


def watched(
    *boards: Board, modules: dict[str, Any] | None = None, seconds: tuple[float, float] = (0.0, 2.0)
) -> GpuUse:
    vendor = Vendor(*boards)
    ticks = iter(seconds)
    with GpuWatch(
        provider=lambda: vendor, every_s=60, clock=lambda: next(ticks), modules=modules or {}
    ) as watch:
        pass
    assert vendor.closed
    return watch.use


def test_the_peak_is_the_largest_reading() -> None:
    readings = [Reading(process_bytes=n) for n in (1, 1, 9)]
    assert watched(Board(readings)).peak_bytes == 9


def test_the_busiest_board_speaks_for_utilisation_and_energies_add_up() -> None:
    def board(share: float, joules: int) -> Board:
        return Board(
            [
                Reading(utilization=((1, 0.0),), energy_mj=0, power_mw=1000),
                Reading(energy_mj=0, power_mw=1000),
                Reading(utilization=((2, share),), energy_mj=joules * 1000, power_mw=1000),
            ]
        )

    use = watched(board(0.3, 4), board(0.9, 6))
    assert use.utilization == pytest.approx(0.9)
    assert (use.energy_j, use.energy_is_estimate) == (10.0, False)
    assert use.energy_error_j == pytest.approx(0.2)


def test_energy_of_one_board_that_does_not_tell_is_no_sum() -> None:
    assert watched(Board([Reading(energy_mj=5)]), Board([Reading()])).energy_j is None


def test_figures_before_the_end_are_refused() -> None:
    with (
        GpuWatch(provider=lambda: Vendor(Board([Reading()])), modules={}) as watch,
        pytest.raises(UnavailableError, match="has not ended"),
    ):
        _ = watch.use


def test_every_reason_is_given_when_no_provider_works() -> None:
    def missing(what: str) -> Callable[[], Any]:
        def make() -> Any:
            raise UnavailableError(f"no {what}")

        return make

    with pytest.raises(UnavailableError, match="no red; no green"):
        open_provider([missing("red"), missing("green")])
    vendor = Vendor(Board([Reading()]))
    assert open_provider([missing("red"), lambda: vendor]) is vendor


def test_without_nvidia_ml_py_the_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with GpuWatch() as watch:
        pass
    assert "pip install nvidia-ml-py" in (watch.unavailable or "")
    with pytest.raises(UnavailableError, match="nvidia-ml-py"):
        _ = watch.use


class Event:
    """A device event on a clock that only the work moves."""

    def __init__(self, device: "Device") -> None:
        self._device, self.at = device, 0.0

    def record(self) -> None:
        self.at = self._device.now_ms

    def synchronize(self) -> None:
        self._device.synchronised += 1

    def elapsed_time(self, end: "Event") -> float:
        return end.at - self.at


class Device:
    def __init__(self, peak: int = 0) -> None:
        self.now_ms = 0.0
        self.synchronised = 0
        self.peak = peak
        self.resets = 0

    def work(self) -> None:
        self.now_ms += 2.0


def torch_of(device: Device, *, available: bool = True) -> Any:
    def reset(_index: int) -> None:
        device.resets += 1

    def synchronize() -> None:
        device.synchronised += 1

    cuda = SimpleNamespace(
        is_available=lambda: available,
        is_initialized=lambda: True,
        device_count=lambda: 1,
        reset_peak_memory_stats=reset,
        max_memory_allocated=lambda _i: device.peak,
        synchronize=synchronize,
        Event=lambda *, enable_timing: Event(device),
    )
    return SimpleNamespace(cuda=cuda)


def test_the_allocators_peak_comes_first() -> None:
    device = Device(peak=123)
    use = watched(Board([Reading(process_bytes=999)]), modules={"torch": torch_of(device)})
    assert (use.peak_bytes, use.peak_source) == (123, "torch allocator")
    assert device.resets == 1


def test_a_device_in_trouble_takes_its_own_figures_away_and_no_more() -> None:
    torch = torch_of(Device())

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nmore")

    torch.cuda.synchronize = broken
    torch.cuda.max_memory_allocated = broken
    use = watched(Board([Reading(process_bytes=999)]), modules={"torch": torch})
    assert (use.peak_bytes, use.peak_source, use.device_ns) == (999, "this process, polled", None)
    assert "no kernel time: torch says CUDA error: an illegal memory access was encountered" in use.notes
    torch.cuda.Event = broken
    assert watched(Board([Reading()]), modules={"torch": torch}).device_ns is None


def test_a_board_lost_at_the_start_gives_the_library_back() -> None:
    class Lost(Board):
        def read(self, after_us: int) -> Reading:
            raise UnavailableError(f"lost before {after_us}")

    vendor = Vendor(Lost([]))
    with GpuWatch(provider=lambda: vendor, modules={}) as watch:
        pass
    assert watch.unavailable == "lost before 0"
    assert vendor.closed


def test_kernel_time_is_per_call_with_one_synchronisation_after_all() -> None:
    device = Device()
    assert kernel_time_ns(device.work, Torch(torch_of(device)), repeats=10, warm_ups=3) == 2_000_000
    assert device.now_ms == 2.0 * (3 + 1 + 10)
    assert device.synchronised == 2


def test_cupy_times_with_its_events_and_knows_its_pool() -> None:
    device = Device()
    pool = SimpleNamespace(free_all_blocks=lambda: None, total_bytes=lambda: 77)
    cuda = SimpleNamespace(
        is_available=lambda: True,
        Event=lambda: Event(device),
        get_elapsed_time=lambda start, end: end.at - start.at,
    )
    cupy = Cupy(SimpleNamespace(cuda=cuda, get_default_memory_pool=lambda: pool))
    cupy.begin()
    assert cupy.peak_bytes() == 77
    assert kernel_time_ns(device.work, cupy) == 2_000_000


def test_jax_tells_its_peak_only_when_the_block_raised_it() -> None:
    stats = {"peak_bytes_in_use": 5}
    board = SimpleNamespace(platform="gpu", memory_stats=lambda: stats)
    waited: list[object] = []
    jax = Jax(SimpleNamespace(local_devices=lambda: [board], block_until_ready=waited.append))
    jax.begin()
    assert jax.peak_bytes() is None
    stats["peak_bytes_in_use"] = 8
    assert jax.peak_bytes() == 8
    assert jax.timed_ns(lambda: "result") >= 0
    assert waited == ["result"]


def test_a_library_without_a_device_is_passed_over() -> None:
    cpu_only = torch_of(Device(), available=False)
    half_imported = SimpleNamespace()
    jax = SimpleNamespace(local_devices=lambda: [SimpleNamespace(platform="cpu")])
    assert frameworks.active({"torch": cpu_only, "cupy": half_imported, "jax": jax}) is None  # type: ignore[dict-item]
    assert frameworks.active({}) is None
