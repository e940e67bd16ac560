from __future__ import annotations

import json
import re
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import httpx2
import numpy as np
import pytest

from pytest_tradeperf.pipeline.adapters import NetworkMarket
from pytest_tradeperf.pipeline.errors import SettingError
from pytest_tradeperf.pipeline.marketdata.bundled import load_bars
from pytest_tradeperf.pipeline.marketdata.chart import parse_chart
from pytest_tradeperf.pipeline.marketdata.network import POLICY, NetworkBars, fetch_bars
from pytest_tradeperf.pipeline.marketdata.sessions import finished_by
from pytest_tradeperf.pipeline.net.errors import MalformedError
from pytest_tradeperf.pipeline.net.fetcher import Fetcher
from pytest_tradeperf.pipeline.net.policy import RetryPolicy
from pytest_tradeperf.pipeline.world.server import World
from pytest_tradeperf.pipeline.world.settings import WorldSettings, parse_faults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pytest_tradeperf.pipeline.marketdata import Bars

START, END = date(2025, 1, 2), date(2025, 6, 30)
HURRIED = replace(
    POLICY,
    rules=(),
    attempt_timeout_s=10.0,
    deadline_s=30.0,
    retry=RetryPolicy(attempts=2, wait_initial_s=0.0, wait_max_s=0.0, wait_jitter_s=0.0),
)
NOW = datetime(2026, 3, 4, 15, 30, tzinfo=UTC)
BEFORE_CLOSE = datetime(2026, 3, 4, 20, 58, tzinfo=UTC)
AFTER_CLOSE = datetime(2026, 3, 4, 21, 1, tzinfo=UTC)


@asynccontextmanager
async def source(faults: str = "") -> AsyncIterator[tuple[World, NetworkBars]]:
    settings = WorldSettings(faults=parse_faults(faults), retry_after_s=0.0)
    async with World(settings) as world, Fetcher(HURRIED, trust_env=False) as fetcher:
        yield world, NetworkBars(fetcher, base_url=world.url_of("market"))


def chart(stamps: list[Any], *, offset: int = -18_000, **columns: list[Any]) -> bytes:
    count = len(stamps)
    quote = {name: columns.get(name, [10.0] * count) for name in ("open", "high", "low", "close", "volume")}
    indicators: dict[str, Any] = {"quote": [quote]}
    if "adjclose" in columns:
        indicators["adjclose"] = [{"adjclose": columns["adjclose"]}]
    result = {"meta": {"gmtoffset": offset}, "timestamp": stamps, "indicators": indicators}
    return json.dumps({"chart": {"result": [result], "error": None}}).encode()


def bars_at(body: bytes, fetched_at: datetime = NOW) -> Bars:
    return parse_chart(body, "X").bars(fetched_at=fetched_at)


def stamp(day: int, hour: int = 14) -> int:
    return int(datetime(2026, 3, day, hour, 30, tzinfo=UTC).timestamp())


@pytest.mark.asyncio
async def test_many_symbols_come_at_once_and_are_cached() -> None:
    symbols = [f"T{number:03d}" for number in range(30)]
    async with source() as (world, bars):
        first = await bars.fetch(symbols, start=START, end=END)
        second = await bars.fetch(symbols, start=START, end=END)
        assert len(world.entries("market")) == 30
    assert list(first.bars) == symbols
    assert first.degraded == ()
    assert second.statistics.upstream == 0
    for symbol in symbols:
        assert str(first.bars[symbol].timestamps[0])[:10] == "2025-01-02"
        assert str(first.bars[symbol].timestamps[-1])[:10] == "2025-06-30"
        assert np.array_equal(first.bars[symbol].close, second.bars[symbol].close)


@pytest.mark.parametrize("fault", ["500", "html", "schema", "reset", "hang"])
@pytest.mark.asyncio
async def test_the_bundled_bars_stand_in_and_the_report_says_so(fault: str) -> None:
    async with source(f"market={fault}") as (_, bars):
        report = await bars.fetch(["GOOG", "T001"], start=START, end=END, timeout_s=0.6)
    assert np.array_equal(report.bars["GOOG"].close, load_bars("GOOG").close)
    assert set(report.bars) == {"GOOG"}
    assert "bundled bars of 2004-08-19 to 2013-03-01 instead" in report.degraded[0]
    assert report.degraded[1].endswith("nothing instead")
    assert report.fetched_at == {}


