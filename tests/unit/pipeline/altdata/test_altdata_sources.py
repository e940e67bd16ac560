from __future__ import annotations

import asyncio
import json
import re
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tradeperf.pipeline.altdata import cboe, edgar, news, stocktwits
from pytest_tradeperf.pipeline.altdata.collect import Collection, collect, collect_from, open_sources
from pytest_tradeperf.pipeline.altdata.settings import SOURCE_NAMES, FeedSettings
from pytest_tradeperf.pipeline.errors import StoreError
from pytest_tradeperf.pipeline.net.errors import MalformedError
from pytest_tradeperf.pipeline.net.policy import HostPolicy, RateRule, RetryPolicy
from pytest_tradeperf.pipeline.world.server import World
from pytest_tradeperf.pipeline.world.settings import FaultRule, LatencyRange, WorldSettings, parse_faults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from pytest_tradeperf.pipeline.altdata.model import Source, TickerFeed

NOW = datetime(2026, 3, 4, 15, 30, tzinfo=UTC)


def hurried(policy: HostPolicy) -> HostPolicy:
    retry = RetryPolicy(attempts=2, wait_initial_s=0.0, wait_max_s=0.0, wait_jitter_s=0.0)
    return replace(policy, rules=(), attempt_timeout_s=10.0, deadline_s=30.0, retry=retry)


@asynccontextmanager
async def world_and_sources(
    faults: dict[str, tuple[FaultRule, ...]] | None = None,
    *,
    policy: Callable[[HostPolicy], HostPolicy] = hurried,
    **options: Any,
) -> AsyncIterator[tuple[World, list[Source]]]:
    made = WorldSettings(faults=faults or {}, retry_after_s=0.0, now=NOW, **options)
    async with (
        World(made) as world,
        open_sources(FeedSettings.for_world(world.url), policy=policy, now=lambda: NOW) as (sources, _),
    ):
        yield world, sources


async def gathered(*tickers: str, faults: str = "", **options: Any) -> Collection:
    async with world_and_sources(parse_faults(faults), **options) as (_, sources):
        return await collect(sources, tickers, timeout_s=60)


def feed_of(found: Collection, source: str, ticker: str = "AAPL") -> TickerFeed:
    return found.reports[source].feeds[ticker]


@pytest.mark.asyncio
async def test_every_source_answers_with_stamped_items() -> None:
    found = await gathered("AAPL", "msft")
    assert set(found.reports) == set(SOURCE_NAMES)
    assert found.degraded == ()
    for report in found.reports.values():
        assert set(report.feeds) == {"AAPL", "MSFT"}
        for feed in report.feeds.values():
            assert feed.items, f"{report.source} said nothing"
            for item in feed.items:
                assert item.published_at <= item.available_at <= NOW
                assert item.published_at.utcoffset() == timedelta(0)
                assert item.text.isprintable()
    kinds = {item.kind for item in found.items("AAPL")}
    assert {"headline", "message", "options"} <= kinds
    assert kinds & {"8-K", "10-Q"}


@pytest.mark.asyncio
async def test_the_same_world_gives_the_same_collection() -> None:
    def told(found: Collection) -> list[tuple[str, str, datetime, float | None]]:
        return [(item.source, item.text, item.published_at, item.sentiment) for item in found.items("IBM")]

    first, second = await gathered("IBM", seed=3), await gathered("MSFT", "IBM", seed=3)
    assert told(first) == told(second)
    assert told(first)


@pytest.mark.asyncio
async def test_as_of_hides_what_was_not_available_yet() -> None:
    moment = NOW - timedelta(hours=5)
    async with world_and_sources() as (_, sources):
        found = await collect(sources, ["AAPL"], as_of=moment)
        all_items = (await collect(sources, ["AAPL"])).items("AAPL")
    assert found.items("AAPL")
    assert all(item.available_at <= moment for item in found.items("AAPL"))
    assert len(found.items("AAPL")) == sum(item.available_at <= moment for item in all_items) < len(all_items)


@pytest.mark.asyncio
async def test_one_ticker_s_failure_is_its_own() -> None:
    found = await gathered("AAPL", "MSFT", "IBM", faults="stocktwits=html~MSFT")
    assert feed_of(found, "stocktwits", "MSFT").is_missing
    assert not feed_of(found, "stocktwits", "IBM").is_missing
    assert found.degraded == ("stocktwits MSFT: malformed, nothing instead",)
    assert found.reports["stocktwits"].error_rate == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "fault", ["429", "500", "reset", "truncated", "html", "schema", "empty", "deep", "redirect"]
)
@pytest.mark.asyncio
async def test_a_source_that_always_fails_is_reported_and_never_raised(fault: str) -> None:
    found = await gathered("AAPL", faults=f"all={fault}")
    assert len(found.degraded) == 4
    assert all(feed_of(found, name).is_missing for name in SOURCE_NAMES)
    assert found.sentiment("AAPL") is None


