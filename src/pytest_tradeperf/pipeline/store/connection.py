"""The engine of a store: pool, timeouts and slow-query log, the same settings for both databases."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import OperationalError
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import QueuePool

from pytest_tradeperf.pipeline.errors import MissingExtraError, SettingError
from pytest_tradeperf.pipeline.masking import quoted
from pytest_tradeperf.pipeline.store.codec import details_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from sqlite3 import Connection as SqliteConnection

    from sqlalchemy.engine import Connection, Engine, ExceptionContext

    from pytest_tradeperf.pipeline.store.settings import StoreSettings

LOG: Final = logging.getLogger("pytest_tradeperf.pipeline.store")
# Virtual machine steps between two looks at the clock: about 0.1 ms of work, too far apart to be felt.
SQLITE_STEPS: Final = 10_000
LONGEST_LOGGED_SQL: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowQuery:
    """One statement that took at least `slow_query_s`; parameters are left out, they may be private."""

    sql: str
    seconds: float
    failed: bool


def parse_url(url: str) -> URL:
    """Return the URL with its driver.

    Raises
    ------
    SettingError
        Not a URL, or of a database the store does not speak. The password is never part of the message.
    """
    try:
        parsed = make_url(url)
    except (sa.exc.ArgumentError, ValueError, TypeError) as error:
        message = f"store URL ({quoted(url)}) cannot be read: expected sqlite:///FILE or postgresql://USER@HOST/DATABASE"
        raise SettingError(message) from error
    if parsed.drivername in {"postgresql", "postgres"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in {"sqlite", "sqlite+pysqlite", "postgresql+psycopg"}:
        message = f"store URL names {parsed.drivername!r}: expected sqlite:///FILE or postgresql://USER@HOST/DATABASE"
        raise SettingError(message)
    return parsed


def is_in_memory(url: URL) -> bool:
    """Return whether it is a SQLite database without a file."""
    if url.get_backend_name() != "sqlite":
        return False
    is_named = url.database not in {None, "", ":memory:"}
    return not is_named or url.query.get("mode") == "memory" or str(url.database).startswith("file::memory:")


def database_file(url: URL) -> Path | None:
    """Return the file of a SQLite database; None for others and for ``file:`` URIs, read by SQLite."""
    if url.get_backend_name() != "sqlite" or is_in_memory(url) or str(url.database).startswith("file:"):
        return None
    return Path(str(url.database))


def open_engine(
    url: URL, settings: StoreSettings, *, on_slow: Callable[[SlowQuery], None] | None = None
) -> Engine:
    """Return an engine; nothing is connected yet.

    Raises
    ------
    MissingExtraError
        PostgreSQL without its driver.
    """
    try:
        engine = sa.create_engine(
            url, json_serializer=details_text, **_pool(url, settings), **_driver(url, settings)
        )
    except ModuleNotFoundError as error:
        message = (
            f"a store on PostgreSQL needs the driver {error.name}: pip install 'pytest-tradeperf[postgres]'"
        )
        raise MissingExtraError(message) from error
    if url.get_backend_name() == "sqlite":
        _prepare_sqlite(engine, settings)
    _watch(engine, settings.slow_query_s, on_slow or _log_slow)
    return engine


def file_identity(file: Path | None) -> tuple[int, int] | None:
    """Return device and inode, to tell a file deleted and made again from the first; None for no file."""
    if file is None:
        return None
    status = file.stat()
    return (status.st_dev, status.st_ino)


def _pool(url: URL, settings: StoreSettings) -> dict[str, Any]:
    if is_in_memory(url):
        # The database lives and dies with its one connection: never a second, never recycled.
        return {
            "poolclass": QueuePool,
            "pool_size": 1,
            "max_overflow": 0,
            "pool_timeout": settings.pool_timeout_s,
        }
    return {
        "poolclass": QueuePool,
        "pool_size": settings.pool_size,
        "max_overflow": settings.pool_overflow,
        "pool_timeout": settings.pool_timeout_s,
        "pool_recycle": settings.pool_recycle_s,
        "pool_pre_ping": True,
    }


def _driver(url: URL, settings: StoreSettings) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": settings.lock_timeout_s, "check_same_thread": False}}
    timeouts = {
        "statement_timeout": settings.statement_timeout_s,
        "idle_in_transaction_session_timeout": settings.idle_in_transaction_timeout_s,
        "lock_timeout": settings.lock_timeout_s,
    }
    flags = " ".join(f"-c {name}={round(seconds * 1_000)}" for name, seconds in timeouts.items())
    own = url.query.get("options", "")
    options = f"{flags} {own if isinstance(own, str) else ' '.join(own)}".strip()
    return {
        "connect_args": {"connect_timeout": max(1, round(settings.connect_timeout_s)), "options": options}
    }


def _prepare_sqlite(engine: Engine, settings: StoreSettings) -> None:
    """Write-ahead log, commits that survive a power cut, and a deadline for every statement."""
    file = database_file(engine.url)

    @event.listens_for(engine, "connect")
    def connected(connection: SqliteConnection, record: Any) -> None:
        connection.isolation_level = None  # we begin ourselves: the driver begins too late to hold the lock
        cursor = connection.cursor()
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except OperationalError as error:
            # The switch does not wait for others that make it at the same time; the mode is the file's.
            # And one that may only be read is read in the mode it has.
            if "locked" not in str(error) and "readonly" not in str(error):
                raise
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()
        deadline = record.info["deadline"] = [float("inf")]
        record.info["identity"] = file_identity(file)
        connection.set_progress_handler(lambda: time.monotonic() > deadline[0], SQLITE_STEPS)

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        # A transaction that reads first and writes later cannot wait for another writer, it fails at once.
        connection.exec_driver_sql(
            "BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN"
        )

    @event.listens_for(engine, "before_cursor_execute")
    def limited(connection: Connection, *_: Any) -> None:
        connection.connection.info["deadline"][0] = time.monotonic() + settings.statement_timeout_s


def _watch(engine: Engine, slow_s: float, tell: Callable[[SlowQuery], None]) -> None:
    """Time every statement, to its first row on SQLite and to its last on PostgreSQL; failed ones too."""

    @event.listens_for(engine, "before_cursor_execute")
    def started(connection: Connection, *_: Any) -> None:
        connection.info["started"] = time.perf_counter()

    @event.listens_for(engine, "after_cursor_execute")
    def ended(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
        seconds = time.perf_counter() - connection.info.pop("started", time.perf_counter())
        if seconds >= slow_s:
            tell(SlowQuery(sql=statement, seconds=seconds, failed=False))

    @event.listens_for(engine, "handle_error")
    def failed(context: ExceptionContext) -> None:
        if context.connection is None or context.connection.invalidated or context.statement is None:
            return
        seconds = time.perf_counter() - context.connection.info.pop("started", time.perf_counter())
        if seconds >= slow_s:
            tell(SlowQuery(sql=context.statement, seconds=seconds, failed=True))


def _log_slow(query: SlowQuery) -> None:
    sql = " ".join(query.sql.split())
    shown = sql if len(sql) <= LONGEST_LOGGED_SQL else f"{sql[:LONGEST_LOGGED_SQL]}..."
    ending = " and failed" if query.failed else ""
    LOG.warning("slow query took %.3f s%s: %s", query.seconds, ending, shown)
