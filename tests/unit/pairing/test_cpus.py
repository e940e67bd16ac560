import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_tradeperf.pairing.cpus import QuietCpu, kept_on

LINES = "cpu  0 0 0 {total} 0\ncpu0 5 0 0 {a} 0\ncpu1 5 0 0 {b} 0\nintr 1\n"


@pytest.fixture
def stat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    path = tmp_path / "stat"
    path.write_text(LINES.format(total=0, a=100, b=100))
    return path


def test_the_cpu_that_idled_more_is_chosen(stat: Path) -> None:
    cpus = QuietCpu(1, stat=stat)
    stat.write_text(LINES.format(total=0, a=110, b=190))
    assert cpus.choose() == [1]
    stat.write_text(LINES.format(total=0, a=210, b=191))
    assert cpus.choose() == [0]


def test_without_information_any_allowed_cpu_will_do(stat: Path) -> None:
    stat.unlink()
    cpus = QuietCpu(1, stat=stat)
    assert {cpus.choose()[0] for _ in range(20)} == {0, 1}


def test_a_system_without_affinity_pins_nothing(stat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.sched_getaffinity")
    assert QuietCpu(1, stat=stat).choose() == []


@pytest.mark.parametrize(("quota", "free"), [(math.inf, [2, 4]), (2.5, [2]), (1.9, []), (0.5, [])])
def test_only_so_many_cpus_are_busy_as_a_quota_grants(
    monkeypatch: pytest.MonkeyPatch, quota: float, free: list[int]
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {4, 2, 1}, raising=False)
    cpus = QuietCpu(1, quota=quota)
    assert cpus.beside([1]) == free
    assert cpus.may_stay_awake is (quota >= 2)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system tells no affinity")
def test_processes_that_a_block_starts_are_kept_on_its_cpus_and_this_one_is_not() -> None:
    before = os.sched_getaffinity(0)
    cpu = max(before)
    with kept_on([cpu]):
        command = [sys.executable, "-c", "import os; print(os.sched_getaffinity(0))"]
        assert subprocess.check_output(command, text=True).strip() == f"{{{cpu}}}"
    assert os.sched_getaffinity(0) == before


def test_where_a_cpu_may_not_be_used_the_block_runs_all_the_same() -> None:
    before = os.sched_getaffinity(0)
    with kept_on([100_000]):
        assert os.sched_getaffinity(0) == before
