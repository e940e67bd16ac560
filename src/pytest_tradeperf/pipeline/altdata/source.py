"""What the four sources share: many tickers at once, each failing alone, all within one deadline."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pytest_tradeperf.pipeline.altdata.model import FeedFailure, Item, SourceReport, TickerFeed
from pytest_tradeperf.pipeline.net.errors import DeadlineError, NetworkError
from pytest_tradeperf.pipeline.net.tickers import TickerError, name_of, normalised

if TYPE_CHECKING:
    from pytest_tradeperf.pipeline.net.fetcher import Answer, Fetcher


class HttpSource(ABC):
    """A :class:`~pytest_tradeperf.pipeline.altdata.model.Source` over one fetcher.

    Parameters
    ----------
    fetcher
        Talks to the source; closed with it.
    base_url
        Where the source lives, without a slash at its end.
    """

    name: str

    def __init__(self, fetcher: "Fetcher", *, base_url: str) -> None:
        self._fetcher = fetcher
        self._base = base_url.rstrip("/")

    @abstractmethod
    async def feed(self, ticker: str) -> TickerFeed:
        """Return what the source says about one normalised ticker.

        Raises
        ------
        NetworkError
            If the source failed and nothing stands in.
        """

    async def fetch(
        self, tickers: Sequence[str], *, as_of: datetime | None = None, timeout_s: float | None = None
    ) -> SourceReport:
        """Return what is known about each ticker; failures are in the report, never raised."""
        loop = asyncio.get_running_loop()
        started, before = loop.time(), self._fetcher.statistics
        until = None if timeout_s is None else started + timeout_s
        # No more tickers are begun than may be in flight: one that waits here does not use up its own
        # deadline.
        places = asyncio.Semaphore(self._fetcher.policy.max_in_flight)

        async def one(ticker: str) -> TickerFeed:
            try:
                async with asyncio.timeout_at(until), places:
                    found = await self.feed(normalised(ticker))
            except TimeoutError:
                return self._missing(ticker, DeadlineError.kind, f"no answer within {timeout_s} s")
            except TickerError as error:
                return self._missing(ticker, "ticker", str(error))
            except NetworkError as error:
                return self._missing(ticker, error.kind, str(error))
            if as_of is None:
                return found
            return replace(found, items=tuple(item for item in found.items if item.available_at <= as_of))

        wanted = list(dict.fromkeys(map(name_of, tickers)))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(ticker)) for ticker in wanted]
        return SourceReport(
            source=self.name,
            feeds={ticker: task.result() for ticker, task in zip(wanted, tasks, strict=True)},
            wall_s=loop.time() - started,
            statistics=self._fetcher.statistics.since(before),
        )

    async def aclose(self) -> None:
        """Close the fetcher."""
        await self._fetcher.aclose()

    def _missing(self, ticker: str, kind: str, message: str) -> TickerFeed:
        return TickerFeed(source=self.name, ticker=ticker, failure=FeedFailure(kind=kind, message=message))

    def _found(
        self, ticker: str, answer: "Answer[Any]", items: Sequence[Item], notes: Sequence[str] = ()
    ) -> TickerFeed:
        """Return the feed made of `items`, newest first, with the provenance of `answer`."""
        failure = None
        if answer.stale is not None:
            failure = FeedFailure(kind=answer.stale.kind, message=str(answer.stale))
        ordered = sorted(items, key=lambda item: (item.published_at, item.url, item.text), reverse=True)
        return TickerFeed(
            source=self.name,
            ticker=ticker,
            items=tuple(ordered),
            age_s=answer.age_s,
            from_cache=answer.from_cache,
            failure=failure,
            notes=tuple(notes),
        )
