"""Asks every source about every ticker at once, within one deadline, and says what is missing."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pytest_tradeperf.pipeline.altdata import cboe, edgar, news, stocktwits
from pytest_tradeperf.pipeline.altdata.model import Item, Source, SourceReport
from pytest_tradeperf.pipeline.altdata.sentiment import SentimentScorer
from pytest_tradeperf.pipeline.altdata.settings import FeedSettings
from pytest_tradeperf.pipeline.errors import MissingExtraError, SettingError
from pytest_tradeperf.pipeline.net.policy import HostPolicy, utc_now

if TYPE_CHECKING:
    import httpx2
    from hishel import AsyncBaseStorage

    from pytest_tradeperf.pipeline.net.fetcher import Fetcher

POLICIES: Mapping[str, HostPolicy] = {
    "sec": edgar.POLICY,
    "news": news.POLICY,
    "stocktwits": stocktwits.POLICY,
    "cboe": cboe.POLICY,
}
_AGENT = "pytest-tradeperf"
_MOODY = frozenset({"news", "stocktwits"})
# A source that keeps its promise needs a moment after its time to put the report together.
_GRACE_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """What all sources gave.

    Attributes
    ----------
    reports
        One for each source, by name.
    wall_s
        Seconds for all of it.
    degraded
        One line for everything that is missing, old, or was not asked for.
    """

    reports: Mapping[str, SourceReport]
    wall_s: float
    degraded: tuple[str, ...] = ()

    def items(self, ticker: str) -> tuple[Item, ...]:
        """Return every source's items about one ticker, newest first."""
        found = [
            item
            for report in self.reports.values()
            if ticker in report.feeds
            for item in report.feeds[ticker].items
        ]
        return tuple(
            sorted(found, key=lambda item: (item.published_at, item.source, item.text), reverse=True)
        )

    def sentiment(self, ticker: str) -> float | None:
        """Return the mean over sources of their mean sentiment, in [-1, 1]; None if no source has one.

        Sources weigh the same, so that thirty messages do not drown one options chain.
        """
        scores = [
            score
            for report in self.reports.values()
            if ticker in report.feeds and (score := report.feeds[ticker].sentiment) is not None
        ]
        return sum(scores) / len(scores) if scores else None


async def collect(
    sources: Sequence[Source],
    tickers: Sequence[str],
    *,
    as_of: datetime | None = None,
    timeout_s: float | None = None,
) -> Collection:
    """Return what `sources` say about `tickers`; all are asked at once and failures are in the result.

    Parameters
    ----------
    sources
        Whom to ask.
    tickers
        Symbols in any case.
    as_of
        Only items available at this moment; None keeps all.
    timeout_s
        Time for all of it, in seconds; what has not come by then is missing and named.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_asked(source, tickers, as_of, timeout_s)) for source in sources]
    results = [task.result() for task in tasks]
    reports = {result.source: result for result in results if isinstance(result, SourceReport)}
    return Collection(
        reports=reports,
        wall_s=loop.time() - started,
        degraded=(
            *(result for result in results if isinstance(result, str)),
            *(line for report in reports.values() for line in report.degraded),
        ),
    )


async def _asked(
    source: Source, tickers: Sequence[str], as_of: datetime | None, timeout_s: float | None
) -> SourceReport | str:
    """Return the source's report, or a line if it broke its promise to report and not to raise or linger."""
    try:
        async with asyncio.timeout(None if timeout_s is None else timeout_s + _GRACE_S):
            return await source.fetch(tickers, as_of=as_of, timeout_s=timeout_s)
    except TimeoutError:
        return f"{source.name}: lingered past its {timeout_s} s, nothing instead"
    except Exception as error:  # noqa: BLE001 - a foreign source's mistake must not take the others along
        return f"{source.name}: broke with {type(error).__name__}: {error}, nothing instead"


@asynccontextmanager
async def open_sources(
    settings: FeedSettings,
    *,
    policy: Callable[[HostPolicy], HostPolicy] | None = None,
    transport: "Callable[[str], httpx2.AsyncBaseTransport] | None" = None,
    now: Callable[[], datetime] = utc_now,
) -> AsyncIterator[tuple[list[Source], list[str]]]:
    """Yield the sources that `settings` name, ready to ask, and a line for each that cannot be asked.

    Parameters
    ----------
    settings
        Which sources, where, and the SEC's contact.
    policy
        Changes each source's policy, for example its deadline.
    transport
        Makes what replaces real sockets, by source name.
    now
        Wall clock for stamps and ages; give a world's own when its time stands still.

    Raises
    ------
    MissingExtraError
        If the network stack is not installed.
    StoreError
        If the cache folder cannot be written.
    """
    sources: list[Source] = []
    notes: list[str] = []
    scorer = SentimentScorer()
    if not _MOODY.isdisjoint(settings.sources):
        scorer.prepare()
    try:
        for name in settings.sources:
            try:
                agent = edgar.contact_agent(settings.sec_user_agent) if name == "sec" else _AGENT
                fetcher = _open(
                    policy(POLICIES[name]) if policy else POLICIES[name],
                    headers={"User-Agent": agent},
                    transport=transport(name) if transport else None,
                    storage=_storage(settings.cache_folder, name),
                    trust_env=settings.trust_env,
                    now=now,
                )
                sources.append(_source(name, settings, fetcher, scorer))
            except SettingError as error:
                notes.append(f"{name}: not asked, {error}")
        yield sources, notes
    finally:
        for source in sources:
            await source.aclose()


async def collect_from(
    settings: FeedSettings, tickers: Sequence[str], *, as_of: datetime | None = None
) -> Collection:
    """Return one collection over sources opened and closed for it."""
    async with open_sources(settings) as (sources, notes):
        found = await collect(sources, tickers, as_of=as_of, timeout_s=settings.timeout_s)
    return replace(found, degraded=(*notes, *found.degraded))


def _source(name: str, settings: FeedSettings, fetcher: "Fetcher", scorer: SentimentScorer) -> Source:
    match name:
        case "sec":
            return edgar.EdgarSource(fetcher, base_url=settings.sec_url, data_url=settings.sec_data_url)
        case "news":
            return news.NewsSource(fetcher, base_url=settings.news_url, scorer=scorer)
        case "stocktwits":
            return stocktwits.StockTwitsSource(fetcher, base_url=settings.stocktwits_url, scorer=scorer)
        case _:
            return cboe.CboeSource(fetcher, base_url=settings.cboe_url)


def _storage(folder: str, name: str) -> "AsyncBaseStorage | None":
    if not folder:
        return None
    from pathlib import Path

    from pytest_tradeperf.pipeline.net.disk import disk_storage

    return disk_storage(Path(folder), name)


def _open(policy: HostPolicy, **options: Any) -> "Fetcher":
    try:
        from pytest_tradeperf.pipeline.net.fetcher import Fetcher
    except ImportError as error:
        raise MissingExtraError(
            f"live data needs the network stack ({error.name} is missing); install pytest-tradeperf[pipeline]"
        ) from error
    return Fetcher(policy, **options)
