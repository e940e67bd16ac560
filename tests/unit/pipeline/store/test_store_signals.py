"""The same promises on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import logging
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import sqlalchemy as sa

from pytest_tradeperf.pipeline.errors import DataError, SettingError, StoreError
from pytest_tradeperf.pipeline.store import (
    Decision,
    FaissSetups,
    QuantisedSetups,
    Signal,
    SignalStore,
    StoreSettings,
    StoreUnavailableError,
)
from pytest_tradeperf.pipeline.store.queries import open_trades_query
from pytest_tradeperf.pipeline.store.schema import ADDED_IN_2, SCHEMA_VERSION, VERSION

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_tradeperf.pipeline.store.connection import SlowQuery

MONDAY = datetime(2024, 1, 8, tzinfo=UTC)
DAY = timedelta(days=1)


def decision(day: int = 0, **changes: Any) -> Decision:
    values: dict[str, Any] = {"symbol": "GOOG", "as_of": MONDAY + day * DAY, "action": "buy"}
    return Decision(**(values | changes))


def signal(day: int = 0, **changes: Any) -> Signal:
    values: dict[str, Any] = {"symbol": "GOOG", "as_of": MONDAY + day * DAY, "vector": [float(day), 1.0]}
    return Signal(**(values | changes))


def test_records_come_back_as_they_went_in(store: SignalStore) -> None:
    sent = decision(
        conviction=-0.5, probability=0.7, quantity=3, entry_price=10.25, stop_price=9.0, target_price=12.0,
        label="win", source="debate", degraded=["llm"], details={"why": ["ü", 1.5, None]}, timeframe="1h",
        closed_at=MONDAY + DAY, exit_price=11.0, outcome=0.07,
    )  # fmt: skip
    seen = signal(vector=[0.1, -2.5, 1e-30], strength=2.0, outcome=0.5, label="win", details={"n": 1})
    assert store.add([sent, seen]) == 2
    assert store.decisions() == [sent]
    expected = np.array(seen.vector, dtype=np.float32).tolist()
    assert list(store.signals()[0].vector) == expected
    assert store.signals()[0].details == {"n": 1}


def test_adding_the_same_key_again_changes_nothing(store: SignalStore) -> None:
    records = [decision(0), decision(1)]
    assert store.add(records) == 2
    assert store.add([*records, decision(2)]) == 1
    assert len(store.decisions()) == 3


def test_a_batch_larger_than_the_drivers_part_is_stored_whole(url: str) -> None:
    with SignalStore(url, settings=StoreSettings(batch_rows=7)) as store:
        assert store.add([signal(day) for day in range(40)]) == 40
        assert len(store.signals()) == 40


def test_a_refused_value_stores_nothing_of_the_batch(store: SignalStore) -> None:
    bad = decision(1, details={"x": float("nan")})
    with pytest.raises(StoreError, match="details cannot be stored as JSON") as caught:
        store.add([decision(0), bad])
    assert not isinstance(caught.value, StoreUnavailableError)
    assert store.decisions() == []


def test_filters_and_order(store: SignalStore) -> None:
    store.add([decision(0), decision(2, label="win"), decision(1, symbol="IBM"), decision(3, timeframe="1h")])
    assert [item.as_of for item in store.decisions()] == [MONDAY + day * DAY for day in (3, 2, 1, 0)]
    assert [
        item.as_of for item in store.decisions(symbol="GOOG", since=MONDAY + DAY, until=MONDAY + 2 * DAY)
    ] == [MONDAY + 2 * DAY]
    assert len(store.decisions(label="win")) == 1
    assert len(store.decisions(timeframe="1h")) == 1
    assert len(store.decisions(limit=2)) == 2
    assert store.decisions(created_since=datetime.now(UTC) + DAY) == []


@pytest.mark.parametrize("limit", [0, -1, 1.5, True])
def test_a_limit_below_one_is_refused(store: SignalStore, limit: Any) -> None:
    with pytest.raises(SettingError, match="expected a whole number of rows"):
        store.decisions(limit=limit)


def test_open_trades_are_bought_or_sold_and_not_closed(store: SignalStore) -> None:
    store.add([decision(0, symbol="B"), decision(0, action="hold"), decision(1, symbol="A", action="sell")])
    store.add([decision(0, closed_at=MONDAY)])
    assert [trade.symbol for trade in store.open_trades()] == ["A", "B"]
    assert [trade.symbol for trade in store.open_trades("B")] == ["B"]


@pytest.mark.parametrize(("action", "outcome"), [("buy", 0.1), ("sell", -0.1)])
def test_closing_a_trade_signs_its_return_by_direction(
    store: SignalStore, action: str, outcome: float
) -> None:
    trade = decision(action=action, entry_price=100.0)
    store.add([trade])
    closed = store.close_trade(trade.key, closed_at=MONDAY + DAY, exit_price=110.0, label="done")
    assert closed.outcome == pytest.approx(outcome)
    assert store.open_trades() == []
    assert store.decisions(label="done") == [closed]


def test_closing_needs_an_open_trade(store: SignalStore) -> None:
    hold, trade = decision(action="hold"), decision()
    store.add([hold, trade])
    store.close_trade(trade.key, closed_at=MONDAY, exit_price=1.0)
    with pytest.raises(StoreError, match="is closed already"):
        store.close_trade(trade.key, closed_at=MONDAY, exit_price=1.0)
    with pytest.raises(StoreError, match="no trade has the key"):
        store.close_trade(hold.key, closed_at=MONDAY, exit_price=1.0)


def test_labelling_sets_outcomes_by_key(store: SignalStore) -> None:
    first, second = signal(0), signal(1)
    store.add([first, second])
    assert store.label_signals({first.key: (0.25, "win"), "unknown": (0.0, None)}) == 1
    assert store.signals(label="win")[0].outcome == 0.25
    assert store.label_signals({}) == 0


@pytest.mark.parametrize(
    ("outcome", "label"), [(float("nan"), None), (None, None), ("much", None), (0.1, "x" * 65)]
)
def test_labels_that_cannot_be_stored_change_nothing(
    store: SignalStore, outcome: Any, label: str | None
) -> None:
    first = signal(0)
    store.add([first])
    with pytest.raises(DataError):
        store.label_signals({first.key: (outcome, label)})
    assert store.signals()[0].outcome is None


@pytest.mark.parametrize("price", [0.0, -1.0, float("nan"), "ten"])
def test_an_exit_price_that_cannot_be_meant_leaves_the_trade_open(store: SignalStore, price: Any) -> None:
    trade = decision(entry_price=100.0)
    store.add([trade])
    with pytest.raises(DataError, match="exit_price of GOOG"):
        store.close_trade(trade.key, closed_at=MONDAY, exit_price=price)
    assert store.open_trades() == [trade]


def test_retention_keeps_open_trades_and_the_young(store: SignalStore) -> None:
    old = MONDAY - 400 * DAY
    store.add(
        [decision(created_at=old), decision(created_at=old, action="hold"), decision(created_at=MONDAY)]
    )
    store.add([signal(created_at=old), signal(created_at=MONDAY)])
    pruned = store.prune(365 * DAY, now=MONDAY)
    assert (pruned.decisions, pruned.signals) == (1, 1)
    assert len(store.open_trades()) == 2
    assert len(store.signals()) == 1


def test_retention_works_in_batches(url: str) -> None:
    with SignalStore(url, settings=StoreSettings(batch_rows=3)) as store:
        store.add([signal(created_at=MONDAY) for _ in range(10)])
        assert store.prune(DAY, now=MONDAY + 2 * DAY).signals == 10


@pytest.mark.parametrize("age", [timedelta(0), timedelta(days=-1), 30, None])
def test_retention_of_nothing_is_refused(store: SignalStore, age: Any) -> None:
    with pytest.raises(SettingError, match="positive timedelta"):
        store.prune(age)


def test_retention_beyond_all_time_keeps_everything(store: SignalStore) -> None:
    store.add([signal(created_at=MONDAY)])
    assert store.prune(timedelta.max).signals == 0


def test_details_too_deep_for_json_are_refused(store: SignalStore) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(StoreError, match="details cannot be stored as JSON"):
        store.add([decision(details={"deep": deep})])
    assert store.decisions() == []


def test_setups_are_what_was_known_at_the_time(store: SignalStore) -> None:
    store.add([signal(2, outcome=0.5), signal(0), signal(1, source="other"), signal(0, vector=[])])
    setups = store.setups(source="", until=MONDAY + DAY)
    assert setups.vectors.tolist() == [[0.0, 1.0]]
    found = store.setups().nearest([2.0, 1.0], 2)
    assert found.distances.tolist() == [0.0, 1.0]
    assert found.outcomes[0] == 0.5
    assert len(store.setups(timeframe="5m")) == 0
    assert len(store.setups(timeframe="5m").nearest([1.0], 3)) == 0


def test_an_outcome_set_later_is_not_known_at_the_time(store: SignalStore) -> None:
    first, second = signal(0), signal(0)
    store.add([first, second])
    store.label_signals({first.key: (0.25, "win")})
    store.label_signals({second.key: (0.5, "win")}, outcome_at=MONDAY + 5 * DAY)

    def known(until: datetime | None) -> list[float]:
        setups = store.setups(until=until)
        exact: list[float] = setups.nearest([0.0, 1.0], 2, only_with_outcome=True).outcomes.tolist()
        int8 = QuantisedSetups.build(setups).nearest([0.0, 1.0], 2, only_with_outcome=True)
        assert int8.outcomes.tolist() == exact
        unfiltered = setups.nearest([0.0, 1.0], 2).outcomes
        assert np.isnan(unfiltered).sum() == 2 - len(exact)
        return exact

    assert known(MONDAY + DAY) == []
    assert known(MONDAY + 5 * DAY) == [0.5]
    assert known(None) == [0.25, 0.5]


def test_faiss_knows_no_later_outcome_either(store: SignalStore) -> None:
    pytest.importorskip("faiss", reason="faiss is not installed")
    first = signal(0)
    store.add([first])
    store.label_signals({first.key: (0.25, "win")}, outcome_at=MONDAY + 5 * DAY)
    search = FaissSetups.build(store.setups(until=MONDAY + DAY))
    assert np.isnan(search.nearest([0.0, 1.0], 1).outcomes).all()
    assert len(search.nearest([0.0, 1.0], 1, only_with_outcome=True)) == 0


def test_an_outcome_whose_time_nobody_told_is_not_known_at_any_time(store: SignalStore) -> None:
    told = signal(0, outcome=0.1, outcome_at=MONDAY + DAY)
    store.add([told, signal(0, outcome=0.2)])
    assert [one.outcome_at for one in store.signals()] == [None, MONDAY + DAY]
    far = store.setups(until=MONDAY + 10_000 * DAY).nearest([0.0, 1.0], 2, only_with_outcome=True)
    assert far.keys == (told.key,)


def test_the_time_of_an_outcome_needs_an_outcome_and_a_zone(store: SignalStore) -> None:
    with pytest.raises(DataError, match=r"outcome_at of GOOG .* without an outcome"):
        signal(outcome_at=MONDAY)
    with pytest.raises(DataError, match=r"outcome_at is .* time zone"):
        signal(outcome=0.1, outcome_at=MONDAY.replace(tzinfo=None))
    with pytest.raises(DataError, match=r"outcome_at is .* time zone"):
        store.label_signals({}, outcome_at=MONDAY.replace(tzinfo=None))


def test_setups_of_different_lengths_name_the_cure(store: SignalStore) -> None:
    store.add([signal(vector=[1.0]), signal(vector=[1.0, 2.0])])
    with pytest.raises(DataError, match=r"vectors of \[1, 2\] features: ask for one source"):
        store.setups()


def test_int8_vectors_are_within_half_a_step(url: str) -> None:
    vector = np.random.default_rng(3).normal(size=64).tolist()
    with SignalStore(url, vectors="int8") as store:
        store.add([signal(vector=vector), signal(1, vector=[0.0] * 64)])
        newest, oldest = store.signals()
        assert list(newest.vector) == [0.0] * 64
        half_a_step = max(map(abs, vector)) / 127 / 2
        assert np.abs(np.array(oldest.vector) - vector).max() <= half_a_step * 1.0001
        assert store.setups().vectors.shape == (2, 64)


def test_many_threads_write_at_once_and_nothing_is_lost(store: SignalStore) -> None:
    def write(place: int) -> int:
        return store.add([signal(place, symbol=f"S{place}") for _ in range(20)])

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(write, range(16))) == 320
    assert len(store.signals()) == 320


def test_two_stores_create_the_same_database_at_once(url: str) -> None:
    stores = [SignalStore(url) for _ in range(4)]
    barrier = threading.Barrier(4)

    def start(one: SignalStore) -> int:
        barrier.wait()
        return one.add([decision()])

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(start, stores)) == [1] * 4
    assert len(stores[0].decisions()) == 4
    for one in stores:
        one.close()


def test_a_newer_schema_is_refused(store: SignalStore, url: str) -> None:
    store.add([decision()])
    with store.engine.begin() as connection:
        connection.execute(sa.insert(SCHEMA_VERSION).values(version=99, applied_at=MONDAY))
    with (
        SignalStore(url) as other,
        pytest.raises(StoreError, match=r"schema version 99.*upgrade pytest-tradeperf"),
    ):
        other.decisions()


def made_old(store: SignalStore) -> None:
    """Turn a database into one that version 1 of the schema made."""
    with store.engine.begin() as connection:
        for column in ADDED_IN_2:
            connection.exec_driver_sql(f"ALTER TABLE {column.table.name} DROP COLUMN {column.name}")
        connection.execute(sa.update(SCHEMA_VERSION).values(version=1))
    store.close()


def test_a_database_of_version_1_gets_its_columns_and_keeps_its_rows(store: SignalStore, url: str) -> None:
    trade, labelled = decision(quantity=2.0), signal(outcome=0.25)
    store.add([trade, labelled])
    made_old(store)
    with SignalStore(url) as upgraded:
        assert upgraded.open_trades() == [trade]
        assert [one.outcome for one in upgraded.signals()] == [0.25]
        assert np.isnan(upgraded.setups(until=MONDAY + DAY).facts.outcomes).all()
        upgraded.label_signals({labelled.key: (0.25, None)}, outcome_at=MONDAY)
        assert upgraded.setups(until=MONDAY + DAY).facts.outcomes.tolist() == [0.25]
        assert upgraded.add([decision(1, opens_trade=False)]) == 1
        assert upgraded.open_trades() == [trade]
        with upgraded.engine.connect() as connection:
            assert connection.scalar(sa.select(sa.func.max(SCHEMA_VERSION.c.version))) == VERSION


def test_stores_upgrade_the_same_database_at_once(store: SignalStore, url: str) -> None:
    store.add([decision()])
    made_old(store)
    stores = [SignalStore(url) for _ in range(4)]
    barrier = threading.Barrier(4)

    def start(one: SignalStore) -> int:
        barrier.wait()
        return len(one.decisions())

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(start, stores)) == [1] * 4
    for one in stores:
        one.close()


def test_every_question_has_its_index(store: SignalStore) -> None:
    store.add(
        [decision(day, symbol=f"S{day % 7}", label="win" if day % 5 == 0 else None) for day in range(300)]
    )
    wanted = {
        "SELECT * FROM decisions WHERE symbol = 'S1' AND as_of > '2024-02-01'": "ix_decisions_symbol_as_of",
        "SELECT * FROM decisions WHERE created_at < '2020-01-01'": "ix_decisions_created_at",
        "SELECT * FROM decisions WHERE label = 'win'": "ix_decisions_label",
        "SELECT * FROM decisions WHERE closed_at IS NULL AND action IN ('buy', 'sell')": "ix_decisions_open",
        str(open_trades_query(None).compile(store.engine)): "ix_decisions_open",
    }
    with store.engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET enable_seqscan = off")
        for query, index in wanted.items():
            explain = "EXPLAIN " if connection.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN "
            plan = " ".join(str(row) for row in connection.exec_driver_sql(explain + query))
            assert index in plan, plan


def test_slow_queries_are_told_with_their_sql(url: str) -> None:
    told: list[SlowQuery] = []
    with SignalStore(url, settings=StoreSettings(slow_query_s=0), on_slow=told.append) as store:
        store.add([decision(source="a secret value")])
    inserts = [query for query in told if query.sql.startswith("INSERT INTO decisions")]
    assert len(inserts) == 1
    assert inserts[0].seconds > 0
    assert "secret" not in "".join(query.sql for query in told)


def test_slow_queries_are_logged_and_quick_ones_not(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.WARNING),
        SignalStore(url, settings=StoreSettings(slow_query_s=600)) as store,
    ):
        store.add([decision()])
    assert caplog.records == []
    with caplog.at_level(logging.WARNING), SignalStore(url, settings=StoreSettings(slow_query_s=0)) as store:
        store.decisions()
    assert any("slow query took" in record.message for record in caplog.records)


def test_a_statement_that_runs_too_long_is_ended_and_logged(url: str) -> None:
    told: list[SlowQuery] = []
    endless = "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r) SELECT count(*) FROM r"
    settings = StoreSettings(statement_timeout_s=0.1, slow_query_s=0.05)
    with SignalStore(url, settings=settings, on_slow=told.append) as store:
        with store.engine.connect() as connection, pytest.raises(sa.exc.OperationalError):
            connection.exec_driver_sql(endless)
        assert told[-1].failed
        assert 0.05 <= told[-1].seconds < 60
        assert store.add([decision()]) == 1


def test_the_pool_has_a_limit_and_says_so(url: str, tmp_path: Path) -> None:
    settings = StoreSettings(pool_size=1, pool_overflow=0, pool_timeout_s=0.01)
    with SignalStore(url, settings=settings, outbox=tmp_path / "outbox") as store:
        store.add([decision()])
        with store.engine.connect(), pytest.raises(StoreUnavailableError, match="raise pool_size"):
            store.decisions()


def test_nothing_is_connected_before_the_first_use(tmp_path: Path) -> None:
    SignalStore(f"sqlite:///{tmp_path}/new/signals.db").close()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_batch_needs_no_database(tmp_path: Path) -> None:
    with SignalStore(f"sqlite:///{tmp_path}/signals.db") as store:
        assert store.add([]) == 0
    assert list(tmp_path.iterdir()) == []


def test_only_records_can_be_added(store: SignalStore) -> None:
    with pytest.raises(DataError, match="expected a Decision or a Signal"):
        store.add([{"symbol": "X"}])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "no url",
        "no url?password=hunter2",
        "mysql://u:hunter2@h/d",
        "postgresql://u:hunter2@h:port/d",
        None,
    ],
)
def test_a_url_that_cannot_be_used_is_named_without_its_password(bad: Any) -> None:
    with pytest.raises(SettingError, match="expected sqlite:///FILE or postgresql") as caught:
        SignalStore(bad)
    assert "hunter2" not in str(caught.value)


def test_a_password_in_the_query_is_in_no_name() -> None:
    pytest.importorskip("psycopg")
    url = "postgresql://127.0.0.1:1/db?user=bob&password=hunter2"
    with SignalStore(url) as store:
        assert store.name == "postgresql+psycopg://127.0.0.1:1/db?password=***&user=bob"
        with pytest.raises(StoreUnavailableError) as caught:
            store.decisions()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"pool_size": 0}, {"pool_overflow": -1}, {"batch_rows": True}, {"statement_timeout_s": 0},
        {"lock_timeout_s": float("nan")}, {"idle_in_transaction_timeout_s": float("inf")},
        {"slow_query_s": -1}, {"connect_timeout_s": "soon"},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_named(changes: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=f"{next(iter(changes))} is "):
        StoreSettings(**changes)


def test_vectors_are_of_a_known_kind() -> None:
    with pytest.raises(SettingError, match="expected 'float32' or 'int8'"):
        SignalStore("sqlite://", vectors="float64")  # type: ignore[arg-type]


def test_sqlite_commits_survive_a_power_cut(tmp_path: Path) -> None:
    with SignalStore(f"sqlite:///{tmp_path}/signals.db") as store, store.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_the_database_is_plain_sql_for_others(tmp_path: Path) -> None:
    with SignalStore(f"sqlite:///{tmp_path}/signals.db") as store:
        store.add([decision()])
    with sqlite3.connect(tmp_path / "signals.db") as plain:
        assert plain.execute("SELECT symbol, as_of FROM decisions").fetchall() == [
            ("GOOG", "2024-01-08 00:00:00.000000")
        ]
    plain.close()
