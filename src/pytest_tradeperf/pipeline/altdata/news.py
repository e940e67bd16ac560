"""Headlines from an RSS 2.0 feed that takes the ticker as a parameter."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from pytest_tradeperf.pipeline.altdata.model import Item, TickerFeed
from pytest_tradeperf.pipeline.altdata.sentiment import SentimentScorer
from pytest_tradeperf.pipeline.altdata.source import HttpSource
from pytest_tradeperf.pipeline.net.body import clean_text, parse_xml
from pytest_tradeperf.pipeline.net.errors import MalformedError
from pytest_tradeperf.pipeline.net.policy import HostPolicy, RateRule

if TYPE_CHECKING:
    from pytest_tradeperf.pipeline.net.fetcher import Fetcher

BASE_URL = "https://feeds.finance.yahoo.com"
# No published figure; a polite one of ours.
POLICY = HostPolicy(
    name="news", rules=(RateRule(limit=10, period_s=1.0),), fresh_s=60.0, max_body_bytes=4 * 1024 * 1024
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Headline:
    title: str
    url: str
    published_at: datetime


class NewsSource(HttpSource):
    """Headlines with their sentiment.

    Parameters
    ----------
    fetcher
        Talks to the feed.
    base_url
        Host of ``/rss/2.0/headline?s=TICKER``.
    scorer
        Judges the headlines.
    limit
        Newest headlines kept for each ticker.
    """

    name = "news"

    def __init__(
        self,
        fetcher: "Fetcher",
        *,
        base_url: str = BASE_URL,
        scorer: SentimentScorer | None = None,
        limit: int = 30,
    ) -> None:
        super().__init__(fetcher, base_url=base_url)
        self._scorer = scorer or SentimentScorer()
        self._limit = limit

    async def feed(self, ticker: str) -> TickerFeed:
        """Return the ticker's newest headlines."""
        query = {"s": ticker.replace(".", "-"), "region": "US", "lang": "en-US"}
        answer = await self._fetcher.get(f"{self._base}/rss/2.0/headline", _parse, params=query)
        newest = sorted(answer.value, key=lambda headline: headline.published_at, reverse=True)[: self._limit]
        items = [
            Item(
                source=self.name,
                ticker=ticker,
                kind="headline",
                text=headline.title,
                published_at=headline.published_at,
                available_at=headline.published_at,
                fetched_at=answer.fetched_at,
                url=headline.url,
                sentiment=self._scorer.score(headline.title),
            )
            for headline in newest
        ]
        return self._found(ticker, answer, items)


def _parse(body: bytes) -> tuple[_Headline, ...]:
    channel = parse_xml(body).find("channel")
    if channel is None:
        raise MalformedError("the feed has no channel; expected RSS 2.0")
    headlines = {}
    for entry in channel.iter("item"):
        title = clean_text(entry.findtext("title"))
        stamp = entry.findtext("pubDate") or ""
        link = clean_text(entry.findtext("link"), limit=1000)
        if not title or not stamp:
            # Without a time a headline cannot be placed in time, and so not be used.
            continue
        try:
            moment = parsedate_to_datetime(stamp)
        except ValueError as error:
            raise MalformedError(f"pubDate is {stamp!r:.60}, expected an RFC 5322 date") from error
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        url = link if link.startswith(("http://", "https://")) else ""
        headlines[clean_text(entry.findtext("guid"), limit=1000) or url or title] = _Headline(
            title=title, url=url, published_at=moment
        )
    return tuple(headlines.values())
