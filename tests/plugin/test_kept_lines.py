"""Stored lines on a machine that lacks the instruments they were measured with: kept, and not called missing."""

import functools
import json
import sys
from pathlib import Path

import pytest

from pytest_tradeperf.measures.resident import ResidentPeak

CONFTEST = """
import pytest

class Queries:
    unavailable = {"queries": "no database here"}
    def __enter__(self):
        return self
    def __exit__(self, *failure):
        pass
    def measurements(self):
        return []

@pytest.hookimpl(optionalhook=True)
def pytest_tradeperf_measure(item):
    return Queries() if item.name == "test_own" else None
"""

TEST = """
import pytest
def test_kept(perf):
    perf.record("orders", 100)

@pytest.mark.perf_budget(gpu_memory="1 GiB", gpu_energy=True)
def test_gpu():
    pass
def test_gpu_block(perf_gpu):
    with perf_gpu.named("train")():
        pass
@pytest.mark.perf_budget(peak_memory="1 GiB", allocations=True)
def test_heap():
    pass
def test_heap_block(perf_memory):
    with perf_memory.named("report").track():
        pass
def test_heap_call(perf_memory):
    perf_memory(list)
@pytest.mark.perf_budget(peak_rss=True)
def test_resident():
    pass
@pytest.mark.perf_budget(loop_lag=True)
def test_loop():
    pass
@pytest.mark.perf_budget(instructions=True)
def test_work(perf):
    perf.named("a")(abs, 1)
@pytest.mark.perf_budget(wall="10 s")
def test_own():
    pass
"""
LINES = [
    ("test_gpu", "gpu_memory"),
    ("test_gpu", "gpu_energy"),
    ("test_gpu_block", "train.gpu_utilization"),
    ("test_heap", "peak_memory"),
    ("test_heap", "allocations"),
    ("test_heap_block", "report.peak_memory@malloc"),
    ("test_heap_block", "report.allocations"),
    ("test_heap_call", "peak_memory"),
    ("test_resident", "peak_rss_growth"),
    ("test_loop", "loop_lag"),
    ("test_work", "a.instructions"),
    ("test_own", "queries"),
]


@pytest.fixture
def bare(project, monkeypatch):
    """A project with stored lines of every instrument, on a machine that has none of them."""
    project.makeconftest(CONFTEST)
    project.makepyfile(test_it=TEST)
    for name in ("memray", "psutil", "pynvml"):
        monkeypatch.setitem(sys.modules, name, None)
    nowhere = functools.partial(ResidentPeak, proc=Path(project.path, "absent"))
    monkeypatch.setattr("pytest_tradeperf.measures.resident.ResidentPeak", nowhere)
    monkeypatch.setenv("PATH", str(project.path))
    project.runpytest("--perf-update", "-k", "test_kept")
    (path,) = Path(project.path, "perf-baselines").glob("*-*.jsonl")
    line = next(text for text in path.read_text().splitlines() if '"orders"' in text)
    lines = [line.replace("test_kept", test).replace('"orders"', json.dumps(name)) for test, name in LINES]
    path.write_text("\n".join([path.read_text().rstrip(), *lines]) + "\n")
    return project


def test_accepting_keeps_what_could_not_be_measured(bare, baseline_of):
    result = bare.runpytest("--perf-update")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*, 0 dropped, *"])
    stored = [json.loads(text) for text in baseline_of().splitlines()]
    found = {(row["test"].rpartition("::")[2], row["metric"]) for row in stored if "metric" in row}
    assert set(LINES) <= found


def test_the_gate_says_undecided_and_why(bare):
    result = bare.runpytest("--perf-gate", "--perf-time=1ms", "--perf-report", "json=out.json")
    assert result.ret == 0
    rows = json.loads(Path(bare.path, "out.json").read_text())["verdicts"]
    assert "missing" not in {row["verdict"] for row in rows}
    open_ = {
        (row["test"].rpartition("::")[2], row["metric"]) for row in rows if row["verdict"] == "undecided"
    }
    told = {"peak_rss_growth": "peak_rss", "a.instructions": "instructions"}
    for test, name in LINES:
        assert (test, told.get(name, name.partition("@")[0])) in open_
