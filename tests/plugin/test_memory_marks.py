"""Heap and leak budgets, the fixture perf_memory, and both under the gate."""

import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="memray has no Windows version")

GROWING = """
import os, pytest
SIZE = int(os.environ["PLANTED_SIZE"])
@pytest.mark.perf_budget(peak_memory="1 GiB", allocations="10000000")
def test_rows():
    rows = [{"price": float(i), "name": str(i)} for i in range(SIZE)]
    assert len(rows) == SIZE
"""


def test_a_peak_above_its_limit_fails_with_the_sites_that_hold_it(project):
    project.makepyfile(
        test_it="""
        import pytest
        def build():
            return bytearray(5_000_000)
        @pytest.mark.perf_budget(peak_memory="1 MiB")
        def test_big():
            block = build()
        @pytest.mark.perf_budget(peak_memory="10 MiB", allocations="5000")
        def test_small():
            block = build()
        """
    )
    result = project.runpytest()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "over budget: peak_memory 4.7? MiB, limit <= 1.00 MiB (+37? %)",
            "  4.77 MiB held by test_it.py:3 in build",
        ]
    )


def test_fixtures_are_left_out_unless_asked_for(project):
    project.makepyfile(
        """
        import pytest
        @pytest.fixture
        def big():
            yield bytearray(5_000_000)
        @pytest.mark.perf_budget(peak_memory="1 MiB")
        def test_body(big): pass
        @pytest.mark.perf_budget(peak_memory="1 MiB", include_fixtures=True)
        def test_all(big): pass
        """
    )
    result = project.runpytest("-v")
    result.stdout.fnmatch_lines(["*test_body PASSED*", "*test_all FAILED*"])


def test_a_plain_run_adds_one_pass_with_fresh_function_fixtures(project):
    project.makepyfile(
        """
        import pytest
        made = {"module": 0, "function": 0, "calls": 0}
        @pytest.fixture(scope="module")
        def wide():
            made["module"] += 1
            yield
        @pytest.fixture
        def narrow():
            made["function"] += 1
            yield made["function"]
        @pytest.mark.perf_budget(peak_memory="1 GiB")
        def test_first(wide, narrow):
            made["calls"] += 1
            assert narrow == made["calls"]
        def test_counts(wide):
            assert made == {"module": 1, "function": 2, "calls": 2}
        """
    )
    project.runpytest().assert_outcomes(passed=2)


def test_perf_runs_its_callable_once_in_the_memory_pass(project):
    project.makepyfile(
        """
        import pytest
        calls = []
        @pytest.mark.perf_budget(wall="1 s", peak_memory="1 GiB")
        def test_it(perf):
            before = len(calls)
            perf(calls.append, 1)
            calls.append(f"made {len(calls) - before}")
        def test_counts():
            assert calls[-1] == "made 1"
        """
    )
    project.runpytest().assert_outcomes(passed=2)


def test_a_test_that_fails_when_run_again_says_in_which_pass(project):
    project.makepyfile(
        """
        import pytest
        seen = []
        @pytest.mark.perf_budget(peak_memory="1 GiB")
        def test_once_only():
            seen.append(1)
            assert len(seen) < 2
        """
    )
    result = project.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*perf: memory pass*"])


def test_one_percent_more_allocations_and_a_tenth_more_peak_are_regressions(project, monkeypatch):
    project.makepyfile(GROWING)
    monkeypatch.setenv("PLANTED_SIZE", "5000")
    assert project.runpytest("--perf-update").ret == 0
    clean = project.runpytest("--perf-gate", "--perf-time=1ms")
    clean.stdout.no_fnmatch_line("*regressed*")
    monkeypatch.setenv("PLANTED_SIZE", "5050")
    more = project.runpytest("--perf-gate", "--perf-time=1ms")
    more.assert_outcomes(failed=1)
    more.stdout.fnmatch_lines(["regressed: allocations *"])
    monkeypatch.setenv("PLANTED_SIZE", "5500")
    most = project.runpytest("--perf-gate", "--perf-time=1ms")
    most.stdout.fnmatch_lines(["regressed: peak_memory *", "  +* held by *"])


