"""What a feed gives: items with point-in-time stamps, each ticker's state, and a source's report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from pytest_tradeperf.pipeline.errors import SettingError
from pytest_tradeperf.pipeline.net.metrics import NetStatistics

_SECONDS_A_MINUTE = 60.0
_LONGEST_SHOWN = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One filing, headline, message or options snapshot.

    Attributes
    ----------
    source, ticker, kind
        Where it came from, whom it is about, and what it is (``8-K``, ``headline``, ``message``,
        ``options``).
    text
        One printable line; words of strangers, to be quoted and never obeyed.
    published_at
        When the source says it was published, in UTC.
    available_at
        The earliest moment a trader can have had it, in UTC, never before `published_at`. Decisions about a
        moment may use an item only from here on.
    fetched_at
        When we read it, in UTC.
    url
        Where a person can read it; empty if nowhere.
    sentiment
        -1 (worst) to 1 (best), None where text carries none.
    detail
        Further figures of the source, by name.
    """

    source: str
    ticker: str
    kind: str
    text: str
    published_at: datetime
    available_at: datetime
    fetched_at: datetime
    url: str = ""
    sentiment: float | None = None
    detail: Mapping[str, str | float | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("published_at", "available_at", "fetched_at"):
            if getattr(self, name).tzinfo is None:
                raise SettingError(f"{name} of an item needs a time zone, got {getattr(self, name)!r}")
        if self.available_at < self.published_at:
            raise SettingError(
                f"an item published at {self.published_at} cannot be available before, at {self.available_at}"
            )
        if self.sentiment is not None and not -1 <= self.sentiment <= 1:
            raise SettingError(f"sentiment lies in [-1, 1], got {self.sentiment!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedFailure:
    """Why a ticker's feed is missing or old: a stable word and a sentence."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TickerFeed:
    """One source's items about one ticker.

    Attributes
    ----------
    items
        Newest first; empty when nothing was said or when `failure` has no stand-in.
    age_s
        Seconds since the source last confirmed this, None without an answer.
    from_cache
        Whether the answer came from the cache.
    failure
        None, or why the source failed. With items it means that an old copy stands in.
    notes
        What else is wrong with the answer, for example data that is days old.
    """

    source: str
    ticker: str
    items: tuple[Item, ...] = ()
    age_s: float | None = None
    from_cache: bool = False
    failure: FeedFailure | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_stale(self) -> bool:
        """Whether an old copy stands in for a failed source."""
        return self.failure is not None and self.age_s is not None

    @property
    def is_missing(self) -> bool:
        """Whether there is no answer at all, which is not the same as an answer without items."""
        return self.age_s is None

    @property
    def sentiment(self) -> float | None:
        """Mean sentiment of the items that have one, in [-1, 1]; None without any."""
        scores = [item.sentiment for item in self.items if item.sentiment is not None]
        return sum(scores) / len(scores) if scores else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceReport:
    """What one source gave for many tickers, and how it went."""

    source: str
    feeds: Mapping[str, TickerFeed]
    wall_s: float
    statistics: NetStatistics

    @property
    def symbols_per_minute(self) -> float:
        """Tickers answered a minute of wall time, missing ones not counted; 0 if no time passed."""
        answered = sum(not feed.is_missing for feed in self.feeds.values())
        return _SECONDS_A_MINUTE * answered / self.wall_s if self.wall_s > 0 else 0.0

    @property
    def error_rate(self) -> float:
        """Tickers whose source failed, as a fraction of all, stand-ins included; 0 without tickers."""
        failed = sum(feed.failure is not None for feed in self.feeds.values())
        return failed / len(self.feeds) if self.feeds else 0.0

    @property
    def degraded(self) -> tuple[str, ...]:
        """One line for each ticker that is missing, stands in or is questionable, in ticker order."""
        lines = []
        for ticker in sorted(self.feeds):
            feed = self.feeds[ticker]
            # What was asked for may be no ticker at all; a report must stay one short printable line each.
            name = (
                ticker
                if ticker.isprintable() and len(ticker) <= _LONGEST_SHOWN
                else f"{ticker!r:.{_LONGEST_SHOWN}}"
            )
            if feed.failure is not None:
                instead = f"copy of {feed.age_s:.0f} s ago" if feed.age_s is not None else "nothing"
                lines.append(f"{self.source} {name}: {feed.failure.kind}, {instead} instead")
            lines += [f"{self.source} {name}: {note}" for note in feed.notes]
        return tuple(lines)


class Source(Protocol):
    """Anything that can say something about tickers."""

    @property
    def name(self) -> str:
        """Short stable name, for reports."""
        ...

    async def fetch(
        self, tickers: Sequence[str], *, as_of: datetime | None = None, timeout_s: float | None = None
    ) -> SourceReport:
        """Return what is known about each ticker; failures are in the report, never raised.

        Parameters
        ----------
        tickers
            Symbols in any case; duplicates are asked for once.
        as_of
            Only items available at this moment; None keeps all.
        timeout_s
            Time for the whole call; tickers not answered by then are missing in the report.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...