@pytest.mark.asyncio
async def test_an_old_copy_is_preferred_to_the_bundle() -> None:
    async with source() as (world, bars):
        bars._fetcher.policy = replace(HURRIED, fresh_s=0.5)
        first = await bars.fetch(["GOOG"], start=START, end=END)
        world.core.faults = parse_faults("market=500")
        second = await bars.fetch(["GOOG"], start=START, end=END)
    assert np.array_equal(first.bars["GOOG"].close, second.bars["GOOG"].close)
    assert re.fullmatch(r"market GOOG: server_failed, copy of \d+ s ago instead", *second.degraded)


@pytest.mark.parametrize("symbol", ["../x", "ÄPFEL", "", "ß", "\u0131bm"])
@pytest.mark.asyncio
async def test_what_is_no_symbol_is_named_and_not_asked_for(symbol: str) -> None:
    async with source() as (world, bars):
        report = await bars.fetch([symbol], start=START, end=END)
        assert not world.entries("market")
    assert "is not a ticker" in report.degraded[0]


@pytest.mark.asyncio
async def test_days_in_the_wrong_order_are_refused() -> None:
    async with source() as (_, bars):
        with pytest.raises(SettingError, match="2025-01-02"):
            await bars.fetch(["A"], start=END, end=START)


@pytest.mark.asyncio
async def test_one_call_opens_and_closes_everything() -> None:
    async with World() as world:
        report = await fetch_bars(
            ["ibm"], start=START, end=END, base_url=world.url_of("market"), trust_env=False
        )
    assert list(report.bars) == ["IBM"]


def test_prices_are_adjusted_by_the_adjusted_close() -> None:
    body = chart(
        [stamp(2), stamp(3)], close=[10.0, 5.0], low=[8.0, 4.0], adjclose=[5.0, 5.0], open=[9.0, 6.0]
    )
    bars = bars_at(body)
    assert bars.close.tolist() == [5.0, 5.0]
    assert bars.open.tolist() == [4.5, 6.0]
    assert [str(day)[:10] for day in bars.timestamps] == ["2026-03-02", "2026-03-03"]


def test_a_day_whose_session_is_not_over_has_no_bar() -> None:
    body = chart([stamp(3), stamp(4)])
    assert len(bars_at(body)) == 1
    assert len(bars_at(body, AFTER_CLOSE)) == 2


class Clock:
    """Stands still until it is told the next moment."""

    def __init__(self, moment: datetime) -> None:
        self.moment = moment

    def __call__(self) -> datetime:
        return self.moment


class Answers(httpx2.AsyncBaseTransport):
    """Answers each request with the next body, and with 500 when there is none left."""

    def __init__(self, *bodies: bytes) -> None:
        self.bodies = list(bodies)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if not self.bodies:
            return httpx2.Response(500, request=request)
        return httpx2.Response(200, content=self.bodies.pop(0), request=request)


async def days_at(
    clock: Clock, answers: Answers, moments: list[datetime], *, fresh_s: float = 300.0
) -> list[list[str]]:
    """Return the days of the bars that one source hands out at each of some moments."""
    days = []
    policy = replace(HURRIED, fresh_s=fresh_s)
    async with Fetcher(policy, transport=answers, now=clock) as fetcher:
        source = NetworkBars(fetcher, base_url="http://market.example")
        for clock.moment in moments:
            found = await source.fetch(["X"], start=date(2026, 3, 2))
            days.append([str(day)[:10] for day in found.bars["X"].timestamps])
    return days


@pytest.mark.asyncio
async def test_a_cached_copy_from_before_the_close_makes_no_bar_of_that_day_after_it() -> None:
    answers = Answers(chart([stamp(3), stamp(4)]))
    found = await days_at(Clock(BEFORE_CLOSE), answers, [BEFORE_CLOSE, AFTER_CLOSE])
    assert found == [["2026-03-03"], ["2026-03-03"]]


