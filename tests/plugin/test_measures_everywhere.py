"""Every measure where its instrument is missing, and in xdist workers, with one suite that asks for all."""

import functools
import json
import sys
from pathlib import Path

import pytest

from pytest_tradeperf.measures import leak_series, leaks
from pytest_tradeperf.measures.resident import ResidentPeak
from pytest_tradeperf.measures.witness import NoiseWitness

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="uses /proc")

CONFTEST = """
import os
import pytest
from pytest_tradeperf.model import Kind, Measurement, Metric

class Queries:
    def __init__(self):
        self.unavailable = {"queries": "no database here"} if "NO_DATABASE" in os.environ else {}
    def __enter__(self):
        return self
    def __exit__(self, *failure):
        pass
    def measurements(self):
        count = 5 + ("PLANTED" in os.environ)
        metric = Metric(name="queries", kind=Kind.COUNTER)
        return [] if self.unavailable else [Measurement(metric=metric, value=count)]

@pytest.hookimpl(optionalhook=True)
def pytest_tradeperf_measure(item):
    return Queries() if item.name == "test_own" else None
"""

SUITE = """
import asyncio, os, time, pytest
PLANTED = "PLANTED" in os.environ
kept = []

@pytest.mark.perf_budget(peak_memory=True, allocations=True)
def test_heap():
    [float(i) for i in range(60_000 if PLANTED else 50_000)]

@pytest.mark.perf_budget(peak_rss=True)
def test_resident():
    (bytearray(b"1") * ((64 if PLANTED else 24) * 1024**2)).count(b"2")

@pytest.mark.perf_leak(calls=20)
def test_leak():
    if PLANTED:
        kept.append(object())

@pytest.mark.perf_imports("shop")
def test_imports():
    pass

@pytest.mark.perf_budget(loop_lag=True)
async def test_loop():
    await asyncio.sleep(0)
    end = time.thread_time() + (0.4 if PLANTED else 0)
    while time.thread_time() < end:
        pass

@pytest.mark.perf_budget(limits={"queries": "<= 9"})
def test_own():
    pass
"""


@pytest.fixture
def everything(project, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(project.path))
    monkeypatch.syspath_prepend(project.path)
    project.makeconftest(CONFTEST)
    project.makepyfile(test_it=SUITE)
    shop = Path(project.path, "shop")
    shop.mkdir()
    (shop / "__init__.py").write_text("import json\n")
    return project


@linux
def test_each_is_judged_alike_in_workers_clean_and_planted(everything, monkeypatch):
    pytest.importorskip("xdist")
    options = ("-o", "asyncio_mode=auto", "--perf-time=1ms", "--perf-report=json=out.json")
    assert everything.runpytest_subprocess("--perf-update", *options).ret == 0
    clean = everything.runpytest_subprocess("--perf-gate", "-n", "2", *options)
    clean.assert_outcomes(passed=6)
    record = json.loads(Path(everything.path, "out.json").read_text())
    walls = [
        m for test in record["tests"] for m in test["measurements"] if m["metric"]["name"] in ("wall", "cpu")
    ]
    assert walls
    assert all("involuntary_switches" in m["detail"]["witness"] for m in walls)
    monkeypatch.setenv("PLANTED", "1")
    Path(everything.path, "shop", "__init__.py").write_text("import numpy\n")
    planted = everything.runpytest_subprocess("--perf-gate", "-n", "2", *options)
    planted.assert_outcomes(failed=6)
    planted.stdout.fnmatch_lines_random(
        [
            "regressed: peak_memory *",
            "regressed: allocations *",
            "regressed: peak_rss_growth *",
            "over budget: leaking *",
            "regressed: import_set:shop *+numpy*",
            "regressed: loop_lag *",
            "regressed: queries 5 -> 6*",
        ]
    )


def gate(everything, test, *words):
    """Run one test under the gate, in this process; its output must hold ``words``."""
    result = everything.runpytest("--perf-gate", "--perf-time=1ms", "-k", test, "-o", "asyncio_mode=auto")
    result.assert_outcomes(passed=1, deselected=5)
    text = " ".join(result.stdout.str().split())  # long lines of the table are wrapped
    for word in words:
        assert word in text


def test_heap_without_memray(everything, monkeypatch):
    monkeypatch.setitem(sys.modules, "memray", None)
    told = "not measured: heap figures need memray"
    gate(everything, "test_heap", f"undecided allocations {told}", f"undecided peak_memory {told}")


def test_resident_memory_without_proc_and_psutil(everything, monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    nowhere = functools.partial(ResidentPeak, proc=Path(everything.path, "absent"))
    monkeypatch.setattr("pytest_tradeperf.measures.resident.ResidentPeak", nowhere)
    gate(everything, "test_resident", "undecided peak_rss not measured: resident memory needs")


def test_leaks_without_memray_and_psutil_are_found_all_the_same(everything, monkeypatch):
    monkeypatch.setitem(sys.modules, "memray", None)
    monkeypatch.setitem(sys.modules, "psutil", None)
    gate(everything, "test_leak")
    monkeypatch.setenv("PLANTED", "1")
    result = everything.runpytest("-k", "test_leak")
    result.assert_outcomes(failed=1, deselected=5)
    result.stdout.fnmatch_lines(["over budget: leaking *where it is allocated is unknown: *"])


def test_leaks_of_files_are_not_looked_for_without_a_list_of_them(monkeypatch):
    monkeypatch.setattr(leak_series, "_open_files", lambda: 0)
    assert leaks.find(lambda: None, calls=10).verdict == "clean"


def test_imports_without_proc_have_no_memory(everything, monkeypatch):
    probe = Path(everything.path, "sitecustomize.py")  # loaded by the fresh interpreters
    probe.write_text(
        "import builtins\n"
        "real = builtins.open\n"
        "def patched(path, *args, **kwargs):\n"
        "    if str(path).startswith('/proc/'): raise FileNotFoundError(path)\n"
        "    return real(path, *args, **kwargs)\n"
        "builtins.open = patched\n"
    )
    suite = Path(everything.path, "test_it.py")
    suite.write_text(SUITE.replace('"shop")', '"shop", memory="1 GiB", modules=10_000)'))
    gate(everything, "test_imports", "undecided import_memory:shop limit <= 1.00 GiB on memory not judged")


def test_a_loop_nobody_can_watch(everything):
    suite = Path(everything.path, "test_it.py")
    suite.write_text(SUITE.replace("async def test_loop", "def test_loop").replace("await asyncio", "# "))
    gate(everything, "test_loop", "undecided loop_lag not measured: no event loop was seen to run")


def test_the_witness_on_a_system_that_tells_nothing(everything, monkeypatch):
    nothing = functools.partial(NoiseWitness, root=Path(everything.path, "absent"))
    monkeypatch.setattr("pytest_tradeperf.plugin.session.NoiseWitness", nothing)
    gate(everything, "test_own")


def test_a_measure_of_ones_own_that_cannot_work_here(everything, monkeypatch):
    monkeypatch.setenv("NO_DATABASE", "1")
    gate(everything, "test_own", "undecided queries limit <= 9 not judged: no database here")
