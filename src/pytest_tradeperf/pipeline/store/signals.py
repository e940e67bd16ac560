"""The store itself: batches in, queries out, retention, and what happens when the database is away."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from pytest_tradeperf.pipeline.errors import DataError, SettingError, StoreError
from pytest_tradeperf.pipeline.store.codec import decision_of, decision_row, signal_of, signal_row
from pytest_tradeperf.pipeline.store.database import Database
from pytest_tradeperf.pipeline.store.errors import StoreUnavailableError
from pytest_tradeperf.pipeline.store.executions import closed, closing, execute
from pytest_tradeperf.pipeline.store.outbox import Drained, Outbox, default_outbox
from pytest_tradeperf.pipeline.store.queries import (
    open_trades_query,
    records_query,
    setups_query,
    to_setups,
)
from pytest_tradeperf.pipeline.store.records import (
    TRADES,
    Decision,
    Execution,
    Record,
    Signal,
    checked_outcome,
    checked_time,
)
from pytest_tradeperf.pipeline.store.schema import DECISIONS, SIGNALS
from pytest_tradeperf.pipeline.store.settings import StoreSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from sqlalchemy.engine import Connection, Engine

    from pytest_tradeperf.pipeline.store.connection import SlowQuery
    from pytest_tradeperf.pipeline.store.nearest import Setups

LOG: Final = logging.getLogger("pytest_tradeperf.pipeline.store")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """Rows that retention deleted."""

    decisions: int
    signals: int


class SignalStore:
    """Decisions and signals in SQLite (default) or PostgreSQL; safe to share between threads.

    Nothing is connected before the first use. A batch is one transaction: all of it or nothing. A batch that
    cannot be stored because the database is locked, gone, full or damaged goes to the outbox and is stored
    before the next batch that succeeds; the error says so and carries the records.

    Parameters
    ----------
    url
        ``sqlite:///FILE``, ``sqlite://`` (in memory) or ``postgresql://USER:PASSWORD@HOST/DATABASE``.
    settings
        Pool, timeouts, slow-query log.
    outbox
        Folder for batches that wait, or None. ``"beside"`` is ``FILE.outbox`` for a SQLite file, else None.
    vectors
        ``"float32"``, or ``"int8"`` for a quarter of the size at a recall that
        :func:`~pytest_tradeperf.pipeline.store.approximate.measured_recall` tells for your vectors.
    on_slow
        Called with each :class:`~pytest_tradeperf.pipeline.store.connection.SlowQuery`; default: a logged
        warning.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> with SignalStore("sqlite://") as store:
    ...     monday = datetime(2024, 1, 8, tzinfo=UTC)
    ...     added = store.add([Decision(symbol="GOOG", as_of=monday, action="buy", conviction=0.6)])
    ...     (added, [trade.symbol for trade in store.open_trades()])
    (1, ['GOOG'])
    """

    def __init__(
        self,
        url: str = "sqlite:///.tradeperf/signals.db",
        *,
        settings: StoreSettings | None = None,
        outbox: Path | str | None = "beside",
        vectors: Literal["float32", "int8"] = "float32",
        on_slow: Callable[[SlowQuery], None] | None = None,
    ) -> None:
        if vectors not in {"float32", "int8"}:
            raise SettingError(f"vectors is {vectors!r}: expected 'float32' or 'int8'")
        self._settings = settings or StoreSettings()
        self._as_int8 = vectors == "int8"
        self._database = Database(url, self._settings, on_slow)
        folder = None if outbox is None else Path(outbox)
        if outbox == "beside":
            folder = None if self._database.file is None else default_outbox(self._database.file)
        self._outbox = None if folder is None else Outbox(folder)

    @property
    def name(self) -> str:
        """The URL without its password."""
        return self._database.name

    @property
    def engine(self) -> Engine:
        """The SQLAlchemy engine; its timeouts and slow-query log hold for queries of your own too."""
        return self._database.engine

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; an in-memory database is gone then."""
        self._database.close()

    def add(self, records: Iterable[Record]) -> int:
        """Store a batch in one transaction and return how many were new.

        What waits in the outbox is older and comes first, because an execution acts on what is open by then;
        while that cannot be stored, the batch waits behind it.

        Raises
        ------
        StoreUnavailableError
            The database could not be used. `unwritten` holds the batch, `kept_in` the file it waits in.
        StoreError
            The database refused a value; nothing of the batch is stored.
        """
        batch = list(records)
        for record in batch:
            if not isinstance(record, (Decision, Signal, Execution)):
                raise DataError(f"cannot store {record!r}: expected a Decision or a Signal, or an Execution")
        if not batch:
            return 0
        try:
            waiting = self._flush()
            if waiting.away is not None:
                raise waiting.away
            return self._write(batch)
        except StoreUnavailableError as error:
            kept_in = self._keep(batch)
            where = (
                "carried by this error as 'unwritten'"
                if kept_in is None
                else f"kept in {kept_in} for the next add"
            )
            message = f"{error}. The {len(batch)} records are {where}"
            raise StoreUnavailableError(message, unwritten=batch, kept_in=kept_in) from error

    def flush_outbox(self) -> int:
        """Store what waits in the outbox, return how many were new; a batch that fails again stays."""
        return self._flush().added

    def decisions(
        self,
        *,
        symbol: str | None = None,
        timeframe: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        created_since: datetime | None = None,
        label: str | None = None,
        limit: int | None = None,
    ) -> list[Decision]:
        """Return decisions, newest `as_of` first; both ends of `since` to `until` are included.

        They come with what is known of them now, outcomes set after `until` too.
        """
        query = records_query(
            DECISIONS,
            symbol=symbol,
            timeframe=timeframe,
            since=since,
            until=until,
            created_since=created_since,
            label=label,
            limit=limit,
        )
        return [decision_of(row) for row in self._database.read(query)]

    def signals(
        self,
        *,
        symbol: str | None = None,
        timeframe: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        created_since: datetime | None = None,
        label: str | None = None,
        limit: int | None = None,
    ) -> list[Signal]:
        """Return signals, newest `as_of` first; both ends of `since` to `until` are included.

        They come with what is known of them now, outcomes set after `until` too.
        """
        query = records_query(
            SIGNALS,
            symbol=symbol,
            timeframe=timeframe,
            since=since,
            until=until,
            created_since=created_since,
            label=label,
            limit=limit,
        )
        return [signal_of(row) for row in self._database.read(query)]

    def open_trades(self, symbol: str | None = None) -> list[Decision]:
        """Return decisions whose trade is not closed, by symbol and then oldest first."""
        return [decision_of(row) for row in self._database.read(open_trades_query(symbol))]

    def setups(
        self, *, source: str | None = None, timeframe: str | None = None, until: datetime | None = None
    ) -> Setups:
        """Return the vectors of all signals that have one, oldest first, ready for nearest-neighbour search.

        Parameters
        ----------
        source, timeframe
            Only these; vectors of different sources are seldom comparable.
        until
            What was known at that time: only signals with `as_of` up to then, and of their outcomes only
            those with `outcome_at` up to then; the others are NaN, as are those of which nobody said when
            they became known.
        """
        return to_setups(self._database.read(setups_query(source, timeframe, until)))

    def close_trade(
        self,
        key: str,
        *,
        closed_at: datetime,
        exit_price: float,
        outcome: float | None = None,
        label: str | None = None,
    ) -> Decision:
        """Close an open trade and return it.

        Parameters
        ----------
        outcome
            Return as a fraction; by default that of the two prices, signed by the direction.

        Raises
        ------
        StoreError
            No such trade, or it is closed already.
        """
        found = [
            decision_of(row)
            for row in self._database.read(sa.select(DECISIONS).where(DECISIONS.c.key == key))
        ]
        if not found or found[0].action not in TRADES or not found[0].opens_trade:
            raise StoreError(f"no trade has the key {key!r} in {self.name}; open_trades() lists them")
        trade = found[0]
        done = closed(trade, closed_at=closed_at, exit_price=exit_price, outcome=outcome, label=label)
        if self._execute(closing(done)) == 0:
            raise StoreError(
                f"trade {key!r} of {trade.symbol} is closed already: open_trades() lists the open ones"
            )
        return done

    def label_signals(
        self, outcomes: Mapping[str, tuple[float, str | None]], *, outcome_at: datetime | None = None
    ) -> int:
        """Set outcome and label of signals by key, in one transaction; return how many were found.

        Parameters
        ----------
        outcomes
            Outcome, a return as a fraction, and label of each key.
        outcome_at
            When they became known, with a time zone; default the clock. A question about an earlier time,
            ``setups(until=...)``, does not see them.
        """
        known_at = datetime.now(UTC) if outcome_at is None else checked_time("outcome_at", outcome_at)
        if not outcomes:
            return 0
        query = (
            sa.update(SIGNALS)
            .where(SIGNALS.c.key == sa.bindparam("at"))
            .values(outcome=sa.bindparam("now"), outcome_at=known_at, label=sa.bindparam("as"))
        )
        rows = []
        for key, (outcome, label) in outcomes.items():
            checked = checked_outcome(key, outcome, label)
            rows.append({"at": key, "now": checked, "as": label})
        return self._execute(query, rows)

    def prune(self, older_than: timedelta, *, now: datetime | None = None) -> Pruned:
        """Delete records created longer ago than that, a batch a transaction; open trades stay.

        Parameters
        ----------
        older_than
            Retention, above zero.
        now
            Time it is counted back from; default the clock.
        """
        if not isinstance(older_than, timedelta) or older_than <= timedelta(0):
            raise SettingError(f"older_than is {older_than!r}: expected a positive timedelta")
        moment = datetime.now(UTC) if now is None else checked_time("now", now)
        if older_than >= moment - datetime.min.replace(tzinfo=UTC):
            return Pruned(decisions=0, signals=0)  # longer than there have been years
        before = moment - older_than
        is_open = sa.and_(
            DECISIONS.c.closed_at.is_(None), DECISIONS.c.opens_trade, DECISIONS.c.action.in_(TRADES)
        )
        return Pruned(
            decisions=self._delete(DECISIONS, sa.and_(DECISIONS.c.created_at < before, sa.not_(is_open))),
            signals=self._delete(SIGNALS, SIGNALS.c.created_at < before),
        )

    def _delete(self, table: sa.Table, condition: sa.ColumnElement[bool]) -> int:
        some = sa.select(table.c.row).where(condition).limit(self._settings.batch_rows)
        query = sa.delete(table).where(table.c.row.in_(some))
        total = 0
        while True:
            deleted = self._execute(query)
            total += deleted
            if deleted < self._settings.batch_rows:
                return total

    def _flush(self) -> Drained:
        return Drained() if self._outbox is None else self._outbox.drain(self._write)

    def _write(self, batch: Sequence[Record]) -> int:
        decisions = [decision_row(record) for record in batch if isinstance(record, Decision)]
        acted_on = [record.decision for record in batch if isinstance(record, Execution)]
        signals = [
            signal_row(record, as_int8=self._as_int8) for record in batch if isinstance(record, Signal)
        ]
        with self._database.writing() as connection:
            added = self._insert(connection, DECISIONS, decisions)
            added += self._insert(connection, SIGNALS, signals)
            settled = [decision_row(decision) for decision in execute(connection, acted_on)]
            return added + self._insert(connection, DECISIONS, settled)

    def _insert(self, connection: Connection, table: sa.Table, rows: list[dict[str, Any]]) -> int:
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        query = dialect.insert(table).on_conflict_do_nothing(index_elements=["key"])
        counted = query.execution_options(preserve_rowcount=True)
        step = self._settings.batch_rows
        parts = (rows[start : start + step] for start in range(0, len(rows), step))
        return sum(connection.execute(counted, part).rowcount for part in parts)

    def _execute(self, query: sa.Executable, rows: list[dict[str, Any]] | None = None) -> int:
        with self._database.writing() as connection:
            result = connection.execute(query, rows) if rows else connection.execute(query)
            return int(result.rowcount)

    def _keep(self, batch: Sequence[Record]) -> Path | None:
        """Put a batch in the outbox; None where there is none or the disk does not take it."""
        if self._outbox is None:
            return None
        try:
            return self._outbox.keep(batch)
        except (OSError, ValueError, TypeError, RecursionError) as error:
            LOG.warning(
                "%d records of %s cannot be kept in %s: %s", len(batch), self.name, self._outbox.folder, error
            )
            return None
