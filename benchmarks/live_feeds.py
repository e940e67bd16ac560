"""What the feeds reach over real sockets against a world in its own process, with lifelike latencies.

    python benchmarks/live_feeds.py [--tickers 20] [--seeds 3] [--one-by-one 4] [--stress 100]

Prints tables, asserts nothing. The critical path is computed from the server's own log: for each source the
latest of (k-th request's earliest moment under the rate rule + the latency the server drew for it), after
the map of companies where there is one. It is given twice: for requests spaced evenly, which is how a rule is
usually kept, and for bursts of a whole window, the fastest way the rule allows at all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from pytest_tradeperf.pipeline.altdata.collect import collect, open_sources
from pytest_tradeperf.pipeline.altdata.settings import SOURCE_NAMES, FeedSettings
from pytest_tradeperf.pipeline.marketdata.network import fetch_bars
from pytest_tradeperf.pipeline.net.fetcher import Fetcher
from pytest_tradeperf.pipeline.net.policy import HostPolicy
from pytest_tradeperf.pipeline.world.companies import LISTED
from pytest_tradeperf.pipeline.world.core import largest_window
from pytest_tradeperf.pipeline.world.settings import LIFELIKE_RULES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_tradeperf.pipeline.altdata.collect import Collection
    from pytest_tradeperf.pipeline.net.policy import RateRule

TICKERS = [ticker for ticker in LISTED if "-" not in ticker][:30]
FEEDS_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One request as the server logged it."""

    at_s: float
    target: str
    latency_s: float


class WorldProcess:
    """A world that runs in another process; `url` is where."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, body: bytes | None = None) -> Any:
        """Return the JSON answer of the world's control address."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(f"{self.url}/_world/{path}", data=body)
        with opener.open(request, timeout=10) as answer:
            return json.load(answer)

    def served(self, service: str) -> list[Served]:
        """Return the requests of one service in order of arrival."""
        rows = self.ask(f"log?service={service}")
        return [Served(at_s=row["at_s"], target=row["target"], latency_s=row["latency_s"]) for row in rows]


