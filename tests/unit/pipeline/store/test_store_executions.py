"""Decisions that are acted on: closed and opened in one transaction, and all of it kept while the store is away."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pytest_tradeperf.pipeline.errors import DataError, StoreError
from pytest_tradeperf.pipeline.store import (
    Decision,
    Execution,
    Signal,
    SignalStore,
    StoreSettings,
    StoreUnavailableError,
)
from pytest_tradeperf.pipeline.store.codec import from_line, to_line
from pytest_tradeperf.pipeline.store.outbox import Outbox

if TYPE_CHECKING:
    from pathlib import Path

MONDAY = datetime(2024, 1, 8, tzinfo=UTC)
DAY = timedelta(days=1)


def execution(action: str, day: int = 0, price: float | None = 100.0, **changes: Any) -> Execution:
    values: dict[str, Any] = {
        "symbol": "GOOG",
        "as_of": MONDAY + day * DAY,
        "action": action,
        "quantity": 1.0,
        "entry_price": price,
    }
    return Execution(decision=Decision(**(values | changes)))


def history(store: SignalStore) -> list[tuple[str, bool, float | None]]:
    """Return (action, is open, exit price) of all decisions, oldest first."""
    return [(one.action, one.is_open, one.exit_price) for one in store.decisions()[::-1]]


def test_a_trade_the_other_way_is_closed_at_the_new_price(store: SignalStore) -> None:
    assert store.add([execution("buy"), execution("buy", symbol="IBM")]) == 2
    assert store.add([execution("sell", 1, 110.0)]) == 1
    (bought,) = store.decisions(symbol="GOOG", until=MONDAY)
    assert (bought.closed_at, bought.exit_price) == (MONDAY + DAY, 110.0)
    assert bought.outcome == pytest.approx(0.1)
    assert [(one.symbol, one.action) for one in store.open_trades()] == [("GOOG", "sell"), ("IBM", "buy")]


def test_a_repetition_opens_nothing_and_goes_with_age(store: SignalStore) -> None:
    for day in range(3):
        store.add([execution("buy", day, created_at=MONDAY)])
    assert [one.as_of for one in store.open_trades()] == [MONDAY]
    assert [one.quantity for one in store.decisions()] == [None, None, 1.0]
    assert store.prune(DAY, now=MONDAY + 5 * DAY).decisions == 2
    assert len(store.open_trades()) == 1
    with pytest.raises(DataError, match="opens_trade of GOOG is 'no'"):
        execution("buy", opens_trade="no")


def test_a_repetition_cannot_be_closed(store: SignalStore) -> None:
    again = execution("buy", 1)
    store.add([execution("buy"), again])
    with pytest.raises(StoreError, match="no trade has the key"):
        store.close_trade(again.decision.key, closed_at=MONDAY, exit_price=1.0)


def test_a_batch_acts_in_the_order_of_time(store: SignalStore) -> None:
    store.add([execution("buy", 2, 120.0), execution("buy", 0), execution("sell", 1, 110.0)])
    assert history(store) == [("buy", False, 110.0), ("sell", False, 120.0), ("buy", True, None)]


@pytest.mark.parametrize("action", ["hold", "abstain"])
def test_no_opinion_closes_nothing(store: SignalStore, action: str) -> None:
    store.add([execution("buy"), execution(action, 1), execution("sell", 2, None, opens_trade=False)])
    assert [one.action for one in store.open_trades()] == ["buy"]


def test_what_is_refused_closes_nothing(store: SignalStore) -> None:
    store.add([execution("buy")])
    with pytest.raises(StoreError, match="details cannot be stored as JSON"):
        store.add([execution("sell", 1, details={"x": float("nan")})])
    assert history(store) == [("buy", True, None)]


def test_executing_the_same_again_changes_nothing(store: SignalStore) -> None:
    batch = [execution("buy"), execution("sell", 1, 110.0)]
    assert [store.add(batch), store.add(batch), store.add([batch[0]])] == [2, 0, 0]
    assert history(store) == [("buy", False, 110.0), ("sell", True, None)]


def test_many_at_once_open_one_trade(store: SignalStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        added = pool.map(lambda _: store.add([execution("buy")]), range(16))
        assert sum(added) == 16
    assert len(store.open_trades()) == 1


def test_an_execution_survives_its_line() -> None:
    one = execution("sell", details={"why": "x"}, degraded=["llm"])
    assert from_line(to_line(one)) == one


# -- while the store is away


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "signals.db"


def opened(file: Path) -> SignalStore:
    return SignalStore(f"sqlite:///{file}", settings=StoreSettings(lock_timeout_s=0.01))


def test_a_lock_keeps_the_close_and_the_decision(file: Path) -> None:
    with opened(file) as store:
        store.add([execution("buy")])
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        sell = execution("sell", 1, 110.0)
        with pytest.raises(StoreUnavailableError, match="locked") as caught:
            store.add([sell])
        assert caught.value.kept_in is not None
        assert Outbox.read(caught.value.kept_in) == [sell]
        assert history(store) == [("buy", True, None)]
        other.execute("ROLLBACK")
        other.close()
        assert store.flush_outbox() == 1
        assert history(store) == [("buy", False, 110.0), ("sell", True, None)]


def test_what_waits_acts_before_what_is_new(file: Path) -> None:
    with opened(file) as store:
        store.add([execution("buy")])
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for day in (1, 2):
            with pytest.raises(StoreUnavailableError, match="locked"):
                store.add([execution("sell" if day == 1 else "hold", day, 110.0)])
        other.execute("ROLLBACK")
        other.close()
        store.add([execution("buy", 3, 120.0)])
        assert history(store) == [
            ("buy", False, 110.0),
            ("sell", False, 120.0),
            ("hold", False, None),
            ("buy", True, None),
        ]


def test_a_batch_replayed_twice_changes_nothing(file: Path) -> None:
    with opened(file) as store:
        batch = [execution("buy"), execution("sell", 1, 110.0)]
        store.add(batch)
        Outbox(file.with_name("signals.db.outbox")).keep(batch)
        store.add([execution("buy", 2, 120.0)])
        assert history(store) == [("buy", False, 110.0), ("sell", False, 120.0), ("buy", True, None)]


def test_one_that_comes_late_is_closed_by_what_was_decided_since(store: SignalStore) -> None:
    store.add([execution("sell", 1, 110.0), execution("buy", 2, 120.0), execution("buy", 2, symbol="IBM")])
    store.close_trade(store.open_trades("GOOG")[0].key, closed_at=MONDAY + 3 * DAY, exit_price=130.0)
    store.add([execution("buy", 0)])
    assert history(store)[0] == ("buy", False, 110.0)
    assert [one.symbol for one in store.open_trades()] == ["IBM"]


def test_one_that_comes_late_closes_nothing_younger(store: SignalStore) -> None:
    young = execution("sell", 1, 110.0)
    store.add([young])
    store.add([execution("buy", 0)])
    assert store.open_trades() == [young.decision]


def test_a_batch_in_the_error_can_be_added_again(tmp_path: Path) -> None:
    file = tmp_path / "signals.db"
    file.write_bytes(b"these are not the bytes you are looking for" * 100)
    with SignalStore(f"sqlite:///{file}", outbox=None) as store:
        with pytest.raises(StoreUnavailableError) as caught:
            store.add([execution("buy"), Signal(symbol="X", as_of=MONDAY)])
        file.unlink()
        assert store.add(caught.value.unwritten) == 2
        assert [one.action for one in store.open_trades()] == ["buy"]
