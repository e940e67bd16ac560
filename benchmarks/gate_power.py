"""How often the gate alarms on unchanged code, and how small a slowdown it finds, beside pytest-benchmark.

A sample project with eight workloads is written to a folder; a slowdown is more of the same work.
Everything measured is appended to JSON lines in that folder, so a run can be stopped and taken up
again; ``table`` prints what there is so far.

    python benchmarks/gate_power.py record --pairs 40                quiet A/A pairs
    python benchmarks/gate_power.py record --pairs 40 --loaded       with a busy neighbour on every CPU
    python benchmarks/gate_power.py record --pairs 20 --change 3     pairs with a true +3 %
    python benchmarks/gate_power.py live --sessions 4 [--loaded]     whole sessions: gate and pytest-benchmark
    python benchmarks/gate_power.py live --unchanged                 the same, with no change at all
    python benchmarks/gate_power.py live --unchanged --alone --tests 1     what a single suspect takes
    python benchmarks/gate_power.py table                            replayed and live figures
"""

import argparse
import importlib
import importlib.metadata
import json
import math
import os
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from pytest_tradeperf.confirmation.measuring import Arena, Reference, Timing, measure_against
from pytest_tradeperf.measures.metrics import WALL
from pytest_tradeperf.model import Measurement
from pytest_tradeperf.pairing.bursts import TestPair
from pytest_tradeperf.pairing.outcomes import WAIT_SHARE, Outcome
from pytest_tradeperf.pairing.trees import revision_tree
from pytest_tradeperf.stats.estimators import robust_sd
from pytest_tradeperf.stats.replay import Rate, decide
from pytest_tradeperf.stats.sequential import Answer, Design

THRESHOLD = 0.01
ALPHA = 0.01
TESTS = 20
SESSIONS = 1000
CHANGES = (0, 1, 2, 3, 5, 10)

CODE = '''
"""Eight ways to spend time; a test's number of steps is 100 when unchanged."""
import asyncio
import json
from work.sizes import STEPS

def python_loop(steps):
    total = 0
    for i in range(30 * steps):
        total += i * i % 7
    return total

class Counter:
    def __init__(self):
        self.n = 0
    def up(self, by):
        self.n += by

def method_calls(steps):
    counter = Counter()
    for i in range(20 * steps):
        counter.up(i)
    return counter.n

def dicts(steps):
    found = {}
    for i in range(10 * steps):
        key = f"symbol-{i % 97}"
        found[key] = found.get(key, 0) + i
    return found

def strings(steps):
    parts = []
    for i in range(5 * steps):
        parts.append(f"{i:06d}".replace("0", "o").upper().split("O"))
    return len(parts)

ROWS = [{"id": i, "price": i / 7, "name": "x" * (i % 11), "tags": ["a", "b"]} for i in range(20)]

def json_text(steps):
    text = ""
    for i in range(steps):
        text = json.dumps(json.loads(json.dumps(ROWS[i % 20])))
    return text

def numpy_vectors(steps):
    import numpy as np
    prices = np.linspace(1.0, 2.0, 20_000)
    return sum(float((prices * prices + 1.0).sum()) for _ in range(steps))

def pandas_frames(steps):
    import pandas as pd
    frame = pd.DataFrame({"a": range(300)})
    return sum(float(frame["a"].rolling(5).mean().iloc[-1]) for _ in range(steps))

async def async_waiting(steps):
    for _ in range(steps):
        await asyncio.sleep(0.0001)

def run(name):
    return globals()[name.partition(".")[0]](STEPS.get(name, 100))
'''
TEST_FILE = """
import asyncio
import pytest
from work import code

NAMES = {names!r}

@pytest.mark.perf_budget(threshold="1%")
@pytest.mark.parametrize("name", NAMES)
def test_it(request, name):
    is_async = name.startswith("async")
    if request.config.getoption("--peer"):
        function = (lambda: asyncio.run(code.run(name))) if is_async else (lambda: code.run(name))
        request.getfixturevalue("benchmark")(function)
    elif is_async:
        perf = request.getfixturevalue("perf")
        async def wait():
            await code.run(name)
        async def measure():
            await perf(wait)
        asyncio.run(measure())
    else:
        request.getfixturevalue("perf")(code.run, name)
"""
CONFTEST = """
def pytest_addoption(parser):
    parser.addoption("--peer", action="store_true")
"""
INI = """[pytest]
pythonpath = src
perf_source = src
asyncio_default_fixture_loop_scope = function
"""
WORKLOADS = (
    "python_loop",
    "method_calls",
    "dicts",
    "strings",
    "json_text",
    "numpy_vectors",
    "pandas_frames",
    "async_waiting",
)


