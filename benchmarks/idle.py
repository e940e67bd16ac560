"""What the plug-in costs a session that does not use it: whole processes, in turns, CPU time.

    python benchmarks/idle.py [PAIRS]

Prints the ratio of 2,000 empty tests and of one test, with the plug-in over `-p no:tradeperf`.
"""

import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

COMMAND = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]


def cpu_seconds(command: list[str], folder: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    print(f"{'tests':>6} {'with':>9} {'without':>9} {'ratio':>7} {'quartiles of the ratio':>24}")
    for tests in (1, 2000):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
            body = "".join(f"def test_{i}(): pass\n" for i in range(min(tests, 100)))
            for number in range(max(1, tests // 100)):
                (folder / f"test_{number}.py").write_text(body)
            rows = []
            for turn in range(pairs + 1):
                order = [[], ["-p", "no:tradeperf"]]
                found = {}
                for extra in order if turn % 2 else reversed(order):
                    found[len(extra)] = cpu_seconds([*COMMAND, *extra], folder)
                if turn:  # the first turn writes byte code
                    rows.append((found[0], found[2]))
        ratios = sorted(a / b for a, b in rows)
        low, middle, high = statistics.quantiles(ratios, n=4)
        with_it, without = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{tests:>6} {with_it:>7.3f} s {without:>7.3f} s {middle:>7.4f} {low:>11.4f} .. {high:.4f}")


if __name__ == "__main__":
    main()
