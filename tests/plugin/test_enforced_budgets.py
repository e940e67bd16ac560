"""Budgets in plain runs: what is enforced, on what, and how a failure reads."""

import pytest


def test_a_test_within_budget_passes(project):
    project.makepyfile(
        """
        import pytest
        @pytest.mark.perf_budget(wall="10 s", cpu="10 s")
        def test_quick():
            pass
        """
    )
    project.runpytest().assert_outcomes(passed=1)


def test_whole_body_over_budget_fails_with_limit_measured_and_distance(project):
    project.makepyfile(
        """
        import time, pytest
        @pytest.mark.perf_budget(wall="1 ms")
        def test_slow():
            time.sleep(0.02)
        """
    )
    result = project.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines([r"over budget: wall \d[\d.]* ms, limit <= 1\.00 ms \(\+[\d,]+(\.\d)? %\)"])
    assert result.ret == 1


def test_with_perf_the_limit_is_per_iteration(project):
    project.makepyfile(
        """
        import time, pytest
        @pytest.mark.perf_budget(wall="150 ms", rounds=10)
        def test_many(perf):
            perf(time.sleep, 0.02)          # ten rounds: at least 200 ms in all
        """
    )
    project.runpytest().assert_outcomes(passed=1)


def test_failure_shows_the_stage_tree(project):
    project.makepyfile(
        """
        import time, pytest
        @pytest.mark.perf_budget(wall="1 ms")
        def test_slow(perf):
            with perf.stage("feeds"):
                with perf.stage("parse"):
                    time.sleep(0.01)
            with perf.stage("decide"):
                time.sleep(0.001)
        """
    )
    result = project.runpytest()
    result.stdout.re_match_lines(
        [r"where the time went:", r"  feeds +[\d.]+ ms +\d\d %", r"    parse +[\d.]+ ms", r"  decide"]
    )


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ('limits={"n": ">= 10"}', "n 3, limit >= 10 (-70.0 %)"),
        ('limits={"n": "2"}', "n 3, limit <= 2 (+50.0 %)"),
    ],
)
def test_limits_hold_recorded_values(project, limit, said):
    project.makepyfile(
        f"""
        import pytest
        @pytest.mark.perf_budget({limit})
        def test_count(perf):
            perf.record("n", 3)
        """
    )
    result = project.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*over budget: {said}"])


def test_a_limit_on_something_never_measured_fails_and_names_what_was(project):
    project.makepyfile(
        """
        import pytest
        @pytest.mark.perf_budget(limits={"bars_per_second": ">= 10/s"})
        def test_forgot(perf):
            perf.record("bars", 3)
        """
    )
    result = project.runpytest()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*limit on 'bars_per_second', but the test measured only: wall, cpu, bars*"])


def test_peak_rss_limit_sees_a_large_block(project):
    pytest.importorskip("pytest_tradeperf.measures.resident")
    project.makepyfile(
        """
        import pytest
        @pytest.mark.perf_budget(peak_rss="1 MiB")
        def test_hungry():
            assert bytearray(64 * 1024 * 1024)
        @pytest.mark.perf_budget(peak_rss="4 GiB")
        def test_modest():
            assert bytearray(1024)
        """
    )
    result = project.runpytest()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*over budget: peak_rss * MiB, limit <= 1.00 MiB *"])


def test_nearest_marker_wins_and_limits_merge(project):
    project.makepyfile(
        """
        import time, pytest
        pytestmark = pytest.mark.perf_budget(wall="1 ms", cpu="20 s")

        @pytest.mark.perf_budget(wall="2 ms")
        class TestGroup:
            @pytest.mark.perf_budget(wall="10 s")
            def test_method_wins(self):
                time.sleep(0.01)
            def test_class_wins(self):
                time.sleep(0.01)
        def test_module_holds():
            time.sleep(0.01)
        @pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.perf_budget(wall="10 s"))])
        def test_param(n):
            time.sleep(0.01)
        """
    )
    result = project.runpytest("-v")
    result.stdout.fnmatch_lines(
        [
            "*test_method_wins PASSED*",
            "*test_class_wins FAILED*",
            "*test_module_holds FAILED*",
            "*test_param[[]1] FAILED*",
            "*test_param[[]2] PASSED*",
            "*limit <= 2.00 ms*",
            "*limit <= 1.00 ms*",
        ]
    )


