"""Old chart files go; everything else in the folder stays."""

from __future__ import annotations

import re
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pytest_tradeperf.pipeline.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

OWN_FILE: Final = re.compile(r"[A-Za-z0-9-]+-[0-9a-f]{16}\.png(\.[0-9a-f]+\.draft)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanUp:
    """What was removed, and the files that could not be."""

    removed: int
    n_bytes: int
    failed: tuple[str, ...] = ()


def clean_up(folder: Path | str, older_than: timedelta, *, now: Callable[[], float] = time.time) -> CleanUp:
    """Remove chart files (by the names that the queue gives) last written longer ago than that.

    Links and folders are left alone, whatever their name; a folder that does not exist holds nothing.

    Raises
    ------
    SettingError
        A negative age.
    """
    age_s = older_than.total_seconds()
    if age_s < 0:
        raise SettingError(f"older_than is {older_than!r}: expected an age, at least 0")
    before = now() - age_s
    removed = n_bytes = 0
    failed: list[str] = []
    place = Path(folder)
    for file in sorted(place.iterdir()) if place.is_dir() else ():
        if not OWN_FILE.fullmatch(file.name):
            continue
        try:
            status = file.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_mtime < before:
                file.unlink()
                removed += 1
                n_bytes += status.st_size
        except FileNotFoundError:
            continue  # another process was first
        except OSError as error:
            failed.append(f"{file.name}: {error.strerror}")
    return CleanUp(removed=removed, n_bytes=n_bytes, failed=tuple(failed))
