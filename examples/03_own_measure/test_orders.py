import pytest


def save(database, orders):
    database.executemany("insert into orders values (?, ?)", orders)


@pytest.mark.perf_budget(limits={"statements": "<= 3"})
def test_three_orders_take_three_statements(database):
    save(database, [("AAPL", 1), ("GOOG", 2), ("IBM", 3)])
