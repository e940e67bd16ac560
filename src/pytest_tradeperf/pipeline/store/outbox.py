"""A folder that holds records while their database is away: one flushed file a batch."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pytest_tradeperf.pipeline.errors import StoreError
from pytest_tradeperf.pipeline.store.codec import from_line, to_line
from pytest_tradeperf.pipeline.store.errors import StoreUnavailableError
from pytest_tradeperf.pipeline.store.records import new_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pytest_tradeperf.pipeline.store.records import Record


LOG: Final = logging.getLogger("pytest_tradeperf.pipeline.store")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """How many records that waited were new to the store, and why others wait on; None where none does."""

    added: int = 0
    away: StoreUnavailableError | None = None


@dataclass(frozen=True, slots=True)
class Outbox:
    """Batches as files of JSON lines.

    Several processes may share one: a batch is a file of its own that appears whole (written under another
    name, flushed, renamed), and records carry keys, so two processes that store the same batch do no harm.

    Attributes
    ----------
    folder
        Made when the first batch is kept.
    """

    folder: Path

    def keep(self, records: Sequence[Record]) -> Path:
        """Write a batch, flush it to disk and return its file; OSError where that fails."""
        lines = "".join(f"{to_line(record)}\n" for record in records)
        self.folder.mkdir(parents=True, exist_ok=True)
        name = new_key()
        draft = self.folder / f"{name}.draft"
        with draft.open("w", encoding="utf-8") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        return draft.rename(self.folder / f"{name}.jsonl")

    def batches(self) -> list[Path]:
        """Return the files that wait, oldest first."""
        return sorted(self.folder.glob("*.jsonl")) if self.folder.is_dir() else []

    def drain(self, write: Callable[[Sequence[Record]], int]) -> Drained:
        """Give batches to `write`, oldest first, until the database is away; what it refuses is set aside."""
        added = 0
        for file in self.batches():
            try:
                added += write(self.read(file))
            except FileNotFoundError:
                continue  # another process has just stored it
            except StoreUnavailableError as error:
                LOG.warning("%s still waits: %s", file, error)
                return Drained(added=added, away=error)
            except OSError as error:
                LOG.warning("%s still waits: %s", file, error)
                break
            except StoreError as error:
                LOG.warning("%s is set aside as %s.rejected: %s", file, file.name, error)
                file.rename(file.with_name(f"{file.name}.rejected"))
            else:
                file.unlink(missing_ok=True)
        return Drained(added=added)

    @staticmethod
    def read(batch: Path) -> list[Record]:
        """Return the records of one batch.

        A line that cannot be read (a damaged disk, an edit by hand) is copied to a file ending in
        ``.damaged``.
        """
        records: list[Record] = []
        damaged: list[str] = []
        for line in batch.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            try:
                records.append(from_line(line))
            except (ValueError, TypeError, KeyError, AttributeError):
                damaged.append(line)
        if damaged:
            copy = batch.with_suffix(".damaged")
            copy.write_text("\n".join(damaged) + "\n", encoding="utf-8", errors="surrogateescape")
        return records


def default_outbox(database: Path) -> Path:
    """Return the outbox folder beside a SQLite file."""
    return database.with_name(f"{database.name}.outbox")