@pytest.mark.asyncio
async def test_a_source_that_hangs_costs_no_more_than_the_time_given() -> None:
    async with world_and_sources(parse_faults("news=hang")) as (_, sources):
        found = await collect(sources, ["AAPL", "MSFT"], timeout_s=1.5)
    assert found.wall_s < 10.0, "an attempt alone would take as long, and there are two"
    assert found.reports["news"].feeds["AAPL"].failure is not None
    assert not feed_of(found, "cboe").is_missing


@pytest.mark.asyncio
async def test_an_old_copy_stands_in_and_is_named_with_its_age() -> None:
    def impatient(policy: HostPolicy) -> HostPolicy:
        return replace(hurried(policy), fresh_s=0.5)

    async with world_and_sources(policy=impatient) as (world, sources):
        first = await collect(sources, ["AAPL"])
        world.core.faults = parse_faults("all=500")
        second = await collect(sources, ["AAPL"])
    assert first.degraded == ()
    assert len(second.degraded) == len(SOURCE_NAMES)
    for name, line in zip(SOURCE_NAMES, second.degraded, strict=True):
        assert re.match(rf"{name} AAPL: server_failed, copy of \d+ s ago", line)
    assert second.items("AAPL") == first.items("AAPL")
    assert feed_of(second, "cboe").is_stale


@pytest.mark.asyncio
async def test_data_that_is_days_old_is_noted_although_the_source_answers() -> None:
    async with World(WorldSettings(faults=parse_faults("cboe=stale"))) as world:
        found = await collect_from(replace(FeedSettings.for_world(world.url), sources=("cboe",)), ["AAPL"])
    assert found.degraded == ("cboe AAPL: quotes are 5.0 days old",)


@pytest.mark.asyncio
async def test_a_source_without_its_contact_is_not_asked_and_named() -> None:
    async with World(WorldSettings(now=NOW)) as world:
        found = await collect_from(replace(FeedSettings.for_world(world.url), sec_user_agent=""), ["AAPL"])
        assert not world.entries("sec")
    assert "TRADEPERF_SEC_USER_AGENT" in found.degraded[0]
    assert set(found.reports) == {"news", "stocktwits", "cboe"}


@pytest.mark.parametrize(
    "ticker",
    ["ÄPFEL", "../../etc/passwd", "AAPL/../MSFT", "A B", "", "A\x00B", "腾讯", "A" * 40, "AAPL?x=1", "ß"],
)
@pytest.mark.asyncio
async def test_what_is_no_ticker_reaches_no_server(ticker: str) -> None:
    async with world_and_sources() as (world, sources):
        found = await collect(sources, [ticker, "AAPL"], timeout_s=5)
        targets = [entry.target for entry in world.core.log]
    assert all("AAPL" in target or "/files/" in target or "CIK0000320193" in target for target in targets)
    assert len(found.degraded) == 4
    assert not feed_of(found, "news").is_missing


@pytest.mark.asyncio
async def test_a_company_the_sec_does_not_list_is_missing_there_only() -> None:
    found = await gathered("NOSUCH")
    assert found.degraded == ("sec NOSUCH: not_found, nothing instead",)


@pytest.mark.asyncio
async def test_the_map_of_companies_is_fetched_once() -> None:
    async with world_and_sources(latency={"sec": LatencyRange(low_s=0.01, high_s=0.02)}) as (world, sources):
        await collect(sources, ["AAPL", "MSFT", "IBM"])
        maps = [entry for entry in world.entries("sec") if "company_tickers" in entry.target]
        assert len(maps) == 1
        assert len(world.entries("sec")) == 4


@pytest.mark.parametrize("fault", ["control", "injection"])
@pytest.mark.asyncio
async def test_hostile_texts_stay_one_printable_line_of_data(fault: str) -> None:
    found = await gathered("AAPL", faults=f"all={fault}")
    texts = [item.text for item in found.items("AAPL")]
    assert texts
    assert all(text.isprintable() and "\u202e" not in text and len(text) <= 500 for text in texts)


@pytest.mark.asyncio
async def test_metrics_count_symbols_hits_and_errors() -> None:
    async with world_and_sources() as (_, sources):
        await collect(sources, ["AAPL", "MSFT"])
        again = await collect(sources, ["AAPL", "MSFT"])
    report = again.reports["news"]
    assert (report.statistics.requests, report.statistics.upstream, report.statistics.cache_hits) == (2, 0, 2)
    assert report.statistics.cache_hit_rate == 1.0
    assert report.symbols_per_minute == pytest.approx(120 / report.wall_s)


def spoil(folder: Path) -> None:
    for path in folder.glob("*.sqlite*"):
        path.write_bytes(b"not a database" * 100)


