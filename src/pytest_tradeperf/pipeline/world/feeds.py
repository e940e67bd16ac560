"""Payloads in the shapes of the real feeds: EDGAR, a news RSS, StockTwits, CBOE delayed options."""

# ruff: noqa: PLR2004 - made-up figures are what this module is made of

import math
import random
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from html import escape
from typing import Any
from zoneinfo import ZoneInfo

from pytest_tradeperf.pipeline.world.companies import LISTED, mood_of, price_of, ticker_of, title_of
from pytest_tradeperf.pipeline.world.draws import draw, generator
from pytest_tradeperf.pipeline.world.messages import Reply, Scene, WorldRequest

_EASTERN = ZoneInfo("America/New_York")
_GOOD = (
    "{name} beats estimates as margins expand",
    "Analysts upgrade {ticker} after record quarter",
    "{name} raises full-year guidance",
    "{ticker} rallies on strong demand",
    "{name} announces $10 billion buyback",
)
_BAD = (
    "{name} misses estimates, shares slump",
    "{ticker} downgraded on weak outlook",
    "{name} cuts guidance amid slowing sales",
    "Regulators open investigation into {name}",
    "{name} announces layoffs and restructuring charge",
)
_FLAT = (
    "{name} to present at industry conference",
    "What to watch when {ticker} reports",
    "{name} names new board member",
)
_BULL = (
    "${ticker} to the moon 🚀",
    "loading calls on ${ticker}, breakout coming",
    "${ticker} looking strong here",
)
_BEAR = ("${ticker} puts printing", "bearish on ${ticker}, dump incoming", "${ticker} is overvalued, selling")
_SHRUG = ("watching ${ticker}", "anyone holding ${ticker} into earnings?")


def _day(moment: datetime) -> int:
    return int(moment.timestamp()) // 86_400


def _pick(rng: Any, mood: float, good: tuple[str, ...], bad: tuple[str, ...], flat: tuple[str, ...]) -> str:
    tone = mood + rng.uniform(-0.6, 0.6)
    return str(rng.choice(good if tone > 0.2 else bad if tone < -0.2 else flat))


def sec(request: WorldRequest, scene: Scene) -> Reply:
    """Answer EDGAR's ticker map and submissions; 403 without a contact in the User-Agent, as EDGAR does."""
    if "@" not in request.headers.get("user-agent", ""):
        return Reply(
            status=403,
            content_type="text/html",
            body=b"<html><title>Undeclared Automated Tool</title></html>",
        )
    if request.path == "/files/company_tickers.json":
        rows = {
            str(index): {"cik_str": cik, "ticker": ticker, "title": title}
            for index, (ticker, (cik, title)) in enumerate(LISTED.items())
        }
        return Reply.of_json(rows)
    digits = request.path.removeprefix("/submissions/CIK").removesuffix(".json")
    ticker = ticker_of(int(digits)) if len(digits) == 10 and digits.isdecimal() else None
    if ticker is None:
        return Reply(
            status=404, content_type="application/xml", body=b"<Error><Code>NoSuchKey</Code></Error>"
        )
    return Reply.of_json(_submissions(ticker, int(digits), scene))


