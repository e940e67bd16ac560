"""What pytest and fixtures keep of a test that is called again and again is not the test's leak."""

import pytest

ORDINARY = """
import logging, os, unittest.mock, warnings
import pytest
log = logging.getLogger("shop")
kept = []

@pytest.fixture
def env(monkeypatch):
    monkeypatch.setenv("SHOP_MODE", "test")

@pytest.fixture
def client():
    return unittest.mock.MagicMock()

@pytest.mark.perf_leak(calls=20)
class TestClean:
    def test_logs(self):
        log.warning("order %s", 7)
    def test_logs_an_exception(self, caplog):
        try:
            1 / 0
        except ZeroDivisionError:
            log.exception("bad")
        assert len(caplog.records) == 1
    def test_warns(self):
        warnings.warn("old", DeprecationWarning)
    def test_prints(self, capsys):
        print("x" * 100)
        assert capsys.readouterr().out
        print("x" * 100)
    def test_patches(self, env, monkeypatch, tmp_path):
        assert os.environ["SHOP_MODE"] == "test"  # each call finds what its fixtures made
        monkeypatch.setenv("SHOP_MODE", "other")
        monkeypatch.setattr(os, "sep", "/")
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(tmp_path)
    def test_records_warnings(self, recwarn):
        warnings.simplefilter("always")
        warnings.warn("old")
        assert len(recwarn) == 1
    def test_tells(self, record_property):
        record_property("orders", 7)
    def test_mocks(self, client):
        client.get(1)
        client.get.assert_called_once()
    async def test_async(self):
        log.warning("order %s", 7)

@pytest.mark.perf_leak(calls=20)
def test_leaks_and_logs():
    log.warning("order %s", 7)
    kept.append(object())
"""


@pytest.mark.parametrize("capture", ["fd", "sys", "no"])
def test_ordinary_tests_are_clean_and_a_leak_beside_a_log_is_found(project, capture):
    project.makepyfile(test_it=ORDINARY)
    result = project.runpytest("-W", "default", "-o", "asyncio_mode=auto", f"--capture={capture}")
    result.assert_outcomes(passed=9, failed=1, warnings=1)
    result.stdout.fnmatch_lines(["*FAILED*test_leaks_and_logs*"])


def test_the_fixture_forgets_too_and_leaves_what_was_there_before(project):
    project.makepyfile(
        """
        import logging, warnings
        log = logging.getLogger("shop")
        def order():
            log.warning("order"); print("order"); warnings.warn("order")
        def test_it(perf_memory, caplog, capsys):
            log.warning("before"); print("before")
            assert perf_memory.leak(order, calls=20).verdict == "clean"
            log.warning("after"); print("after")
            assert [record.message for record in caplog.records] == ["before", "after"]
            assert capsys.readouterr().out == "before\\nafter\\n"
        """
    )
    project.runpytest("-W", "default").assert_outcomes(passed=1, warnings=1)
