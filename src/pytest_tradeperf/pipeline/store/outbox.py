"""A folder that holds records while their database is away: one flushed file a batch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_tradeperf.pipeline.store.codec import from_line, to_line
from pytest_tradeperf.pipeline.store.records import new_key

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_tradeperf.pipeline.store.records import Decision, Signal


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

    def keep(self, records: Sequence[Decision | Signal]) -> Path:
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

    @staticmethod
    def read(batch: Path) -> list[Decision | Signal]:
        """Return the records of one batch.

        A line that cannot be read (a damaged disk, an edit by hand) is copied to a file ending in
        ``.damaged``.
        """
        records: list[Decision | Signal] = []
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
