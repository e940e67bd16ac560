from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pytest_tradeperf.pipeline.altdata.edgar import contact_agent
from pytest_tradeperf.pipeline.altdata.model import FeedFailure, Item, SourceReport, TickerFeed
from pytest_tradeperf.pipeline.altdata.sentiment import SentimentScorer
from pytest_tradeperf.pipeline.altdata.settings import FeedSettings
from pytest_tradeperf.pipeline.errors import SettingError
from pytest_tradeperf.pipeline.net.metrics import NetStatistics
from pytest_tradeperf.pipeline.net.tickers import TickerError, normalised

NOW = datetime(2026, 3, 4, tzinfo=UTC)


def item(**changes: Any) -> Item:
    values: dict[str, Any] = {
        "source": "news", "ticker": "AAPL", "kind": "headline", "text": "x",
        "published_at": NOW, "available_at": NOW, "fetched_at": NOW,
    }  # fmt: skip
    return Item(**values | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"published_at": NOW.replace(tzinfo=None)}, "time zone"),
        ({"available_at": NOW - timedelta(seconds=1)}, "cannot be available before"),
        ({"sentiment": 1.5}, "1.5"),
    ],
)
def test_an_item_with_impossible_stamps_cannot_be_built(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        item(**changes)


def test_sentiment_of_a_feed_is_the_mean_of_what_has_one() -> None:
    feed = TickerFeed(
        source="news", ticker="A", items=(item(sentiment=0.5), item(sentiment=-0.1), item()), age_s=0.0
    )
    assert feed.sentiment == pytest.approx(0.2)
    assert TickerFeed(source="sec", ticker="A", items=(item(),), age_s=0.0).sentiment is None


def test_a_report_tells_missing_from_stale_from_empty() -> None:
    failure = FeedFailure(kind="timeout", message="...")
    report = SourceReport(
        source="news",
        feeds={
            "C": TickerFeed(source="news", ticker="C", failure=failure),
            "A": TickerFeed(source="news", ticker="A", failure=failure, age_s=90.4, from_cache=True),
            "B": TickerFeed(source="news", ticker="B", age_s=0.0, notes=("odd",)),
        },
        wall_s=2.0,
        statistics=NetStatistics(),
    )
    assert report.degraded == (
        "news A: timeout, copy of 90 s ago instead",
        "news B: odd",
        "news C: timeout, nothing instead",
    )
    assert report.symbols_per_minute == 60.0


@pytest.mark.parametrize(
    ("text", "sign"),
    [
        ("Apple beats estimates and raises guidance", 1),
        ("Apple misses estimates, shares slump", -1),
        ("Analysts downgrade IBM on weak outlook", -1),
        ("Regulators open investigation into Boeing", -1),
        ("$GME to the moon 🚀", 1),
        ("TSLA puts printing", -1),
        ("company files for bankruptcy", -1),
        ("Crude inventories and tax liabilities: what to know", 0),
        ("", 0),
    ],
)
def test_the_words_of_finance_decide(text: str, sign: int) -> None:
    score = SentimentScorer().score(text)
    assert -1 <= score <= 1
    assert (score > 0.2, score < -0.2) == (sign > 0, sign < 0)


@pytest.mark.parametrize(
    ("ticker", "expected"),
    [
        ("aapl", "AAPL"),
        (" brk.b ", "BRK.B"),
        ("^spx", "^SPX"),
        ("BTC-USD", "BTC-USD"),
        ("0700.hk", "0700.HK"),
    ],
)
def test_tickers_are_normalised(ticker: str, expected: str) -> None:
    assert normalised(ticker) == expected


@pytest.mark.parametrize(
    "ticker", ["", ".", "A/B", "..", "A..B", "ÄPFEL", "ﬁ", "A%2FB", "-A", "A" * 20, "A\n"[:-1] + "\x07"]
)
def test_everything_else_is_refused(ticker: str) -> None:
    with pytest.raises(TickerError, match="is not a ticker"):
        normalised(ticker)


@pytest.mark.parametrize("contact", ["", "no address", "a@b\r\nX-Evil: 1", "jörg@example.org"])
def test_a_contact_must_be_one_and_fit_a_header(contact: str) -> None:
    with pytest.raises(SettingError, match="TRADEPERF_SEC_USER_AGENT"):
        contact_agent(contact)


def test_settings_come_from_the_environment() -> None:
    made = FeedSettings.from_environment(
        {
            "TRADEPERF_SEC_USER_AGENT": "Jane jane@example.org",
            "TRADEPERF_SEC_URL": "http://127.0.0.1:1/sec",
            "TRADEPERF_FEEDS_TIMEOUT": "12.5s",
            "TRADEPERF_FEEDS": "sec, news",
        }
    )
    assert made == FeedSettings(
        sec_user_agent="Jane jane@example.org",
        sec_url="http://127.0.0.1:1/sec",
        sec_data_url="http://127.0.0.1:1/sec",
        timeout_s=12.5,
        sources=("sec", "news"),
    )
    assert FeedSettings.from_environment({}) == FeedSettings()


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        ({"TRADEPERF_FEEDS_TIMEOUT": "soon"}, "soon"),
        ({"TRADEPERF_FEEDS_TIMEOUT": "-1"}, "-1"),
        ({"TRADEPERF_FEEDS_TIMEOUT": "nan"}, "nan"),
        ({"TRADEPERF_FEEDS": "sec,radio"}, "radio"),
        ({"TRADEPERF_NEWS_URL": "news.example"}, "news.example"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(environment: dict[str, str], shown: str) -> None:
    with pytest.raises(SettingError, match=shown):
        FeedSettings.from_environment(environment)


def test_importing_the_sources_loads_no_network_library() -> None:
    code = (
        "import sys; import pytest_tradeperf.pipeline.altdata.collect, pytest_tradeperf.pipeline.world.commands; "
        "print(sorted({'httpx2', 'hishel', 'stamina', 'purgatory', 'vaderSentiment', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
