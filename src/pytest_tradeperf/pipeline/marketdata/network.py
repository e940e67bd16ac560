"""Daily bars over the network: many symbols at once, cached, with the bundled bars as a recorded stand-in."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np

from pytest_tradeperf.pipeline.errors import DataError, MissingExtraError, SettingError
from pytest_tradeperf.pipeline.marketdata.bars import Bars
from pytest_tradeperf.pipeline.marketdata.bundled import BUNDLED_SYMBOLS, load_bars
from pytest_tradeperf.pipeline.marketdata.timeframe import Timeframe
from pytest_tradeperf.pipeline.net.body import field as at
from pytest_tradeperf.pipeline.net.body import list_field, number, parse_json
from pytest_tradeperf.pipeline.net.errors import DeadlineError, MalformedError, NetworkError
from pytest_tradeperf.pipeline.net.metrics import NetStatistics
from pytest_tradeperf.pipeline.net.policy import HostPolicy, RateRule
from pytest_tradeperf.pipeline.net.tickers import TickerError, name_of, normalised

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
_EASTERN = ZoneInfo("America/New_York")
_CLOSE = time(16, 0)
_DAY_S = 86_400
_COLUMNS = ("open", "high", "low", "close", "volume")
# Sources round each price by itself, so an open may lie outside its bar's range by a hair.
_ROUNDING = 1e-4


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
            Days at the exchange; `end` None is today. A day whose session is not over has no bar yet.
        timeout_s
            Time for all symbols together, in seconds.

        Raises
        ------
        SettingError
            If `end` lies before `start`.
        """
        last = end or datetime.now(_EASTERN).date()
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
            except TimeoutError:
                lines[symbol] = self._replace(symbol, DeadlineError.kind, bars)
            except TickerError as error:
                lines[symbol] = f"market {symbol!r:.40}: {error}"
            except NetworkError as error:
                lines[symbol] = self._replace(symbol, error.kind, bars)
            else:
                bars[symbol], stamps[symbol] = answer.value, answer.fetched_at
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

    async def _ask(self, symbol: str, start: date, end: date) -> "Answer[Bars]":
        # Whole days, so that the same question has the same address all day and the cache can answer it.
        query = {
            "interval": "1d",
            "period1": str(_midnight(start)),
            "period2": str(_midnight(end + timedelta(days=1))),
            "events": "div,splits",
        }

        def accept(body: bytes) -> Bars:
            return parse_chart(body, symbol, now=datetime.now(UTC))

        url = f"{self._base}/v8/finance/chart/{symbol.replace('.', '-')}"
        return await self._fetcher.get(url, accept, params=query)

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


def parse_chart(body: bytes, symbol: str, *, now: datetime) -> Bars:
    """Return the bars in a chart answer, adjusted by the ratio of adjusted close to close.

    Bars whose prices are missing stay as missing bars; the last of several bars of one day counts; a day
    whose session is not over at `now` is left out.

    Raises
    ------
    MalformedError
        If the body is no chart, its columns differ in length, or its prices make no sense.
    """
    chart = parse_json(body)
    result = at(chart, "chart", "result", 0, what="the chart")
    stamps = result.get("timestamp") or []
    quote = at(result, "indicators", "quote", 0, what="the chart")
    columns = {name: list_field(quote, name, what="the chart") for name in _COLUMNS} if stamps else {}
    adjusted = at(result, "indicators", what="the chart").get("adjclose")
    if adjusted and stamps:
        columns["adjclose"] = list_field(adjusted, 0, "adjclose", what="the chart")
    if any(len(column) != len(stamps) for column in columns.values()):
        lengths = {name: len(column) for name, column in columns.items()}
        raise MalformedError(f"the chart has {len(stamps)} timestamps and columns of {lengths}")
    if not stamps:
        raise MalformedError(f"the chart of {symbol} has no bars")
    offset = number(at(result, "meta", what="the chart").get("gmtoffset"))
    days = _days(stamps, offset)
    values = {name: np.array([number(one, math.nan) for one in column]) for name, column in columns.items()}
    kept = _kept(days, now)
    try:
        return _bars(symbol, days[kept], {name: column[kept] for name, column in values.items()})
    except DataError as error:
        raise MalformedError(str(error)) from error


def _days(stamps: Sequence[Any], offset_s: float) -> "NDArray[np.int64]":
    seconds = np.array([number(stamp, math.nan) for stamp in stamps])
    if not np.isfinite(seconds).all():
        raise MalformedError("the chart has a timestamp that is no number")
    return np.floor((seconds + offset_s) / _DAY_S).astype(np.int64)


def _kept(days: "NDArray[np.int64]", now: datetime) -> "NDArray[np.bool_]":
    """Return which rows count: the last one of each day, and no day whose session is still open."""
    last = np.append(days[1:] != days[:-1], True)
    there = now.astimezone(_EASTERN)
    over = there.date() if there.time() >= _CLOSE else there.date() - timedelta(days=1)
    return last & (days <= _midnight(over) // _DAY_S)


def _bars(symbol: str, days: "NDArray[np.int64]", values: "Mapping[str, NDArray[np.float64]]") -> Bars:
    prices = {name: values[name] for name in ("open", "high", "low", "close")}
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = values["adjclose"] / values["close"] if "adjclose" in values else np.ones(days.size)
    missing = ~np.isfinite(np.array([*prices.values(), ratio])).all(axis=0)
    prices = {name: np.where(missing, np.nan, column * ratio) for name, column in prices.items()}
    top, bottom = np.fmax(prices["open"], prices["close"]), np.fmin(prices["open"], prices["close"])
    for name, bound, pick in (("high", top, np.fmax), ("low", bottom, np.fmin)):
        near = np.abs(prices[name] - bound) <= _ROUNDING * bound
        prices[name] = np.where(near, pick(prices[name], bound), prices[name])
    return Bars(
        symbol=symbol,
        timestamps=days.astype("datetime64[D]").astype("datetime64[ns]"),
        volume=values["volume"],
        timeframe=Timeframe(minutes=24 * 60),
        **prices,
    )


def _midnight(day: date) -> int:
    return int(datetime.combine(day, time(), tzinfo=UTC).timestamp())
