from pathlib import Path

import pytest

# Loaded once here, or every inner session would import them anew.
import pytest_tradeperf.measures.gpu.perf
import pytest_tradeperf.measures.leaks
import pytest_tradeperf.measures.loop
import pytest_tradeperf.plugin.confirm
import pytest_tradeperf.plugin.gatekeeper
import pytest_tradeperf.plugin.importing
import pytest_tradeperf.plugin.memory
import pytest_tradeperf.plugin.xdist  # noqa: F401

INI = """
[pytest]
asyncio_default_fixture_loop_scope = function
filterwarnings = error
addopts = -p no:benchmark -p no:hypothesispytest -p no:pytest_cov -p no:anyio -p no:randomly -p no:rerunfailures
"""


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    """The inner sessions must not see the outer one's."""
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_TRADEPERF_CHILD"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def project(pytester):
    """A small project: its ini file is there, its tests are the test's."""
    pytester.makefile(".ini", pytest=INI)
    return pytester


@pytest.fixture
def baseline_of(project):
    """Return the lines of all baseline files of the inner project."""

    def read() -> str:
        folder = Path(project.path, "perf-baselines")
        return "".join(p.read_text() for p in sorted(folder.glob("*.jsonl")))

    return read
