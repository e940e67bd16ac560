"""How often memory and leak measures are wrong: clean code that must pass, planted faults that must not.

    python benchmarks/false_verdicts.py [--runs 7]

Ten workloads. Each is accepted in one process and measured again in ``--runs`` fresh ones, with another
hash seed each: peak, allocations and the search for leaks are decided as the gate decides them. Then each
is measured once with a tenth more heap, once with 1 % more allocations and once leaking an object a call.
"""

import argparse
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

from pytest_tradeperf.gate.judge import Context, judge
from pytest_tradeperf.measures import leaks
from pytest_tradeperf.measures.heap import HeapTracker, HeapUse
from pytest_tradeperf.measures.heap_passes import heap_measurements, schedule
from pytest_tradeperf.model import Environment, Measurement, TestRecord, Verdict
from pytest_tradeperf.store.baseline import Baseline
from pytest_tradeperf.store.record import from_json, to_json
from pytest_tradeperf.workflow import accept


def rows(n: int) -> object:
    return [{"price": float(i), "name": str(i)} for i in range(n)]


def arrays(n: int) -> object:
    import numpy as np

    return [np.ones(1000) for _ in range(n // 10)]


def frames(n: int) -> object:
    import numpy as np
    import pandas as pd

    frame = pd.DataFrame({"g": np.arange(n * 20) % 7, "x": np.arange(n * 20.0)})
    return frame, [frame[: 10 * i].groupby("g").x.mean() for i in range(1, 2 + n // 30)]


def texts(n: int) -> object:
    return json.loads(json.dumps([{"id": i, "tags": ["a", "b"]} for i in range(n)]))


def sets(n: int) -> object:
    return {f"key {i}": {i, i + 1} for i in range(n)}


def classes(n: int) -> object:
    class Order:
        def __init__(self, number: int) -> None:
            self.number, self.parent = number, None

    return [Order(i) for i in range(n)]


def cycles(n: int) -> object:
    made: list[Any] = []
    for _ in range(n):
        node: list[Any] = []
        node.append(node)
        made.append(node)
    return made


def generators(n: int) -> object:
    def squares() -> Iterator[int]:
        for i in range(n):
            yield i * i + 1000

    return sorted(squares(), reverse=True)


def threads(n: int) -> object:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda i: [float(i)] * 4, range(n // 4)))


@functools.lru_cache(maxsize=64)
def _cached(key: str) -> list[str]:
    return [key]


_NUMBERS = iter(range(10**12))


def cached(n: int) -> object:
    for _ in range(5):
        _cached(f"key {next(_NUMBERS)}")
    return [[i] for i in range(n)]


WORKLOADS: dict[str, tuple[Callable[[int], object], int]] = {
    "rows of dicts": (rows, 3000),
    "numpy arrays": (arrays, 3000),
    "pandas group-by": (frames, 3000),
    "json there and back": (texts, 2000),
    "dicts of sets": (sets, 2000),
    "objects": (classes, 6000),
    "cyclic garbage": (cycles, 6000),
    "generators": (generators, 9000),
    "threads": (threads, 4000),
    "a filling cache": (cached, 5000),
}


def measure(name: str, scale: float, *, leaking: bool) -> dict[str, Any]:
    make, n = WORKLOADS[name]
    size = round(n * scale)
    kept: list[object] = []

    def small() -> None:
        make(n // 50)
        if leaking:
            kept.append(object())

    make(size)  # the ordinary pass of a test is the warm-up
    uses: list[HeapUse] = []
    for in_turn in schedule(uses, is_kept=True, count=True):
        with HeapTracker(count=True, in_turn=in_turn) as tracker:
            make(size)
        uses.append(tracker.use)
    report = leaks.find(small)
    return {"heap": [to_json(m) for m in heap_measurements(uses)], "leak": report.verdict.value}


def fresh(name: str, scale: float = 1.0, *, leaking: bool = False, seed: int = 0) -> dict[str, Any]:
    command = [sys.executable, __file__, "--worker", json.dumps([name, scale, leaking])]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": str(seed)}
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    answer["heap"] = [from_json(Measurement, m) for m in answer["heap"]]
    return answer


def verdicts(accepted: list[Measurement], measured: list[Measurement]) -> dict[str, Verdict]:
    environment = Environment(platform="", arch="", python="", machine="")
    baseline = Baseline(folder=Path(), key="")
    lines = accept([TestRecord(test="t", measurements=tuple(accepted))], baseline, environment)
    record = TestRecord(test="t", measurements=tuple(measured))
    judgement = judge(
        record, {name: line for (_, name), line in lines.items()}, Context(threshold=0.02, today=date.max)
    )
    return {row.metric: row.verdict for row in judgement.rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        name, scale, leaking = json.loads(arguments.worker)
        print(json.dumps(measure(name, scale, leaking=leaking)))
        return
    decisions = wrong = open_ = planted = found = 0
    print(
        f"{'workload':<22}{'clean':>6}{'false':>7}{'undecided':>11}"
        f"{'peak +10 %':>12}{'count +1 %':>12}{'leak':>12}"
    )
    for name in WORKLOADS:
        accepted = fresh(name)["heap"]
        false = made = undecided = 0
        for seed in range(1, arguments.runs + 1):
            answer = fresh(name, seed=seed)
            judged = verdicts(accepted, answer["heap"])
            made += len(judged) + 1
            for what, verdict in (*judged.items(), ("leak", answer["leak"])):
                undecided += verdict in (Verdict.UNDECIDED, "undecided", "still warming")
                false += verdict in (Verdict.REGRESSED, Verdict.IMPROVED, "leaking")
                if verdict not in (Verdict.OK, "clean"):
                    print(f"  {name}, run {seed}: {what} {verdict}")
        seen = [
            str(verdicts(accepted, fresh(name, 1.1)["heap"])["peak_memory"]),
            str(verdicts(accepted, fresh(name, 1.01)["heap"])["allocations"]),
            str(fresh(name, leaking=True)["leak"]),
        ]
        print(
            f"{name:<22}{made:>6}{false:>7}{undecided:>11}{seen[0]:>12}{seen[1]:>12}{seen[2]:>12}", flush=True
        )
        decisions, wrong, open_ = decisions + made, wrong + false, open_ + undecided
        planted, found = planted + 3, found + sum(answer in ("regressed", "leaking") for answer in seen)
    print(
        f"{decisions} clean decisions, {wrong} false, {open_} undecided; "
        f"{found} of {planted} planted faults found"
    )


if __name__ == "__main__":
    main()