def _submissions(ticker: str, cik: int, scene: Scene) -> dict[str, Any]:
    # About a quarter of the real filers' stamps are New York clocks with a Z appended (measured by others on
    # 64,936 filings, github.com/theOGognf/finagg issue 64); the world has the same share.
    local_clock = draw(scene.seed, "sec-clock", cik) < 0.22
    columns: dict[str, list[Any]] = {
        name: []
        for name in (
            "accessionNumber",
            "filingDate",
            "reportDate",
            "acceptanceDateTime",
            "form",
            "fileNumber",
            "items",
            "size",
            "primaryDocument",
            "primaryDocDescription",
        )
    }
    for slot, rng in scene.slots(timedelta(days=4), 60, "sec", ticker):
        form = rng.choice(("8-K", "8-K", "4", "4", "4", "10-Q", "SC 13G", "10-K"))
        minutes = rng.choice((rng.uniform(6.2, 9.4), rng.uniform(16.05, 17.9), rng.uniform(9.5, 21.8))) * 60
        midnight = datetime(slot.year, slot.month, slot.day, tzinfo=_EASTERN)
        accepted = midnight + timedelta(minutes=minutes)
        if accepted.astimezone(UTC) > scene.now or slot.weekday() > 4:
            continue
        stamp = (
            accepted.replace(tzinfo=None) if local_clock else accepted.astimezone(UTC).replace(tzinfo=None)
        )
        serial = f"{cik:010d}-{slot:%y}-{_day(slot) % 1_000_000:06d}"
        document = f"{ticker.lower()}-{slot:%Y%m%d}.htm"
        title = scene.hostile_text or {"8-K": "CURRENT REPORT", "10-Q": "QUARTERLY REPORT"}.get(form, form)
        row = (
            serial,
            f"{accepted:%Y-%m-%d}",
            f"{slot:%Y-%m-%d}",
            f"{stamp:%Y-%m-%dT%H:%M:%S}.000Z",
            form,
            "001-36743",
            rng.choice(("2.02,9.01", "5.02", "8.01", "7.01,9.01")) if form == "8-K" else "",
            rng.randrange(20_000, 9_000_000),
            document,
            title,
        )
        for column, value in zip(columns.values(), row, strict=True):
            column.append(value)
    return {
        "cik": f"{cik:010d}",
        "entityType": "operating",
        "name": title_of(ticker),
        "tickers": [ticker],
        "exchanges": ["Nasdaq"],
        "filings": {"recent": columns, "files": []},
    }


def news(request: WorldRequest, scene: Scene) -> Reply:
    """Answer a headline feed for the ticker in ``s`` as RSS 2.0."""
    ticker = request.query.get("s", "")
    if request.path != "/rss/2.0/headline" or not ticker:
        return Reply(status=404, content_type="text/plain", body=b"Not Found")
    items = []
    for slot, rng in scene.slots(timedelta(hours=3), 40, "news", ticker):
        if rng.random() < 0.5:
            continue
        text = _pick(rng, mood_of(scene.seed, ticker, _day(slot)), _GOOD, _BAD, _FLAT)
        title = scene.hostile_text or text.format(name=title_of(ticker), ticker=ticker)
        # XML 1.0 has no way to write most control characters: a hostile feed sends them raw, as we do.
        link = f"https://news.example/{ticker}/{int(slot.timestamp())}"
        items.append(
            f"<item><title>{escape(title)}</title><link>{escape(link)}</link><guid>{escape(link)}</guid>"
            f"<pubDate>{format_datetime(slot)}</pubDate><description>{escape(title)}.</description></item>"
        )
    body = (
        '<?xml version="1.0" encoding="UTF-8"?><rss version="2.0"><channel>'
        f"<title>Headlines for {escape(ticker)}</title>"
        "<link>https://news.example/</link><language>en-US</language>"
        f"{''.join(items)}</channel></rss>"
    )
    return Reply(content_type="application/rss+xml", body=body.encode("utf-8", "surrogatepass"))


