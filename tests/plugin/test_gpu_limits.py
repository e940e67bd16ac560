"""GPU budgets through whole sessions, against a compiled library that plays the driver."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMPILER = shutil.which("cc") or shutil.which("gcc")
STUB = Path(__file__).parents[1] / "unit" / "measures" / "gpu" / "nvml_stub.c"
pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="needs a C compiler"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="plays libnvidia-ml.so.1"),
]


@pytest.fixture(scope="session")
def driver(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("driver")
    output = ["-o", str(folder / "libnvidia-ml.so.1"), "-Wl,-soname,libnvidia-ml.so.1"]
    subprocess.run([str(COMPILER), "-shared", "-fPIC", *output, str(STUB)], check=True)
    return folder


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_a_gpu_limit_is_enforced_and_gated_alike_with_and_without_workers(
    project, driver, monkeypatch, workers
):
    if workers:
        pytest.importorskip("xdist")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(driver))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    project.makepyfile(
        """
        import time, pytest
        @pytest.mark.perf_budget(gpu_energy="1 kJ")
        def test_modest():
            time.sleep(0.15)
        @pytest.mark.perf_budget(gpu_energy="5 J")
        def test_hungry():
            time.sleep(0.15)
        """
    )
    result = project.runpytest_subprocess("--perf-gate", *workers)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["over budget: gpu_energy * J, limit <= 5 J*"])
    result.stdout.fnmatch_lines(["*new*gpu_energy*"])
