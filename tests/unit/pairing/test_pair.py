"""Real process pairs, serving a small entry instead of pytest."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_tradeperf.pairing.cpus import kept_on
from pytest_tradeperf.pairing.pair import PairPlan, ProcessPair, preloadable
from pytest_tradeperf.pairing.protocol import ClosedError, LateError

HERE = str(Path(__file__).parent)


def plan_in(folder: Path, **more: object) -> PairPlan:
    for name in ("scratch", "base", "project"):
        (folder / name).mkdir(exist_ok=True)
    given = {
        "head": folder / "project",
        "base": folder / "base",
        "sources": ("src",),
        "entry": "pair_entries:tell",
        "payload": {"tests": ["t"]},
        "scratch": folder / "scratch",
        "cwd": folder,
        "preload": ("decimal", "no_such_module"),
        "path": (HERE, *sys.path),
    }
    return PairPlan(**given | more)  # type: ignore[arg-type]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def all_gone(pids: list[int], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while any(alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_both_sides_share_parent_seed_and_preloaded_modules(tmp_path: Path) -> None:
    with ProcessPair(plan_in(tmp_path), seed=1, parallel=False) as pair:
        ready = {name: channel.receive(60) for name, channel in pair.channels.items()}
        for channel in pair.channels.values():
            channel.send({"do": "say", "n": 1})
            assert channel.receive(60) == {"is": "echo", "do": "say", "n": 1}
    assert {name: message["name"] for name, message in ready.items()} == {"base": "base", "head": "head"}
    assert ready["base"]["hash"] == ready["head"]["hash"]
    assert ready["base"]["parent"] == ready["head"]["parent"]
    assert ready["head"]["modules"]
    assert ready["head"]["payload"] == {"tests": ["t"]}
    assert ready["head"]["threads"] == "1"
    assert pair.last_words("base") == "noise on stdout"
    assert all_gone([ready["base"]["pid"], ready["head"]["pid"], ready["base"]["parent"]])


def test_another_pair_has_another_seed_and_parallel_tests_keep_their_threads(tmp_path: Path) -> None:
    seeds = set()
    for seed in (1, 2):
        with ProcessPair(plan_in(tmp_path), seed=seed, parallel=True) as pair:
            ready = pair.channels["base"].receive(60)
            seeds.add(ready["seed"])
            assert ready["threads"] == os.environ.get("OMP_NUM_THREADS")
    assert len(seeds) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is Linux's")
def test_whole_pair_moves_to_other_cpus(tmp_path: Path) -> None:
    everywhere = sorted(os.sched_getaffinity(0))
    with kept_on(everywhere[:1]), ProcessPair(plan_in(tmp_path), seed=1, parallel=False) as pair:
        ready = {name: channel.receive(60) for name, channel in pair.channels.items()}
        pids = [ready["base"]["parent"], *(message["pid"] for message in ready.values())]
        assert [os.sched_getaffinity(pid) for pid in pids] == [{everywhere[0]}] * 3
        pair.move(everywhere)
        assert [os.sched_getaffinity(pid) for pid in pids] == [set(everywhere)] * 3
    pair.move(everywhere)  # nobody is left to be moved


FATAL = "Fatal Python error: Segmentation fault\n"


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("first\nfamous last words\n", "famous last words"),
        (f"first\n{FATAL}\nCurrent thread:\n  File a\n\nExtension modules: a, b\n", FATAL.strip()),
    ],
)
def test_side_that_dies_is_noticed_with_its_last_words(tmp_path: Path, printed: str, said: str) -> None:
    with ProcessPair(plan_in(tmp_path), seed=1, parallel=False) as pair:
        channel = pair.channels["head"]
        channel.receive(60)
        channel.send({"do": "die", "words": printed})
        with pytest.raises(ClosedError):
            channel.receive(60)
        assert pair.last_words("head") == said


def test_side_that_hangs_is_late_and_ended_with_its_children(tmp_path: Path) -> None:
    with ProcessPair(plan_in(tmp_path), seed=1, parallel=False) as pair:
        channel = pair.channels["base"]
        pid = channel.receive(60)["pid"]
        channel.send({"do": "child"})
        child = channel.receive(60)["pid"]
        channel.send({"do": "hang"})
        with pytest.raises(LateError):
            channel.receive(0.05)
    assert all_gone([pid, child])


@pytest.mark.skipif(sys.platform != "linux", reason="who adopts orphans is Linux's to choose")
def test_child_that_left_the_group_of_its_side_is_ended_too(tmp_path: Path) -> None:
    with ProcessPair(plan_in(tmp_path), seed=1, parallel=False) as pair:
        channel = pair.channels["base"]
        channel.receive(60)
        channel.send({"do": "child", "apart": True})
        child = channel.receive(60)["pid"]
        pair.farewell(60)
    assert all_gone([child], seconds=30)


def test_both_sides_tear_down_before_they_are_ended(tmp_path: Path) -> None:
    with ProcessPair(plan_in(tmp_path), seed=1, parallel=False) as pair:
        pair.farewell(60)
    assert {path.name for path in tmp_path.glob("*-has-torn-down")} == {
        "base-has-torn-down",
        "head-has-torn-down",
    }


def test_side_inside_a_test_is_told_twice(tmp_path: Path) -> None:
    with ProcessPair(plan_in(tmp_path, entry="pair_entries:stay"), seed=1, parallel=False) as pair:
        pair.farewell(60)
    assert len(list(tmp_path.glob("*-has-torn-down"))) == 2


def test_farewell_to_a_side_that_died_or_hangs_is_short(tmp_path: Path) -> None:
    with ProcessPair(plan_in(tmp_path), seed=1, parallel=False) as pair:
        for name, last in (("base", "die"), ("head", "hang")):
            pair.channels[name].receive(60)
            pair.channels[name].send({"do": last})
        pair.farewell(0.1)
    assert not list(tmp_path.glob("*-has-torn-down"))


def beats(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def soon(is_true: Callable[[], bool], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > deadline:
            return False
    return True


def stands_still(pid: int) -> bool:
    before = beats(pid)
    time.sleep(0.05)
    return beats(pid) <= before + 1


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_parent_of_the_sides_beats_time_on_their_cpu_within_the_block(tmp_path: Path) -> None:
    cpu = max(os.sched_getaffinity(0))
    with ProcessPair(plan_in(tmp_path), seed=1, parallel=False) as pair:
        ready = {name: channel.receive(60) for name, channel in pair.channels.items()}
        parent = ready["base"]["parent"]
        assert soon(lambda: stands_still(parent))
        with pair.metronome([cpu]):
            before = beats(parent)
            assert soon(lambda: beats(parent) > before + 20)
            assert os.sched_getaffinity(parent) == {cpu}
        assert soon(lambda: stands_still(parent))
        assert os.getsid(parent) == os.getsid(ready["head"]["pid"]) != os.getsid(0)


def children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("is_parent_killed", [False, True])
def test_cpu_is_kept_awake_by_what_runs_when_nobody_else_does(tmp_path: Path, is_parent_killed: bool) -> None:
    cpu = max(os.sched_getaffinity(0))
    with ProcessPair(plan_in(tmp_path), seed=1, parallel=False) as pair:
        ready = [channel.receive(60) for channel in pair.channels.values()]
        parent, sides = ready[0]["parent"], {side["pid"] for side in ready}
        with pair.kept_awake([cpu]):
            assert soon(lambda: len(children(parent)) == 3)
            (watcher,) = children(parent) - sides
            assert soon(lambda: os.sched_getscheduler(watcher) == os.SCHED_IDLE)
            assert os.sched_getaffinity(watcher) == {cpu}
            if is_parent_killed:
                os.kill(parent, signal.SIGKILL)
                assert all_gone([watcher])
        assert all_gone([watcher])


def test_killed_controller_leaves_no_process_behind(tmp_path: Path) -> None:
    command = f"import sys; sys.path[:0] = [{HERE!r}]; import pair_entries; pair_entries.controller({str(tmp_path)!r})"
    with subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 6
        process.send_signal(signal.SIGKILL)
        assert all_gone(pids)


def test_project_code_is_never_preloaded(tmp_path: Path) -> None:
    import json

    assert "json" in preloadable(tmp_path, ["src"], ["json", "test_pair"])
    assert "test_pair" not in preloadable(tmp_path, ["src"], ["json", "test_pair"])
    assert preloadable(Path(json.__file__).parent, ["."], ["json"]) == tuple(
        name for name in preloadable(tmp_path, ["src"], ()) if name != "json"
    )


def test_libraries_installed_beside_the_environment_are_preloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("dist-packages", "elsewhere"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"lib_in_{folder[:4]}.py").write_text("")
        monkeypatch.syspath_prepend(str(tmp_path / folder))
    for name in ("lib_in_dist", "lib_in_else"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        __import__(name)
    assert preloadable(tmp_path, ["src"], ["lib_in_dist", "lib_in_else"])[-1:] == ("lib_in_dist",)


def test_module_that_drags_in_project_code_is_not_preloaded(tmp_path: Path) -> None:
    (tmp_path / "project" / "src").mkdir(parents=True)
    (tmp_path / "project" / "src" / "pkg.py").write_text("")
    (tmp_path / "library.py").write_text("import decimal, pkg\n")
    path = (HERE, str(tmp_path), str(tmp_path / "project" / "src"), *sys.path)
    plan = plan_in(tmp_path, preload=("library",), path=path)
    with ProcessPair(plan, seed=1, parallel=False) as pair:
        assert not pair.channels["base"].receive(60)["modules"]
