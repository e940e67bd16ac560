"""Limits and marks that are enforced although the session measures timings in pairs."""

import subprocess
import sys

import pytest

SUITE = """
import asyncio, time, pytest
kept = []

@pytest.mark.perf_budget(peak_memory="1 KiB")
def test_peak():
    bytearray(1_000_000)

@pytest.mark.perf_budget(allocations=10)
def test_allocations():
    [object() for _ in range(1000)]

@pytest.mark.perf_leak(calls=20)
def test_leak():
    kept.append(bytearray(1000))

@pytest.mark.perf_imports("shop", forbid=["json"])
def test_imports():
    pass

@pytest.mark.perf_budget(loop_lag="60 ms")
async def test_loop():
    await asyncio.sleep(0)
    end = time.thread_time() + 0.1
    while time.thread_time() < end:
        pass
"""
UNLIMITED = """
import pytest
calls = []

@pytest.mark.perf_budget(peak_memory=True, peak_rss=True, allocations=True)
def test_calls():
    calls.append(0)
    assert len(calls) == 1
"""


@pytest.fixture
def repository(project, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(project.path))
    project.mkpydir("shop").joinpath("__init__.py").write_text("import json\n")
    project.makefile(".ini", pytest=(project.path / "pytest.ini").read_text() + "\nasyncio_mode = auto\n")
    user = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    for args in (["init", "-q"], ["add", "shop"], [*user, "commit", "-q", "-m", "change"]):
        subprocess.run(["git", *args], cwd=project.path, check=True)
    return project


@pytest.mark.skipif(sys.platform == "win32", reason="memray has no Windows version")
@pytest.mark.parametrize("options", [("--perf-against", "HEAD"), ("--perf-selftest",)])
def test_each_limit_beside_time_is_enforced(repository, options):
    repository.makepyfile(test_it=SUITE)
    result = repository.runpytest_subprocess(*options)
    result.assert_outcomes(failed=5)
    assert result.ret == 1
    result.stdout.fnmatch_lines_random(
        [
            "over budget: peak_memory *, limit <= 1.00 KiB*",
            "over budget: allocations *, limit <= 10*",
            "over budget: leaking *",
            "over budget: *json*",
            "over budget: loop_lag *, limit <= 60.0 ms*",
        ]
    )


def test_values_that_only_the_gate_would_judge_take_no_passes(repository):
    repository.makepyfile(test_it=UNLIMITED)
    result = repository.runpytest("--perf-against", "HEAD")
    result.assert_outcomes(passed=1)
