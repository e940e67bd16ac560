"""What is known about each ticker before anyone decides: bars, news, checks, and the evidence they make.

Where bars and news come from is a seam; every part of them may be missing, and what is missing is named.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from pytest_tradeperf.pipeline.debate.evidence import Evidence, facts_from_bars
from pytest_tradeperf.pipeline.errors import DataError, PipelineError

if TYPE_CHECKING:
    from pytest_tradeperf.pipeline.marketdata import Bars

_FEWEST_BARS: Final = 61
"""What the longest fact (a 60-bar return) needs."""
_OLDEST_DAYS: Final = 7
_LARGEST_MOVE: Final = 0.35
"""A day's move beyond this is often an unadjusted split: worth a look, no reason to drop bars."""
_MOOD: Final = 0.15
_GUARD: Final = 1.1
"""Markets and feeds keep their time themselves; so much of it passes before nothing of theirs counts.

A busy machine wakes them and their guard in the same moment, and what came in time must not be lost then.
"""


class Quality(StrEnum):
    """Whether a ticker can be decided on."""

    GOOD = "good"
    SUSPECT = "suspect"
    UNUSABLE = "unusable"


class Mood(StrEnum):
    """What the news of a ticker is like."""

    POSITIVE = "positive"
    NEUTRAL = "neutral"
    NEGATIVE = "negative"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """What strangers say about one ticker: headlines newest first, mean sentiment in [-1, 1] or None.

    ``facts`` are further figures such as ``put_call``; ``missing`` names the sources without an answer.
    """

    headlines: tuple[str, ...] = ()
    sentiment: float | None = None
    facts: Mapping[str, float] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Bars by ticker, and a line for everything that is missing or stands in."""

    bars: "Mapping[str, Bars]"
    degraded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """News by ticker, a line for everything that is missing, and what the sources report about themselves."""

    news: Mapping[str, News] = field(default_factory=dict)
    degraded: tuple[str, ...] = ()
    statistics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class Market(Protocol):
    """Where bars come from."""

    async def load(self, tickers: Sequence[str], *, seconds: float) -> Loaded:
        """Return what bars there are, within ``seconds``; failures are in the answer, never raised."""
        ...


class Feeds(Protocol):
    """Where news comes from."""

    async def hear(self, tickers: Sequence[str], *, as_of: datetime, seconds: float) -> Heard:
        """Return what was known by ``as_of``, within ``seconds``; failures are in the answer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Researched:
    """One ticker: its bars and news if any, what was checked, and the evidence for the panel."""

    ticker: str
    as_of: datetime
    evidence: Evidence
    quality: Quality
    mood: Mood
    news: News = field(default_factory=News)
    checks: tuple[str, ...] = ()
    bars: "Bars | None" = None

    @property
    def price(self) -> float | None:
        """The last known close."""
        if self.bars is None:
            return None
        closes = self.bars.close[~self.bars.is_missing]
        return float(closes[-1]) if closes.size else None


class BundledMarket:
    """The bundled bars; tickers that are not among them are missing, by name.

    Parameters
    ----------
    until
        Only bars whose session was over at this moment; None: all.
    """

    def __init__(self, until: datetime | None = None) -> None:
        self._until = until

    async def load(self, tickers: Sequence[str], *, seconds: float) -> Loaded:
        """Return the bundled bars of ``tickers``; reading them takes milliseconds."""
        del seconds
        from pytest_tradeperf.pipeline.marketdata import load_bars
        from pytest_tradeperf.pipeline.marketdata.sessions import finished_by

        bars: dict[str, Bars] = {}
        degraded = []
        for ticker in tickers:
            try:
                found = load_bars(ticker)
            except DataError:
                degraded.append(f"bars {ticker}: not bundled")
                continue
            bars[ticker] = found if self._until is None else finished_by(found, self._until)
            await asyncio.sleep(0)  # Ctrl-C and deadlines get their turn between files
        return Loaded(bars=bars, degraded=tuple(degraded))


class FirstOf:
    """A market that asks the next one for what the one before does not have.

    Only the last one's complaints count: what an earlier market lacks is what the next is for.
    """

    def __init__(self, *markets: Market) -> None:
        self._markets = markets

    async def load(self, tickers: Sequence[str], *, seconds: float) -> Loaded:
        """Return the bars of the first market that has them."""
        bars: dict[str, Bars] = {}
        degraded: tuple[str, ...] = ()
        for market in self._markets:
            missing = [ticker for ticker in tickers if ticker not in bars]
            if not missing:
                return Loaded(bars=bars)
            found = await market.load(missing, seconds=seconds)
            bars |= found.bars
            degraded = found.degraded
        return Loaded(bars=bars, degraded=degraded)


