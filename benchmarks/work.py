"""How far instruction counts of unchanged code move, and whether 1 % more work is told from that.

Each session is a fresh one of a project written here: the same again, in another folder, with a longer
environment, with other tests before it, and in a parallel worker. Then every workload does a hundredth more.
Needs valgrind. About a minute a session: ``python benchmarks/work.py [REPEATS]``.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

WORKLOADS = """
import json
import os
import numpy as np
import pandas as pd

N = int(os.environ.get("STEPS", "100"))
ROW = {"id": 7, "name": "seven", "price": 7.25, "tags": ["a", "b", "c"]}
VALUES = np.arange(2_000.0)
FRAME = pd.DataFrame({"key": np.arange(300) % 7, "value": np.arange(300.0)})


class Order:
    def __init__(self, price):
        self.price = price

    def cost(self):
        return self.price * 2


def loop():
    total = 0
    for i in range(200 * N):
        total += i % 7
    return total


def dicts():
    found = {}
    for i in range(20 * N):
        found[f"k{i % 900}"] = found.get(f"k{i}", 0) + i
    return sum(v for k, v in found.items() if k.endswith("7"))


def sets():
    return len({str(i) for i in range(20 * N)} & {str(i) for i in range(6 * N)})


def objects():
    return sum(Order(i).cost() for i in range(20 * N))


def there_and_back():
    return sum(len(json.loads(json.dumps(ROW))) for _ in range(N))


def arrays():
    return sum(float(np.sqrt(VALUES * i + 1).sum()) for i in range(2 * N))


def sorting():
    return sum(sorted((i * 7919) % 1009 for i in range(100))[5] for _ in range(N))


def frames():
    return sum(float(FRAME["value"].sum()) for _ in range(N))
"""

NAMES = ("loop", "dicts", "sets", "objects", "there_and_back", "arrays", "sorting", "frames")
TESTS = "import pytest, shop\n" + "".join(
    f"@pytest.mark.perf_budget(instructions=True)\ndef test_{name}(perf):\n    perf(shop.{name})\n"
    for name in NAMES
)
OTHERS = "import decimal, sqlite3, xml.dom.minidom\n" + TESTS.replace("def test_", "def test_other_")
INI = "[pytest]\nasyncio_default_fixture_loop_scope = function\n"


def project(folder: Path, *, with_others: bool = False) -> Path:
    folder.mkdir(parents=True)
    (folder / "pytest.ini").write_text(INI)
    (folder / "shop.py").write_text(WORKLOADS)
    (folder / "test_shop.py").write_text(TESTS)
    if with_others:
        (folder / "test_a.py").write_text(OTHERS)
    return folder


def counts(folder: Path, *options: str, **environment: str) -> dict[str, float]:
    record = folder / "record.json"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", f"--perf-report=json={record}", *options],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    found = {}
    for test in json.loads(record.read_text())["tests"]:
        for measured in test["measurements"]:
            if measured["metric"]["name"] == "instructions":
                found[test["test"].partition("::test_")[2]] = measured["value"]
    return found


def main(repeats: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        plain = project(Path(name) / "plain")
        other = project(Path(name) / "a folder with a much longer name" / "plain")
        mixed = project(Path(name) / "mixed", with_others=True)
        same = [counts(plain) for _ in range(repeats)]
        moved = [
            counts(other),
            counts(plain, TRADEPERF_PADDING="x" * 3000),
            counts(mixed),
            counts(plain, "-n", "1"),
        ]
        more = counts(plain, STEPS="101")
    first = same[0]
    print(
        f"{'workload':16} {'instructions':>14} {f'same x{repeats}':>10} {'folder':>9} {'longer':>9}", end=" "
    )
    print(f"{'others':>9} {'worker':>9} {'+1 %':>9}")
    for name in NAMES:
        values = [run[name] for run in same]
        shifts = [f"{100 * (run[name] / first[name] - 1):+8.3f}%" for run in (*moved, more)]
        print(f"{name:16} {first[name]:14,.0f} {100 * (max(values) / min(values) - 1):9.4f}%", *shifts)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
