"""What a store says when its database cannot be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_tradeperf.pipeline.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_tradeperf.pipeline.store.records import Record


class StoreUnavailableError(StoreError):
    """The database is locked, gone, full or damaged; what was to be written is still in hand.

    Attributes
    ----------
    unwritten
        The records of the failed batch, none of which is in the database (or, where the connection broke
        during the commit, none of which will be there twice when they are added again).
    kept_in
        The outbox file that holds them, written and flushed; None where there is no outbox or it failed too.
    """

    def __init__(
        self, message: str, *, unwritten: Sequence[Record] = (), kept_in: Path | None = None
    ) -> None:
        super().__init__(message)
        self.unwritten = tuple(unwritten)
        self.kept_in = kept_in
