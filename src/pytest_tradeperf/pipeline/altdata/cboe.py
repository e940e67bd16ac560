"""Options activity from CBOE's delayed quotes: put/call ratios and contracts that trade unusually much."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pytest_tradeperf.pipeline.altdata.model import Item, TickerFeed
from pytest_tradeperf.pipeline.altdata.source import HttpSource
from pytest_tradeperf.pipeline.net.body import field, iso_moment, list_field, number, parse_json
from pytest_tradeperf.pipeline.net.errors import MalformedError
from pytest_tradeperf.pipeline.net.policy import HostPolicy, RateRule

if TYPE_CHECKING:
    from pytest_tradeperf.pipeline.net.fetcher import Fetcher

BASE_URL = "https://cdn.cboe.com"
# No published figure; a polite one of ours. Chains of index options are tens of megabytes.
POLICY = HostPolicy(
    name="cboe", rules=(RateRule(limit=10, period_s=1.0),), fresh_s=300.0, max_body_bytes=48 * 1024 * 1024
)
# OCC symbol: root, yymmdd, side, strike in thousandths of a dollar.
_OCC = re.compile(r"(?P<root>[A-Z0-9^.]{1,6})(?P<expiry>\d{6})(?P<side>[CP])(?P<strike>\d{8})")
_THOUSANDTHS = 1000
# Volume of at least three times the open interest, on at least a hundred contracts: positions are being
# opened.
_UNUSUAL_RATIO = 3.0
_UNUSUAL_VOLUME = 100
_SHOWN = 3
# Longer than the longest regular pause of the market, from Friday's close to Tuesday's open.
_OLD = timedelta(days=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionsActivity:
    """What a chain says in sum.

    Attributes
    ----------
    published_at
        When the exchange wrote the snapshot, in UTC.
    underlying_price
        Price of the underlying in dollars, 0 where unknown.
    call_volume, put_volume, call_open_interest, put_open_interest
        Contracts.
    unusual
        Contracts with a volume of at least 3 times their open interest and at least 100, largest volume
        first.
    """

    published_at: datetime
    underlying_price: float
    call_volume: float
    put_volume: float
    call_open_interest: float
    put_open_interest: float
    unusual: tuple[tuple[str, float], ...]

    @property
    def put_call_volume(self) -> float | None:
        """Puts traded for each call; None without calls."""
        return self.put_volume / self.call_volume if self.call_volume else None

    @property
    def put_call_open_interest(self) -> float | None:
        """Puts open for each call; None without calls."""
        return self.put_open_interest / self.call_open_interest if self.call_open_interest else None

    @property
    def lean(self) -> float | None:
        """Calls less puts as a share of today's volume, -1 to 1; None without volume."""
        total = self.call_volume + self.put_volume
        return (self.call_volume - self.put_volume) / total if total else None


class CboeSource(HttpSource):
    """One snapshot of a ticker's options.

    Parameters
    ----------
    fetcher
        Talks to the source.
    base_url
        Host of ``/api/global/delayed_quotes/options/TICKER.json``.
    """

    name = "cboe"

    def __init__(self, fetcher: "Fetcher", *, base_url: str = BASE_URL) -> None:
        super().__init__(fetcher, base_url=base_url)

    async def feed(self, ticker: str) -> TickerFeed:
        """Return the ticker's options activity as one item."""
        # Indices are written with an underscore there, with a caret everywhere else.
        symbol = f"_{ticker[1:]}" if ticker.startswith("^") else ticker
        url = f"{self._base}/api/global/delayed_quotes/options/{symbol}.json"
        answer = await self._fetcher.get(url, parse_chain)
        activity = answer.value
        ratio = activity.put_call_volume
        names = ", ".join(f"{name} ({volume:.0f})" for name, volume in activity.unusual[:_SHOWN])
        parts = [
            f"put/call volume {ratio:.2f}" if ratio is not None else "no calls traded",
            f"{len(activity.unusual)} unusual contracts" + (f": {names}" if names else ""),
        ]
        item = Item(
            source=self.name,
            ticker=ticker,
            kind="options",
            text="; ".join(parts),
            published_at=activity.published_at,
            available_at=activity.published_at,
            fetched_at=answer.fetched_at,
            sentiment=activity.lean,
            detail={
                "put_call_volume": ratio,
                "put_call_open_interest": activity.put_call_open_interest,
                "call_volume": activity.call_volume,
                "put_volume": activity.put_volume,
                "unusual_contracts": float(len(activity.unusual)),
                "underlying_price": activity.underlying_price,
            },
        )
        age = answer.fetched_at - activity.published_at
        notes = [f"quotes are {age.total_seconds() / 86_400:.1f} days old"] if age > _OLD else []
        return self._found(ticker, answer, [item], notes)


def parse_chain(body: bytes) -> OptionsActivity:
    """Return the sums of one chain.

    Raises
    ------
    MalformedError
        If the body is not a chain of delayed quotes.
    """
    value = parse_json(body)
    volume = {"C": 0.0, "P": 0.0}
    interest = {"C": 0.0, "P": 0.0}
    unusual = []
    for place, row in enumerate(list_field(value, "data", "options", what="the chain")):
        name, side = _contract(row, place)
        traded, opened = number(row.get("volume")), number(row.get("open_interest"))
        if traded < 0 or opened < 0:
            raise MalformedError(f"contract {name} has a negative volume or open interest")
        volume[side] += traded
        interest[side] += opened
        if traded >= max(_UNUSUAL_VOLUME, _UNUSUAL_RATIO * opened):
            unusual.append((name, traded))
    unusual.sort(key=lambda one: (-one[1], one[0]))
    return OptionsActivity(
        published_at=iso_moment(field(value, "timestamp", what="the chain"), what="timestamp of the chain"),
        underlying_price=number(field(value, "data", what="the chain").get("current_price")),
        call_volume=volume["C"],
        put_volume=volume["P"],
        call_open_interest=interest["C"],
        put_open_interest=interest["P"],
        unusual=tuple(unusual),
    )


def _contract(row: Any, place: int) -> tuple[str, str]:
    """Return a contract's readable name and its side."""
    symbol = field(row, "option", what=f"contract {place}")
    found = _OCC.fullmatch(symbol) if isinstance(symbol, str) else None
    if found is None:
        raise MalformedError(f"contract {place} is called {symbol!r:.40}, expected ROOTyymmddC00000000")
    strike = int(found["strike"]) / _THOUSANDTHS
    expiry = found["expiry"]
    return f"20{expiry[:2]}-{expiry[2:4]}-{expiry[4:]} {strike:g} {found['side']}", found["side"]
