"""The pipeline's own parts behind the seams of a desk: live feeds and the signal store.

Each adapter only translates; importing this module loads the parts it names.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from pytest_tradeperf.pipeline.altdata.collect import Collection, collect
from pytest_tradeperf.pipeline.altdata.model import Source
from pytest_tradeperf.pipeline.debate.decision import Action
from pytest_tradeperf.pipeline.desk import OpenTrade, Outcome
from pytest_tradeperf.pipeline.marketdata.network import NetworkBars
from pytest_tradeperf.pipeline.marketdata.sessions import finished_by
from pytest_tradeperf.pipeline.research import Heard, Loaded, News
from pytest_tradeperf.pipeline.store import Decision as StoredDecision
from pytest_tradeperf.pipeline.store import Execution, SignalStore

_READ_KINDS: Final = ("headline", "message")
"""What analysts read, in this order: an editor's words before a crowd's."""
_HISTORY: Final = timedelta(days=400)
"""A year of sessions, which all facts look back on at most, and some holidays."""
_OPTIONS: Final = "options"


class AltFeeds:
    """News from the alternative-data sources."""

    def __init__(self, sources: Sequence[Source], notes: Sequence[str] = ()) -> None:
        self._sources, self._notes = tuple(sources), tuple(notes)

    async def hear(self, tickers: Sequence[str], *, as_of: datetime, seconds: float) -> Heard:
        """Return every source's answer about every ticker, within ``seconds``."""
        # the sources stop a little earlier than the caller, who would throw away what came in time
        found = await collect(self._sources, tickers, as_of=as_of, timeout_s=0.95 * seconds)
        return Heard(
            news={ticker: _news(found, ticker) for ticker in tickers},
            degraded=(*self._notes, *found.degraded),
            statistics={name: _figures(found, name) for name in found.reports},
        )


class NetworkMarket:
    """Daily bars over the network, a little more than a year of them."""

    def __init__(self, source: NetworkBars, as_of: datetime) -> None:
        self._source, self._as_of = source, as_of

    async def load(self, tickers: Sequence[str], *, seconds: float) -> Loaded:
        """Return the bars of the sessions that were over at ``as_of``."""
        end = self._as_of.date()
        report = await self._source.fetch(tickers, start=end - _HISTORY, end=end, timeout_s=0.95 * seconds)
        known = {ticker: finished_by(bars, self._as_of) for ticker, bars in report.bars.items()}
        return Loaded(bars=known, degraded=report.degraded)


def _news(found: Collection, ticker: str) -> News:
    items = found.items(ticker)
    facts: dict[str, float] = {"filings": float(sum(item.source == "sec" for item in items))}
    for item in items:
        ratio = item.detail.get("put_call_volume") if item.kind == _OPTIONS else None
        if isinstance(ratio, (int, float)):
            facts["put_call"] = float(ratio)
            break
    missing = sorted(
        name
        for name, report in found.reports.items()
        if ticker in report.feeds and report.feeds[ticker].is_missing
    )
    if "sec" in missing or "sec" not in found.reports:
        del facts["filings"]  # nobody told: not the same as none
    read = [item.text for kind in _READ_KINDS for item in items if item.kind == kind]
    return News(
        headlines=tuple(dict.fromkeys(read)),
        sentiment=found.sentiment(ticker),
        facts=facts,
        missing=tuple(missing),
    )


def _figures(found: Collection, name: str) -> Mapping[str, float]:
    report = found.reports[name]
    return {
        "symbols_per_minute": round(report.symbols_per_minute, 1),
        "error_rate": round(report.error_rate, 4),
        "cache_hit_rate": round(report.statistics.cache_hit_rate, 4),
        "upstream": float(report.statistics.upstream),
        "seconds": round(report.wall_s, 4),
    }


class StoreRecorder:
    """Decisions into the signal store."""

    def __init__(self, store: SignalStore) -> None:
        self._store = store

    def record(self, outcomes: Sequence[Outcome]) -> int:
        """Return how many decisions were new to the store.

        A buy or sell against an open trade closes it at today's price; one in its direction, or without
        a size, opens none. All of it waits in the store's outbox while the database is away.
        """
        return self._store.add([Execution(decision=_stored(outcome)) for outcome in outcomes])

    def open_trades(self) -> list[OpenTrade]:
        """Return the trades nothing has closed, oldest first; those without size or price are none."""
        return [
            OpenTrade(
                ticker=trade.symbol,
                since=trade.as_of.date().isoformat(),
                quantity=trade.quantity if trade.action == Action.BUY else -trade.quantity,
                entry_price=trade.entry_price,
            )
            for trade in sorted(self._store.open_trades(), key=lambda t: (t.as_of, t.symbol))
            if trade.quantity and trade.entry_price
        ]


def _stored(outcome: Outcome) -> StoredDecision:
    decision, position = outcome.decision, outcome.position
    record = decision.record
    falls = decision.action is Action.SELL and decision.probability is not None
    return StoredDecision(
        key=hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:32],
        symbol=decision.ticker,
        as_of=outcome.researched.as_of,
        action=decision.action.value,
        conviction=decision.conviction,
        probability=1 - decision.probability
        if falls and decision.probability is not None
        else decision.probability,
        opens_trade=position is not None and position.quantity != 0,
        quantity=abs(position.quantity) if position else None,
        entry_price=position.entry_price if position else outcome.researched.price,
        stop_price=position.stop_price if position else None,
        source=decision.arm.value,
        degraded=decision.degraded,
        details=record,
    )
