"""The pytest plug-in ``tradeperf``: options, markers, fixtures; everything else is loaded when needed.

Kept light on purpose: a session without perf tests imports this module, its parent and nothing more.
"""

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_tradeperf.measures.gpu.perf import PerfGpu
    from pytest_tradeperf.measures.memory import PerfMemory
    from pytest_tradeperf.measures.recorder import Perf
    from pytest_tradeperf.plugin.importing import PerfImports

MARKERS = frozenset(("perf_budget", "perf_leak", "perf_imports"))
FIXTURES = frozenset(("perf", "perf_memory", "perf_gpu", "perf_imports"))

TOOLING = pytest.StashKey[frozenset[str]]()

_FLAGS = {
    "gate": "fail the session when a stored threshold regresses",
    "update": "accept what is measured now as the stored thresholds",
    "prune": "drop stored lines of tests that were deleted or renamed",
    "selftest": "measure the working tree against itself: noise, false alarms, smallest detectable change",
    "strict": "undecided, new, missing and mismatch fail too",
    "off": "measure nothing, judge nothing: fixtures run their callables once",
}
_INI = {
    "threshold": ("allowed relative change of a timing", "2%"),
    "alpha": ("false-alarm budget of a whole session", "1%"),
    "baselines": ("folder of the stored thresholds, under the rootdir", "perf-baselines"),
    "time": ("time for confirming suspects", "5 min"),
    "against": ("--perf-against: the revision", ""),
    "prepare": ("command that makes generated files in the folder of the accepted code", ""),
}


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hook for measures of your own."""
    from pytest_tradeperf.plugin import hooks

    pluginmanager.add_hookspecs(hooks)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options, each with its ini twin."""
    group = parser.getgroup("tradeperf", "performance budgets and gate (pytest-tradeperf)")
    for name, text in _FLAGS.items():
        group.addoption(f"--perf-{name}", action="store_true", default=None, help=text)
        parser.addini(f"perf_{name}", f"--perf-{name}: {text}", type="bool", default=False)
    group.addoption(
        "--perf-against",
        metavar="REV",
        default=None,
        help="measure every selected perf test in pairs against a revision",
    )
    group.addoption("--perf-time", metavar="DURATION", default=None, help="time for confirming (5 min)")
    group.addoption(
        "--perf-report",
        metavar="FORMAT=PATH",
        action="append",
        default=None,
        help="write what was measured and decided: json=PATH",
    )
    parser.addini("perf_report", "--perf-report, one a line", type="linelist", default=[])
    parser.addini("perf_source", "the code under the gate (default: src, else the rootdir)", type="args")
    parser.addini(
        "perf_overlay",
        "globs of files below perf_source that are the present ones on both sides (tests always are)",
        type="args",
    )
    for name, (text, default) in _INI.items():
        parser.addini(f"perf_{name}", f"{text} (default {default})", default=default)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Remember what plug-ins have loaded, before conftests load the code under test."""
    early_config.stash[TOOLING] = frozenset(sys.modules)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers; load the measuring half at once when an option asks for it."""
    config.addinivalue_line(
        "markers",
        "perf_budget(wall=, cpu=, peak_rss=, peak_memory=, allocations=, instructions=, loop_lag=, "
        "gpu_memory=, gpu_utilization=, gpu_energy=, gpu_time=, limits=, threshold=, rounds=, cache=, heap=, "
        "include_fixtures=, accept=, reason=, until=): limits of this test (True: measured and gated without "
        "one) and how it is measured and gated",
    )
    config.addinivalue_line(
        "markers",
        "perf_leak(calls=, allow=, time=): call this test again and again; nothing may be left behind",
    )
    config.addinivalue_line(
        "markers",
        "perf_imports(package, wall=, memory=, modules=, forbid=, must_import=): what importing may cost",
    )
    if _wants_session(config):
        from pytest_tradeperf.plugin.session import activate

        activate(config)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Load the measuring half only when some collected test asks for it."""
    marked: dict[Any, bool] = {}
    if not _is_off(config) and any(is_gated(item, marked) for item in items):
        from pytest_tradeperf.plugin.session import activate

        activate(config)


def is_gated(item: Any, marked: dict[Any, bool] | None = None) -> bool:
    """Return whether a test is measured: it has a perf marker or uses a perf fixture."""
    if not FIXTURES.isdisjoint(getattr(item, "fixturenames", ())):
        return True
    return _is_marked(item, {} if marked is None else marked)


def _is_marked(node: Any, marked: dict[Any, bool]) -> bool:
    if node.own_markers and any(mark.name in MARKERS for mark in node.own_markers):
        return True
    parent = node.parent
    if parent is None:
        return False
    if parent not in marked:
        marked[parent] = _is_marked(parent, marked)
    return marked[parent]


def _is_off(config: pytest.Config) -> bool:
    """Return whether nothing is measured; what the command line asks for beats the ini file."""
    if config.getoption("perf_off"):
        return True
    asked = (*(name for name in _FLAGS if name != "off"), "against", "report")
    is_wanted = os.environ.get("PYTEST_TRADEPERF_CHILD") or any(config.getoption(f"perf_{n}") for n in asked)
    return bool(config.getini("perf_off") and not is_wanted)


def _wants_session(config: pytest.Config) -> bool:
    """Return whether any option asks for more than budgets."""
    if _is_off(config):
        return False
    return bool(
        os.environ.get("PYTEST_TRADEPERF_CHILD")
        or any(
            config.getoption(f"perf_{n}") or config.getini(f"perf_{n}")
            for n in ("gate", "update", "prune", "selftest")
        )
        or config.getoption("perf_against") is not None
        or config.getini("perf_against")
        or config.getoption("perf_report")
        or config.getini("perf_report")
    )


@pytest.fixture
def perf(request: pytest.FixtureRequest) -> "Perf":
    """Measure callables, stages and values of this test; see pytest_tradeperf.measures.recorder.Perf."""
    from pytest_tradeperf.plugin.item import perf_of

    return perf_of(request.node)


@pytest.fixture
def perf_memory(request: pytest.FixtureRequest) -> "PerfMemory":
    """Heap use and leaks of blocks and callables; see pytest_tradeperf.measures.memory.PerfMemory."""
    from pytest_tradeperf.plugin.memory import memory_of

    return memory_of(request.node)


@pytest.fixture
def perf_gpu(request: pytest.FixtureRequest) -> "PerfGpu":
    """Watch blocks on the GPU; see pytest_tradeperf.measures.gpu.perf.PerfGpu."""
    from pytest_tradeperf.measures.gpu.perf import PerfGpu
    from pytest_tradeperf.plugin.item import recorder_of

    return PerfGpu(recorder_of(request.node))


@pytest.fixture
def perf_imports(request: pytest.FixtureRequest) -> "PerfImports":
    """Import packages in fresh interpreters; see pytest_tradeperf.plugin.importing."""
    from pytest_tradeperf.plugin.importing import imports_of

    return imports_of(request.node)
