"""Measuring in pairs through real sessions: three ways in, and every way in which it cannot be done."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest

# So that four or five pairs decide, and the tests stay short; no noise comes near the threshold.
QUICK = ("-o", "perf_alpha=30%", "-o", "perf_threshold=20%")

WORK = """
def work(n=2000):
    total = 0
    for i in range(n):
        total += i
    return total

def steady():
    return sorted(range(500), key=lambda i: -i)
"""
SLOWER = WORK.replace("range(n)", "range(2 * n)")
TESTS = """
from pkg.core import steady, work

def test_work(perf):
    perf(work)

def test_steady(perf):
    perf(steady)
"""


class Elsewhere(NamedTuple):
    """A project in another folder than pytester's."""

    path: Path


def git(folder, *args):
    command = [
        "git",
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.invalid",
        "-c",
        "protocol.file.allow=always",
    ]
    done = subprocess.run([*command, *args], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def write(project, files):
    for name, text in files.items():
        path = Path(project.path, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def commit(project, files=None):
    write(project, files or {})
    git(project.path, "add", "-A")
    git(project.path, "commit", "-q", "-m", "change", "--allow-empty")


@pytest.fixture
def repo(project, monkeypatch):
    """A committed project in src layout."""
    monkeypatch.setattr("sys.path", [*sys.path])
    with Path(project.path, "pytest.ini").open("a", encoding="utf-8") as ini:
        ini.write("\npythonpath = src\n")
    write(
        project,
        {
            "src/pkg/__init__.py": "",
            "src/pkg/core.py": WORK,
            "test_it.py": TESTS,
            ".gitignore": "_*.py\n!__init__.py\n__pycache__\n.tradeperf\n",
        },
    )
    git(project.path, "init", "-q", "-b", "main")
    commit(project)
    return project


def run(project, *args):
    """Run pytest in a process of its own, as a user does."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *QUICK, *args]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    done = subprocess.run(
        command, cwd=project.path, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    return done.returncode, done.stdout + done.stderr


def against(project, *args):
    """Measure against HEAD; return exit code, text and the rows by (test function, metric)."""
    code, text = run(project, "--perf-against", "HEAD", "--perf-report", "json=r.json", *args)
    record = Path(project.path, "r.json")
    rows = json.loads(record.read_text())["verdicts"] if record.exists() else []
    return code, text, {(row["test"].rpartition("::")[2], row["metric"]): row for row in rows}


def test_slower_work_fails_its_test_alone_and_can_be_explained(repo):
    write(repo, {"src/pkg/core.py": SLOWER})
    code, text, rows = against(repo, "--junitxml=j.xml")
    assert code == 1, text
    row = rows["test_work", "cpu"]
    assert row["verdict"] == "regressed"
    assert 0.5 < row["change"] < 1.5
    assert row["change_low"] > row["threshold"]
    assert row["evidence"]["comparisons"] == 2, "one alpha for both tests"
    assert rows["test_steady", "cpu"]["verdict"] == "ok"
    assert rows["test_steady", "cpu"]["detectable"] <= 0.2
    assert "work (src/pkg/core.py:2)" in text
    assert 'failures="1"' in Path(repo.path, "j.xml").read_text()
    explained = subprocess.run(
        [sys.executable, "-m", "pytest_tradeperf", "explain", "test_work"],
        cwd=repo.path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "regressed" in explained
    assert "compared     HEAD (" in explained
    assert "process pairs in" in explained
    assert "look at      work (src/pkg/core.py:2)" in explained
    assert git(repo.path, "worktree", "list").count("\n") == 0
    assert git(repo.path, "status", "--short") == "M src/pkg/core.py\n?? j.xml\n?? r.json"


@pytest.mark.slow
def test_gate_measures_only_changed_code_and_finds_it_on_a_slower_machine(repo):
    assert run(repo, "--perf-update")[0] == 0
    commit(repo)
    code, text = run(repo, "--perf-gate")
    assert code == 0, text
    assert "same code" in text
    assert "in pairs" not in text
    for path in Path(repo.path, "perf-baselines").glob("linux*.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines[1:]:
            line["value"] *= 1.3  # accepted where everything took 30 % longer: must not hide the change
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    write(repo, {"src/pkg/core.py": SLOWER})
    code, text = run(repo, "--perf-gate")
    assert code == 1, text
    assert "regressed: cpu" in text
    assert "1 failed, 1 passed" in text


def test_same_code_is_said_without_measuring(repo):
    code, text, rows = against(repo)
    assert code == 0, text
    assert {row["note"][:12] for row in rows.values()} == {"same code as"}


@pytest.mark.slow
def test_selftest_prints_noise_alarms_and_what_could_be_found(repo):
    code, text = run(repo, "--perf-selftest", "-k", "steady", "--perf-time", "60s")
    assert code == 0, text
    assert "test_steady: noise of a pair" in text
    assert "replayed sessions of 1 timings" in text
    assert "found in 9 of 10" in text


@pytest.mark.slow
def test_flat_layout_space_and_non_ascii_with_an_editable_install(project):
    root = Path(project.path, "höme dir")
    root.mkdir()
    shutil.copy(root.parent / "pytest.ini", root)
    project = Elsewhere(root)
    write(project, {"pkg/__init__.py": "", "pkg/core.py": WORK, "tests/test_it.py": TESTS})
    # As setuptools leaves it: a finder on sys.meta_path that claims the package.
    write(
        project,
        {
            "conftest.py": "import sys\nfrom importlib.machinery import PathFinder\n"
            "class Editable:\n    @staticmethod\n    def find_spec(name, path=None, target=None):\n"
            f"        return PathFinder.find_spec(name, [{str(root)!r}]) if name == 'pkg' else None\n"
            "sys.meta_path.append(Editable)\n"
        },
    )
    git(root, "init", "-q", "-b", "main")
    commit(project)
    write(project, {"pkg/core.py": SLOWER})
    code, text, rows = against(project, "-k", "work", "--import-mode=importlib")
    assert code == 1, text
    assert rows["test_work", "cpu"]["verdict"] == "regressed"


def test_test_of_code_the_base_lacks_is_new(repo):
    write(
        repo,
        {
            "src/pkg/fresh.py": "def fresh():\n    return 1\n",
            "test_new.py": "from pkg.fresh import fresh\ndef test_new(perf):\n    perf(fresh)\n",
        },
    )
    code, text, rows = against(repo, "test_new.py")
    assert code == 0, text
    assert rows["test_new", "cpu"]["verdict"] == "new"
    assert "No module named 'pkg.fresh'" in rows["test_new", "cpu"]["note"]


@pytest.mark.slow
def test_parameter_the_base_lacks_is_new(repo):
    write(
        repo,
        {
            "src/pkg/core.py": WORK + "\nCASES = [1]\n",
            "test_it.py": "import pkg.core, pytest\n@pytest.mark.parametrize('n', getattr(pkg.core, 'CASES', [0]))\ndef test_case(perf, n):\n    perf(pkg.core.work, n)\n",
        },
    )
    _, _, rows = against(repo)
    assert rows["test_case[1]", "wall"]["verdict"] == "new"
    assert "the test is not collected there" in rows["test_case[1]", "wall"]["note"]


def test_base_that_does_not_import_is_an_error_that_names_generated_files(repo):
    commit(repo, {"src/pkg/core.py": "from pkg._version import v\n" + WORK})
    write(
        repo, {"src/pkg/_version.py": "v = 1\n", "src/pkg/core.py": "from pkg._version import v\n" + SLOWER}
    )
    code, text, rows = against(repo)
    assert code == 3, text
    note = rows["test_work", "cpu"]["note"]
    assert "does not import: ModuleNotFoundError: No module named 'pkg._version'" in note
    assert "git ignores src/pkg/_version.py: set perf_prepare" in note
    code, text, rows = against(
        repo, "-k", "work", "-o", "perf_prepare=cp $TRADEPERF_HEAD/src/pkg/_version.py src/pkg/"
    )
    assert rows["test_work", "cpu"]["verdict"] == "regressed", text


def test_base_that_goes_on_without_what_git_ignores_is_an_error_with_the_cure(repo):
    slow = "    def steady():\n        return sorted(range(5000), key=lambda i: -i)\n"
    core = f"try:\n    from pkg._fast import steady\nexcept ImportError:\n{slow}"
    core += WORK.partition("def steady")[0]
    commit(repo, {"src/pkg/core.py": core})
    write(
        repo, {"src/pkg/core.py": f"{core}# changed\n", "src/pkg/_fast.py": "def steady():\n    return 0\n"}
    )
    code, text, rows = against(repo)
    assert code == 3, text
    assert rows["test_steady", "cpu"]["verdict"] == "error"
    assert "went on without pkg._fast, which git ignores" in rows["test_steady", "cpu"]["note"]


@pytest.mark.slow
def test_files_of_both_sides_take_as_long_to_resolve(repo):
    tests = """
    from pathlib import Path
    from pkg import core

    def test_place(perf):
        perf(core.steady)
        place = Path(core.__file__)
        links = sum(parent.is_symlink() for parent in place.parents)
        with Path("places.txt").open("a") as file:
            print(len(str(place)), len(place.resolve().parts), links, "tradeperf-pairs" in str(place), file=file)
    """
    commit(repo, {"test_it.py": textwrap.dedent(tests)})
    write(repo, {"src/pkg/core.py": SLOWER})
    code, text, _ = against(repo)
    assert code == 0, text
    told = [line for line in Path(repo.path, "places.txt").read_text().splitlines() if line.endswith("True")]
    assert len(set(told)) == 1, "paths as long, as deep, and through as many links"
    assert int(told[0].split()[2]) == 1


def test_test_that_fails_in_base_only_is_undecided(repo):
    write(
        repo,
        {
            "src/pkg/core.py": WORK + "\ndef fixed():\n    return 2\n",
            "test_it.py": "import pkg.core\ndef test_fix(perf):\n    assert hasattr(pkg.core, 'fixed'), 'not fixed yet'\n    perf(pkg.core.work)\n",
        },
    )
    code, text, rows = against(repo)
    assert code == 0, text
    assert rows["test_fix", "cpu"]["verdict"] == "undecided"
    assert "not fixed yet" in rows["test_fix", "cpu"]["note"]
    assert against(repo, "--perf-strict")[0] == 1


@pytest.mark.slow
def test_side_that_dies_or_hangs_is_an_error_of_its_test(repo):
    write(
        repo,
        {
            "src/pkg/core.py": WORK + "\nNEW = 1\n",
            "test_it.py": "import os, time, pkg.core\n"
            "def test_dies(perf):\n    if not hasattr(pkg.core, 'NEW'):\n        os.write(1, b'bye'); os._exit(7)\n    perf(pkg.core.work)\n"
            "def test_hangs(perf):\n    if not hasattr(pkg.core, 'NEW'):\n        time.sleep(600)\n    perf(pkg.core.work)\n",
        },
    )
    code, text, rows = against(repo)
    assert code == 3, text
    assert rows["test_dies", "cpu"]["verdict"] == rows["test_hangs", "cpu"]["verdict"] == "error"
    assert "its process died" in rows["test_dies", "cpu"]["note"]
    assert "did not answer within" in rows["test_hangs", "cpu"]["note"]


@pytest.mark.slow
def test_tests_that_load_nothing_of_the_sources_are_undecided(repo):
    write(
        repo, {"src/pkg/core.py": SLOWER, "test_it.py": "def test_own(perf):\n    perf(sum, range(1000))\n"}
    )
    _, text, rows = against(repo)
    assert rows["test_own", "cpu"]["verdict"] == "undecided", text
    assert "load nothing from perf_source (src)" in rows["test_own", "cpu"]["note"]


def test_time_that_does_not_suffice_is_undecided_before_it_is_spent(repo):
    write(repo, {"src/pkg/core.py": SLOWER})
    code, text, rows = against(repo, "--perf-time", "1s")
    assert code == 0, text
    assert rows["test_work", "cpu"]["verdict"] == "undecided"
    assert "--perf-time gives more" in rows["test_work", "cpu"]["note"]


@pytest.mark.slow
def test_fixtures_options_output_and_async_tests_work_on_both_sides(repo):
    write(
        repo,
        {
            "src/pkg/core.py": SLOWER,
            "conftest.py": "import pytest\ndef pytest_addoption(parser):\n    parser.addoption('--size', type=int, default=0)\n"
            "@pytest.fixture(scope='session')\ndef size(request):\n    print('to stdout')\n    assert request.config.getoption('--size') == 500\n    return 500\n",
            "test_it.py": "import pytest\nfrom pkg.core import work\n"
            'def test_fixture(perf, size):\n    perf(work, size)\n    print(\'{"is": "done"}\')\n'
            "class TestWhole:\n    @pytest.mark.perf_budget(threshold='30%')\n    def test_body(self, size, tmp_path):\n        work(10 * size)\n"
            "@pytest.mark.asyncio\nasync def test_loop(perf):\n    async def go():\n        work(2000)\n    await perf(go)\n",
        },
    )
    code, text, rows = against(repo, "--size", "500")
    assert code == 1, text
    assert {(name, metric): row["verdict"] for (name, metric), row in rows.items() if metric == "cpu"} == {
        (name, "cpu"): "regressed" for name in ("test_fixture", "test_body", "test_loop")
    }, text


@pytest.mark.slow
def test_sides_tear_fixtures_down_and_run_no_hook_that_ends_a_session(repo):
    write(
        repo,
        {
            "conftest.py": """
import os, time, pytest
from pathlib import Path

def pytest_sessionstart(session):
    Path("shared.db").touch()

def pytest_sessionfinish(session):
    Path("shared.db").unlink()

@pytest.fixture(scope="session", autouse=True)
def service():
    Path(f"{os.getpid()}.up").touch()
    yield
    time.sleep(0.2)
    Path(f"{os.getpid()}.up").unlink()
    raise OSError("of no interest any more")
""",
            "src/pkg/core.py": WORK + "\n",
        },
    )
    done = repo.runpytest_subprocess("--perf-against", "HEAD", *QUICK)
    done.stdout.fnmatch_lines(["*of no interest*", "perf: *ok*"])
    assert not [*repo.path.glob("*.up"), *repo.path.glob("shared.db")]


@pytest.mark.slow
def test_fixture_that_holds_a_port_is_measured_in_turns_and_without_a_terminal(repo):
    commit(
        repo,
        {
            "test_it.py": "import pytest, socket\nfrom pkg.core import work\n"
            "@pytest.fixture\ndef port():\n    with socket.socket() as held:\n"
            "        held.bind(('127.0.0.1', 47813))\n        yield held\n"
            "def test_port(perf, port):\n    perf(work)\n"
        },
    )
    write(repo, {"src/pkg/core.py": SLOWER})
    code, text, rows = against(repo, "-p", "no:terminal")
    assert (code, text) == (1, "")
    assert rows["test_port", "cpu"]["verdict"] == "regressed"
    assert 0.5 < rows["test_port", "cpu"]["change"] < 1.5


CACHED = """
CACHE = {}

def total(n=1000):
    if "total" not in CACHE:
        CACHE["total"] = sum(i * i % 7 for i in range(n))
    return [CACHE["total"] for _ in range(200)][0]
"""


@pytest.mark.slow
def test_cold_calls_with_a_setup_are_judged_beside_warm_ones(repo):
    test = (
        "from pkg.cached import CACHE, total\ndef test_load(perf):\n"
        "    perf.named('load', cache='cold').setup(CACHE.clear)(total)\n"
        "    perf.named('load', cache='warm')(total)\n"
    )
    commit(repo, {"src/pkg/cached.py": CACHED, "test_it.py": test})
    write(repo, {"src/pkg/cached.py": CACHED.replace("range(n)", "range(10 * n)")})
    code, text, rows = against(repo)
    assert code == 1, text
    assert rows["test_load", "load.cpu@cold"]["verdict"] == "regressed"
    assert rows["test_load", "load.cpu@cold"]["change"] > 1
    assert abs(rows["test_load", "load.cpu@warm"]["change"]) < 0.5


@pytest.mark.slow
def test_recorded_rates_are_judged_in_their_direction(repo):
    write(
        repo,
        {
            "src/pkg/core.py": SLOWER,
            "test_it.py": "from pkg.core import work\ndef test_rate(perf):\n    perf(work)\n"
            "    perf.record('rate', 1 / perf.last.cpu.seconds, unit='1/s', better='higher')\n",
        },
    )
    code, text, rows = against(repo)
    assert code == 1, text
    assert rows["test_rate", "cpu"]["verdict"] == "regressed"
    assert rows["test_rate", "rate"]["verdict"] in ("regressed", "undecided")
    assert rows["test_rate", "rate"]["change"] < -0.3


@pytest.mark.parametrize(
    ("revision", "said"),
    [
        ("nope", "git knows no revision 'nope' here"),
        ("-x", "'-x' is not a revision"),
        ("HEAD~99", "git knows no revision"),
    ],
)
def test_bad_revision_is_a_usage_error_of_one_line(repo, revision, said):
    code, text = run(repo, f"--perf-against={revision}")
    assert code == 4
    assert said in text
    assert "Traceback" not in text


def test_no_repository_and_no_git_are_usage_errors(project, monkeypatch):
    write(project, {"src/pkg/__init__.py": "", "test_it.py": "def test_a(perf):\n    perf(sum, [1])\n"})
    code, text = run(project, "--perf-against", "HEAD")
    assert code == 4
    assert "is not inside a git repository" in text
    monkeypatch.setenv("PATH", str(project.path))
    code, text = run(project, "--perf-against", "HEAD")
    assert code == 4
    assert "git is not on PATH" in text


def test_shallow_clone_leaves_the_gate_undecided_with_the_cure(repo, tmp_path):
    assert run(repo, "--perf-update")[0] == 0
    commit(repo)
    commit(repo, {"src/pkg/core.py": WORK + "\n# changed\n"})
    git(tmp_path, "clone", "-q", "--depth", "1", Path(repo.path).as_uri(), "shallow")
    code, text = run(Elsewhere(tmp_path / "shallow"), "--perf-gate", "-k", "work")
    assert code == 0, text
    assert "undecided" in text
    assert "fetch-depth" in text


@pytest.mark.slow
def test_accepted_tree_that_is_gone_is_stood_in_for_by_its_commit(repo):
    write(repo, {"src/pkg/core.py": WORK + "\n# accepted, never committed\n"})
    assert run(repo, "--perf-update")[0] == 0
    commit(repo, {"src/pkg/core.py": WORK + "\n# committed\n"})
    git(repo.path, "gc", "-q", "--prune=now")
    write(repo, {"src/pkg/core.py": SLOWER})
    code, text = run(repo, "--perf-gate", "-k", "work")
    assert code == 1, text
    assert "the accepted tree is gone; it brought the line" in " ".join(text.split())


@pytest.mark.slow
def test_xdist_workers_leave_measuring_to_the_controller(repo):
    pytest.importorskip("xdist")
    write(repo, {"src/pkg/core.py": SLOWER})
    code, text, rows = against(repo, "-n", "2")
    assert code == 1, text
    assert rows["test_work", "cpu"]["verdict"] == "regressed"
    assert rows["test_steady", "cpu"]["verdict"] == "ok"


@pytest.mark.slow
def test_nothing_is_printed_while_measuring_under_q(repo):
    write(repo, {"src/pkg/core.py": WORK + "\n# changed\n"})
    assert "in pairs against HEAD" in run(repo, "--perf-against", "HEAD", "-k", "steady")[1]
    assert "in pairs" not in run(repo, "--perf-against", "HEAD", "-k", "steady", "-q")[1]


def test_measuring_is_one_purpose_at_a_time(repo):
    code, text = run(repo, "--perf-against", "HEAD", "--perf-update")
    assert code == 4
    assert "contradict each other" in text


@pytest.fixture
def unseen(project):
    """A committed project whose code is in a folder that perf_source does not hold by default."""
    with Path(project.path, "pytest.ini").open("a", encoding="utf-8") as ini:
        ini.write("\npythonpath = lib\n")
    files = {"lib/pkg/__init__.py": "", "lib/pkg/core.py": WORK, "manage.py": "", "test_it.py": TESTS}
    write(project, {**files, ".gitignore": "__pycache__\n.tradeperf\n"})
    git(project.path, "init", "-q", "-b", "main")
    commit(project)
    return project


@pytest.mark.slow
def test_unchanged_sources_are_no_answer_where_the_tests_load_other_code(unseen):
    write(unseen, {"lib/pkg/core.py": SLOWER})
    code, text, rows = against(unseen)
    assert code == 0, text
    assert {row["verdict"] for row in rows.values()} == {"undecided"}
    assert "load nothing from perf_source (manage.py): set perf_source" in rows["test_work", "cpu"]["note"]
    assert "perf: changes in pkg are not seen: perf_source (manage.py) does not hold it" in text
    code, text, rows = against(unseen, "-k", "work", "-o", "perf_source=lib")
    assert code == 1, text
    assert rows["test_work", "cpu"]["verdict"] == "regressed"
    assert "not seen" not in text


@pytest.mark.slow
def test_gate_believes_no_unchanged_sources_that_the_tests_do_not_load(unseen):
    assert "changes in pkg are not seen" in run(unseen, "--perf-update")[1]
    code, text = run(unseen, "--perf-gate")
    assert code == 0, text
    assert "4 undecided" in text
    write(unseen, {"lib/pkg/core.py": WORK.replace("range(n)", "range(1000 * n)")})
    code, text = run(unseen, "--perf-gate", "-k", "work")
    assert code == 1, "a stored number still decides what it can: " + text


def test_code_that_a_later_test_loads_first_is_unchanged_for_all_tests(repo):
    tests = (
        "def test_first(perf):\n    perf(sum, [1])\n"
        "def test_second(perf):\n    from pkg.core import steady\n    perf(steady)\n"
    )
    write(repo, {"test_it.py": tests})
    assert run(repo, "--perf-update")[0] == 0
    code, text = run(repo, "--perf-gate")
    assert code == 0, text
    assert "perf: 4 ok" in text


@pytest.mark.slow
def test_xdist_workers_say_what_they_loaded(unseen):
    pytest.importorskip("xdist")
    write(unseen, {"lib/pkg/core.py": SLOWER})
    code, text, rows = against(unseen, "-n", "2")
    assert code == 0, text
    assert {row["verdict"] for row in rows.values()} == {"undecided"}
    assert "changes in pkg are not seen" in text
    commit(unseen)
    rows = against(unseen, "-n", "2", "-o", "perf_source=lib")[2]
    assert {row["note"][:12] for row in rows.values()} == {"same code as"}


@pytest.mark.slow
def test_package_the_base_lacks_is_new_and_hides_no_other_test(project):
    write(
        project,
        {"a/__init__.py": WORK, "test_it.py": "from a import work\ndef test_work(perf):\n    perf(work)\n"},
    )
    git(project.path, "init", "-q", "-b", "main")
    commit(project)
    write(project, {"a/__init__.py": SLOWER, "b/__init__.py": "def b():\n    return 1\n"})
    write(project, {"test_b.py": "from b import b\ndef test_b(perf):\n    perf(b)\n"})
    code, text, rows = against(project)
    assert code == 1, text
    assert rows["test_work", "cpu"]["verdict"] == "regressed"
    assert rows["test_b", "cpu"]["verdict"] == "new"


@pytest.mark.slow
def test_mixed_test_is_measured_and_leaves_the_next_one_alone(repo):
    write(
        repo,
        {
            "src/pkg/core.py": SLOWER,
            "test_it.py": "import asyncio\nfrom pkg.core import steady, work\n"
            "async def waiting():\n    work()\n"
            "def test_mixed(perf):\n    perf.named('sync')(steady)\n"
            "    asyncio.run(perf.named('async')(waiting))\n"
            "def test_steady(perf):\n    perf(steady)\n",
        },
    )
    code, text, rows = against(repo)
    assert code == 1, text
    assert rows["test_mixed", "async.cpu"]["verdict"] == "regressed"
    assert rows["test_mixed", "sync.cpu"]["verdict"] in ("ok", "undecided")
    assert rows["test_steady", "cpu"]["verdict"] == "ok"


@pytest.mark.slow
def test_setup_that_takes_longer_than_the_call_is_no_hanging_side(repo):
    tests = (
        "import time\nimport pytest\nfrom pkg.core import steady\n"
        "def fresh():\n    time.sleep(0.1)\n    return [3, 1, 2]\n"
        "@pytest.fixture\ndef order():\n    time.sleep(0.3)\n"
        "def test_prepared(perf):\n    perf.setup(fresh)(sorted)\n"
        "@pytest.mark.perf_budget(threshold='50%')\ndef test_body(order):\n    steady()\n"
    )
    write(repo, {"src/pkg/core.py": WORK + "\n# changed\n", "test_it.py": tests})
    code, text, rows = against(repo, "--perf-time", "30s")
    assert code == 0, text
    assert {row["verdict"] for row in rows.values()} <= {"ok", "undecided", "improved"}, text
    assert min(row["pairs"] for row in rows.values()) > 0


@pytest.mark.slow
def test_production_code_called_like_a_test_is_measured(repo):
    write(repo, {"src/pkg/walk_forward_test.py": WORK, "src/pkg/test/plan.py": WORK})
    tests = TESTS.replace(
        "pkg.core import steady, work", "pkg.test.plan import steady\nfrom pkg.walk_forward_test import work"
    )
    commit(repo, {"test_it.py": tests})
    write(repo, {"src/pkg/walk_forward_test.py": SLOWER})
    code, text, rows = against(repo)
    assert code == 1, text
    assert rows["test_work", "cpu"]["verdict"] == "regressed"
    assert rows["test_steady", "cpu"]["verdict"] == "ok"


@pytest.mark.slow
def test_warning_filters_of_a_test_apply_on_both_sides(repo):
    tests = (
        "import warnings\nimport pytest\nfrom pkg.core import work\n"
        "@pytest.mark.filterwarnings('error')\ndef test_strict(perf):\n"
        "    with pytest.raises(UserWarning):\n        warnings.warn('old', UserWarning)\n    perf(work)\n"
        "@pytest.mark.filterwarnings('ignore')\ndef test_lenient(perf):\n"
        "    warnings.warn('old', UserWarning)\n    perf(work)\n"
    )
    write(repo, {"src/pkg/core.py": SLOWER, "test_it.py": tests})
    code, text, rows = against(repo)
    assert code == 1, text
    assert rows["test_strict", "cpu"]["verdict"] == rows["test_lenient", "cpu"]["verdict"] == "regressed"


def test_source_that_was_not_accepted_is_not_taken_for_new_code(unseen):
    assert run(unseen, "--perf-update", "-k", "work")[0] == 0
    code, text = run(unseen, "--perf-gate", "-k", "work", "-o", "perf_source=lib")
    assert code == 0, text
    assert "accepted when perf_source did not name lib" in " ".join(text.split())
    assert "new:" not in text
