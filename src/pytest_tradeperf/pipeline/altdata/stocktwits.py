"""Messages from StockTwits with the sentiment their authors gave them, or the one their words carry."""

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pytest_tradeperf.pipeline.altdata.model import Item, TickerFeed
from pytest_tradeperf.pipeline.altdata.sentiment import SentimentScorer
from pytest_tradeperf.pipeline.altdata.source import HttpSource
from pytest_tradeperf.pipeline.net.body import clean_text, field, iso_moment, list_field, parse_json
from pytest_tradeperf.pipeline.net.policy import HostPolicy, RateRule

if TYPE_CHECKING:
    from pytest_tradeperf.pipeline.net.fetcher import Fetcher

BASE_URL = "https://api.stocktwits.com"
# 200 an hour without a token (the API's documentation); a full hour of them at once would be no way to
# behave.
POLICY = HostPolicy(
    name="stocktwits",
    rules=(RateRule(limit=200, period_s=3600.0), RateRule(limit=10, period_s=1.0)),
    fresh_s=60.0,
    max_body_bytes=4 * 1024 * 1024,
)
# What an author's own label counts for: decided, yet weaker than the strongest words.
_LABELS = {"Bullish": 0.6, "Bearish": -0.6}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Message:
    number: int
    text: str
    published_at: datetime
    label: str | None


class StockTwitsSource(HttpSource):
    """A symbol's newest messages.

    Parameters
    ----------
    fetcher
        Talks to the source.
    base_url
        Host of ``/api/2/streams/symbol/TICKER.json``.
    scorer
        Judges messages whose author gave no label.
    """

    name = "stocktwits"

    def __init__(
        self, fetcher: "Fetcher", *, base_url: str = BASE_URL, scorer: SentimentScorer | None = None
    ) -> None:
        super().__init__(fetcher, base_url=base_url)
        self._scorer = scorer or SentimentScorer()

    async def feed(self, ticker: str) -> TickerFeed:
        """Return the ticker's newest messages."""
        answer = await self._fetcher.get(f"{self._base}/api/2/streams/symbol/{ticker}.json", _parse)
        items = [
            Item(
                source=self.name,
                ticker=ticker,
                kind="message",
                text=message.text,
                published_at=message.published_at,
                available_at=message.published_at,
                fetched_at=answer.fetched_at,
                sentiment=_LABELS.get(message.label or "") or self._scorer.score(message.text),
                detail={"id": message.number, "label": message.label},
            )
            for message in answer.value
        ]
        return self._found(ticker, answer, items)


def _parse(body: bytes) -> tuple[_Message, ...]:
    value = parse_json(body)
    messages = []
    for place, row in enumerate(list_field(value, "messages", what="the stream")):
        text = clean_text(field(row, "body", what=f"message {place}"))
        entities = row.get("entities")
        mood = entities.get("sentiment") if isinstance(entities, dict) else None
        label = mood.get("basic") if isinstance(mood, dict) else None
        if text:
            messages.append(
                _Message(
                    number=int(field(row, "id", what=f"message {place}")),
                    text=text,
                    published_at=iso_moment(row.get("created_at"), what=f"created_at of message {place}"),
                    label=label if label in _LABELS else None,
                )
            )
    return tuple(messages)