def main() -> None:
    """Run one step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=("record", "live", "table"))
    parser.add_argument("--folder", type=Path, default=Path(".tradeperf/gate_power"))
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument(
        "--change", type=float, default=0.0, help="true slowdown of the recorded pairs, in percent"
    )
    parser.add_argument(
        "--only", nargs="*", choices=WORKLOADS, default=WORKLOADS, help="these workloads alone"
    )
    parser.add_argument("--sessions", type=int, default=2)
    parser.add_argument("--tests", type=int, default=TESTS, help="tests of a live session")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--time", default="20 min", help="--perf-time of a live session")
    parser.add_argument("--unchanged", action="store_true", help="live sessions of unchanged code alone")
    parser.add_argument("--alone", action="store_true", help="live sessions without pytest-benchmark's")
    parser.add_argument("--loaded", action="store_true", help="with a busy process for every CPU beside it")
    parser.add_argument(
        "--state", default="", help="name of the machine's state, when neither quiet nor --loaded"
    )
    given = parser.parse_args()
    state = given.state or ("loaded" if given.loaded else "quiet")
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if given.step == "table":
        print_table(folder)
        return
    with neighbours(given.loaded):
        if given.step == "record":
            record(
                folder,
                tuple(given.only),
                pairs=given.pairs,
                change=given.change / 100,
                state=state,
                minutes=given.minutes,
            )
        else:
            sizes = (0,) if given.unchanged else (0, 0, 0, 1, 2, 3, 5, 10)
            live(
                folder,
                given.sessions,
                state,
                names=tuple(f"{given.only[i % len(given.only)]}.{i}" for i in range(given.tests)),
                minutes=given.minutes,
                bound=given.time,
                sizes=sizes,
                has_peer=not given.alone,
            )


@contextmanager
def neighbours(wanted: bool) -> Iterator[None]:
    """Keep every CPU busy with another process while the block runs."""
    work = "sorted(range(20000), key=lambda i: i * 7919 % 20011)"
    burn = f"import os\nowner = os.getppid()\nwhile os.getppid() == owner:\n    {work}"
    count = len(os.sched_getaffinity(0)) if wanted else 0
    processes = [subprocess.Popen([sys.executable, "-c", burn]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def project(folder: Path, names: tuple[str, ...]) -> Path:
    """Write and commit the sample project with unchanged steps; return its root."""
    root = folder / f"project-{len(names)}"
    files = {
        "src/work/__init__.py": "",
        "src/work/code.py": CODE,
        "src/work/sizes.py": "STEPS = {}\n",
        "test_work.py": TEST_FILE.format(names=names),
        "conftest.py": CONFTEST,
        "pytest.ini": INI,
        ".gitignore": "__pycache__\n.tradeperf\n.benchmarks\n.pytest_cache\n*.json\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    if not (root / ".git").exists():
        git(root, "init", "-q")
    git(root, "add", "-A")
    git(
        root,
        "-c",
        "user.name=b",
        "-c",
        "user.email=b@example.org",
        "commit",
        "-q",
        "--allow-empty",
        "-m",
        "base",
    )
    return root


def git(root: Path, *arguments: str) -> None:
    """Run git in ``root``."""
    subprocess.run(["git", *arguments], cwd=root, check=True)


def inject(root: Path, changes: dict[str, float]) -> None:
    """Give each named test that much more of the same work; with names, in another tree even for nothing."""
    steps = {name: round(100 * (1 + change)) for name, change in changes.items() if change}
    (root / "src/work/sizes.py").write_text(
        f"STEPS = {steps!r}\n" + "# another tree\n" * bool(changes), encoding="utf-8"
    )


def append(path: Path, line: dict[str, Any]) -> None:
    """Add one line that survives whatever stops us next."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def lines(path: Path) -> list[dict[str, Any]]:
    """Return all lines so far."""
    return (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    )


# -- recorded pairs


