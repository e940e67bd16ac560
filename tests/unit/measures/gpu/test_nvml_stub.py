"""The NVIDIA provider against a library that plays a driver; each scene in an interpreter of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

COMPILER = shutil.which("cc") or shutil.which("gcc")
pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="needs a C compiler"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="plays libnvidia-ml.so.1"),
]

SCENE = """
import dataclasses, json, sys, time
from pytest_tradeperf.measures.gpu.watch import GpuWatch
with GpuWatch(every_s=0.01) as watch:
    time.sleep(float(sys.argv[1]))
answer = {"unavailable": watch.unavailable}
if watch.unavailable is None:
    answer |= dataclasses.asdict(watch.use) | {"advice": watch.use.advice}
print(json.dumps(answer))
"""


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folders of the stub as a present driver and as an old one."""
    found = {}
    for name, flags in (("present", []), ("old", ["-DOLD"])):
        folder = tmp_path_factory.mktemp(name)
        source = Path(__file__).with_name("nvml_stub.c")
        output = ["-o", str(folder / "libnvidia-ml.so.1"), "-Wl,-soname,libnvidia-ml.so.1"]
        subprocess.run([str(COMPILER), "-shared", "-fPIC", *flags, *output, str(source)], check=True)
        found[name] = folder
    return found