@pytest.mark.asyncio
async def test_answers_on_disk_stand_in_for_the_next_process_and_a_broken_file_is_replaced(
    tmp_path: Path,
) -> None:
    async with World(WorldSettings(now=NOW)) as world:
        settings = replace(FeedSettings.for_world(world.url), sources=("cboe",), cache_folder=str(tmp_path))

        async def once() -> Collection:
            def impatient(policy: HostPolicy) -> HostPolicy:
                return replace(hurried(policy), fresh_s=0.5)

            async with open_sources(settings, policy=impatient, now=lambda: NOW) as (sources, _):
                return await collect(sources, ["AAPL"])

        first = await once()
        world.core.faults = parse_faults("all=500")
        second = await once()
        spoil(tmp_path)
        third = await once()
        world.core.faults = {}
        fourth = await once()
    assert re.fullmatch(r"cboe AAPL: server_failed, copy of \d+ s ago instead", *second.degraded)
    assert second.items("AAPL") == first.items("AAPL")
    assert third.degraded == ("cboe AAPL: server_failed, nothing instead",)
    assert fourth.degraded == ()


@pytest.mark.asyncio
async def test_a_cache_folder_that_cannot_be_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    settings = FeedSettings(sources=("cboe",), cache_folder=str(tmp_path / "file"))
    with pytest.raises(StoreError, match="cannot be written"):
        async with open_sources(settings):
            pass


class Rogue:
    """A source that keeps none of its promises."""

    name = "rogue"

    def __init__(self, lingers: bool) -> None:
        self.lingers = lingers

    async def fetch(self, tickers: object, *, as_of: object = None, timeout_s: object = None) -> Any:
        if self.lingers:
            await asyncio.get_running_loop().create_future()
        raise ZeroDivisionError("oops")

    async def aclose(self) -> None:
        """Have nothing to close."""


@pytest.mark.parametrize(
    ("lingers", "line"),
    [(True, "rogue: lingered past its 1.0 s"), (False, "rogue: broke with ZeroDivisionError")],
)
@pytest.mark.asyncio
async def test_a_foreign_source_s_mistake_does_not_take_the_others_along(lingers: bool, line: str) -> None:
    async with world_and_sources() as (_, sources):
        await collect(sources, ["AAPL"])
        found = await collect([*sources, Rogue(lingers)], ["AAPL"], timeout_s=1.0)
    assert set(found.reports) == set(SOURCE_NAMES)
    assert len(found.degraded) == 1
    assert found.degraded[0].startswith(line)


def filing_payload(*stamps: str) -> bytes:
    count = len(stamps)
    recent = {
        "accessionNumber": [f"0000320193-26-{number:06d}" for number in range(count)],
        "acceptanceDateTime": list(stamps),
        "form": ["8-K"] * count,
        "primaryDocument": ["a.htm"] * count,
        "items": ["2.02,9.01"] * count,
    }
    return json.dumps({"filings": {"recent": recent}}).encode()


@pytest.mark.parametrize(
    ("stamps", "is_local"),
    [
        (("2026-01-05T21:30:00.000Z",), False),
        (("2026-01-05T16:30:00.000Z",), False),
        (("2026-01-05T16:30:00.000Z", "2026-01-06T07:30:00.000Z"), True),
        (("2026-01-05T16:30:00.000Z", "2026-01-06T23:05:00.000Z"), False),
        ((), False),
    ],
)
def test_new_york_clocks_with_a_z_are_found_by_the_night(stamps: tuple[str, ...], is_local: bool) -> None:
    filings = edgar._parse_filings(filing_payload(*stamps))
    assert edgar._stamps_are_local(filing.stamp for filing in filings) is is_local


@pytest.mark.asyncio
async def test_both_kinds_of_filers_get_stamps_within_edgar_s_hours() -> None:
    tickers = [f"T{number:03d}" for number in range(12)]
    found = await gathered(*tickers)
    items = [item for ticker in tickers for item in feed_of(found, "sec", ticker).items]
    assert {item.detail["clock"] for item in items} == {"utc", "eastern"}
    hours = [item.available_at.astimezone(edgar._EASTERN).hour for item in items]
    assert min(hours) >= 6
    assert max(hours) < 22


def test_filings_name_their_subject_and_place() -> None:
    (filing,) = edgar._parse_filings(filing_payload("2026-01-05T21:30:00.000Z"))
    source = edgar.EdgarSource(None, base_url="https://sec.example")  # type: ignore[arg-type]
    item = source._item(filing, "AAPL", 320193, False, NOW)
    assert item.text == "8-K: results of operations, statements and exhibits"
    assert item.url == "https://sec.example/Archives/edgar/data/320193/000032019326000000/a.htm"
    assert item.available_at == datetime(2026, 1, 5, 21, 30, tzinfo=UTC)


