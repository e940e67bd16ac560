"""The questions a trading system asks, as statements that the indexes answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa

from pytest_tradeperf.pipeline.errors import DataError, SettingError
from pytest_tradeperf.pipeline.store.codec import unpacked
from pytest_tradeperf.pipeline.store.nearest import Setups
from pytest_tradeperf.pipeline.store.records import checked_time
from pytest_tradeperf.pipeline.store.schema import DECISIONS, OPEN_TRADE, SIGNALS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from numpy.typing import NDArray


def records_query(
    table: sa.Table,
    *,
    symbol: str | None,
    timeframe: str | None,
    since: datetime | None,
    until: datetime | None,
    created_since: datetime | None,
    label: str | None,
    limit: int | None,
) -> sa.Select[Any]:
    """Return the statement for records that fit, newest `as_of` first, later ones first where equal."""
    query = sa.select(table).order_by(table.c.as_of.desc(), table.c.row.desc())
    for column, value in ((table.c.symbol, symbol), (table.c.timeframe, timeframe), (table.c.label, label)):
        if value is not None:
            query = query.where(column == value)
    if since is not None:
        query = query.where(table.c.as_of >= checked_time("since", since))
    if until is not None:
        query = query.where(table.c.as_of <= checked_time("until", until))
    if created_since is not None:
        query = query.where(table.c.created_at >= checked_time("created_since", created_since))
    if limit is not None:
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise SettingError(
                f"limit is {limit!r}: expected a whole number of rows, at least 1, or None for all"
            )
        query = query.limit(limit)
    return query


def open_trades_query(symbol: str | None) -> sa.Select[Any]:
    """Return the statement for open trades by symbol, oldest first: the order of the partial index."""
    query = (
        sa.select(DECISIONS)
        .where(OPEN_TRADE, DECISIONS.c.opens_trade)
        .order_by(DECISIONS.c.symbol, DECISIONS.c.as_of, DECISIONS.c.row)
    )
    return query if symbol is None else query.where(DECISIONS.c.symbol == symbol)


def setups_query(source: str | None, timeframe: str | None, until: datetime | None) -> sa.Select[Any]:
    """Return the statement for what nearest-neighbour search needs of each signal with a vector.

    An outcome not known at `until` is NULL.
    """
    columns = SIGNALS.c
    latest = None if until is None else checked_time("until", until)
    is_known = sa.true() if latest is None else columns.outcome_at <= latest
    query = (
        sa.select(
            columns.key,
            columns.symbol,
            columns.timeframe,
            sa.case((is_known, columns.outcome)).label("outcome"),
            columns.vector,
            columns.vector_step,
        )
        .where(sa.func.length(columns.vector) > 0)
        .order_by(columns.as_of, columns.row)
    )
    if source is not None:
        query = query.where(columns.source == source)
    if timeframe is not None:
        query = query.where(columns.timeframe == timeframe)
    if latest is not None:
        query = query.where(columns.as_of <= latest)
    return query


def to_setups(rows: Sequence[sa.Row[Any]]) -> Setups:
    """Return the rows of :func:`setups_query` as arrays.

    Raises
    ------
    DataError
        The vectors differ in length.
    """
    if not rows:
        return Setups.build(np.empty((0, 0), dtype=np.float32))
    keys, symbols, timeframes, outcomes, vectors, steps = zip(*rows, strict=True)
    return Setups.build(
        _matrix(vectors, steps),
        keys=keys,
        symbols=symbols,
        timeframes=timeframes,
        outcomes=np.array([np.nan if value is None else value for value in outcomes]),
    )


def _matrix(vectors: Sequence[bytes], steps: Sequence[float | None]) -> NDArray[np.float32]:
    lengths = {len(vector) // (4 if step is None else 1) for vector, step in zip(vectors, steps, strict=True)}
    if len(lengths) > 1:
        found = sorted(lengths)
        message = f"signals have vectors of {found} features: ask for one source, like setups(source='cross')"
        raise DataError(message)
    if not any(step is not None for step in steps):
        return np.frombuffer(b"".join(vectors), dtype="<f4").reshape(len(vectors), -1)
    return np.stack([unpacked(vector, step) for vector, step in zip(vectors, steps, strict=True)])