def test_heap_figures_are_the_same_in_workers(project, monkeypatch):
    project.makepyfile(
        """
        import os
        def test_rows(perf_memory):
            perf_memory(lambda: [float(i) for i in range(int(os.environ["PLANTED_SIZE"]))])
        """
    )
    monkeypatch.setenv("PLANTED_SIZE", "5000")
    assert project.runpytest_subprocess("--perf-update").ret == 0
    project.runpytest_subprocess("--perf-gate", "-n", "1").assert_outcomes(passed=1)
    monkeypatch.setenv("PLANTED_SIZE", "5500")
    project.runpytest_subprocess("--perf-gate", "-n", "1").assert_outcomes(failed=1)


def test_without_memray_a_limit_is_undecided_and_strict_fails(project, monkeypatch):
    monkeypatch.setitem(sys.modules, "memray", None)
    project.makepyfile(
        """
        import pytest
        @pytest.mark.perf_budget(peak_memory="1 MiB")
        def test_it(): pass
        """
    )
    result = project.runpytest()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["perf: *test_it: undecided: limit <= 1.00 MiB not judged: *pip install memray"]
    )
    strict = project.runpytest("--perf-strict")
    strict.assert_outcomes(failed=1)


def test_beside_another_tracker_there_is_one_clear_message(project):
    project.makepyfile(
        """
        import pytest
        @pytest.mark.perf_budget(peak_memory="1 MiB")
        def test_limit(): pass
        @pytest.mark.limit_memory("1 GB")
        @pytest.mark.perf_budget(peak_memory="1 MiB")
        def test_marked(): pass
        def test_fixture(perf_memory):
            perf_memory(list)
        """
    )
    project.makeconftest(
        """
        def pytest_addoption(parser):
            parser.addoption("--memray", action="store_true")
        def pytest_configure(config):
            config.pluginmanager.register(object(), "memray_manager")
            config.addinivalue_line("markers", "limit_memory: pytest-memray's")
        """
    )
    project.runpytest().assert_outcomes(passed=3)
    result = project.runpytest("--memray")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*run without --memray*", "*undecided*run without --memray"])
    marked = project.runpytest("-k", "marked")
    marked.stdout.fnmatch_lines(["*test_marked: undecided*its limit_memory marker*"])


def test_the_fixture_measures_callables_and_blocks(project):
    project.makepyfile(
        """
        def test_it(perf_memory):
            rows = perf_memory(lambda n: [float(i) for i in range(n)], 1000)
            assert len(rows) == 1000
            assert 24_000 < perf_memory.last.peak_bytes < 60_000
            assert perf_memory.last.allocations >= 1000
            with perf_memory.named("block").track() as heap:
                block = bytearray(3_000_000)
            assert 3_000_000 <= heap.use.peak_bytes < 3_100_000
            assert "test_it" in heap.use.sites[0].where
        async def test_async(perf_memory):
            async def load():
                return bytearray(2_000_000)
            assert len(await perf_memory(load)) == 2_000_000
            assert perf_memory.last.peak_bytes >= 2_000_000
        """
    )
    project.runpytest("-o", "asyncio_mode=auto").assert_outcomes(passed=2)


def test_limits_apply_to_what_the_fixture_measured(project):
    project.makepyfile(
        """
        import pytest
        @pytest.mark.perf_budget(peak_memory="1 MiB")
        def test_it(perf_memory):
            perf_memory(lambda: bytearray(2_000_000))
        """
    )
    result = project.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["over budget: peak_memory 1.91 MiB, limit <= 1.00 MiB*"])


def test_time_is_not_measured_inside_a_tracker(project):
    project.makepyfile(
        """
        import pytest
        from pytest_tradeperf.errors import MeasureError
        def test_it(perf, perf_memory):
            with pytest.raises(MeasureError, match="one after the other"):
                perf(lambda: perf_memory(list))
        """
    )
    project.runpytest().assert_outcomes(passed=1)


LEAKS = """
import asyncio, functools, pytest
kept = []
class Thing: pass

@pytest.mark.perf_leak(calls=20)
def test_python():
    kept.append(Thing())

@pytest.mark.perf_leak(calls=20)
async def test_async():
    kept.append(Thing())
    await asyncio.sleep(0)

@pytest.mark.perf_leak(calls=20)
def test_file(tmp_path):
    kept.append(open(tmp_path / "f", "w"))

@pytest.mark.perf_leak(calls=20)
async def test_task():
    kept.append(asyncio.create_task(asyncio.Event().wait()))

@pytest.mark.perf_leak(calls=20)
@pytest.mark.parametrize("size", [10, 100])
def test_clean(size):
    [str(i) for i in range(size)]

@functools.lru_cache(maxsize=64)
def cached(key):
    return [key]
numbers = iter(range(1000, 10**9))

@pytest.mark.perf_leak(calls=20)
def test_cache():
    cached(next(numbers))
"""


