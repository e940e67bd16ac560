"""The gate with tests spread over workers."""

from pathlib import Path

import pytest

pytest.importorskip("xdist")

COUNTING = """
import pytest
@pytest.mark.parametrize("n", range(4))
def test_count(perf, n):
    perf.record("orders", {orders})
def test_unmeasured():
    pass
"""


@pytest.fixture
def accepted(project):
    Path(project.path, "test_it.py").write_text(COUNTING.format(orders=100))
    assert project.runpytest("--perf-update").ret == 0
    return project


def test_budgets_are_enforced_in_workers(project):
    project.makepyfile(
        """
        import time, pytest
        @pytest.mark.perf_budget(wall="1 ms")
        def test_slow():
            time.sleep(0.01)
        """
    )
    result = project.runpytest_subprocess("-n", "2")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["over budget: wall *"])


def test_verdicts_are_the_same_as_without_workers(accepted):
    result = accepted.runpytest_subprocess("--perf-gate", "-n", "2")
    assert result.ret == 0
    result.assert_outcomes(passed=5)
    result.stdout.fnmatch_lines(["perf: 8 undecided, 4 ok"])


def test_a_regression_found_by_the_controller_is_one_failed_test_each(accepted):
    Path(accepted.path, "test_it.py").write_text(COUNTING.format(orders=103))
    result = accepted.runpytest_subprocess("--perf-gate", "-n", "2", "--junitxml=out.xml")
    assert result.ret == 1
    result.assert_outcomes(passed=1, failed=4)
    xml = (accepted.path / "out.xml").read_text()
    assert 'tests="5"' in xml
    assert 'failures="4"' in xml
    again = accepted.runpytest("--lf", "--co", "-q")
    again.stdout.fnmatch_lines(["4*tests collected*"])


def test_a_crashed_worker_loses_no_test_silently(project):
    Path(project.path, "test_it.py").write_text(
        "import os, pytest\n"
        "@pytest.mark.xdist_group('one')\n"
        "def test_measured(perf):\n    perf.record('n', 1)\n"
        "@pytest.mark.xdist_group('one')\n"
        "def test_crash():\n    os._exit(9)\n"
    )
    result = project.runpytest_subprocess("--perf-gate", "-n", "1")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*worker*crashed*", "*FAILED*test_measured*"], consecutive=False)
