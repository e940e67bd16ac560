"""Fresh processes that measure suspects again: the same tests, with the same options."""

from pytest_tradeperf.plugin.children import measure_again

CONFTEST = """
import pytest
def pytest_addoption(parser):
    parser.addoption("--runslow", action="store_true")
def pytest_collection_modifyitems(config, items):
    if not config.getoption("--runslow"):
        for item in items:
            item.add_marker(pytest.mark.skip)
"""


def test_what_selects_is_left_and_options_of_conftests_are_carried(project, monkeypatch):
    project.makeconftest(CONFTEST)
    project.makepyfile(
        test_it="""
        import pytest
        @pytest.mark.perf_budget(wall="10 s")
        def test_slow():
            pass
        """
    )
    with (project.path / "pytest.ini").open("a") as ini:
        ini.write("    -m 'not perf_budget'\nperf_off = true\n")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-k nothing")
    config = project.parseconfigure("--runslow", "--perf-gate", "-m", "perf_budget", "test_it.py")
    (record,) = measure_again(config, ["test_it.py::test_slow"], 60.0).tests
    assert record.test == "test_it.py::test_slow"
    assert {m.metric.name for m in record.measurements} == {"wall", "cpu"}