@contextmanager
def world(*arguments: str) -> Iterator[WorldProcess]:
    """Run a world with command-line `arguments` until the block ends."""
    command = [sys.executable, "-m", "pytest_tradeperf.pipeline.world", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield WorldProcess(json.loads(process.stdout.readline())["url"])
        finally:
            process.terminate()


def critical_path(requests: Sequence[Served], rule: RateRule | None, *, spaced: bool) -> float:
    """Return the shortest seconds in which `requests` can be answered, in their order, under `rule`."""
    maps = [one for one in requests if "company_tickers" in one.target]
    rest = [one for one in requests if "company_tickers" not in one.target]

    def earliest(place: int) -> float:
        if rule is None:
            return 0.0
        is_short = rule.period_s <= 10
        return place * rule.spacing_s if spaced and is_short else place // rule.limit * rule.period_s

    first = max((one.latency_s for one in maps), default=0.0)
    return first + max((earliest(place) + one.latency_s for place, one in enumerate(rest)), default=0.0)


async def at_once(url: str, tickers: Sequence[str], *, twice: bool = False) -> list[Collection]:
    """Collect every source for every ticker at once, a second time from the cache if asked to."""
    async with open_sources(FeedSettings.for_world(url)) as (sources, _):
        return [await collect(sources, tickers, timeout_s=FEEDS_TIMEOUT_S) for _ in range(1 + twice)]


async def one_by_one(url: str, tickers: Sequence[str]) -> float:
    """Return the seconds for asking source after source and ticker after ticker."""
    started = time.perf_counter()
    async with open_sources(FeedSettings.for_world(url)) as (sources, _):
        for source in sources:
            for ticker in tickers:
                await source.fetch([ticker])
    return time.perf_counter() - started


def speed(tickers: Sequence[str], seeds: int, sequential: int) -> Table:
    """Return the table of wall times against the critical path and against asking one by one."""
    table = Table(
        title=f"{len(tickers)} tickers x 4 sources, latencies 0.3-2 s, rules enforced by the server"
    )
    for heading in (
        "seed",
        "wall s",
        "spaced path s",
        "ratio",
        "burst path s",
        "ratio",
        "cached ms",
        "429s",
        "degraded",
    ):
        table.add_column(heading, justify="right")
    for seed in range(seeds):
        with world("--seed", str(seed)) as server:
            first, second = asyncio.run(at_once(server.url, tickers, twice=True))
            paths = {
                spaced: max(
                    critical_path(server.served(name), LIFELIKE_RULES.get(name), spaced=spaced)
                    for name in SOURCE_NAMES
                )
                for spaced in (True, False)
            }
            refused = sum(row["rate_limited"] for row in server.ask("stats").values())
        table.add_row(
            str(seed),
            f"{first.wall_s:.2f}",
            f"{paths[True]:.2f}",
            f"{first.wall_s / paths[True]:.3f}",
            f"{paths[False]:.2f}",
            f"{first.wall_s / paths[False]:.3f}",
            f"{second.wall_s * 1e3:.0f}",
            str(refused),
            str(len(first.degraded)),
        )
    if sequential:
        with world("--seed", "0") as server:
            few = tickers[:sequential]
            together = asyncio.run(at_once(server.url, few))[0].wall_s
            server.ask("reset", b"")
            apart = asyncio.run(one_by_one(server.url, few))
        with world("--seed", "0") as server:
            wall = asyncio.run(at_once(server.url, tickers))[0].wall_s
            waits = sum(one.latency_s for name in SOURCE_NAMES for one in server.served(name))
        table.caption = (
            f"one by one, measured on {len(few)} tickers: {apart:.1f} s against {together:.1f} s at once, "
            f"{apart / together:.1f}x; on {len(tickers)} its latencies alone are {waits:.0f} s "
            f"against {wall:.1f} s, {waits / wall:.0f}x"
        )
    return table


def windows(count: int) -> Table:
    """Return the table of the largest sliding windows the server saw when the rules bind."""
    table = Table(
        title=f"{count} tickers x 4 sources at once, latencies x 0.05: largest window at the server"
    )
    for heading in ("source", "rule", "requests", "largest window", "429s", "requests/s", "rule's rate"):
        table.add_column(heading, justify="right")
    with world("--seed", "1", "--time-scale", "0.05") as server:
        asyncio.run(at_once(server.url, [f"T{number:03d}" for number in range(count)]))
        statistics = server.ask("stats")
        for name in SOURCE_NAMES:
            rule = LIFELIKE_RULES[name]
            moments = [one.at_s for one in server.served(name)]
            rate = (len(moments) - 1) / (moments[-1] - moments[0])
            table.add_row(
                name,
                str(rule),
                str(len(moments)),
                f"{largest_window(moments, rule.period_s)} of {rule.limit}",
                str(statistics[name]["rate_limited"]),
                f"{rate:.2f}",
                f"{rule.limit / rule.period_s:.3g}",
            )
    return table


async def same(url: str, count: int) -> tuple[float, int]:
    """Return the seconds for `count` overlapping requests for one thing, and our upstream calls."""
    async with Fetcher(HostPolicy(name="same"), trust_env=False) as fetcher:
        started = time.perf_counter()
        chain = f"{url}/cboe/api/global/delayed_quotes/options/AAPL.json"
        await asyncio.gather(*(fetcher.get(chain, len) for _ in range(count)))
        return time.perf_counter() - started, fetcher.statistics.upstream


async def bars(url: str, symbols: Sequence[str]) -> float:
    """Return the seconds for a year of daily bars of every symbol, from import to closed connections."""
    started = time.perf_counter()
    report = await fetch_bars(
        symbols, start=date(2025, 1, 2), end=date(2025, 12, 31), base_url=f"{url}/market", trust_env=False
    )
    assert len(report.bars) == len(symbols), report.degraded
    return time.perf_counter() - started


def others(tickers: Sequence[str]) -> Table:
    """Return the table of single flight, bars, and a world where a tenth of everything fails."""
    table = Table(title="single flight, bars, and a world in which every tenth request fails")
    for heading in ("what", "seconds", "result"):
        table.add_column(heading)
    with world("--seed", "2") as server:
        seconds, ours = asyncio.run(same(server.url, 100))
        table.add_row(
            "100 same requests",
            f"{seconds:.2f}",
            f"{len(server.served('cboe'))} at the server, {ours} by our count",
        )
        for symbols in (tickers[:1], [f"T{number:03d}" for number in range(50)]):
            seconds = asyncio.run(bars(server.url, symbols))
            path = critical_path(
                server.served("market")[-len(symbols) :], LIFELIKE_RULES["market"], spaced=True
            )
            table.add_row(f"bars of {len(symbols)} symbols", f"{seconds:.2f}", f"critical path {path:.2f} s")
    for kind in ("500", "429", "reset", "html", "truncated", "hang"):
        with world("--seed", "3", "--time-scale", "0.2", "--faults", f"all={kind}:0.1") as server:
            found = asyncio.run(hurried(server.url, tickers))
            faults = sum(sum(row["faults"].values()) for row in server.ask("stats").values())
        missing = sum(feed.is_missing for report in found.reports.values() for feed in report.feeds.values())
        retries = sum(report.statistics.retries for report in found.reports.values())
        table.add_row(
            f"every tenth: {kind}",
            f"{found.wall_s:.2f}",
            f"{faults} faults, {retries} retries, {missing} of {4 * len(tickers)} feeds missing",
        )
    return table


async def hurried(url: str, tickers: Sequence[str]) -> Collection:
    """Collect with attempts of at most a second, as scaled latencies of up to 0.4 s allow."""
    settings = FeedSettings.for_world(url)
    async with open_sources(settings, policy=lambda policy: replace(policy, attempt_timeout_s=1.0)) as (
        sources,
        _,
    ):
        return await collect(sources, tickers, timeout_s=20.0)


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tickers", type=int, default=20, choices=range(1, len(TICKERS) + 1), metavar="N")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--one-by-one", type=int, default=4, help="tickers to ask one by one, about 5 s each; 0 for none"
    )
    parser.add_argument(
        "--stress", type=int, default=100, help="tickers for the window table, about 0.11 s each; 0 for none"
    )
    given = parser.parse_args()
    console = Console()
    tickers = TICKERS[: given.tickers]
    console.print(speed(tickers, given.seeds, given.one_by_one))
    if given.stress:
        console.print(windows(given.stress))
    console.print(others(tickers))


if __name__ == "__main__":
    main()
