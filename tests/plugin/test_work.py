"""Instructions: asked for in a marker, counted by valgrind (here by a stand-in), judged as a counter."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_tradeperf.plugin.work import NO_CALLABLE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="valgrind counts on Linux alone")

SHOP = """
import os
STEPS = int(os.environ.get("PLANTED_STEPS", "200"))
def step():
    return 1
def work():
    return sum(step() for _ in range(STEPS))
"""
TESTS = """
import pytest
from shop import STEPS, work
@pytest.mark.perf_budget(instructions=True)
def test_work(perf):
    assert perf(work) == STEPS
"""


@pytest.fixture
def shop(project):
    """A project whose code stays the same for git, so that no timing has to be confirmed."""
    subprocess.run(["git", "init", "-q"], cwd=project.path, check=True)
    with Path(project.path, "pytest.ini").open("a") as ini:
        ini.write("\nperf_source = shop.py\n")
    project.makepyfile(shop=SHOP, test_it=TESTS)
    return project


@pytest.fixture
def stand_in(tmp_path_factory, monkeypatch):
    """The only valgrind on the path; returns how often it was started."""
    folder = tmp_path_factory.mktemp("stand-in")
    script = folder / "valgrind"
    script.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).parent / "stand_in_valgrind.py"}" "$@"\n'
    )
    script.chmod(0o755)
    starts = folder / "starts"
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STAND_IN_STARTS", str(starts))
    return lambda: len(starts.read_text().splitlines()) if starts.exists() else 0


@pytest.fixture
def accepted(shop, stand_in):
    assert shop.runpytest("--perf-update").ret == 0
    return shop


def test_one_percent_more_work_is_a_regression_and_the_same_is_ok(accepted, monkeypatch):
    same = accepted.runpytest("--perf-gate")
    assert same.ret == 0
    same.stdout.fnmatch_lines(["  ok          instructions * +0.0 %*", "      work, not time"])
    monkeypatch.setenv("PLANTED_STEPS", "202")
    result = accepted.runpytest("--perf-gate")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["regressed: instructions work, not time: * -> *", "*+1.0 %*"])


def test_a_change_counted_by_another_valgrind_is_a_mismatch(accepted, monkeypatch, baseline_of):
    line = next(row for row in baseline_of().splitlines() if '"instructions"' in row)
    assert '"kind": "counter"' in line
    assert '"relative": 0.0075' in line
    assert "valgrind 3.19.0" in line
    monkeypatch.setenv("STAND_IN_VERSION", "valgrind-3.20.0")
    monkeypatch.setenv("PLANTED_STEPS", "202")
    result = accepted.runpytest("--perf-gate")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["  mismatch    instructions *"])
    assert "valgrind 3.20.0, accepted by CPython" in " ".join(result.stdout.str().split())


def test_a_limit_is_judged_in_a_plain_run(shop, stand_in):
    body = TESTS.replace("instructions=True", 'instructions="1 M"')
    shop.makepyfile(test_it=body + body.replace("test_work", "test_room").replace("1 M", "1 G"))
    result = shop.runpytest()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["over budget: instructions *, limit <= 1,000,000 (+*", "  work, not time: counted by CPython *"]
    )
    assert stand_in() == 1


def test_a_limit_is_enforced_beside_pairs(accepted, stand_in):
    starts = stand_in()
    for args in (["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "change"]):
        subprocess.run(["git", *args], cwd=accepted.path, check=True)
    assert accepted.runpytest("--perf-against", "HEAD").ret == 0
    assert stand_in() == starts, "without a limit nothing would be done with the count"
    accepted.makepyfile(test_it=TESTS.replace("instructions=True", 'instructions="1 M"'))
    result = accepted.runpytest("--perf-against", "HEAD")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["over budget: instructions *, limit <= 1,000,000 (+*"])


def test_without_a_limit_a_plain_run_does_not_start_valgrind(shop, stand_in):
    assert shop.runpytest().ret == 0
    assert stand_in() == 0


def test_parts_and_cache_states_are_counted_apart(shop, stand_in, baseline_of):
    shop.makepyfile(
        test_it=TESTS
        + """
@pytest.mark.perf_budget(instructions=True, limits={"a.instructions": "9 G"})
def test_parts(perf):
    perf.named("a")(work)
    perf.named("b", cache="cold")(work)
async def work_async():
    return work()
@pytest.mark.asyncio
@pytest.mark.perf_budget(instructions=True)
async def test_async(perf):
    await perf(work_async)
