"""What the signal store saves: nearest set-ups against a loop over JSON rows, batches against a commit a row.

    python benchmarks/store.py [--rows 1000 10000 1000000] [--features 64] [--k 50] [--database URL]

Prints tables, asserts nothing but that both sides find the same set-ups.
"""

from __future__ import annotations

import argparse
import json
import math
import sqlite3
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from pytest_tradeperf.pipeline.errors import MissingExtraError
from pytest_tradeperf.pipeline.store import QuantisedSetups, Setups, Signal, SignalStore
from pytest_tradeperf.pipeline.store.approximate import FaissSetups, measured_recall

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

# The loop over JSON rows takes 11 s for a million: measured to this size, extrapolated in proportion beyond.
LARGEST_LOOP = 20_000
MONDAY = datetime(2024, 1, 8, tzinfo=UTC)


def best_of(work: Callable[[], object], seconds: float = 1.0) -> float:
    """Return the shortest of the runs that fit in the time, at least three."""
    times: list[float] = []
    ends = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < ends:
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def json_loop(rows: list[str], query: list[float], k: int) -> list[int]:
    """Return the k nearest as most systems begin: parse a row, add up the squares, sort everything."""
    scored = []
    for place, text in enumerate(rows):
        vector = json.loads(text)["vector"]
        scored.append((math.dist(vector, query), place))
    return [place for _, place in sorted(scored)[:k]]


def made(n_rows: int, n_features: int) -> NDArray[np.float32]:
    """Return vectors around centres, as set-ups of a few regimes are."""
    generator = np.random.default_rng(7)
    centres = generator.normal(size=(50, n_features)).astype(np.float32)
    vectors = generator.standard_normal((n_rows, n_features), dtype=np.float32)
    vectors *= np.float32(0.5)
    vectors += centres[generator.integers(0, 50, n_rows)]
    return vectors


def nearest_table(sizes: list[int], n_features: int, k: int) -> Table:
    table = Table(title=f"{k} nearest of N set-ups with {n_features} features, ms a query (best)")
    for name in ("N", "JSON a row", "exact", "times", "exact, 1 of 10", "int8", "recall", "faiss", "recall"):
        table.add_column(name, justify="right")
    for n_rows in sizes:
        table.add_row(*nearest_cells(n_rows, n_features, k))
    return table


def nearest_cells(n_rows: int, n_features: int, k: int) -> list[str]:
    vectors = made(n_rows, n_features)
    symbols = [f"S{row % 10}" for row in range(n_rows)]
    past = Setups.build(vectors, symbols=symbols)
    query = vectors[0] + np.float32(0.1)
    texts = [json.dumps({"vector": row.tolist()}) for row in vectors[:LARGEST_LOOP]]
    loop = best_of(lambda: json_loop(texts, query.tolist(), k)) * n_rows / len(texts)
    same = Setups.build(vectors[:LARGEST_LOOP]).nearest(query, k).rows.tolist()
    assert same == json_loop(texts, query.tolist(), k)
    exact = best_of(lambda: past.nearest(query, k))
    few = best_of(lambda: past.nearest(query, k, symbol="S3"))
    small = QuantisedSetups.build(past)
    cells = [f"{n_rows:,}", f"{loop * 1e3:,.2f}" + ("*" if n_rows > LARGEST_LOOP else "")]
    cells += [f"{exact * 1e3:.3f}", f"{loop / exact:,.0f}", f"{few * 1e3:.3f}"]
    cells += [f"{best_of(lambda: small.nearest(query, k)) * 1e3:.3f}"]
    n_queries = 100 if n_rows <= 100_000 else 20
    cells += [f"{measured_recall(past, small, k=k, n_queries=n_queries):.4f}"]
    cells += graph_cells(past, query, k, n_queries) if n_rows <= 100_000 else ["-", "-"]
    return cells


def graph_cells(past: Setups, query: NDArray[np.float32], k: int, n_queries: int) -> list[str]:
    try:
        graph = FaissSetups.build(past)
    except MissingExtraError:
        return ["not installed", "-"]
    recall = measured_recall(past, graph, k=k, n_queries=n_queries)
    return [f"{best_of(lambda: graph.nearest(query, k)) * 1e3:.3f}", f"{recall:.4f}"]


def signals(n_rows: int, n_features: int) -> list[Signal]:
    vectors = made(n_rows, n_features)
    return [
        Signal(symbol=f"S{row % 10}", as_of=MONDAY + timedelta(minutes=row), vector=vectors[row].tolist())
        for row in range(n_rows)
    ]


def insert_table(n_features: int, database: str | None) -> Table:
    table = Table(title=f"Storing signals with {n_features} features, us a row")
    for name in ("way", "rows", "us a row"):
        table.add_column(name, justify="left" if name == "way" else "right")
    batch = signals(10_000, n_features)
    with tempfile.TemporaryDirectory() as folder:
        few = batch[:50]
        one = f"sqlite:///{folder}/one.db"
        with SignalStore(one) as store:
            store.add([])
            store.decisions()
            started = time.perf_counter()
            for record in few:
                store.add([record])
            table.add_row(
                "store, one add a row",
                f"{len(few)}",
                f"{(time.perf_counter() - started) / len(few) * 1e6:,.0f}",
            )
        table.add_row(
            "sqlite3, commit a row", f"{len(few)}", f"{commit_a_row(Path(folder) / 'raw.db', few):,.0f}"
        )
        urls = {"store, one add (SQLite)": f"sqlite:///{folder}/many.db"}
        if database is not None:
            urls["store, one add (PostgreSQL)"] = database
        for name, url in urls.items():
            with SignalStore(url, outbox=None) as store:
                store.decisions()
                started = time.perf_counter()
                store.add(batch)
                spent = time.perf_counter() - started
                table.add_row(name, f"{len(batch):,}", f"{spent / len(batch) * 1e6:,.1f}")
                started = time.perf_counter()
                store.setups()
                spent = time.perf_counter() - started
                table.add_row(
                    f"{name}, read as arrays", f"{len(batch):,}", f"{spent / len(batch) * 1e6:,.1f}"
                )
    return table


def commit_a_row(file: Path, records: list[Signal]) -> float:
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE signals (symbol TEXT, as_of TEXT, vector TEXT)")
    started = time.perf_counter()
    for record in records:
        row = (record.symbol, record.as_of.isoformat(), json.dumps(record.vector))
        connection.execute("INSERT INTO signals VALUES (?, ?, ?)", row)
        connection.commit()
    spent = time.perf_counter() - started
    connection.close()
    return spent / len(records) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 1_000_000])
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--database", help="PostgreSQL URL to store into as well; its tables are left there")
    chosen = parser.parse_args()
    console = Console(width=120)
    console.print(insert_table(chosen.features, chosen.database))
    console.print(nearest_table(chosen.rows, chosen.features, chosen.k))
    console.print("* extrapolated from 20,000 rows; recall over rows asking for their own neighbours")


if __name__ == "__main__":
    main()
