"""The gate on a machine as it is: killed, interrupted, loaded, and with projects installed as people do."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.slow

FEW = ("-o", "perf_alpha=30%", "-o", "perf_threshold=20%")  # four or five pairs decide
WORK = """
def work():
    total = 0
    for i in range({steps}):
        total += i * i % 7
    return total
"""
TESTS = "from pkg.core import work\ndef test_work(perf):\n    perf(work)\n"
BUSY = "while True:\n    sorted(range(20000), key=lambda i: i * 7919 % 20011)"


def git(folder, *args):
    user = ["-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "protocol.file.allow=always"]
    done = subprocess.run(["git", *user, *args], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def write(root, files):
    for name, text in files.items():
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def commit(root):
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "change", "--allow-empty")


@pytest.fixture
def repo(project):
    """A committed project in src layout, measured from a temporary folder of its own."""
    root = Path(project.path)
    with (root / "pytest.ini").open("a", encoding="utf-8") as ini:
        ini.write("\nnorecursedirs = temporary\npythonpath = src\n")
    write(
        root,
        {
            "src/pkg/__init__.py": "",
            "src/pkg/core.py": WORK.format(steps=2000),
            "test_it.py": TESTS,
            ".gitignore": "__pycache__\n.tradeperf\ntemporary\n",
        },
    )
    (root / "temporary").mkdir()
    git(root, "init", "-q", "-b", "main")
    commit(root)
    return root


def command(root, *args, python=sys.executable):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    environment["TMPDIR"] = str(root / "temporary")
    words = [str(python), "-m", "pytest", "-p", "no:cacheprovider", *args]
    return {"args": words, "cwd": root, "env": environment, "text": True}


def run(root, *args, **kwargs):
    done = subprocess.run(
        **command(root, *args, **kwargs),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=240,
    )
    return done.returncode, done.stdout


def against(root, *args, **kwargs):
    code, text = run(root, "--perf-against", "HEAD", "--perf-report", "json=r.json", *args, **kwargs)
    record = root / "r.json"
    rows = json.loads(record.read_text())["verdicts"] if record.exists() else []
    return code, text, {(row["test"].rpartition("::")[2], row["metric"]): row for row in rows}


@contextmanager
def neighbours():
    """Keep every CPU busy with another process."""
    with ExitStack() as stack:
        for _ in os.sched_getaffinity(0):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", BUSY]))
            stack.callback(process.kill)
        yield


def until(condition, seconds):
    """Wait until ``condition`` gives something, at most ``seconds``, and return what it gave."""
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return found


# -- ended from outside


@contextmanager
def confirming(root):
    """Start a long confirmation and yield it with the processes it has started, once both sides are at work."""
    write(root, {"src/pkg/core.py": WORK.format(steps=2040)})  # near the threshold, so that it takes long
    process = subprocess.Popen(
        **command(root, "--perf-against", "HEAD"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # A job in the background ignores the signal, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
    )
    try:
        started = until(lambda: len(psutil.Process(process.pid).children(recursive=True)) >= 3, 60)
        assert started, "the pair never started"
        yield process, psutil.Process(process.pid).children(recursive=True)
    finally:
        process.kill()
        process.communicate()


def folders(root):
    return list((root / "temporary").glob("tradeperf-pairs-*"))


def gone(processes):
    return until(lambda: not [p for p in processes if p.is_running() and p.status() != "zombie"], 10)


def test_interrupt_ends_all_processes_and_leaves_no_folder(repo):
    with confirming(repo) as (process, started):
        assert folders(repo)
        process.send_signal(signal.SIGINT)
        text = process.communicate(timeout=20)[0]
    assert process.returncode == 2, text
    assert gone(started)
    assert folders(repo) == []


def test_killed_controller_leaves_no_process_and_the_next_run_removes_its_folder(repo):
    with confirming(repo) as (process, started):
        process.kill()
        assert gone(started)
    assert len(folders(repo)) == 1
    assert run(repo, "--perf-against", "HEAD", *FEW)[0] == 0
    assert folders(repo) == []
    listed = subprocess.run(["git", "worktree", "list"], cwd=repo, capture_output=True, text=True, check=True)
    assert listed.stdout.count("\n") == 1


# -- another speed of the machine


@pytest.mark.parametrize("accepted_under_load", [True, False])
def test_speed_of_the_machine_neither_alarms_nor_hides_five_percent(repo, accepted_under_load):
    with neighbours() if accepted_under_load else ExitStack():
        assert run(repo, "--perf-update")[0] == 0
    commit(repo)
    with ExitStack() if accepted_under_load else neighbours():
        write(repo, {"src/pkg/core.py": WORK.format(steps=2000) + "# another tree, the same work\n"})
        code, text = run(repo, "--perf-gate")
        assert code == 0, text
        assert "in pairs against" in text
        write(repo, {"src/pkg/core.py": WORK.format(steps=2100)})
        code, text = run(repo, "--perf-gate", "-o", "perf_threshold=1%", "-o", "perf_alpha=30%")
    assert code == 1, text
    assert "regressed: cpu" in text


# -- parallel code


def test_parallel_code_is_judged_by_wall_time(repo):
    body = """
    import hashlib
    from concurrent.futures import ThreadPoolExecutor
    BLOCK = bytes(1_000_000)
    def digest(_):
        return hashlib.sha256(BLOCK * {times}).digest()
    def work():
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(digest, range(8)))
    """
    write(repo, {"src/pkg/core.py": textwrap.dedent(body).format(times=1)})
    commit(repo)
    write(repo, {"src/pkg/core.py": textwrap.dedent(body).format(times=3)})
    code, text, rows = against(repo, *FEW)
    assert code == 1, text
    assert rows["test_work", "wall"]["verdict"] == "regressed"
    assert rows["test_work", "wall"]["change"] > 0.5


def test_pool_that_was_given_up_is_not_taken_for_an_improvement(repo):
    body = """
    import hashlib
    from concurrent.futures import ThreadPoolExecutor
    BLOCK = bytes(1_000_000)
    def digest(_):
        return hashlib.sha256(BLOCK).digest()
    def work():
    """
    pool = "    with ThreadPoolExecutor(2) as pool:\n        return list(pool.map(digest, range(30)))\n"
    plain = "    return list(map(digest, range(30)))\n"
    write(repo, {"src/pkg/core.py": textwrap.dedent(body) + pool})
    commit(repo)
    write(repo, {"src/pkg/core.py": textwrap.dedent(body) + plain})
    _, text, rows = against(repo, *FEW)
    assert rows["test_work", "wall"]["verdict"] != "improved", text
    assert "decided by its wall time" in rows["test_work", "cpu"]["note"], "on all CPUs, as a parallel one"


# -- where the code lies


def test_source_in_a_submodule_is_compared_with_its_accepted_commit(repo):
    library = repo / "temporary" / "library"
    write(library, {"lib/__init__.py": "", "lib/core.py": WORK.format(steps=2000)})
    git(library, "init", "-q", "-b", "main")
    commit(library)
    git(repo, "submodule", "add", "-q", library.as_uri(), "vendor")
    with (repo / "pytest.ini").open("a", encoding="utf-8") as ini:
        ini.write("perf_source = src vendor\n")
    (repo / "pytest.ini").write_text(
        (repo / "pytest.ini").read_text().replace("= src\n", "= src vendor\n", 1)
    )
    write(repo, {"test_it.py": TESTS.replace("pkg.core", "lib.core")})
    commit(repo)
    assert "same code" in against(repo, *FEW)[1]
    write(repo, {"vendor/lib/core.py": WORK.format(steps=4000)})
    code, text, rows = against(repo, *FEW)
    assert code == 1, text
    assert rows["test_work", "cpu"]["verdict"] == "regressed"
    assert not rows["test_work", "cpu"]["evidence"]["at_once"]


BUILDS = {
    "setuptools": (["setuptools", "wheel"], "setuptools.build_meta", {}),
    "hatch": (
        ["hatchling", "editables"],
        "hatchling.build",
        {"pyproject.toml": "[tool.hatch.build.targets.wheel]\npackages = ['src/pkg']\n"},
    ),
    "meson-python": (
        ["meson-python", "meson", "ninja"],
        "mesonpy",
        {
            "meson.build": "project('pkg', version: '1')\npy = import('python').find_installation(pure: true)\n"
            "py.install_sources(['src/pkg/__init__.py', 'src/pkg/core.py'], subdir: 'pkg')\n"
        },
    ),
}


@pytest.mark.parametrize("name", BUILDS)
def test_editable_install_gives_each_side_its_code(repo, name):
    requires, backend, files = BUILDS[name]
    project = f"[project]\nname = 'pkg'\nversion = '1'\n[build-system]\nrequires = {requires}\n"
    project += f"build-backend = '{backend}'\n"
    write(repo, {**files, "pyproject.toml": project + files.get("pyproject.toml", "")})
    (repo / ".gitignore").write_text("__pycache__\n.tradeperf\ntemporary\nbuild\n*.egg-info\n")
    ini = (repo / "pytest.ini").read_text().replace("pythonpath = src\n", "perf_source = src\n")
    (repo / "pytest.ini").write_text(ini)
    commit(repo)
    subprocess.run([sys.executable, "-m", "venv", "temporary/venv"], cwd=repo, check=True)
    python = repo / "temporary/venv/bin/python"
    pip = [str(python), "-m", "pip", "install", "-q"]
    if subprocess.run([*pip, *requires], check=False).returncode:
        pytest.skip(f"pip cannot install {requires} here")
    here = [str(Path(path)) for path in sys.path if path.endswith("site-packages")]
    site = next((repo / "temporary/venv/lib").glob("python*/site-packages"))
    (site / "outer.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in here))
    path = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run([*pip, "--no-build-isolation", "--no-deps", "-e", "."], cwd=repo, check=True, env=path)
    where = [str(python), "-c", "import pkg.core; print(pkg.core.__file__)"]
    shown = subprocess.run(where, cwd="/", capture_output=True, text=True, check=True).stdout.strip()
    assert Path(shown) == repo / "src/pkg/core.py"
    write(repo, {"src/pkg/core.py": WORK.format(steps=4000)})
    code, text, rows = against(repo, *FEW, python=python)
    assert code == 1, text
    assert rows["test_work", "cpu"]["verdict"] == "regressed", text


# -- calls too long to take turns by

LOCKING = """
import os

