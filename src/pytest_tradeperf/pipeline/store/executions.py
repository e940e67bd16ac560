"""Acting on decisions in the transaction that stores them: what is against them closes, none opens twice.

An execution may come late, out of an outbox. So it only closes what was open at its own time, and is closed
itself where a later decision was against it; one that is stored already is left alone with all it did.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from pytest_tradeperf.pipeline.store.codec import decision_of
from pytest_tradeperf.pipeline.store.queries import open_trades_query
from pytest_tradeperf.pipeline.store.records import TRADES, Decision
from pytest_tradeperf.pipeline.store.schema import DECISIONS, wait_for_others

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

# Keys asked for at once: SQLite takes 32,766 parameters, older ones 999.
KEYS_AT_ONCE: Final = 900


def execute(connection: Connection, decisions: Sequence[Decision]) -> list[Decision]:
    """Close what the decisions are against; return those to be stored, as they then are.

    Parameters
    ----------
    connection
        In a transaction that writes.
    decisions
        Of any symbols; they act in the order of `as_of`.
    """
    if not decisions:
        return []
    wait_for_others(connection)
    stored = _stored_keys(connection, [decision.key for decision in decisions])
    standing = {trade.key: trade for trade in map(decision_of, connection.execute(open_trades_query(None)))}
    made: dict[str, Decision] = {}
    for decision in sorted(decisions, key=lambda one: one.as_of):
        if decision.key in stored or decision.key in made:
            continue
        mine = [trade for trade in standing.values() if trade.symbol == decision.symbol]
        for trade in _against(decision, mine):
            done = closed(trade, closed_at=decision.as_of, exit_price=decision.entry_price)
            del standing[trade.key]
            if trade.key in made:
                made[trade.key] = done
            else:
                connection.execute(closing(done))
        settled = decision
        if decision.is_open:
            is_held = any(trade.action == decision.action and trade.quantity for trade in mine)
            settled = (
                replace(decision, opens_trade=False, quantity=None)
                if is_held
                else _closed_later(connection, decision)
            )
        made[decision.key] = settled
        if settled.is_open:
            standing[settled.key] = settled
    return list(made.values())


def closed(
    trade: Decision,
    *,
    closed_at: datetime,
    exit_price: float | None,
    outcome: float | None = None,
    label: str | None = None,
) -> Decision:
    """Return a trade as it is once closed; its outcome by default that of the prices, signed by direction."""
    done = replace(trade, closed_at=closed_at, exit_price=exit_price, outcome=outcome, label=label)
    if done.outcome is None and trade.entry_price is not None and done.exit_price is not None:
        change = done.exit_price / trade.entry_price - 1.0
        done = replace(done, outcome=change if trade.action == "buy" else -change)
    return done


def closing(done: Decision) -> sa.Update:
    """Return the statement that closes an open trade as `done` says; it finds no row if closed already."""
    values = {name: getattr(done, name) for name in ("closed_at", "exit_price", "outcome", "label")}
    return (
        sa.update(DECISIONS)
        .where(DECISIONS.c.key == done.key, DECISIONS.c.closed_at.is_(None))
        .values(**values)
    )


def _against(decision: Decision, trades: Iterable[Decision]) -> list[Decision]:
    if decision.action not in TRADES or decision.entry_price is None:
        return []
    return [trade for trade in trades if trade.action != decision.action and trade.as_of <= decision.as_of]


def _closed_later(connection: Connection, trade: Decision) -> Decision:
    """Return a trade closed by the first stored decision after it that is against it, where there is one."""
    columns = DECISIONS.c
    (other,) = set(TRADES) - {trade.action}
    query = (
        sa.select(columns.as_of, columns.entry_price)
        .where(columns.symbol == trade.symbol, columns.as_of > trade.as_of)
        .where(columns.action == other, columns.entry_price.is_not(None))
        .order_by(columns.as_of, columns.row)
        .limit(1)
    )
    found = connection.execute(query).first()
    return trade if found is None else closed(trade, closed_at=found.as_of, exit_price=found.entry_price)


def _stored_keys(connection: Connection, keys: Sequence[str]) -> set[Any]:
    found: set[Any] = set()
    for start in range(0, len(keys), KEYS_AT_ONCE):
        some = keys[start : start + KEYS_AT_ONCE]
        found.update(connection.scalars(sa.select(DECISIONS.c.key).where(DECISIONS.c.key.in_(some))))
    return found