def play(folder: Path, seconds: float = 0.15, **stub: object) -> dict[str, Any]:
    variables = {f"STUB_{name}": str(value) for name, value in stub.items() if name.isupper()}
    variables |= {name: str(value) for name, value in stub.items() if not name.isupper()}
    clean = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    visible = {"CUDA_VISIBLE_DEVICES": variables.pop("visible")} if "visible" in variables else {}
    done = subprocess.run(
        [sys.executable, "-c", SCENE, str(seconds)],
        env={**clean, **variables, **visible, "LD_LIBRARY_PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_utilisation_is_the_mean_of_the_drivers_own_samples(libraries: dict[str, Path]) -> None:
    use = play(libraries["present"], SAMPLES="20,40,60,40")
    assert use["utilization"] == pytest.approx(0.40)
    assert use["utilization_source"] == "driver samples"
    assert use["advice"] is None
    assert use["boards"] == ["Stub Board #0"]


@pytest.mark.parametrize(("share", "words"), [("5,5", "underused"), ("95,95", "saturated"), ("50,50", None)])
def test_advice_follows_the_bands(libraries: dict[str, Path], share: str, words: str | None) -> None:
    advice = play(libraries["present"], SAMPLES=share)["advice"]
    assert advice is None if words is None else words in advice


def test_without_samples_utilisation_is_polled_and_says_so(libraries: dict[str, Path]) -> None:
    use = play(libraries["old"], RATE=30)
    assert use["utilization"] == pytest.approx(0.30)
    assert use["utilization_source"] == "polled"
    assert any("no driver samples" in note for note in use["notes"])


def test_memory_of_this_process_comes_before_that_of_the_board(libraries: dict[str, Path]) -> None:
    use = play(libraries["present"], PROCESSES="self:700,self:300,77:5000")
    assert (use["peak_bytes"], use["peak_source"]) == (1000, "this process, polled")
    assert any("shared with 1 other processes" in note for note in use["notes"])


@pytest.mark.parametrize("processes", ["77:5000", "self:-1", ""])
def test_a_process_the_driver_does_not_show_leaves_the_whole_board(
    libraries: dict[str, Path], processes: str
) -> None:
    use = play(libraries["present"], PROCESSES=processes)
    assert (use["peak_bytes"], use["peak_source"]) == (3 * 1024**3, "whole board, polled")
    assert any("includes other processes" in note for note in use["notes"])


def test_old_drivers_list_processes_and_reasons_by_their_older_names(libraries: dict[str, Path]) -> None:
    use = play(libraries["old"], PROCESSES="self:42", THROTTLE=0x44)
    assert use["peak_bytes"] == 42
    assert use["throttled"] == ["power cap", "hardware thermal slowdown"]


def test_energy_is_the_counters_difference_with_one_step_of_doubt(libraries: dict[str, Path]) -> None:
    use = play(libraries["present"], 1.1, POWER=200_000)
    assert not use["energy_is_estimate"]
    assert use["energy_error_j"] == pytest.approx(20.0)
    assert use["energy_j"] == pytest.approx(200 * use["seconds"], abs=2 * use["energy_error_j"])


def test_energy_of_a_short_block_is_an_estimate(libraries: dict[str, Path]) -> None:
    use = play(libraries["present"])
    assert use["energy_is_estimate"]
    assert any("shorter than the driver's averaging" in note for note in use["notes"])


def test_energy_without_a_counter_is_power_times_time(libraries: dict[str, Path]) -> None:
    use = play(libraries["old"], POWER=50_000)
    assert use["energy_is_estimate"]
    assert use["energy_j"] == pytest.approx(50 * use["seconds"])


def test_a_partitioned_board_is_labelled(libraries: dict[str, Path]) -> None:
    assert any("MIG is on" in note for note in play(libraries["present"], MIG=1)["notes"])


def test_a_partition_has_memory_of_its_own_and_the_boards_other_figures(libraries: dict[str, Path]) -> None:
    use = play(libraries["present"], COUNT=2, MIG=1, visible="MIG-1", POWER=50_000)
    assert use["boards"] == ["Stub Board #1 (MIG partition)"]
    assert use["peak_bytes"] == 1024**3
    assert any("those of the whole board" in note for note in use["notes"])


def test_a_partition_that_an_old_driver_cannot_place_leaves_all_boards(libraries: dict[str, Path]) -> None:
    assert len(play(libraries["old"], COUNT=2, visible="MIG-1")["boards"]) == 2


@pytest.mark.parametrize(
    ("mixed", "order", "is_told"),
    [(1, "", True), (1, "PCI_BUS_ID", False), (0, "", False)],
)
def test_numbers_of_unlike_boards_are_doubted_unless_cuda_counts_alike(
    libraries: dict[str, Path], monkeypatch: pytest.MonkeyPatch, mixed: int, order: str, is_told: bool
) -> None:
    monkeypatch.setenv("CUDA_DEVICE_ORDER", order)
    notes = play(libraries["present"], COUNT=2, MIXED=mixed, visible="1")["notes"]
    assert any("CUDA_DEVICE_ORDER=PCI_BUS_ID" in note for note in notes) == is_told


def test_samples_are_read_by_the_type_the_driver_gives(libraries: dict[str, Path]) -> None:
    assert play(libraries["present"], SAMPLES="20,40", VALUES="double")["utilization"] == pytest.approx(0.3)


@pytest.mark.parametrize("code", [6, 21])
def test_a_buffer_without_news_is_no_failure(libraries: dict[str, Path], code: int) -> None:
    use = play(libraries["present"], FAIL="Samples", CODE=code)
    assert use["utilization"] is None
    assert not any("driver samples" in note for note in use["notes"])


@pytest.mark.parametrize("code", [3, 4, 999])
def test_one_failing_figure_leaves_the_others(libraries: dict[str, Path], code: int) -> None:
    use = play(
        libraries["present"], FAIL="Energy,Power,Memory,Mig", CODE=code, SAMPLES="50", PROCESSES="self:9"
    )
    assert use["energy_j"] is None
    assert use["peak_bytes"] == 9
    assert use["utilization"] == pytest.approx(0.5)
    assert any("no energy" in note for note in use["notes"])


def test_two_boards_add_up(libraries: dict[str, Path]) -> None:
    use = play(libraries["present"], COUNT=2, PROCESSES="self:10")
    assert use["boards"] == ["Stub Board #0", "Stub Board #1"]
    assert use["peak_bytes"] == 20


@pytest.mark.parametrize(
    ("visible", "boards"),
    [
        ("1", ["Stub Board #1"]),
        ("GPU-00000002", ["Stub Board #1"]),
        ("0,9,1", ["Stub Board #0"]),
        ("0,0", ["Stub Board #0"]),
    ],
)
def test_only_visible_boards_are_watched(libraries: dict[str, Path], visible: str, boards: list[str]) -> None:
    assert play(libraries["present"], COUNT=2, visible=visible)["boards"] == boards


@pytest.mark.parametrize(
    ("stub", "reason"),
    [
        ({"INIT": 9}, "Driver Not Loaded"),
        ({"COUNT": 0}, "no NVIDIA board"),
        ({"FAIL": "Count", "CODE": 999}, "cannot be listed"),
        ({"visible": "-1"}, "1 hidden by CUDA_VISIBLE_DEVICES"),
        ({"LOST_AFTER": 3}, "was lost while it was watched"),
    ],
)
def test_what_cannot_be_asked_is_unavailable_with_the_reason(
    libraries: dict[str, Path], stub: dict[str, object], reason: str
) -> None:
    assert reason in play(libraries["present"], **stub)["unavailable"]


def test_without_the_drivers_library_it_is_unavailable(tmp_path: Path) -> None:
    if shutil.which("nvidia-smi"):
        pytest.skip("a real driver is installed")
    assert "Not Found" in play(tmp_path)["unavailable"]
