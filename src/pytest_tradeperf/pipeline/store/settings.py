"""How a store connects: one frozen record, checked when built."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_tradeperf.pipeline.errors import SettingError

# Longest timeout PostgreSQL takes, in its milliseconds of 32 bits.
LONGEST_TIMEOUT_S = 2_147_483.0
# Its shortest: 0 would mean none.
SHORTEST_TIMEOUT_S = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """Pool, timeouts and logging of a store.

    Attributes
    ----------
    pool_size, pool_overflow
        Connections kept open, and how many more may be opened for a moment.
    pool_timeout_s
        Longest wait for a free connection.
    pool_recycle_s
        Age at which a connection is replaced (before firewalls forget it).
    connect_timeout_s
        Longest wait for a server to answer a new connection (PostgreSQL).
    statement_timeout_s
        Longest run of one statement; the server cancels it (PostgreSQL), the progress handler interrupts it
        (SQLite).
    idle_in_transaction_timeout_s
        Longest pause inside an open transaction before the server ends the session (PostgreSQL; SQLite has no
        server).
    lock_timeout_s
        Longest wait for another writer's lock.
    slow_query_s
        Statements at least this long are logged as warnings; 0 logs all, infinity none.
    batch_rows
        Rows sent to the driver at once. A batch of any size is still one transaction.

    Raises
    ------
    SettingError
        A value is out of range; the message names it.
    """

    pool_size: int = 5
    pool_overflow: int = 10
    pool_timeout_s: float = 30.0
    pool_recycle_s: float = 1800.0
    connect_timeout_s: float = 10.0
    statement_timeout_s: float = 30.0
    idle_in_transaction_timeout_s: float = 60.0
    lock_timeout_s: float = 5.0
    slow_query_s: float = 1.0
    batch_rows: int = 10_000

    def __post_init__(self) -> None:
        for name, least in (("pool_size", 1), ("pool_overflow", 0), ("batch_rows", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise SettingError(f"{name} is {value!r}: expected a whole number, at least {least}")
        for name in (
            "pool_timeout_s",
            "pool_recycle_s",
            "connect_timeout_s",
            "statement_timeout_s",
            "idle_in_transaction_timeout_s",
            "lock_timeout_s",
        ):
            value = getattr(self, name)
            if not (_is_number(value) and SHORTEST_TIMEOUT_S <= value <= LONGEST_TIMEOUT_S):
                message = (
                    f"{name} is {value!r}: expected {SHORTEST_TIMEOUT_S} to {LONGEST_TIMEOUT_S:.0f} seconds"
                )
                raise SettingError(message)
        if not (_is_number(self.slow_query_s) and self.slow_query_s >= 0):
            message = (
                f"slow_query_s is {self.slow_query_s!r}: expected seconds, at least 0 (infinity logs nothing)"
            )
            raise SettingError(message)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)
