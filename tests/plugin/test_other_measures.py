"""Imports, event loop, GPU, noise and measures of one's own, as budgets and under the gate."""

import sys
from pathlib import Path

import pytest

LOOP = """
import asyncio, time, pytest
def crunch():
    end = time.thread_time() + 0.1
    while time.thread_time() < end: pass
@pytest.mark.perf_budget(loop_lag="60 ms")
async def test_blocks():
    await asyncio.sleep(0)
    crunch()
@pytest.mark.perf_budget(loop_lag="60 ms")
async def test_waits():
    await asyncio.sleep(0.08)
@pytest.mark.perf_budget(loop_lag="60 ms", wall="10 s")
async def test_measured(perf):
    async def work():
        await asyncio.sleep(0)
    await perf(work)
"""


@pytest.mark.parametrize("options", [(), ("--perf-report", "json=out.json"), ("-n", "1")])
def test_a_block_of_the_loop_is_over_budget_and_its_line_named(project, options):
    project.makepyfile(test_it=LOOP)
    result = project.runpytest_subprocess("-v", "-o", "asyncio_mode=auto", *options)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "over budget: loop_lag *, limit <= 60.0 ms*",
            "  held the loop: * ms by test_blocks in test_it.py:* in crunch",
        ]
    )


def test_a_test_without_a_loop_leaves_the_limit_undecided(project):
    project.makepyfile(
        """
        import pytest
        @pytest.mark.perf_budget(loop_lag="60 ms")
        def test_it(): pass
        """
    )
    result = project.runpytest()
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["perf: *undecided: *no event loop was seen to run*"])


def shop(project, *lines):
    package = Path(project.path, "shop")
    package.mkdir(exist_ok=True)
    (package / "__init__.py").write_text("\n".join(lines) + "\n")
    (package / "feeds.py").write_text("import json\n")
    project.makepyfile(
        """
        import pytest
        @pytest.mark.perf_imports("shop")
        def test_import(): pass
        """
    )


@pytest.fixture
def shopping(project, monkeypatch):
    monkeypatch.syspath_prepend(project.path)
    return project


def test_an_import_that_begins_to_pull_another_library_is_a_regression(shopping):
    shop(shopping, "import json")
    assert shopping.runpytest("--perf-update").ret == 0
    clean = shopping.runpytest("--perf-gate")
    clean.assert_outcomes(passed=1)
    clean.stdout.fnmatch_lines(["perf: * ok"])
    shop(shopping, "import json", "import numpy")
    result = shopping.runpytest("--perf-gate")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["regressed: import_modules:shop *", "regressed: import_set:shop *+numpy*"])


def test_an_import_that_pulls_less_is_an_improvement(shopping):
    shop(shopping, "import json, decimal, colorsys")
    assert shopping.runpytest("--perf-update").ret == 0
    shop(shopping, "import json, decimal")
    result = shopping.runpytest("--perf-gate")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*improved*import_set:shop*-colorsys*"])


def test_limits_forbidden_modules_and_failures_are_over_budget(shopping):
    shop(shopping, "import decimal")
    Path(shopping.path, "shop", "broken.py").write_text("import not_there_at_all\n")
    shopping.makepyfile(
        """
        import pytest
        @pytest.mark.perf_imports("shop", modules=3, forbid=["decimal", "torch"], must_import=True)
        def test_bad(): pass
        @pytest.mark.perf_imports("shop", wall="60 s", memory="1 GiB", modules="<= 500")
        def test_good(): pass
        @pytest.mark.perf_imports("no_such_shop")
        def test_absent(): pass
        """
    )
    result = shopping.runpytest("-v")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            "over budget: importing shop: modules *, limit <= 3",
            "over budget: forbidden: decimal is imported (shop -> decimal*",
            "  cannot be imported: shop.broken: ModuleNotFoundError: No module named 'not_there_at_all'",
            "error: there is no module 'no_such_shop'*",
        ]
    )


def test_the_import_fixture_returns_the_report_and_judges(shopping):
    shop(shopping, "import decimal")
    shopping.makepyfile(
        """
        def test_report(perf_imports):
            report = perf_imports("shop", must_import=True)
            assert [m.name for m in report.all] == ["shop", "shop.feeds"]
            assert report.success_rate == 1.0
        def test_judged(perf_imports):
            perf_imports("shop", forbid=["decimal"])
        """
    )
    result = shopping.runpytest("-v")
    result.stdout.fnmatch_lines(["*test_report PASSED*", "*test_judged FAILED*", "*forbidden: decimal*"])


def test_gpu_limits_without_a_gpu_are_undecided_with_the_reason(project, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    project.makepyfile(
        """
        import pytest
        @pytest.mark.perf_budget(gpu_memory="1 GiB", gpu_utilization=">= 50%", gpu_energy="10 J", gpu_time="5 ms")
        def test_limits(): pass
        def test_fixture(perf_gpu):
            with perf_gpu() as gpu:
                ran = True
            assert ran and "pip install nvidia-ml-py" in gpu.unavailable
        """
    )
    result = project.runpytest()
    result.assert_outcomes(passed=2)
    assert result.stdout.str().count("undecided: limit") == 4


def test_a_measure_of_ones_own_is_stored_bounded_and_judged(project, monkeypatch):
    project.makeconftest(
        """
        import os
        import pytest
        from pytest_tradeperf.model import Kind, Measurement, Metric

        class Queries:
            def __enter__(self):
                self.count = int(os.environ["PLANTED_QUERIES"])
                return self
            def __exit__(self, *failure):
                pass
            def measurements(self):
                return [Measurement(metric=Metric(name="queries", kind=Kind.COUNTER), value=self.count)]

        @pytest.hookimpl(optionalhook=True)
        def pytest_tradeperf_measure(item):
            return Queries() if "db" in item.name else None
        """
    )
    project.makepyfile(
        """
        import pytest
        @pytest.mark.perf_budget(limits={"queries": "<= 9"})
        def test_db(): pass
        @pytest.mark.perf_budget(wall="1 s")
        def test_other(): pass
        """
    )
    monkeypatch.setenv("PLANTED_QUERIES", "5")
    assert project.runpytest("--perf-update").ret == 0
    monkeypatch.setenv("PLANTED_QUERIES", "6")
    project.runpytest("--perf-gate").stdout.fnmatch_lines(["regressed: queries 5 -> 6"])
    monkeypatch.setenv("PLANTED_QUERIES", "10")
    project.runpytest().stdout.fnmatch_lines(["over budget: queries 10, limit <= 9*"])


def test_tests_with_other_marks_alone_are_not_timed(project, baseline_of):
    project.makepyfile(
        """
        import pytest
        @pytest.mark.perf_leak(calls=5)
        def test_leak(): pass
        def test_memory(perf_memory):
            perf_memory(list)
        """
    )
    assert project.runpytest("--perf-update").ret == 0
    text = baseline_of()
    assert '"peak_memory"' in text
    assert '"wall"' not in text


def test_with_perf_off_marks_do_nothing_and_fixtures_still_run(project):
    project.makepyfile(
        """
        import pytest
        kept = []
        @pytest.mark.perf_leak(calls=20)
        def test_leak(): kept.append(object())
        @pytest.mark.perf_budget(peak_memory="1 B")
        def test_peak(): bytearray(1000)
        def test_fixtures(perf_memory, perf_gpu):
            assert perf_memory(lambda: 7) == 7
            with perf_gpu(): pass
            assert len(kept) == 1
        """
    )
    project.runpytest("--perf-off").assert_outcomes(passed=3)