class Silence:
    """No feeds at all."""

    async def hear(self, tickers: Sequence[str], *, as_of: datetime, seconds: float) -> Heard:
        """Return nothing, and say so once."""
        del as_of, seconds
        return Heard(news=dict.fromkeys(tickers, News()), degraded=("feeds: off",))


async def load_market(market: Market, tickers: Sequence[str], *, seconds: float) -> Loaded:
    """Return ``market``'s bars; a market that raises or is late is one more degraded line."""
    try:
        async with asyncio.timeout(_GUARD * seconds):
            return await market.load(tickers, seconds=seconds)
    except TimeoutError:
        return Loaded(bars={}, degraded=(f"bars: nothing within {seconds:g} s",))
    except (PipelineError, OSError) as error:
        return Loaded(bars={}, degraded=(f"bars: {error}",))


async def hear_feeds(feeds: Feeds, tickers: Sequence[str], *, as_of: datetime, seconds: float) -> Heard:
    """Return ``feeds``' news; feeds that raise or are late are one more degraded line."""
    try:
        async with asyncio.timeout(_GUARD * seconds):
            return await feeds.hear(tickers, as_of=as_of, seconds=seconds)
    except TimeoutError:
        return Heard(degraded=(f"feeds: nothing within {seconds:g} s",))
    except (PipelineError, OSError) as error:
        return Heard(degraded=(f"feeds: {error}",))


def research_ticker(ticker: str, bars: "Bars | None", news: News | None, as_of: datetime) -> Researched:
    """Return what bars and news say about one ticker at ``as_of``, and whether to trust it.

    Unusable is what has no usable bars; suspect what is old, short, full of holes or jumps.
    """
    news = news or News(missing=("all feeds",))
    facts: dict[str, float] = dict(news.facts)
    if news.sentiment is not None:
        facts["sentiment"] = news.sentiment
    checks, quality = _checked(bars, as_of)
    checks += tuple(f"no answer from {name}" for name in news.missing)
    if bars is not None and quality is not Quality.UNUSABLE:
        facts |= facts_from_bars(bars)
    return Researched(
        ticker=ticker,
        as_of=as_of,
        evidence=Evidence(
            ticker=ticker, as_of=as_of.date().isoformat(), facts=facts, headlines=news.headlines
        ),
        quality=quality,
        mood=mood_of(news.sentiment),
        news=news,
        checks=checks,
        bars=bars if quality is not Quality.UNUSABLE else None,
    )


def mood_of(sentiment: float | None) -> Mood:
    """Return the class of a mean sentiment in [-1, 1]; None and NaN are unknown."""
    if sentiment is None or math.isnan(sentiment):
        return Mood.UNKNOWN
    return Mood.POSITIVE if sentiment > _MOOD else Mood.NEGATIVE if sentiment < -_MOOD else Mood.NEUTRAL


def newest(loaded: Loaded, now: Callable[[], datetime]) -> datetime:
    """Return the end of the newest bar's day over all tickers, in UTC; ``now()`` without any bars."""
    ends = [bars.timestamps[-1] for bars in loaded.bars.values() if len(bars)]
    if not ends:
        return now()
    day = max(ends).astype("datetime64[D]").astype(datetime)
    return datetime(day.year, day.month, day.day, 23, 59, 59, tzinfo=UTC)


def _checked(bars: "Bars | None", as_of: datetime) -> tuple[tuple[str, ...], Quality]:
    """Return what is wrong with the bars, and how much that matters."""
    import numpy as np

    if bars is None:
        return ("no bars",), Quality.UNUSABLE
    known = np.flatnonzero(~bars.is_missing)
    if known.size < 2:  # noqa: PLR2004 - one bar has no return
        return (f"only {known.size} usable bars",), Quality.UNUSABLE
    checks = []
    if known.size < _FEWEST_BARS:
        checks.append(f"only {known.size} usable bars")
    last = bars.timestamps[known[-1]].astype("datetime64[s]").astype(datetime).replace(tzinfo=UTC)
    age_days = (as_of - last).days
    if age_days > _OLDEST_DAYS:
        checks.append(f"last bar is {age_days} days old")
    recent = bars.is_missing[-_FEWEST_BARS:]
    if recent.any():
        checks.append(f"{int(recent.sum())} of the last {recent.size} bars are missing")
    closes = bars.close[known][-_FEWEST_BARS:]
    moves = np.abs(closes[1:] / closes[:-1] - 1)
    if moves.size and moves.max() > _LARGEST_MOVE:
        checks.append(f"a move of {moves.max():.0%} in one bar: a split not adjusted for?")
    return tuple(checks), Quality.SUSPECT if checks else Quality.GOOD
