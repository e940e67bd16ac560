"""A test that changed itself is no unchanged code, and what changes no work is no change."""

import subprocess
from pathlib import Path

import pytest

from pytest_tradeperf.plugin.testcode import code_of

MODULE = """
import pytest
SIZE = 10
def helper():
    return SIZE
def test_one(perf):
    perf(helper)
def test_other():
    pass
class TestGroup:
    def test_inside(self):
        helper()
class Checks:
    def helps(self):
        pass
"""


def codes(project, text):
    items, _ = project.inline_genitems(project.makepyfile(test_it=text))
    return {item.name: code_of(item) for item in items}


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("SIZE = 10", "SIZE = 20", {"test_one", "test_other", "test_inside"}),
        ("perf(helper)", "perf(helper); helper()", {"test_one"}),
        ("        helper()", "        helper(); helper()", {"test_inside"}),
        (
            "def helps(self):\n        pass",
            "def helps(self):\n        return 1",
            {"test_one", "test_other", "test_inside"},
        ),
        ("    pass\nclass", "    return\nclass", {"test_other"}),
        ("def test_one", "# said\n@pytest.mark.perf_budget(wall='1 s')\ndef test_one", set()),
        ("SIZE = 10", "SIZE = 10\npytestmark = pytest.mark.perf_budget(cpu='1 s')", set()),
        ("class TestGroup", "def test_new():\n    pass\nclass TestGroup", {"test_new"}),
    ],
)
def test_what_counts_as_the_code_of_a_test(project, old, new, changed):
    before = codes(project, MODULE)
    after = codes(project, MODULE.replace(old, new, 1))
    assert None not in after.values()
    assert {name for name, code in after.items() if before.get(name) != code} == changed


def test_text_files_have_no_code(project):
    project.maketxtfile(test_doc=">>> 1\n1\n")
    items, _ = project.inline_genitems("--doctest-glob=*.txt")
    assert [code_of(item) for item in items] == [None]


def test_a_test_that_changed_is_not_called_the_same_code(project, monkeypatch):
    def git(*args):
        user = ["-c", "user.name=t", "-c", "user.email=t@example.invalid"]
        subprocess.run(["git", *user, *args], cwd=project.path, check=True, capture_output=True)

    Path(project.path, "pytest.ini").write_text(
        "[pytest]\npythonpath = src\nasyncio_default_fixture_loop_scope = function\n"
        "addopts = -p no:benchmark -p no:hypothesispytest -p no:anyio\n"
    )
    package = Path(project.path, "src", "pkg_of_it")
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("def work():\n    return sum(range(500))\n")
    test = Path(project.path, "test_it.py")
    text = "from pkg_of_it import work\nN = 1\ndef test_work(perf):\n    perf(lambda: [work() for _ in range(N)])\n"
    test.write_text(text)
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "x")
    run = project.runpytest_subprocess
    assert run("--perf-update").ret == 0
    test.write_text(text + "def test_more():\n    pass\n")
    run("--perf-gate").stdout.fnmatch_lines(["perf: 2 ok"])
    test.write_text(text.replace("N = 1", "N = 20"))
    result = run("--perf-gate")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["regressed: cpu *"])
    test.write_text(text.replace("N = 1", "N = 1 + 0"))
    result = run("--perf-gate")
    assert result.ret == 0
    result.stdout.re_match_lines(
        [r"  undecided +cpu .*", r".*the sources are the accepted ones, but the test.*"]
    )