@pytest.mark.asyncio
async def test_a_stale_copy_from_before_the_close_makes_no_bar_of_that_day_after_it() -> None:
    answers = Answers(chart([stamp(3), stamp(4)]))
    found = await days_at(Clock(BEFORE_CLOSE), answers, [BEFORE_CLOSE, AFTER_CLOSE], fresh_s=0.0)
    assert found == [["2026-03-03"], ["2026-03-03"]]


@pytest.mark.asyncio
async def test_an_answer_from_after_the_close_has_the_bar_of_the_day() -> None:
    body = chart([stamp(3), stamp(4)])
    found = await days_at(Clock(BEFORE_CLOSE), Answers(body, body), [BEFORE_CLOSE, AFTER_CLOSE], fresh_s=0.0)
    assert found == [["2026-03-03"], ["2026-03-03", "2026-03-04"]]


@pytest.mark.asyncio
async def test_an_open_days_prices_may_make_no_sense_yet_but_a_finished_ones_are_refused() -> None:
    odd = chart([stamp(3), stamp(4)], high=[10.0, 5.0])
    found = await days_at(Clock(BEFORE_CLOSE), Answers(odd), [BEFORE_CLOSE, AFTER_CLOSE])
    assert found == [["2026-03-03"], ["2026-03-03"]]
    async with Fetcher(HURRIED, transport=Answers(odd), now=lambda: AFTER_CLOSE) as fetcher:
        report = await NetworkBars(fetcher, base_url="http://market.example").fetch(["X"], start=START)
    assert report.bars == {}


@pytest.mark.asyncio
async def test_a_market_knows_no_bar_of_a_session_that_was_open_at_its_moment() -> None:
    """The answer is from after the close, the decision from before it."""
    answers = Answers(chart([stamp(3), stamp(4)]))
    async with Fetcher(HURRIED, transport=answers, now=lambda: AFTER_CLOSE) as fetcher:
        market = NetworkMarket(NetworkBars(fetcher, base_url="http://market.example"), BEFORE_CLOSE)
        loaded = await market.load(["X"], seconds=10)
    assert [str(day)[:10] for day in loaded.bars["X"].timestamps] == ["2026-03-03"]


@pytest.mark.parametrize(
    ("moment", "last"),
    [
        (datetime(2013, 2, 28, 20, 59, tzinfo=UTC), "2013-02-27"),
        (datetime(2013, 2, 28, 21, 0, tzinfo=UTC), "2013-02-28"),
        (datetime(2013, 3, 1, 0, 30, tzinfo=UTC), "2013-02-28"),
        (datetime(2031, 1, 1, tzinfo=UTC), "2013-03-01"),
    ],
)
def test_bars_are_finished_with_their_session_in_new_york(moment: datetime, last: str) -> None:
    assert str(finished_by(load_bars("IBM"), moment).timestamps[-1])[:10] == last


def test_the_last_bar_of_a_day_counts() -> None:
    bars = bars_at(chart([stamp(2), stamp(3, 14), stamp(3, 20)], close=[10.0, 10.0, 9.9], low=[9.0] * 3))
    assert bars.close.tolist() == [10.0, 9.9]


def test_missing_prices_stay_missing_and_rounding_is_forgiven() -> None:
    body = chart([stamp(2), stamp(3)], open=[None, 10.0004], high=[10.0, 10.0])
    bars = bars_at(body)
    assert bars.is_missing.tolist() == [True, False]
    assert bars.high[1] == 10.0004


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"chart": {"result": null}}', "no 0"),
        (b'{"chart": {"result": []}}', "no 0"),
        (chart([]), "no bars"),
        (chart([stamp(2)], close=[1.0, 2.0]), "columns"),
        (chart(["monday"]), "no number"),
        (chart([stamp(3), stamp(2)]), "sort"),
        (chart([stamp(2)], low=[-1.0], close=[-1.0]), "zero or negative"),
        (chart([stamp(2)], high=[5.0]), "high"),
        (chart([stamp(2)], volume=[-5]), "negative volume"),
    ],
)
def test_a_chart_that_makes_no_sense_is_malformed(body: bytes, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        bars_at(body)
