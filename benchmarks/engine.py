"""How fast the backtest engine is, beside backtesting.py and vectorbt in environments of their own.

    python benchmarks/engine.py                       our engines only
    python benchmarks/engine.py --peers /tmp/peers    also the peers; environments are made there once (pip)

Every figure is taken in a fresh process, pinned to one CPU where the system allows it. Wall time is what a
user
waits; CPU time is what remains of it on a busy machine: both are printed. Nothing here asserts a time.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PEERS = {"backtesting": ["backtesting"], "vectorbt": ["vectorbt"]}
FEES_BPS = 5.0
PAIRS = [(fast, slow) for fast in range(2, 100) for slow in range(fast + 1, 101)]  # 4,851


def peak_bytes() -> int:
    """Return the high-water mark of this process's resident memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def timed(call: Any, repeats: int) -> dict[str, Any]:
    """Return the first call's wall time, and the fastest wall and CPU time of the later ones."""
    start = time.perf_counter()
    answer = call()
    first = time.perf_counter() - start
    wall, cpu = math.inf, math.inf
    for _ in range(repeats):
        start, start_cpu = time.perf_counter(), time.process_time()
        answer = call()
        wall = min(wall, time.perf_counter() - start)
        cpu = min(cpu, time.process_time() - start_cpu)
    return {"first": first, "wall": wall, "cpu": cpu, "peak": peak_bytes(), "answer": answer}


