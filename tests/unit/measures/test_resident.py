import ctypes
import sys
from pathlib import Path

import pytest

from pytest_tradeperf.measures import resident
from pytest_tradeperf.measures.resident import HIGH_WATER, SAMPLED, ResidentPeak

MIB = 1024**2
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel keeps the mark on Linux")


def touched(size: int) -> bytearray:
    return bytearray(b"\1") * size


@linux
def test_peak_is_seen_after_the_memory_is_gone_again() -> None:
    with ResidentPeak() as peak:
        block = touched(64 * MIB)
        del block
    assert peak.unavailable is None
    assert peak.method == HIGH_WATER
    assert 60 * MIB <= peak.bytes - peak.start_bytes <= 80 * MIB


@linux
def test_peak_of_an_earlier_block_does_not_leak_into_the_next() -> None:
    with ResidentPeak() as first:
        block = touched(96 * MIB)
        del block
    with ResidentPeak() as second:
        block = touched(4 * MIB)
        del block
    assert first.bytes - second.bytes > 80 * MIB


def test_sampling_steps_in_and_says_so_where_the_mark_cannot_be_reset(tmp_path: Path) -> None:
    block = touched(32 * MIB)
    with ResidentPeak(proc=tmp_path / "absent", sample_s=0.0001) as peak:
        del block
    assert peak.method == SAMPLED
    assert peak.unavailable is None
    assert peak.bytes >= peak.start_bytes >= 32 * MIB


def test_a_reset_the_kernel_ignored_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("VmHWM:\t  900000 kB\nVmRSS:\t  100000 kB\n")
    with ResidentPeak(proc=tmp_path) as peak:
        pass
    assert peak.method == SAMPLED


def test_without_any_instrument_the_reason_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    with ResidentPeak(proc=tmp_path / "absent") as peak:
        pass
    assert peak.unavailable is not None
    assert "pip install psutil" in peak.unavailable
    assert peak.bytes == 0


def test_trimming_works_without_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)

    class Libc:
        def __init__(self, name: object) -> None:
            self.calls: list[int] = []

        def malloc_trim(self, pad: int) -> int:
            self.calls.append(pad)
            return 1

    monkeypatch.setattr(ctypes, "CDLL", Libc)
    assert resident.trim_heap()


def test_a_libc_without_trimming_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    assert not resident.trim_heap()
