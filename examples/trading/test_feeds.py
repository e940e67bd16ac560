"""Filings, headlines, messages and options for many tickers: how near to the fastest, on virtual time.

The loopback world answers in memory with lifelike latencies (0.3-2 s) and rate limits; its clock jumps, so
the seconds recorded here are exact and cost milliseconds. Real sockets in real time:
benchmarks/live_feeds.py.
"""

import asyncio
from datetime import UTC, datetime

import pytest

from pytest_tradeperf.pipeline import virtual_time

pytest.importorskip("httpx2", reason="live data needs pytest-tradeperf[pipeline]")

from pytest_tradeperf.pipeline.altdata.collect import collect, open_sources
from pytest_tradeperf.pipeline.altdata.settings import FeedSettings
from pytest_tradeperf.pipeline.world.core import largest_window
from pytest_tradeperf.pipeline.world.settings import LIFELIKE_RULES, WorldSettings, parse_faults
from pytest_tradeperf.pipeline.world.transport import URL, WorldTransport

TICKERS = [f"T{number:03d}" for number in range(20)]
NOW = datetime(2026, 3, 4, 15, 30, tzinfo=UTC)
SOURCES = ("sec", "news", "stocktwits", "cboe")


class Feeds:
    """Four sources over four in-memory worlds of one seed."""

    def __init__(self, faults=""):
        lifelike = WorldSettings.lifelike(seed=1)
        self.settings = WorldSettings(
            seed=1, latency=lifelike.latency, rules=lifelike.rules, faults=parse_faults(faults), now=NOW
        )
        self.worlds = {name: WorldTransport(self.settings) for name in SOURCES}

    async def gather(self, tickers):
        opened = open_sources(FeedSettings.for_world(URL), transport=self.worlds.__getitem__, now=lambda: NOW)
        async with opened as (sources, _):
            return await collect(sources, tickers, timeout_s=30)

    def entries(self, name):
        return self.worlds[name].core.entries(name)

    def critical_path(self):
        """Seconds of the slowest source when its requests leave evenly at the rate its rule allows."""

        def seconds(name):
            entries = self.entries(name)
            maps = [entry.latency_s for entry in entries if "company_tickers" in entry.target]
            rest = [entry.latency_s for entry in entries if "company_tickers" not in entry.target]
            spacing = LIFELIKE_RULES[name].spacing_s if LIFELIKE_RULES[name].period_s <= 10 else 0.0
            return sum(maps) + max(place * spacing + latency for place, latency in enumerate(rest))

        return max(map(seconds, SOURCES))


def say(found):
    return {
        ticker: [
            (item.source, item.kind, item.text, str(item.available_at), item.sentiment)
            for item in found.items(ticker)
        ]
        for ticker in TICKERS[:3]
    }


@pytest.mark.perf_budget(wall="20 s", threshold="10%")
def test_twenty_tickers_by_four_sources(perf):
    feeds = Feeds()
    found = virtual_time.run(feeds.gather(TICKERS))
    ratio = found.wall_s / feeds.critical_path()
    one_by_one = sum(entry.latency_s for name in SOURCES for entry in feeds.entries(name))
    assert found.degraded == ()
    assert ratio <= 1.15
    assert one_by_one / found.wall_s >= 3
    perf.record("ratio_to_critical_path", ratio, better="lower")
    perf.record("times_faster_than_one_by_one", one_by_one / found.wall_s, better="higher")
    perf.record("requests", sum(len(feeds.entries(name)) for name in SOURCES), better="same")
    perf.digest("items", say(found))


@pytest.mark.perf_budget(wall="20 s", threshold="10%")
def test_no_window_is_ever_above_the_rule(perf):
    feeds = Feeds()
    virtual_time.run(feeds.gather([f"T{number:03d}" for number in range(24)]))
    for name in SOURCES:
        rule = LIFELIKE_RULES[name]
        window = largest_window([entry.at_s for entry in feeds.entries(name)], rule.period_s)
        assert window <= rule.limit
        assert all(entry.status == 200 for entry in feeds.entries(name))
        perf.record(f"largest_window_{name}", window, better="same")


@pytest.mark.perf_budget(wall="5 s", threshold="10%")
def test_a_hundred_same_questions_are_asked_once(perf):
    feeds = Feeds()

    async def ask():
        opened = open_sources(
            FeedSettings.for_world(URL), transport=feeds.worlds.__getitem__, now=lambda: NOW
        )
        async with opened as (sources, _):
            await asyncio.gather(*(collect(sources, ["T001"]) for _ in range(100)))

    virtual_time.run(ask())
    perf.record("upstream_calls", sum(len(feeds.entries(name)) for name in SOURCES), better="same")
    assert {name: len(feeds.entries(name)) for name in SOURCES} == {
        "sec": 2,
        "news": 1,
        "stocktwits": 1,
        "cboe": 1,
    }


@pytest.mark.perf_budget(wall="20 s", threshold="10%")
@pytest.mark.parametrize("fault", ["500", "429", "reset", "html"])
def test_every_fifth_request_fails_and_nothing_is_missing(perf, fault):
    feeds = Feeds(faults=f"all={fault}:0.2")
    found = virtual_time.run(feeds.gather(TICKERS[:6]))
    missing = sum(feed.is_missing for report in found.reports.values() for feed in report.feeds.values())
    retries = sum(report.statistics.retries for report in found.reports.values())
    perf.record("missing_feeds", missing, better="lower")
    perf.record("retries", retries, better="same")
    assert found.wall_s <= 30


@pytest.mark.perf_budget(cpu="500 ms", wall="5 s", threshold="10%")
def test_cost_of_a_second_look(perf):
    """From the cache: what the client itself costs for twenty tickers and four sources."""
    feeds = Feeds()

    async def first_and_second():
        opened = open_sources(
            FeedSettings.for_world(URL), transport=feeds.worlds.__getitem__, now=lambda: NOW
        )
        async with opened as (sources, _):
            await collect(sources, TICKERS)
            before = sum(len(feeds.entries(name)) for name in SOURCES)
            await perf(collect, sources, TICKERS)
            return sum(len(feeds.entries(name)) for name in SOURCES) - before

    perf.record("requests_on_second_look", virtual_time.run(first_and_second()), better="same")