def measure_sweep(
    engine: str, n_pairs: str = "4851", n_bars: str = "2148", repeats: str = "5"
) -> dict[str, Any]:
    from pytest_tradeperf.pipeline.backtest import MovingAverageCross, sweep
    from pytest_tradeperf.pipeline.marketdata import load_bars

    bars = load_bars("GOOG")[: int(n_bars)]
    windows = next(top for top in range(3, 102) if (top - 1) * (top - 2) // 2 >= int(n_pairs))

    def run() -> Any:
        return sweep(
            bars,
            MovingAverageCross,
            engine=engine,  # type: ignore[arg-type]
            fees_bps=FEES_BPS,
            constraint=lambda fast, slow: fast < slow,
            fast=range(2, windows),
            slow=range(3, windows + 1),
        )

    answer = timed(run, int(repeats))
    result = answer["answer"]
    return answer | {"count": len(result.rows), "answer": result.digest}


def measure_single(engine: str, n_bars: str = "2148", repeats: str = "50") -> dict[str, Any]:
    import numpy as np

    from pytest_tradeperf.pipeline.backtest import MovingAverageCross, run_backtest
    from pytest_tradeperf.pipeline.marketdata import Bars, load_bars

    bars = load_bars("GOOG")
    if int(n_bars) != len(bars):
        random = np.random.default_rng(0)
        close = 100.0 * np.exp(np.cumsum(random.normal(0.0, 0.001, int(n_bars))))
        stamps = np.datetime64("2000-01-01T00:00", "ns") + np.arange(int(n_bars)) * np.timedelta64(1, "m")
        bars = Bars(
            symbol="R",
            timestamps=stamps,
            open=close,
            high=close,
            low=close,
            close=close,
            volume=np.ones(close.size),
        )
    if engine == "compiled":
        from pytest_tradeperf.pipeline.backtest.compiled import prepare

        print(f"kernel ready after {prepare():.2f} s", file=sys.stderr)
    strategy = MovingAverageCross(fast=10, slow=30)
    return timed(
        lambda: run_backtest(bars, strategy, fees_bps=FEES_BPS, engine=engine).final_equity,  # type: ignore[arg-type]
        int(repeats),
    )


def measure_portfolio(n_symbols: str = "500", n_bars: str = "5040") -> dict[str, Any]:
    import numpy as np

    from pytest_tradeperf.pipeline.backtest import MovingAverageCross, Settings, run_portfolio
    from pytest_tradeperf.pipeline.marketdata import Bars

    random = np.random.default_rng(0)
    stamps = (np.datetime64("2000-01-01") + np.arange(int(n_bars))).astype("datetime64[ns]")
    bars = []
    for number in range(int(n_symbols)):
        close = 50.0 * np.exp(np.cumsum(random.normal(2e-4, 0.02, stamps.size)))
        columns = {"open": close, "high": close * 1.01, "low": close * 0.99, "close": close}
        bars.append(Bars(symbol=f"S{number}", timestamps=stamps, volume=np.ones(close.size), **columns))
    strategy, settings = MovingAverageCross(fast=20, slow=100), Settings(cash=1e7)
    return timed(lambda: run_portfolio(bars, strategy, settings=settings).n_trades, 2)


def peer_backtesting(bars_file: str, n_pairs: str = "40") -> dict[str, Any]:
    import warnings

    warnings.simplefilter("ignore")
    import pandas as pd
    from backtesting import Backtest, Strategy

    frame = pd.read_csv(bars_file, index_col=0, parse_dates=True).rename(columns=str.capitalize)

    class Cross(Strategy):  # type: ignore[misc]
        fast, slow = 10, 30

        def init(self) -> None:
            close = pd.Series(self.data.Close)
            self.quick = self.I(lambda: close.rolling(self.fast).mean().to_numpy())
            self.lazy = self.I(lambda: close.rolling(self.slow).mean().to_numpy())

        def next(self) -> None:
            before, now = self.quick[-2] - self.lazy[-2], self.quick[-1] - self.lazy[-1]
            if before <= 0 < now:
                self.buy()
            elif before >= 0 > now:
                self.position.close()

    test = Backtest(frame, Cross, cash=10_000.0, commission=FEES_BPS * 1e-4)
    some = PAIRS[:: len(PAIRS) // int(n_pairs)][: int(n_pairs)]
    run = lambda: [float(test.run(fast=fast, slow=slow)["Equity Final [$]"]) for fast, slow in some][0]  # noqa: E731, RUF015
    return timed(run, 1) | {"count": len(some)}


def peer_vectorbt(bars_file: str) -> dict[str, Any]:
    import warnings

    warnings.simplefilter("ignore")
    import pandas as pd
    import vectorbt as vbt

    frame = pd.read_csv(bars_file, index_col=0, parse_dates=True)
    fasts, slows = [pair[0] for pair in PAIRS], [pair[1] for pair in PAIRS]

    def run() -> float:
        quick = vbt.MA.run(frame["close"], window=fasts, short_name="fast")
        lazy = vbt.MA.run(frame["close"], window=slows, short_name="slow")
        book = vbt.Portfolio.from_signals(
            frame["close"], quick.ma_crossed_above(lazy), quick.ma_crossed_below(lazy), fees=FEES_BPS * 1e-4,
            init_cash=10_000.0, freq="1D",
        )  # fmt: skip
        return (
            float(book.sharpe_ratio().max())
            + float(book.max_drawdown().min())
            + float(book.total_return().max())
        )

    return timed(run, 1) | {"count": len(PAIRS)}


MEASURES = {
    "sweep": measure_sweep,
    "single": measure_single,
    "portfolio": measure_portfolio,
    "peer-backtesting": peer_backtesting,
    "peer-vectorbt": peer_vectorbt,
}


def child(name: str, *arguments: str, python: str = sys.executable, **environment: str) -> dict[str, Any]:
    """Run one measure in a fresh process and return what it printed."""
    command = [python, str(Path(__file__).resolve()), "--measure", name, *arguments]
    paths = {"PYTHONPATH": str(HERE.parent / "src")} if python == sys.executable else {}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | paths | environment,
        timeout=900,
    )
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no output"])[-1]}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def row(label: str, answer: dict[str, Any]) -> None:
    if "error" in answer:
        print(f"{label:<44} not measured: {answer['error']}")
        return
    count = answer.get("count", 1)
    rate = f"{count / answer['wall']:>10,.0f} {count / answer['cpu']:>10,.0f}" if count > 1 else " " * 21
    peak = f"{answer['peak'] / 1e6:>6.0f} MB"
    wall, cpu = (f"{answer[name] * 1e3:>10.3f}" for name in ("wall", "cpu"))
    print(f"{label:<44} {rate} {wall} {cpu} {answer['first']:>8.2f} {peak}")


def slope(sizes: list[int], answers: list[dict[str, Any]]) -> str:
    """Return the exponent of a power law through the CPU times."""
    points = [(math.log(size), math.log(answer["cpu"])) for size, answer in zip(sizes, answers, strict=True)]
    x, y = (sum(column) / len(points) for column in zip(*points, strict=True))
    return f"{sum((a - x) * (b - y) for a, b in points) / sum((a - x) ** 2 for a, _ in points):.2f}"


def ours(folder: str) -> None:
    """Print our figures; compiled code is kept in a folder that is empty at first."""
    cached = {"NUMBA_CACHE_DIR": folder}
    names = ("per s wall", "per s CPU", "wall ms", "CPU ms")
    head = " " * 45 + " ".join(f"{name:>10}" for name in names) + f" {'first s':>8} {'peak':>9}"
    print(f"2,148 bars x {len(PAIRS):,} moving-average pairs, fees, 31 metrics each, one process\n{head}")
    compiling = child("sweep", "compiled", **cached)
    sweeps = {engine: child("sweep", engine, **cached) for engine in ("lanes", "compiled")}
    row("lanes (numpy, no numba imported)", sweeps["lanes"])
    row("compiled, a process after the first one", sweeps["compiled"])
    row("compiled, the first time ever (compiles)", compiling)
    answers = {answer.get("answer") for answer in (*sweeps.values(), compiling)}
    print(f"every metric of every pair identical: {'yes' if len(answers) == 1 else 'NO'}\n")
    print(f"one run, one symbol: signals, equity and trades\n{head}")
    for engine in ("reference", "lanes", "compiled"):
        row(f"{engine}, 2,148 bars", child("single", engine, **cached))
    for engine in ("reference", "lanes", "compiled"):
        row(f"{engine}, 1,000,000 bars", child("single", engine, "1000000", "2", **cached))
    print(f"\nportfolio, one cash book\n{head}")
    row("500 symbols x 5,040 bars", child("portfolio"))
    print("\nscaling exponents (1 is linear), CPU time")
    bars = [125_000, 250_000, 500_000, 1_000_000]
    print(
        "  bars, compiled:         ",
        slope(bars, [child("single", "compiled", str(size), "3", **cached) for size in bars]),
    )
    pairs = [600, 1200, 2400, 4851]
    for engine in ("lanes", "compiled"):
        taken = [child("sweep", engine, str(size), **cached) for size in pairs]
        print(f"  combinations, {engine}:".ljust(27), slope([answer["count"] for answer in taken], taken))
    symbols = [60, 120, 240, 480]
    print(
        "  symbols, portfolio:     ",
        slope(symbols, [child("portfolio", str(size), "1260") for size in symbols]),
    )


def peers(folder: Path) -> None:
    from pytest_tradeperf.pipeline.marketdata import frame_from_bars, load_bars

    print("\npeers, same bars and fees, environments of their own")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "goog.csv"
        frame_from_bars(load_bars("GOOG")).to_csv(file)
        for name, packages in PEERS.items():
            python = folder / name / "bin" / "python"
            if not python.exists():
                subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True)
                subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], check=False)
            row(name, child(f"peer-{name}", str(file), python=str(python)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peers", type=Path, help="folder for the peers' environments")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        name, *arguments = options.measure
        print(json.dumps(MEASURES[name](*arguments)))
        return
    sys.path.insert(0, str(HERE.parent / "src"))
    with tempfile.TemporaryDirectory() as folder:
        ours(folder)
    if options.peers is not None:
        peers(options.peers)


if __name__ == "__main__":
    main()
