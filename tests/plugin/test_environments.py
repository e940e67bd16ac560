"""Where and how pytest is started must not matter, and an idle plug-in must cost nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

TEST = "def test_it(perf):\n    perf.record('n', 1)\n"


def test_without_the_plugin_unmarked_tests_run(project):
    project.makepyfile("def test_it(): pass")
    project.runpytest("-p", "no:tradeperf").assert_outcomes(passed=1)


def test_import_mode_importlib(project):
    project.makepyfile(test_it=TEST)
    assert project.runpytest("--perf-update", "--import-mode=importlib").ret == 0
    result = project.runpytest("--perf-gate", "--import-mode=importlib")
    result.stdout.fnmatch_lines(["perf: 2 undecided, 1 ok"])


def test_from_a_subfolder_the_same_lines_are_found(project):
    folder = project.mkdir("checks")
    Path(folder, "test_it.py").write_text(TEST)
    assert project.runpytest("--perf-update").ret == 0
    project.chdir()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--perf-gate"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "perf: 2 undecided, 1 ok" in done.stdout


def test_with_rootdir_elsewhere(project, tmp_path):
    project.makepyfile(test_it=TEST)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    args = ("--rootdir", str(elsewhere), "-c", str(project.path / "pytest.ini"))
    assert project.runpytest("--perf-update", *args, "test_it.py").ret == 0
    assert list((elsewhere / "perf-baselines").glob("*.jsonl"))
    result = project.runpytest("--perf-gate", *args, "test_it.py")
    result.stdout.fnmatch_lines(["perf: 2 undecided, 1 ok"])


def test_reports_of_ungated_tests_are_untouched_under_the_gate(project):
    project.makepyfile("import pytest\ndef test_a(): pass\n@pytest.mark.skip\ndef test_b(): pass\n")
    result = project.runpytest("--perf-gate")
    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == 0


def test_collect_only_and_help_do_nothing(project):
    project.makepyfile(test_it=TEST)
    assert project.runpytest("--perf-update", "--collect-only").ret == 0
    assert not (project.path / "perf-baselines").exists()
    project.runpytest("--help").stdout.fnmatch_lines(["*--perf-gate*"])


def test_an_idle_plugin_loads_at_most_ten_modules_and_nothing_heavy(tmp_path):
    (tmp_path / "test_plain.py").write_text(
        "import json, sys\ndef test_it():\n    open('modules.json', 'w').write(json.dumps(sorted(sys.modules)))\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\n")

    def loaded(*args: str) -> set[str]:
        import json

        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *args]
        # Other plug-ins import some of these themselves; only ours is on trial.
        others = [
            "no:benchmark",
            "no:asyncio",
            "no:hypothesispytest",
            "no:anyio",
            "no:pytest_cov",
            "no:xdist",
        ]
        command += [part for name in others for part in ("-p", name)]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        return set(json.loads((tmp_path / "modules.json").read_text()))

    extra = loaded() - loaded("-p", "no:tradeperf")
    assert len(extra) <= 10, sorted(extra)
    heavy = {"numpy", "pandas", "memray", "jinja2", "sqlalchemy", "pynvml", "psutil", "click", "rich"}
    assert not {name.partition(".")[0] for name in extra} & heavy


@pytest.mark.parametrize("module", ["pytest_tradeperf", "pytest_tradeperf.model", "pytest_tradeperf.cli"])
def test_light_modules_stay_light(module):
    code = (
        f"import sys, {module}; heavy = {{'numpy', 'pandas', 'memray', 'jinja2', 'sqlalchemy', 'pynvml', 'pytest'}};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
