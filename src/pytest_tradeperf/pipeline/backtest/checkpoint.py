"""What a sweep has finished, on disk, so that an interrupted one goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_tradeperf.pipeline.errors import StoreError
from pytest_tradeperf.pipeline.marketdata.bars import PRICE_FIELDS, Bars

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from pytest_tradeperf.pipeline.backtest.jobs import Job


class Checkpoint:
    """One file; written under a temporary name and renamed, so that it is whole or not there."""

    def __init__(self, path: Path, job: Job, rows: tuple[tuple[Any, ...], ...]) -> None:
        self.path = path
        self.key = _key(job, rows)

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
                f"checkpoint {str(self.path)!r} belongs to a sweep of other bars, grid, strategy or "
                f"settings: "
                "delete it or give another name"
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


def _key(job: Job, rows: tuple[tuple[Any, ...], ...]) -> str:
    module, name = (
        getattr(job.strategy, "__module__", ""),
        getattr(job.strategy, "__qualname__", repr(job.strategy)),
    )
    state = hashlib.sha256(repr((module, name, job.names, rows, job.settings)).encode())
    if isinstance(job.bars, Bars):
        for field in ("timestamps", *PRICE_FIELDS):
            state.update(np.ascontiguousarray(getattr(job.bars, field)).tobytes())
    return state.hexdigest()