def stocktwits(request: WorldRequest, scene: Scene) -> Reply:
    """Answer a symbol's message stream."""
    ticker = request.path.removeprefix("/api/2/streams/symbol/").removesuffix(".json")
    if not ticker or "/" in ticker:
        return Reply.of_json(
            {"response": {"status": 404}, "errors": [{"message": "Symbol not found"}]}, status=404
        )
    messages = []
    for slot, rng in scene.slots(timedelta(minutes=20), 30, "stocktwits", ticker):
        mood = mood_of(scene.seed, ticker, _day(slot))
        text = _pick(rng, mood, _BULL, _BEAR, _SHRUG)
        basic = {True: "Bullish", False: "Bearish"}.get(text in _BULL) if text not in _SHRUG else None
        messages.append(
            {
                "id": int(slot.timestamp()) * 10 + rng.randrange(10),
                "body": scene.hostile_text or text.format(ticker=ticker),
                "created_at": f"{slot:%Y-%m-%dT%H:%M:%SZ}",
                "user": {"id": rng.randrange(1, 9_999_999), "username": f"trader{rng.randrange(9999)}"},
                "symbols": [{"symbol": ticker, "title": title_of(ticker)}],
                "entities": {"sentiment": {"basic": basic} if basic else None},
            }
        )
    return Reply.of_json(
        {
            "response": {"status": 200},
            "symbol": {"id": int(draw(0, ticker) * 20_000), "symbol": ticker, "title": title_of(ticker)},
            "cursor": {"more": True, "since": messages[0]["id"], "max": messages[-1]["id"]},
            "messages": messages,
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chain:
    root: str
    spot: float
    mood: float
    now: datetime
    rng: random.Random

    def option(self, expiry: date, side: str, strike: float, week: int) -> dict[str, Any]:
        inner = max(0.0, (self.spot - strike) if side == "C" else (strike - self.spot))
        value = inner + 0.12 * self.spot * math.sqrt(week / 52) * math.exp(
            -abs(strike - self.spot) / (0.1 * self.spot)
        )
        bearish = 0.5 - 0.4 * self.mood
        weight = bearish if side == "P" else 1 - bearish
        interest = round(4000 * weight * self.rng.random() / week**0.5)
        # One contract in about 60 trades many times its open interest: the unusual volume a reader looks for.
        volume = round(
            interest * (self.rng.uniform(3, 12) if self.rng.random() < 1 / 60 else self.rng.uniform(0, 0.6))
        )
        return {
            "option": f"{self.root}{expiry:%y%m%d}{side}{round(strike * 1000):08d}",
            "bid": round(value * 0.98, 2),
            "bid_size": float(self.rng.randrange(1, 200)),
            "ask": round(value * 1.02 + 0.01, 2),
            "ask_size": float(self.rng.randrange(1, 200)),
            "iv": round(0.2 + 0.3 * self.rng.random(), 4),
            "open_interest": float(interest),
            "volume": float(volume),
            "delta": round(0.5 if side == "C" else -0.5, 4),
            "gamma": 0.01,
            "vega": 0.1,
            "theta": -0.05,
            "rho": 0.02,
            "theo": round(value, 4),
            "change": 0.0,
            "open": 0.0,
            "high": 0.0,
            "low": 0.0,
            "tick": "no_change",
            "last_trade_price": round(value, 2),
            "last_trade_time": f"{self.now.astimezone(_EASTERN):%Y-%m-%dT%H:%M:%S}",
            "percent_change": 0.0,
            "prev_day_close": round(value, 4),
        }


def cboe(request: WorldRequest, scene: Scene) -> Reply:
    """Answer a symbol's chain of delayed options quotes, 4 expiries by 15 strikes by call and put."""
    ticker = request.path.removeprefix("/api/global/delayed_quotes/options/").removesuffix(".json")
    root = ticker.removeprefix("_")
    if not root or "/" in root:
        return Reply(
            status=403, content_type="application/xml", body=b"<Error><Code>AccessDenied</Code></Error>"
        )
    day = _day(scene.now)
    mood = mood_of(scene.seed, root, day)
    spot = price_of(scene.seed, root) * (1 + 0.05 * mood)
    chain = _Chain(
        root=root, spot=spot, mood=mood, now=scene.now, rng=generator(scene.seed, "cboe", root, day)
    )
    step = max(0.5, round(spot / 40) or 0.5)
    centre = round(spot / step) * step
    options = []
    for week in (1, 3, 7, 15):
        expiry = (scene.now + timedelta(weeks=week)).date()
        expiry += timedelta(days=(4 - expiry.weekday()) % 7)
        for place in range(-7, 8):
            if centre + place * step > 0:
                options += [chain.option(expiry, side, centre + place * step, week) for side in "CP"]
    return Reply.of_json(
        {
            "timestamp": f"{scene.now:%Y-%m-%d %H:%M:%S}",
            "data": {
                "options": options,
                "symbol": root,
                "security_type": "stock",
                "exchange_id": 5,
                "current_price": round(spot, 2),
                "price_change": 0.0,
                "iv30": round(20 + 30 * chain.rng.random(), 3),
                "last_trade_time": f"{scene.now.astimezone(_EASTERN):%Y-%m-%dT%H:%M:%S}",
            },
            "symbol": ticker,
        }
    )