def test_skipped_xfailed_and_erroring_tests_behave_as_without_the_plugin(project):
    project.makepyfile(
        """
        import time, pytest
        pytestmark = pytest.mark.perf_budget(wall="1 ms")

        @pytest.mark.skip(reason="not today")
        def test_skipped():
            time.sleep(1)
        def test_skips_itself():
            pytest.skip("inside")
        @pytest.mark.xfail(reason="known")
        def test_xfailed():
            assert 0
        @pytest.mark.xfail(reason="known to be slow")
        def test_over_budget_is_an_expected_failure():
            time.sleep(0.01)
        @pytest.mark.perf_budget(wall="10 s")
        @pytest.mark.xfail(strict=True)
        def test_strict_xpass():
            pass
        @pytest.fixture
        def broken():
            raise OSError("no disk")
        def test_error(broken):
            pass
        def test_fails_for_its_own_reason():
            time.sleep(0.01)
            assert 1 == 2
        """
    )
    result = project.runpytest()
    result.assert_outcomes(skipped=2, xfailed=2, failed=2, errors=1)
    assert "over budget" not in result.stdout.str()
    result.stdout.fnmatch_lines(["*XPASS(strict)*", "*assert 1 == 2*"])


@pytest.mark.parametrize("option", ["--perf-update", "--perf-gate", "--perf-strict"])
def test_a_skip_in_the_set_up_of_another_plugin_is_a_skip(project, option):
    folder = project.mkdir("network")
    (folder / "conftest.py").write_text(
        "import pytest\n"
        "@pytest.hookimpl(tryfirst=True)\n"
        "def pytest_runtest_setup(item):\n"
        "    pytest.skip('offline')\n"
    )
    (folder / "test_it.py").write_text(
        "import pytest\n"
        "def test_body(perf):\n    perf(int)\n"
        "@pytest.mark.perf_budget(peak_memory='1 GiB')\n"
        "def test_heap():\n    pass\n"
    )
    result = project.runpytest(option)
    result.assert_outcomes(skipped=2)
    assert result.ret == 0


def test_unittest_classes_are_measured(project):
    project.makepyfile(
        """
        import time, unittest, pytest
        @pytest.mark.perf_budget(wall="1 ms")
        class SlowTests(unittest.TestCase):
            def setUp(self):
                self.ready = True
            def test_slow(self):
                time.sleep(0.01)
            @pytest.mark.perf_budget(wall="10 s")
            def test_allowed(self):
                assert self.ready
            def test_own_failure(self):
                self.fail("mine")
            @unittest.skip("no")
            def test_skipped(self):
                pass
        """
    )
    result = project.runpytest()
    result.assert_outcomes(passed=1, failed=2, skipped=1)
    result.stdout.fnmatch_lines(["*AssertionError: mine*", "over budget: wall*"])


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_async_tests_under_pytest_asyncio(project, mode):
    mark = "@pytest.mark.asyncio" if mode == "strict" else ""
    project.makepyfile(
        f"""
        import asyncio, pytest
        @pytest.mark.perf_budget(wall="1 ms")
        {mark}
        async def test_slow():
            await asyncio.sleep(0.02)
        async def double(n):
            await asyncio.sleep(0)
            return 2 * n
        @pytest.mark.perf_budget(wall="1 s")
        {mark}
        async def test_perf(perf):
            assert await perf(double, 21) == 42
            assert perf.last.rounds >= 3
        """
    )
    result = project.runpytest("-o", f"asyncio_mode={mode}")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*over budget: wall * ms, limit <= 1.00 ms*"])


def test_failing_budgets_reach_last_failed_junit_and_maxfail(project):
    project.makepyfile(
        """
        import time, pytest
        def test_quick():
            pass
        @pytest.mark.perf_budget(wall="1 ms")
        def test_slow():
            time.sleep(0.01)
        def test_never_reached():
            pass
        """
    )
    result = project.runpytest("-x", "--junitxml=out.xml")
    result.assert_outcomes(passed=1, failed=1)
    xml = (project.path / "out.xml").read_text()
    assert 'failures="1"' in xml
    assert 'tests="2"' in xml
    assert "over budget: wall" in xml
    again = project.runpytest("--lf")
    again.assert_outcomes(failed=1)
    assert "test_slow" in again.stdout.str()


def test_an_unawaited_perf_call_fails_its_test(project):
    project.makepyfile(
        """
        import pytest
        async def fetch(): ...
        @pytest.mark.filterwarnings("ignore")
        @pytest.mark.asyncio
        async def test_forgot(perf):
            perf(fetch)
        """
    )
    result = project.runpytest("-W", "ignore")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*was not awaited: write `await perf(...)`*"])


def test_perf_off_runs_callables_once_and_enforces_nothing(project):
    project.makepyfile(
        """
        import time, pytest
        calls = []
        @pytest.mark.perf_budget(wall="1 ms")
        def test_slow(perf):
            assert perf(lambda: calls.append(1) or time.sleep(0.01) or len(calls)) == 1
            assert len(calls) == 1
        """
    )
    project.runpytest("--perf-off").assert_outcomes(passed=1)
    project.runpytest("-o", "perf_off=true").assert_outcomes(passed=1)
    gated = project.runpytest("-o", "perf_off=true", "--perf-gate")
    gated.stdout.fnmatch_lines(["perf: threshold *"])
    off = project.runpytest("--perf-off", "--perf-gate")
    off.stdout.no_fnmatch_line("perf: threshold *")