@pytest.mark.parametrize("workers", [(), ("-n", "1")])
def test_leaks_fail_their_tests_and_clean_ones_pass(project, workers):
    project.makepyfile(test_it=LEAKS)
    options = ["-v", "-o", "asyncio_mode=auto", "-W", "ignore::ResourceWarning", *workers]
    result = project.runpytest_subprocess(*options)
    result.assert_outcomes(passed=3, failed=4)
    result.stdout.fnmatch_lines_random(
        [
            "over budget: leaking after * calls: +* per call (*",
            "*held by test_it.py:7 in test_python",
            "  +1 files per call (1,000,000 per million calls)",
            "  +1 tasks per call (1,000,000 per million calls)",
        ]
    )


def test_classes_unittest_and_expected_failures_are_measured_too(project):
    project.makepyfile(
        """
        import unittest, pytest
        kept = []
        class TestOld(unittest.TestCase):
            @pytest.mark.perf_leak(calls=20)
            def test_leaks(self):
                kept.append(object())
        @pytest.mark.perf_leak(calls=20)
        class TestNew:
            @pytest.mark.parametrize("keep", [False, True])
            def test_it(self, keep):
                if keep:
                    kept.append(object())
        @pytest.mark.perf_budget(peak_memory="1 B")
        @pytest.mark.xfail
        def test_expected():
            bytearray(100)
        @pytest.mark.perf_leak
        @pytest.mark.skip
        def test_skipped(): pass
        """
    )
    project.runpytest().assert_outcomes(passed=1, failed=2, xfailed=1, skipped=1)


def test_a_search_without_time_is_undecided(project):
    project.makepyfile(
        """
        import pytest
        @pytest.mark.perf_leak(time="1 ns")
        def test_it(): pass
        """
    )
    result = project.runpytest()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["perf: *undecided: undecided after * calls: a call takes *"])


def test_the_fixture_fails_its_test_on_a_leak_unless_told_not_to(project):
    project.makepyfile(
        """
        kept = []
        def test_judged(perf_memory):
            assert perf_memory.leak(kept.append, bytearray(9), calls=20).verdict == "leaking"
        def test_looked_at(perf_memory):
            report = perf_memory.leak(lambda: kept.append(object()), calls=20, fail=False)
            assert report.verdict == "leaking"
        def test_clean(perf_memory):
            assert perf_memory.leak(lambda: None, calls=20, allow="16 B", time="30 s").verdict == "clean"
        """
    )
    result = project.runpytest("-v")
    result.stdout.fnmatch_lines(["*test_judged FAILED*", "*test_looked_at PASSED*", "*test_clean PASSED*"])


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("perf_leak(3)", "perf_leak takes keyword arguments only*"),
        ("perf_leak(cals=3)", "perf_leak has no argument 'cals'; did you mean 'calls'?"),
        ("perf_leak(calls=0)", "perf_leak(calls=0): write a whole number*"),
        ("perf_leak(allow='3 s')", "perf_leak: '3 s' has the unit 's'*"),
        ("perf_imports()", "perf_imports needs the name of one package, not nothing*"),
        ("perf_imports('x', forbid='torch')", "perf_imports(forbid='torch'): write a list*"),
        ("perf_imports('x', memry='1 MB')", "perf_imports has no argument 'memry'; did you mean 'memory'?"),
        ("perf_imports('x', memory='fast')", "perf_imports(memory=...): cannot read 'fast'*"),
        ("perf_budget(heap='c')", "perf_budget(heap='c'): write 'python'*"),
        ("perf_budget(include_fixtures='no')", "perf_budget(include_fixtures='no'): write True or False"),
    ],
)
def test_a_wrong_marker_is_its_tests_own_failure(project, mark, message):
    project.makepyfile(f"import pytest\n@pytest.mark.{mark}\ndef test_it(): pass\ndef test_other(): pass\n")
    result = project.runpytest()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines([message])
