"""Stored heap figures do not depend on what ran before, nor on what other plug-ins do around a test."""

import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="memray has no Windows version")

RESEEDING = """
import random
def pytest_runtest_call(item):  # as pytest-randomly does: 24 KiB of state, in every call
    random.seed(7)
    random.getstate()
"""

TINY = """
import functools, pytest
@functools.cache
def rates():
    import colorsys, sndhdr_like
    return {n: float(n) for n in range(300)}
@pytest.mark.perf_budget(peak_memory=True, allocations=True)
def test_first():
    assert rates()[7] == 7.0
@pytest.mark.perf_budget(peak_memory=True, allocations=True)
def test_second():
    assert rates()[8] == 8.0
def test_fixture(perf_memory):
    with perf_memory.track():
        rates()
def test_callable(perf_memory):
    perf_memory(rates)
"""

BACKWARDS = """
def pytest_collection_modifyitems(items):
    items.reverse()
"""


@pytest.fixture
def tiny(project):
    project.makepyfile(test_it=TINY)
    Path(project.path, "sndhdr_like.py").write_text("table = [str(i) * 3 for i in range(400)]\n")
    return project


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_another_order_and_lazy_imports_are_no_regression(tiny, workers):
    assert tiny.runpytest_subprocess("--perf-update").ret == 0
    tiny.makeconftest(BACKWARDS)
    result = tiny.runpytest_subprocess("--perf-gate", "--perf-time=1ms", *workers)
    result.assert_outcomes(passed=4)
    result.stdout.no_fnmatch_line("*regressed*")
    alone = tiny.runpytest_subprocess("--perf-gate", "--perf-time=1ms", "-k", "fixture", *workers)
    alone.assert_outcomes(passed=1)
    alone.stdout.no_fnmatch_line("*regressed*")


def test_what_other_plug_ins_do_in_the_call_phase_is_not_the_tests(tiny):
    assert tiny.runpytest_subprocess("--perf-update").ret == 0
    tiny.makeconftest(RESEEDING)
    result = tiny.runpytest_subprocess("--perf-gate", "--perf-time=1ms")
    result.assert_outcomes(passed=4)
    result.stdout.no_fnmatch_line("*undecided*allocations*")
    result.stdout.no_fnmatch_line("*improved*")
