"""Subtests report themselves at once; passes made for measuring must not report them again."""

from pathlib import Path

import pytest

SUITE = """
import unittest
import pytest
@pytest.mark.perf_budget({budget})
class TestIt(unittest.TestCase):
    def test_parts(self):
        for part in range(3):
            with self.subTest(part=part):
                assert part < 3
"""

FIXTURE = """
import pytest
@pytest.mark.perf_budget({budget})
def test_parts(subtests):
    for part in range(3):
        with subtests.test(part=part):
            assert part < 3
"""

SEVERAL = ["wall='10 s'", "peak_memory='1 GiB'", "peak_memory='1 GiB', loop_lag='1 s', wall='10 s'"]

pytestmark = pytest.mark.skipif(pytest.version_tuple < (9,), reason="subtests are pytest's own from 9 on")


@pytest.mark.parametrize("budget", SEVERAL)
@pytest.mark.parametrize("suite", [SUITE, FIXTURE], ids=["unittest", "fixture"])
@pytest.mark.parametrize("option", ["--perf-update", "--perf-gate", "-q"])
def test_subtests_are_told_once_however_many_passes_there_are(project, suite, budget, option):
    Path(project.path, "test_it.py").write_text(suite.format(budget=budget))
    result = project.runpytest(option, "-vv", "--junitxml=out.xml")
    assert result.ret == 0
    assert result.stdout.str().count("SUBPASSED") == 3
    assert Path(project.path, "out.xml").read_text().count("<testcase ") == 1


def test_subtests_are_told_once_by_workers_too(project):
    pytest.importorskip("xdist")
    Path(project.path, "test_it.py").write_text(FIXTURE.format(budget="allocations='9000000'"))
    result = project.runpytest_subprocess("-n", "1", "--perf-gate", "-vv")
    assert result.ret == 0
    assert result.stdout.str().count("SUBPASSED") == 3


@pytest.mark.parametrize("option", ["--perf-update", "--perf-gate", "-q"])
def test_a_failed_subtest_fails_once_and_ends_the_measuring(project, option):
    suite = FIXTURE.format(budget="peak_memory='1 GiB'").replace("part < 3", "part != 1")
    Path(project.path, "test_it.py").write_text(suite)
    result = project.runpytest(option, "-vv")
    assert result.ret == 1
    assert result.stdout.str().count("SUBFAILED(part=1)") <= 2  # as it happens, and in the summary
    assert "2 failed" in result.stdout.str()  # the subtest and the test it is part of, as without measuring


def test_a_subtest_that_fails_only_in_a_later_pass_is_told(project):
    project.makepyfile(
        """
        import pytest
        seen = []
        @pytest.mark.perf_budget(peak_memory="1 GiB")
        def test_parts(subtests):
            seen.append(1)
            with subtests.test(part="later"):
                assert len(seen) < 2
        """
    )
    result = project.runpytest("-vv")
    assert result.ret == 1
    assert "SUBFAILED(part='later')" in result.stdout.str()
