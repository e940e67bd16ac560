"""What a sweep has finished, on disk, so that an interrupted one goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from typing import TYPE_CHECKING

import numpy as np

from pytest_tradeperf.pipeline.backtest.sweep_key import Rows, sweep_key
from pytest_tradeperf.pipeline.errors import SettingError, StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.backtest.jobs import Job


class Checkpoint:
    """One file; written under a temporary name and renamed, so that it is whole or not there.

    Raises
    ------
    SettingError
        The sweep could not be told from another one that the file would answer as well.
    """

    def __init__(self, path: Path, job: Job, rows: Rows) -> None:
        self.path = path
        self.key = _digest(job, rows, path)

    def restore(self, table: NDArray[np.float64], errors: dict[int, str], done: NDArray[np.bool_]) -> None:
        """Fill in what an earlier, interrupted sweep of the same kind finished.

        A file that cannot be read is ignored and overwritten: everything in it can be computed again.

        Raises
        ------
        StoreError
            The file belongs to another sweep.
        """
        try:
            with self.path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
                key, state = str(archive["key"]), {name: archive[name] for name in ("table", "done")}
                messages = json.loads(str(archive["errors"]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return
        if key != self.key:
            raise StoreError(
                f"checkpoint {str(self.path)!r} belongs to a sweep of other bars, timeframe, grid, strategy, "
                "settings or version: delete it or give another name"
            )
        table[:], done[:] = state["table"], state["done"]
        errors.update({int(row): text for row, text in messages.items()})

    def save(self, table: NDArray[np.float64], errors: dict[int, str], done: NDArray[np.bool_]) -> None:
        """Replace the file by what is finished now.

        Raises
        ------
        StoreError
            The file cannot be written.
        """
        draft = self.path.with_name(self.path.name + ".part")
        try:
            with draft.open("wb") as stream:
                np.savez(
                    stream,
                    key=np.array(self.key),
                    table=table,
                    done=done,
                    errors=np.array(json.dumps(errors)),
                )
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(self.path)
        except OSError as error:
            raise StoreError(
                f"checkpoint {str(self.path)!r} cannot be written: {error}; give a folder that can be"
            ) from error


def _digest(job: Job, rows: Rows, path: Path) -> str:
    try:
        key = sweep_key(job, rows)
    except SettingError as error:
        raise SettingError(f"checkpoint {str(path)!r}: {error}; or sweep without a checkpoint") from error
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
