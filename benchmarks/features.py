"""What the feature machinery saves: cache hits, one new bar, windows, results kept in files.

    python benchmarks/features.py [--bars 2148 100000]

Prints a table, asserts nothing but that both ways give the same bits.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import timeit
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from pytest_tradeperf.pipeline.features import ema, rsi, sma
from pytest_tradeperf.pipeline.features.cache import FeatureCache
from pytest_tradeperf.pipeline.features.incremental import EmaUpdate, RsiUpdate, SmaUpdate, replayed
from pytest_tradeperf.pipeline.features.result_cache import ResultCache
from pytest_tradeperf.pipeline.features.windows import windows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def us(work: Callable[[], object], seconds: float = 0.3) -> float:
    """Return the shortest time of a call in us, over repeats of about a millisecond."""
    once = max(timeit.timeit(work, number=1), 1e-7)
    number = max(1, int(0.001 / once))
    times = []
    ends = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < ends:
        times.append(timeit.timeit(work, number=number) / number)
    return min(times) * 1e6


def closes(n_bars: int) -> NDArray[np.float64]:
    """Return a random walk that nobody can write, as the columns of bars are."""
    values = 100.0 * np.exp(np.random.default_rng(3).normal(0, 0.01, n_bars).cumsum())
    values.flags.writeable = False
    return values


def cache_rows(series: NDArray[np.float64]) -> list[tuple[str, float, float]]:
    cache, open_series = FeatureCache(), series.copy()
    for values in (series, open_series):
        assert cache.get(rsi, values, window=14).tobytes() == rsi(series, 14).tobytes()
    computed = us(lambda: rsi(series, 14))
    digested, known = (
        us(partial(cache.key, rsi, (array,), 0, {"window": 14})) for array in (open_series, series)
    )
    return [
        ("key of a known array (against its digest)", digested, known),
        ("RSI, hit with a known array", computed, us(lambda: cache.get(rsi, series, window=14))),
        ("RSI, hit with a writable array", computed, us(lambda: cache.get(rsi, open_series, window=14))),
    ]


def update_rows(series: NDArray[np.float64]) -> list[tuple[str, float, float]]:
    rows = []
    for name, batch, update in (("SMA", sma, SmaUpdate), ("EMA", ema, EmaUpdate), ("RSI", rsi, RsiUpdate)):
        indicator = update(20)
        assert replayed(indicator, series).tobytes() == batch(series, 20).tobytes()
        again, one_bar = us(partial(batch, series, 20)), us(partial(indicator.update, float(series[-1])))
        rows.append((f"{name} 20, one new bar (against all bars again)", again, one_bar))
    return rows


def window_rows(series: NDArray[np.float64]) -> list[tuple[str, float, float]]:
    assert windows(series, 60).tobytes() == windows(series, 60, fast=False).tobytes()
    copied, viewed = us(lambda: windows(series, 60, fast=False)), us(lambda: windows(series, 60))
    return [("all windows of 60 bars (against a copy)", copied, viewed)]


def result_rows(series: NDArray[np.float64]) -> list[tuple[str, float, float]]:
    def sweep() -> dict[str, NDArray[np.float64]]:
        return {"sums": np.array([sma(series, window)[-1] for window in range(1, 101)])}

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bars.bin"
        file.write_bytes(series.tobytes())
        cache = ResultCache(folder, now_ns=lambda: time.time_ns() + 10**10)

        def ask() -> dict[str, NDArray[np.float64]]:
            return cache.get("sweep", sweep, data=file, parameters={"windows": 100})

        assert ask()["sums"].tobytes() == ask()["sums"].tobytes() == sweep()["sums"].tobytes()
        return [("100 averages, result read from its file", us(sweep), us(ask))]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bars", type=int, nargs="+", default=[2_148, 100_000])
    console = Console(width=110)
    for n_bars in parser.parse_args().bars:
        table = Table(title=f"{n_bars:,} bars, us (best)")
        for name in ("what", "without", "with", "times"):
            table.add_column(name, justify="left" if name == "what" else "right")
        series = closes(n_bars)
        for rows in (cache_rows, update_rows, window_rows, result_rows):
            for what, without, with_it in rows(series):
                table.add_row(what, f"{without:,.2f}", f"{with_it:,.2f}", f"{without / with_it:,.0f}")
        console.print(table)


if __name__ == "__main__":
    main()
