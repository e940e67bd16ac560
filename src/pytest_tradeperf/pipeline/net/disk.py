"""A cache that outlives the process, so that yesterday's answer can stand in when today's source fails."""

import contextlib
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_tradeperf.pipeline.errors import StoreError

if TYPE_CHECKING:
    from hishel import AsyncBaseStorage

# Part of the file's name: hishel refuses a file of another major version's tables.
_FORMAT = 2


def disk_storage(folder: Path, name: str) -> "AsyncBaseStorage":
    """Return hishel's SQLite storage for one source in `folder`; a file that is no database is replaced.

    Parameters
    ----------
    folder
        Made if missing.
    name
        The source.

    Raises
    ------
    StoreError
        If the folder cannot be made or written.
    """
    from hishel import AsyncSqliteStorage

    path = folder / f"{name}-{_FORMAT}.sqlite"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not _is_readable(path):
            # What is lost is a cache: the sources still have everything in it.
            for part in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
                part.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
    except (OSError, sqlite3.Error) as error:
        raise StoreError(
            f"the cache {str(path)!r} cannot be written ({error}); give a folder that can, or none"
        ) from error
    return AsyncSqliteStorage(database_path=path)


def _is_readable(path: Path) -> bool:
    if not path.exists():
        return True
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except sqlite3.OperationalError:
        # Locked by another process, or not readable at all: the write that follows tells which.
        return True
    except sqlite3.DatabaseError:
        return False
