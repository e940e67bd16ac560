"""Daily bars over the network: many symbols at once, cached, with the bundled bars as a recorded stand-in."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

from pytest_tradeperf.pipeline.errors import MissingExtraError, SettingError
from pytest_tradeperf.pipeline.marketdata.bars import Bars
from pytest_tradeperf.pipeline.marketdata.bundled import BUNDLED_SYMBOLS, load_bars
from pytest_tradeperf.pipeline.marketdata.chart import Chart, parse_chart
from pytest_tradeperf.pipeline.marketdata.sessions import EASTERN
from pytest_tradeperf.pipeline.net.errors import DeadlineError, NetworkError
from pytest_tradeperf.pipeline.net.metrics import NetStatistics
from pytest_tradeperf.pipeline.net.policy import HostPolicy, RateRule
from pytest_tradeperf.pipeline.net.tickers import TickerError, name_of, normalised

if TYPE_CHECKING:
    from pytest_tradeperf.pipeline.net.fetcher import Answer, Fetcher

BASE_URL = "https://query1.finance.yahoo.com"
# No published figure; a polite one of ours.
POLICY = HostPolicy(
    name="market",
    rules=(RateRule(limit=20, period_s=1.0),),
    attempt_timeout_s=5.0,
    deadline_s=10.0,
    fresh_s=300.0,
    max_body_bytes=16 * 1024 * 1024,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BarsReport:
    """Bars of many symbols and how they were come by.

    Attributes
    ----------
    bars
        By symbol, adjusted for splits and dividends; symbols without any are left out.
    fetched_at
        When the source last confirmed them, in UTC; a stand-in from the package has no entry.
    degraded
        One line for each symbol that is missing or stands in.
    wall_s
        Seconds for all of it.
    statistics
        What the network stack counted meanwhile.
    """

    bars: Mapping[str, Bars]
    fetched_at: Mapping[str, datetime] = field(default_factory=dict)
    degraded: tuple[str, ...] = ()
    wall_s: float
    statistics: NetStatistics


class NetworkBars:
    """A source of daily bars; close it, or use :func:`fetch_bars`, which does.

    Parameters
    ----------
    fetcher
        Talks to the source.
    base_url
        Host of ``/v8/finance/chart/SYMBOL``.
    stand_in
        Whether the bundled bars stand in for a symbol whose source failed.
    """

    def __init__(self, fetcher: "Fetcher", *, base_url: str = BASE_URL, stand_in: bool = True) -> None:
        self._fetcher = fetcher
        self._base = base_url.rstrip("/")
        self._stand_in = stand_in

    async def fetch(
        self, symbols: Sequence[str], *, start: date, end: date | None = None, timeout_s: float | None = None
    ) -> BarsReport:
        """Return the daily bars from `start` to `end`, both included; failures are in the report.

        Parameters
        ----------
        symbols
            In any case; duplicates are asked for once.
        start, end
            Days at the exchange; `end` None is today. A day whose session was not over when the source said
            this has no bar, however old the copy is that the cache hands out.
        timeout_s
            Time for all symbols together, in seconds.

        Raises
        ------
        SettingError
            If `end` lies before `start`.
        """
        last = end or self._fetcher.now().astimezone(EASTERN).date()
        if last < start:
            raise SettingError(f"end {last} lies before start {start}; give the earlier day first")
        loop = asyncio.get_running_loop()
        started, before = loop.time(), self._fetcher.statistics
        until = None if timeout_s is None else started + timeout_s
        places = asyncio.Semaphore(self._fetcher.policy.max_in_flight)
        bars: dict[str, Bars] = {}
        stamps: dict[str, datetime] = {}
        lines: dict[str, str] = {}

        async def one(symbol: str) -> None:
            try:
                async with asyncio.timeout_at(until), places:
                    answer = await self._ask(normalised(symbol), start, last)
                bars[symbol] = answer.value.bars(fetched_at=answer.fetched_at)
            except TimeoutError:
                lines[symbol] = self._replace(symbol, DeadlineError.kind, bars)
            except TickerError as error:
                lines[symbol] = f"market {symbol!r:.40}: {error}"
            except NetworkError as error:
                lines[symbol] = self._replace(symbol, error.kind, bars)
            else:
                stamps[symbol] = answer.fetched_at
                if answer.stale is not None:
                    instead = f"copy of {answer.age_s:.0f} s ago"
                    lines[symbol] = f"market {symbol}: {answer.stale.kind}, {instead} instead"

        wanted = list(dict.fromkeys(map(name_of, symbols)))
        async with asyncio.TaskGroup() as group:
            for symbol in wanted:
                group.create_task(one(symbol))
        return BarsReport(
            bars={symbol: bars[symbol] for symbol in wanted if symbol in bars},
            fetched_at=stamps,
            degraded=tuple(lines[symbol] for symbol in wanted if symbol in lines),
            wall_s=loop.time() - started,
            statistics=self._fetcher.statistics.since(before),
        )

    async def aclose(self) -> None:
        """Close the fetcher."""
        await self._fetcher.aclose()

    async def _ask(self, symbol: str, start: date, end: date) -> "Answer[Chart]":
        # Whole days, so that the same question has the same address all day and the cache can answer it.
        query = {
            "interval": "1d",
            "period1": str(_midnight(start)),
            "period2": str(_midnight(end + timedelta(days=1))),
            "events": "div,splits",
        }
        url = f"{self._base}/v8/finance/chart/{symbol.replace('.', '-')}"
        return await self._fetcher.get(url, _Accept(symbol, self._fetcher.now), params=query)

    def _replace(self, symbol: str, kind: str, bars: dict[str, Bars]) -> str:
        """Put the bundled bars of `symbol` into `bars` if they may stand in, and say what happened."""
        if self._stand_in and symbol in BUNDLED_SYMBOLS:
            bars[symbol] = load_bars(symbol)
            first, last = (str(bars[symbol].timestamps[place])[:10] for place in (0, -1))
            return f"market {symbol}: {kind}, bundled bars of {first} to {last} instead"
        return f"market {symbol}: {kind}, nothing instead"


async def fetch_bars(
    symbols: Sequence[str],
    *,
    start: date,
    end: date | None = None,
    base_url: str = BASE_URL,
    timeout_s: float | None = None,
    trust_env: bool = True,
) -> BarsReport:
    """Return daily bars through a source opened and closed for it.

    Raises
    ------
    MissingExtraError
        If the network stack is not installed.
    SettingError
        If `end` lies before `start`.
    """
    try:
        from pytest_tradeperf.pipeline.net.fetcher import Fetcher
    except ImportError as error:
        raise MissingExtraError(
            f"network bars need the network stack ({error.name} is missing); "
            "install pytest-tradeperf[pipeline]"
        ) from error
    async with Fetcher(POLICY, headers={"User-Agent": "pytest-tradeperf"}, trust_env=trust_env) as fetcher:
        source = NetworkBars(fetcher, base_url=base_url)
        return await source.fetch(symbols, start=start, end=end, timeout_s=timeout_s)


@dataclass(frozen=True, slots=True)
class _Accept:
    """Reads a body, and refuses one whose finished bars make no sense; equal ones share what one has read."""

    symbol: str
    now: Callable[[], datetime]

    def __call__(self, body: bytes) -> Chart:
        chart = parse_chart(body, self.symbol)
        chart.bars(fetched_at=self.now())
        return chart


def _midnight(day: date) -> int:
    return int(datetime.combine(day, time(), tzinfo=UTC).timestamp())
