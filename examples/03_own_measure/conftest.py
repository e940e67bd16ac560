"""Counts the SQL statements of each test that is measured; stored and judged like any built-in counter."""

import sqlite3
from typing import Self

import pytest

from pytest_tradeperf.model import Kind, Measurement, Metric


class Statements:
    """Entered just before the test function, left just after it."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._count = 0

    def __enter__(self) -> Self:
        self._database.set_trace_callback(self._seen)
        return self

    def __exit__(self, *failure: object) -> None:
        self._database.set_trace_callback(None)

    def _seen(self, _statement: str) -> None:
        self._count += 1

    def measurements(self) -> list[Measurement]:
        return [Measurement(metric=Metric(name="statements", kind=Kind.COUNTER), value=self._count)]


@pytest.fixture
def database():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("create table orders (symbol text, quantity int)")
    yield connection
    connection.close()


@pytest.hookimpl(optionalhook=True)
def pytest_tradeperf_measure(item):
    database = item.funcargs.get("database")
    return Statements(database) if database is not None else None
