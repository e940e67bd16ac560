"""``True`` instead of a limit: measured where values are stored or judged, gated, never bounded."""

import sys
from pathlib import Path

import pytest

heap = pytest.mark.skipif(sys.platform == "win32", reason="memray has no Windows version")

ROWS = """
import os, pytest
@pytest.mark.perf_budget(peak_memory=True, allocations=True)
def test_rows():
    [float(i) for i in range(int(os.environ["PLANTED_SIZE"]))]
"""


@heap
def test_a_peak_is_stored_and_gated_without_a_limit(project, monkeypatch, baseline_of):
    project.makepyfile(ROWS)
    monkeypatch.setenv("PLANTED_SIZE", "20000")
    assert project.runpytest("--perf-update").ret == 0
    assert '"peak_memory"' in baseline_of()
    assert '"allocations"' in baseline_of()
    project.runpytest("--perf-gate", "--perf-time=1ms").assert_outcomes(passed=1)
    monkeypatch.setenv("PLANTED_SIZE", "22000")
    more = project.runpytest("--perf-gate", "--perf-time=1ms")
    more.assert_outcomes(failed=1)
    more.stdout.fnmatch_lines(["regressed: peak_memory *", "regressed: allocations *"])


@heap
def test_a_plain_run_makes_no_pass_for_it(project):
    project.makepyfile(
        """
        import pytest
        calls = []
        @pytest.mark.perf_budget(peak_memory=True, peak_rss=True, loop_lag=True, gpu_memory=True)
        def test_it(): calls.append(1)
        def test_counts(): assert calls == [1]
        """
    )
    project.runpytest("-W", "error").assert_outcomes(passed=2)


def test_without_its_instrument_it_is_undecided_where_it_would_be_judged(project, monkeypatch):
    monkeypatch.setitem(sys.modules, "memray", None)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    project.makepyfile(
        """
        import pytest
        @pytest.mark.perf_budget(peak_memory=True, gpu_energy=True)
        def test_it(): pass
        """
    )
    project.runpytest().stdout.no_fnmatch_line("perf: *undecided*")
    result = project.runpytest("--perf-gate")
    result.assert_outcomes(passed=1)
    text = " ".join(result.stdout.str().split())
    assert "undecided peak_memory not measured: heap figures need memray" in text
    assert "undecided gpu_energy not measured: NVIDIA figures need nvidia-ml-py" in text


@heap
def test_the_nearest_marker_decides_whether_there_is_a_limit(project):
    project.makepyfile(
        """
        import pytest
        @pytest.mark.perf_budget(peak_memory="1 KiB")
        class TestIt:
            def test_bounded(self): bytearray(100_000)
            @pytest.mark.perf_budget(peak_memory=True)
            def test_free(self): bytearray(100_000)
        """
    )
    result = project.runpytest("-v")
    result.stdout.fnmatch_lines(["*test_bounded FAILED*", "*test_free PASSED*"])


def test_false_is_no_answer(project):
    Path(project.path, "test_it.py").write_text(
        "import pytest\n@pytest.mark.perf_budget(peak_memory=False)\ndef test_it(): pass\n"
    )
    result = project.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["perf_budget(peak_memory=...): write True to measure it, a limit, or *"])


def test_true_for_what_the_test_does_not_measure_is_an_error(project):
    project.makepyfile(
        """
        import pytest
        @pytest.mark.perf_budget(peak_memory=True)
        def test_it(perf_memory): pass
        """
    )
    result = project.runpytest("--perf-gate")
    result.stdout.fnmatch_lines(["*error: peak_memory=True, but the test measured only: *"])