def work():
    os.close(os.open({lock!r}, os.O_CREAT | os.O_EXCL))  # fails while the other side is here
    try:
        total = 0
        for i in range({steps}):
            total += i * i % 7
        return total
    finally:
        os.unlink({lock!r})
"""


def test_small_slowdown_of_long_calls_is_found_under_load(repo):
    write(repo, {"src/pkg/core.py": WORK.format(steps=400_000)})
    commit(repo)
    write(repo, {"src/pkg/core.py": WORK.format(steps=424_000)})
    with neighbours():
        code, text, rows = against(repo)
    assert code == 1, text
    row = rows["test_work", "cpu"]
    assert row["verdict"] == "regressed"
    assert row["evidence"]["at_once"]
    assert row["evidence"]["pairs"] <= 25, "in turns they spread by several percent from pair to pair"


def test_long_calls_that_cannot_run_at_once_are_measured_in_turns(repo):
    lock = str(repo / "temporary/lock")
    write(repo, {"src/pkg/core.py": LOCKING.format(steps=200_000, lock=lock)})
    commit(repo)
    write(repo, {"src/pkg/core.py": LOCKING.format(steps=400_000, lock=lock)})
    code, text, rows = against(repo, *FEW)
    assert code == 1, text
    assert rows["test_work", "cpu"]["verdict"] == "regressed"
    assert not rows["test_work", "cpu"]["evidence"]["at_once"]
