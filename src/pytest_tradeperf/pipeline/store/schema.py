"""Tables and indexes, and the version they are at.

Version log: 1 = decisions, signals, schema_version. 2 = decisions.opens_trade, signals.outcome_at; an older
database gets the columns on its first use.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from pytest_tradeperf.pipeline.errors import StoreError

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Dialect

VERSION: Final = 2
# "trade" in ASCII; any number that nobody else locks.
ADVISORY_LOCK: Final = 0x7472616465


class UtcTime(sa.types.TypeDecorator[datetime]):
    """A moment: ``timestamptz`` on PostgreSQL, UTC text of fixed width (so it sorts) on SQLite."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[Any]:
        """Return the column type of this database."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(sa.DateTime(timezone=True))
        return dialect.type_descriptor(sa.DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment as the database wants it."""
        if value is None:
            return None
        moment = value.astimezone(UTC)
        return moment if dialect.name == "postgresql" else moment.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the moment in UTC."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


METADATA: Final = sa.MetaData()
_JSON: Final = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
# A plain INTEGER is SQLite's own row id: no second index, and it grows with every row.
_ROW: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

SCHEMA_VERSION: Final = sa.Table(
    "schema_version",
    METADATA,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("applied_at", UtcTime, nullable=False),
)

DECISIONS: Final = sa.Table(
    "decisions",
    METADATA,
    sa.Column("row", _ROW, primary_key=True),
    sa.Column("key", sa.String(32), nullable=False, unique=True),
    sa.Column("symbol", sa.String(32), nullable=False),
    sa.Column("timeframe", sa.String(16), nullable=False),
    sa.Column("as_of", UtcTime, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("action", sa.String(8), nullable=False),
    # False: a buy or sell that opened nothing. The partial index leaves it in, so that older ones serve.
    sa.Column("opens_trade", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("conviction", sa.Double, nullable=False),
    sa.Column("probability", sa.Double),
    sa.Column("quantity", sa.Double),
    sa.Column("entry_price", sa.Double),
    sa.Column("stop_price", sa.Double),
    sa.Column("target_price", sa.Double),
    sa.Column("closed_at", UtcTime),
    sa.Column("exit_price", sa.Double),
    sa.Column("outcome", sa.Double),
    sa.Column("label", sa.String(64)),
    sa.Column("source", sa.String(64), nullable=False),
    sa.Column("degraded", _JSON, nullable=False),
    sa.Column("details", _JSON, nullable=False),
)

SIGNALS: Final = sa.Table(
    "signals",
    METADATA,
    sa.Column("row", _ROW, primary_key=True),
    sa.Column("key", sa.String(32), nullable=False, unique=True),
    sa.Column("symbol", sa.String(32), nullable=False),
    sa.Column("timeframe", sa.String(16), nullable=False),
    sa.Column("as_of", UtcTime, nullable=False),
    sa.Column("created_at", UtcTime, nullable=False),
    sa.Column("strength", sa.Double, nullable=False),
    sa.Column("vector", sa.LargeBinary, nullable=False),
    # NULL: float32. A number: int8, and what one step of it is worth.
    sa.Column("vector_step", sa.Double),
    sa.Column("outcome", sa.Double),
    # When the outcome became known. NULL: nobody said.
    sa.Column("outcome_at", UtcTime),
    sa.Column("label", sa.String(64)),
    sa.Column("source", sa.String(64), nullable=False),
    sa.Column("details", _JSON, nullable=False),
)

ADDED_IN_2: Final = (DECISIONS.c.opens_trade, SIGNALS.c.outcome_at)

# Written out in SQL, not bound: a partial index is only used by a query that repeats its condition word for
# word.
OPEN_TRADE: Final = sa.text("closed_at IS NULL AND action IN ('buy', 'sell')")

for _table in (DECISIONS, SIGNALS):
    sa.Index(f"ix_{_table.name}_symbol_as_of", _table.c.symbol, _table.c.as_of)
    sa.Index(f"ix_{_table.name}_created_at", _table.c.created_at)
    sa.Index(
        f"ix_{_table.name}_label",
        _table.c.label,
        _table.c.as_of,
        sqlite_where=_table.c.label.is_not(None),
        postgresql_where=_table.c.label.is_not(None),
    )
sa.Index(
    "ix_decisions_open",
    DECISIONS.c.symbol,
    DECISIONS.c.as_of,
    sqlite_where=OPEN_TRADE,
    postgresql_where=OPEN_TRADE,
)


def has_schema(connection: Connection, name: str) -> bool:
    """Return whether the tables are there, at this version; a read, so another writer does not hold it up.

    Raises
    ------
    StoreError
        A newer version of this package wrote the database.
    """
    if not sa.inspect(connection).has_table(SCHEMA_VERSION.name):
        return False
    found = connection.scalar(sa.select(sa.func.max(SCHEMA_VERSION.c.version)))
    if found is not None and found > VERSION:
        message = (
            f"store {name} has schema version {found}, this package knows {VERSION}: upgrade pytest-tradeperf"
        )
        raise StoreError(message)
    return bool(found == VERSION)


def create_schema(connection: Connection) -> None:
    """Create what is missing, inside the caller's transaction; two processes may do so at once."""
    wait_for_others(connection)  # or both would find no table and both create it
    METADATA.create_all(connection)
    found = connection.scalar(sa.select(sa.func.max(SCHEMA_VERSION.c.version)))
    if found == 1:
        for column in ADDED_IN_2:
            definition = sa.schema.CreateColumn(column).compile(dialect=connection.dialect)
            connection.execute(sa.text(f"ALTER TABLE {column.table.name} ADD COLUMN {definition}"))
    if found != VERSION:
        connection.execute(sa.insert(SCHEMA_VERSION).values(version=VERSION, applied_at=datetime.now(UTC)))


def wait_for_others(connection: Connection) -> None:
    """Wait until no other transaction is past this call; the end of the caller's own lets the next one on.

    A transaction that writes to SQLite is alone anyway.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(ADVISORY_LOCK)))