def record(
    folder: Path, only: tuple[str, ...], *, pairs: int, change: float, state: str, minutes: float
) -> None:
    """Record pairs of the workloads ``only`` with a true ``change``."""
    # As in a session, which has run the tests before: both sides share the libraries that are loaded.
    for library in ("numpy", "pandas"):
        importlib.import_module(library)
    for plugin in importlib.metadata.entry_points(group="pytest11"):
        plugin.load()
    root = project(folder, WORKLOADS)
    inject(root, dict.fromkeys(WORKLOADS, change))
    tests = {f"test_work.py::test_it[{name}]": name for name in only}
    timing = {
        t: Timing(test=t, measurement=Measurement(metric=WALL, value=3e6), threshold=THRESHOLD) for t in tests
    }
    arena = Arena(
        root=root,
        sources=("src",),
        cwd=root,
        entry="pytest_tradeperf.plugin.worker:serve",
        payload={
            "cwd": str(root),
            "arguments": ["-q", "-p", "no:cacheprovider", "--rootdir", str(root), str(root / "test_work.py")],
            "options": {},
        },
        alpha=ALPHA,
        comparisons=TESTS,
        seed=random.SystemRandom().getrandbits(40),
        tooling=frozenset(sys.modules),
    )
    reference = Reference(name="HEAD", tree=revision_tree(root, "HEAD", ("src",)))

    def keep(test: str, pair: TestPair) -> None:
        outcome = Outcome(test=test, threshold=THRESHOLD)
        outcome.add(pair, is_parallel=False, higher_is_better=frozenset())
        series = outcome.series[""]
        if not series.ratios.get(series.clock):
            return  # its clock stood still
        append(
            folder / "pairs.jsonl",
            {
                "workload": tests[test],
                "state": state,
                "change": change,
                "clock": series.clock,
                "ratio": series.ratios[series.clock][0],
                "load": os.getloadavg()[0],
                "raw": {side: [r.iterations, r.bursts] for side, r in pair.parts[""].items()},
            },
        )

    began = time.monotonic()
    outcomes = measure_against(
        reference, list(timing.values()), arena, minutes * 60, pairs=pairs, on_pair=keep
    )
    spent = time.monotonic() - began
    done = sum(outcome.pairs for outcome in outcomes.values())
    print(f"{done} pairs in {spent:.0f} s, {spent / max(1, done):.2f} s a pair and test")
    for outcome in outcomes.values():
        if outcome.message:
            print(f"{outcome.test}: {outcome.end}: {outcome.message}")
    append(folder / "costs.jsonl", {"state": state, "pairs": done, "seconds": spent})


# -- live sessions


def live(
    folder: Path,
    sessions: int,
    state: str,
    *,
    names: tuple[str, ...],
    minutes: float,
    bound: str,
    sizes: Sequence[int],
    has_peer: bool,
) -> None:
    """Run whole sessions of tests ``names``, slower by one of ``sizes`` percent, through gate and peer."""
    root = project(folder, names)
    deadline = time.monotonic() + minutes * 60
    dice = random.SystemRandom()
    for _ in range(sessions):
        if time.monotonic() > deadline:
            return
        changes = {name: dice.choice(sizes) / 100 for name in names}
        for name, steps in (("base", {}), ("head", changes)) if has_peer else ():
            inject(root, steps)
            pytest(root, "--peer", "-p", "no:tradeperf", f"--benchmark-json={name}.json")
        inject(root, changes)
        began = time.monotonic()
        (root / "record.json").unlink(missing_ok=True)
        pytest(root, "--perf-against", "HEAD", "--perf-report", "json=record.json", "--perf-time", bound)
        found = json.loads((root / "record.json").read_text(encoding="utf-8"))["verdicts"]
        failed = {row["test"] for row in found if row["verdict"] == "regressed"}
        append(
            folder / "live.jsonl",
            {
                "state": state,
                "seconds": time.monotonic() - began,
                "changes": changes,
                "failed": [name for name in names if f"test_work.py::test_it[{name}]" in failed],
                "undecided": len({row["test"] for row in found if row["verdict"] == "undecided"}),
                "peer": peer_alarms(root) if has_peer else {},
            },
        )


def pytest(root: Path, *arguments: str) -> None:
    """Run pytest in ``root``; what it says is in its files."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    subprocess.run(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def peer_alarms(root: Path) -> dict[str, list[str]]:
    """Return what each rule of pytest-benchmark's --benchmark-compare-fail would have failed."""
    base, head = (
        {
            b["params"]["name"]: b["stats"]
            for b in json.loads((root / f).read_text(encoding="utf-8"))["benchmarks"]
        }
        for f in ("base.json", "head.json")
    )
    return {
        f"{field}:{percent}%": [n for n in base if head[n][field] > base[n][field] * (1 + percent / 100)]
        for field, percent in (("min", 5), ("median", 5), ("mean", 10))
    }


# -- the table


