"""A database that is made when missing, missed when gone, and never blamed in a traceback."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from pytest_tradeperf.pipeline.errors import DataError, StoreError
from pytest_tradeperf.pipeline.masking import without_query_secrets
from pytest_tradeperf.pipeline.store.connection import (
    SlowQuery,
    database_file,
    file_identity,
    open_engine,
    parse_url,
)
from pytest_tradeperf.pipeline.store.errors import StoreUnavailableError
from pytest_tradeperf.pipeline.store.schema import create_schema, has_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy.engine import Connection

    from pytest_tradeperf.pipeline.store.settings import StoreSettings


class Database:
    """Transactions on one database; safe to share between threads.

    Parameters
    ----------
    url, settings, on_slow
        As in :class:`~pytest_tradeperf.pipeline.store.signals.SignalStore`.
    """

    def __init__(
        self, url: str, settings: StoreSettings, on_slow: Callable[[SlowQuery], None] | None
    ) -> None:
        parsed = parse_url(url)
        self.file: Final = database_file(parsed)
        self.name: Final = without_query_secrets(parsed.render_as_string(hide_password=True))
        self.engine: Final = open_engine(parsed, settings, on_slow=on_slow)
        self._lock = threading.Lock()
        self._is_ready = False

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()
        self._is_ready = False

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a connection in a transaction that commits at the end and rolls back on any error.

        Raises
        ------
        StoreUnavailableError
            Locked, gone, full, damaged, read-only. The next use connects anew.
        StoreError
            The database refused a value.
        """
        with self._translated():
            self._make_ready()
            with self.engine.connect().execution_options(writes=True) as connection, connection.begin():
                self._check_file(connection)
                yield connection
                self._check_file(connection)

    def read(self, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        """Return all rows; errors as in :meth:`writing`."""
        with self._translated():
            self._make_ready()
            with self.engine.connect() as connection:
                self._check_file(connection)
                return connection.execute(query).all()

    def _make_ready(self) -> None:
        """Create folder, file and tables on the first use, and again after a failure."""
        if self._is_ready:
            return
        with self._lock:
            if self.file is not None:
                self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.engine.connect() as connection:
                is_there = has_schema(connection, self.name)
            if not is_there:
                with self.engine.connect().execution_options(writes=True) as connection, connection.begin():
                    create_schema(connection)
            self._is_ready = True

    def _check_file(self, connection: Connection) -> None:
        """Refuse a file that was deleted or replaced: SQLite would go on writing to it, and lose it all."""
        if self.file is None:
            return
        if file_identity(self.file) != connection.connection.info["identity"]:
            raise FileNotFoundError(f"{self.file} was deleted or replaced since it was opened")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.SQLAlchemyError, OSError, DataError) as error:
            if is_refusal(error):
                raise StoreError(
                    f"{self.name} refuses a value: {reason(error)}; nothing was stored"
                ) from error
            self._is_ready = False
            if isinstance(error, OSError):
                self.engine.dispose()  # connections to a file that is no longer there
            message = f"{self.name} cannot be used: {reason(error)}; {_cure(error)}"
            raise StoreUnavailableError(message) from error


def is_refusal(error: BaseException) -> bool:
    """Return whether the value is at fault and not the database: trying again later would not help."""
    if isinstance(error, (sa.exc.IntegrityError, sa.exc.DataError, DataError)):
        return True
    return isinstance(error, sa.exc.StatementError) and isinstance(
        error.orig, (DataError, ValueError, TypeError)
    )


def reason(error: BaseException) -> str:
    """Return the driver's own words on one line, without SQL, parameters and links."""
    original = getattr(error, "orig", None) or error
    return " ".join(str(original).split()) or type(original).__name__


def _cure(error: BaseException) -> str:
    text = reason(error).lower()
    cures = (
        ("locked", "another process writes: try again, or raise lock_timeout_s"),
        ("lock timeout", "another session holds the rows: try again, or raise lock_timeout_s"),
        ("not a database", "move the file away and let the store make a new one"),
        ("malformed", "restore the file from a backup, or move it away"),
        ("readonly", "make the file and its folder writable"),
        ("full", "free space on the disk"),
        ("interrupted", "the statement ran longer than statement_timeout_s"),
        ("statement timeout", "the statement ran longer than statement_timeout_s"),
        ("queuepool", "all connections are in use: raise pool_size, or close transactions sooner"),
        ("password", "check the user and password in the URL"),
        ("unable to open", "check that the path exists and can be written"),
    )
    return next((cure for sign, cure in cures if sign in text), "check that it is there, then try again")