"""
    )
    result = shop.runpytest("--perf-update")
    assert result.ret == 0
    names = ["a.instructions", "b.instructions@cold", "instructions", "instructions"]
    rows = baseline_of().splitlines()
    assert sorted(n for n in names for row in rows if f'"{n}"' in row and "test_work" not in row) == [
        "a.instructions",
        "b.instructions@cold",
        "instructions",
        "instructions",
    ]
    assert stand_in() == 1


def test_options_of_conftests_reach_the_counting_process(project, stand_in):
    project.makeconftest("def pytest_addoption(parser):\n    parser.addoption('--size', default='1')\n")
    project.makepyfile(
        test_it="""
        import pytest
        @pytest.fixture
        def size(request):
            return int(request.config.getoption("--size"))
        @pytest.mark.perf_budget(instructions="1 k")
        def test_size(perf, size):
            assert size == 7
            perf(abs, size)
        """
    )
    result = project.runpytest("--size=7")
    result.stdout.fnmatch_lines(["over budget: instructions *"])


# -- what cannot be counted says why


def test_without_valgrind_it_is_unavailable_and_the_line_is_kept(
    accepted, monkeypatch, baseline_of, tmp_path
):
    (tmp_path / "git").symlink_to(shutil.which("git"))
    monkeypatch.setenv("PATH", str(tmp_path))
    before = next(row for row in baseline_of().splitlines() if '"instructions"' in row)
    result = accepted.runpytest("--perf-gate")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "  undecided   instructions",
            "      not measured: instructions are counted by valgrind, which is not on*",
        ]
    )
    assert "no longer measures" not in result.stdout.str()
    assert accepted.runpytest("--perf-gate", "--perf-strict").ret == 1
    assert accepted.runpytest("--perf-update").ret == 0
    assert before in baseline_of()


def notes_of(project):
    """Return what a gate says of the instructions of each test, by test."""
    project.runpytest("--perf-gate", "--perf-report=json=out.json", "--perf-time=12s")
    rows = json.loads((project.path / "out.json").read_text())["verdicts"]
    return {row["test"].partition("::")[2]: row["note"] for row in rows if row["metric"] == "instructions"}


def test_a_valgrind_that_is_too_old_is_named(shop, stand_in, monkeypatch):
    monkeypatch.setenv("STAND_IN_VERSION", "valgrind-3.11.0")
    assert "valgrind 3.11.0 is too old to count with" in notes_of(shop)["test_work"]
    assert stand_in() == 0


def test_a_valgrind_that_does_not_run_this_python_is_quoted(shop, stand_in, monkeypatch):
    monkeypatch.setenv("STAND_IN_FAILS", "1")
    note = notes_of(shop)["test_work"]
    assert note.endswith("exit code 1: valgrind: Fatal error at startup: no such tool")


def test_a_test_that_cannot_be_counted_says_why_and_costs_itself_alone(project, stand_in, monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    project.makepyfile(
        test_it="""
        import os, threading, pytest
        COUNTING = os.environ["PYTHONHASHSEED"] == "0"
        CALLS = []
        pytestmark = pytest.mark.perf_budget(instructions=True)
        @pytest.fixture
        def broken():
            assert not COUNTING, "refused"
        def fails_later():
            CALLS.append(1)
            assert len(CALLS) < 3 or not COUNTING
        def test_whole():
            pass
        def test_fails(perf):
            assert not COUNTING, "odd"
            perf(abs, 1)
        def test_crashes(perf):
            COUNTING and os.abort()
            perf(abs, 1)
        def test_skips(perf):
            COUNTING and pytest.skip("not here")
            perf(abs, 1)
        def test_set_up(perf, broken):
            perf(abs, 1)
        def test_once(perf):
            perf(fails_later)
        def test_thread(perf):
            stop = threading.Event()
            pump = threading.Thread(target=stop.wait, name="pump")
            pump.start()
            try:
                perf(abs, 1)
            finally:
                stop.set()
                pump.join()
        def test_fine(perf):
            perf(abs, 1)
        def test_hangs(perf):
            COUNTING and threading.Event().wait()
            perf(abs, 1)
        """
    )
    notes = notes_of(project)
    assert notes == {
        "test_whole": f"not measured: {NO_CALLABLE}",
        "test_fails": "not measured: under valgrind it did not pass: AssertionError: odd",
        "test_crashes": "not measured: under valgrind it ended with SIGABRT",
        "test_skips": "not measured: under valgrind it did not pass: Skipped: not here",
        "test_set_up": "not measured: under valgrind its set-up failed: AssertionError: refused",
        "test_once": "not measured: called again to be counted, it ended with an error",
        "test_thread": "not measured: 1 more threads run (pump): they would not survive the fork that counts",
        "test_hangs": notes["test_hangs"],
        "test_fine": "",
    }
    assert notes["test_hangs"].endswith(", half of what --perf-time left")
    assert stand_in() == 1


def test_workers_share_one_count(shop, stand_in):
    pytest.importorskip("xdist")
    shop.makepyfile(test_other=TESTS)
    assert shop.runpytest("--perf-update").ret == 0
    result = shop.runpytest_subprocess("--perf-gate", "-n", "2")
    assert result.ret == 0
    result.assert_outcomes(passed=2)
    assert result.stdout.str().count("ok          instructions") == 2
    assert stand_in() == 2


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_valgrind_itself_finds_one_percent_more_work_and_no_change_where_there_is_none(shop, monkeypatch):
    assert shop.runpytest("--perf-update").ret == 0
    for steps, verdict in (("200", "ok"), ("202", "regressed")):
        monkeypatch.setenv("PLANTED_STEPS", steps)
        result = shop.runpytest("--perf-gate")
        result.stdout.fnmatch_lines([f"  {verdict:<11} instructions *"])