def print_table(folder: Path) -> None:
    """Print the spread of pairs, replayed sessions, and live sessions."""
    design = Design(alpha=(1 - WAIT_SHARE) * ALPHA / TESTS)
    recorded = defaultdict(list)
    for line in lines(folder / "pairs.jsonl"):
        recorded[line["state"], line["change"], line["workload"]].append(line["ratio"])
    print("Pairs: robust sd, share above the threshold, by state, true change and workload")
    for (state, change, workload), ratios in sorted(recorded.items()):
        beyond = sum(r > math.log1p(THRESHOLD) for r in ratios) / len(ratios)
        name = f"  {state:7} {100 * change:+4.0f} % {workload:14} {len(ratios):4} pairs"
        spread = f"median {100 * median(ratios):+6.2f} %  sd {100 * robust_sd(ratios):5.2f} %"
        print(f"{name}  {spread}  above {100 * beyond:4.0f} %")
    costs: dict[str, list[float]] = defaultdict(list)
    for line in lines(folder / "costs.jsonl"):
        costs[line["state"]].append(line["seconds"] / max(1, line["pairs"]))
    for state in sorted({key[0] for key in recorded}):
        pools = {w: recorded[state, 0.0, w] for w in WORKLOADS if recorded.get((state, 0.0, w))}
        if pools:
            replayed(state, pools, design, median(costs[state]) if costs[state] else math.nan)
    print_live(folder)


def replayed(state: str, pools: dict[str, list[float]], design: Design, seconds: float) -> None:
    """Print sessions of 20 tests drawn from recorded A/A pairs, a change being a shift of the log ratio."""
    dice = random.Random(20)
    centred = {workload: [r - median(ratios) for r in ratios] for workload, ratios in pools.items()}
    rule = f"threshold {THRESHOLD:.0%}, alpha {ALPHA:.0%}, up to {design.horizon} pairs"
    print(f"\nReplayed, {state}: {TESTS} tests, {rule}")
    for change in CHANGES:
        shift = math.log1p(change / 100)
        # Shifted pools are centred: at the threshold a pool's own median would decide every time.
        sessions = SESSIONS if change <= 100 * THRESHOLD else SESSIONS // 10
        alarms, found, pairs = 0, 0, []
        by_workload: dict[str, list[bool]] = defaultdict(list)
        for _ in range(sessions):
            answers = []
            for i in range(TESTS):
                workload = list(pools)[i % len(pools)]
                answer, used = decide(
                    centred[workload] if change else pools[workload], design, THRESHOLD, dice, shift=shift
                )
                answers.append(answer is Answer.REGRESSED)
                by_workload[workload].append(answers[-1])
                pairs.append(used)
            alarms += any(answers)
            found += sum(answers)
        cost = f"{sum(pairs) / len(pairs) * seconds:5.1f} s a test"
        if change <= 100 * THRESHOLD:
            rate = Rate(count=alarms, trials=sessions)
            found_in = f"{rate.share:6.2%} of {sessions} sessions (upper 95 %: {rate.upper:.2%})"
            print(f"  true {change:+3} %: false alarm in {found_in}, {cost}")
        else:
            worst = min(by_workload, key=lambda w: sum(by_workload[w]) / len(by_workload[w]))
            low = sum(by_workload[worst]) / len(by_workload[worst])
            share = f"found {found / sessions / TESTS:6.1%}, least {low:6.1%} ({worst})"
            print(f"  true {change:+3} %: {share}, {cost}")


def print_live(folder: Path) -> None:
    """Print live sessions, ours and the peer's rules side by side."""
    sessions = defaultdict(list)
    for line in lines(folder / "live.jsonl"):
        sessions[line["state"], len(line["changes"])].append(line)
    for (state, tests), found in sorted(sessions.items()):
        seconds = median(s["seconds"] for s in found)
        print(f"\nLive, {state}: {len(found)} sessions of {tests} tests, {seconds:.0f} s each")
        rules = {"tradeperf 1 %": [(s, s["failed"]) for s in found]}
        for name in found[0]["peer"]:
            rules[f"benchmark {name}"] = [(s, s["peer"][name]) for s in found if s["peer"]]
        for name, failures in rules.items():
            false = sum(any(s["changes"][t] <= THRESHOLD for t in f) for s, f in failures)
            rate = Rate(count=false, trials=len(failures))
            cells = []
            for change in (2, 3, 5, 10):
                hits = [
                    t in f for s, f in failures for t, c in s["changes"].items() if round(100 * c) == change
                ]
                cells.append(f"+{change} % {sum(hits)}/{len(hits)}")
            alarm = f"false alarm in {rate.count} of {rate.trials} (upper 95 %: {rate.upper:.1%})"
            print(f"  {name:24} {alarm};  found {', '.join(cells)}")
        undecided = sum(s["undecided"] for s in found)
        print(f"  tradeperf left undecided {undecided} of {tests * len(found)} tests")


if __name__ == "__main__":
    main()