def test_a_document_name_cannot_lead_out_of_its_folder() -> None:
    body = filing_payload("2026-01-05T21:30:00.000Z").replace(b"a.htm", b"../../../x")
    assert edgar._parse_filings(body)[0].document == ""


def chain(*contracts: tuple[str, float, float]) -> bytes:
    options = [
        {"option": name, "volume": volume, "open_interest": interest} for name, volume, interest in contracts
    ]
    return json.dumps(
        {"timestamp": "2026-03-04 15:30:00", "data": {"options": options, "current_price": 187.5}}
    ).encode()


def test_options_activity_is_summed_by_side() -> None:
    activity = cboe.parse_chain(
        chain(
            ("AAPL260320C00190000", 100, 1000),
            ("AAPL260320P00180000", 50, 500),
            ("AAPL260320P00170000", 900, 300),
            ("AAPL260320C00200000", 99, 1),
        )
    )
    assert activity.put_call_volume == pytest.approx(950 / 199)
    assert activity.put_call_open_interest == pytest.approx(800 / 1001)
    assert activity.lean == pytest.approx((199 - 950) / (199 + 950))
    assert activity.unusual == (("2026-03-20 170 P", 900.0),)
    assert activity.underlying_price == 187.5


def test_a_chain_without_trades_has_no_ratio() -> None:
    activity = cboe.parse_chain(chain())
    assert (activity.put_call_volume, activity.lean, activity.unusual) == (None, None, ())


RSS = (
    '<rss version="2.0"><channel><item><title>{title}</title><pubDate>{date}</pubDate>'
    "<link>{link}</link></item></channel></rss>"
)


def headline(
    title: str = "Up", date: str = "Wed, 04 Mar 2026 10:00:00 -0500", link: str = "https://n.example/1"
) -> bytes:
    return RSS.format(title=title, date=date, link=link).encode()


def test_headlines_are_cleaned_and_stamped_in_utc() -> None:
    (found,) = news._parse(headline(title="A &amp;amp; B &lt;b&gt;up&lt;/b&gt;"))
    assert (found.title, found.published_at) == ("A & B up", datetime(2026, 3, 4, 15, tzinfo=UTC))


@pytest.mark.parametrize("link", ["javascript:alert(1)", "file:///etc/passwd", ""])
def test_only_web_links_are_kept(link: str) -> None:
    (found,) = news._parse(headline(link=link))
    assert found.url == ""


def test_a_headline_without_a_time_cannot_be_used() -> None:
    assert news._parse(headline(date="")) == ()


@pytest.mark.parametrize(
    ("parse", "body", "message"),
    [
        (news._parse, b"<rss/>", "no channel"),
        (news._parse, headline(date="soon"), "soon"),
        (stocktwits._parse, b'{"messages": 3}', "expected a list"),
        (stocktwits._parse, b'{"messages": [{"id": 1}]}', "no 'body'"),
        (stocktwits._parse, b'{"messages": [{"id": 1, "body": "x", "created_at": "now"}]}', "now"),
        (cboe.parse_chain, b'{"data": {}}', "no 'options'"),
        (cboe.parse_chain, chain(("AAPL", 1, 1)), "ROOTyymmdd"),
        (cboe.parse_chain, chain(("AAPL260320C00190000", -1, 1)), "negative"),
        (edgar._parse_map, b"[]", "not an object"),
        (edgar._parse_map, b'{"0": {"ticker": "A"}}', "cik_str"),
        (edgar._parse_filings, b'{"filings": {"recent": {"accessionNumber": []}}}', "acceptanceDateTime"),
        (edgar._parse_filings, filing_payload("2026").replace(b'["a.htm"]', b"[]"), "differ in length"),
    ],
)
def test_a_wrong_schema_is_named(parse: Callable[[bytes], object], body: bytes, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        parse(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "messages",
                    "body",
                    "id",
                    "data",
                    "options",
                    "option",
                    "filings",
                    "recent",
                    "timestamp",
                    "form",
                    "ticker",
                    "cik_str",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=60)
@given(JSON)
def test_any_json_is_read_or_fails_as_the_fetcher_expects(value: Any) -> None:
    body = json.dumps(value, allow_nan=True).encode()
    for parse in (stocktwits._parse, cboe.parse_chain, edgar._parse_map, edgar._parse_filings):
        try:
            parse(body)
        except (MalformedError, LookupError, TypeError, ValueError, AttributeError, ArithmeticError):
            # The fetcher turns each of these into MalformedError; anything else would escape.
            continue


def test_policies_follow_the_sources_published_rules() -> None:
    assert edgar.POLICY.rules == (RateRule(limit=10, period_s=1.0),)
    assert RateRule(limit=200, period_s=3600.0) in stocktwits.POLICY.rules
