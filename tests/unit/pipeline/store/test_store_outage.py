"""Locked, gone, damaged, full: nothing is lost, and one clear line says what to do."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from pytest_tradeperf.pipeline.store import (
    Decision,
    Signal,
    SignalStore,
    StoreSettings,
    StoreUnavailableError,
)
from pytest_tradeperf.pipeline.store import signals as signals_module
from pytest_tradeperf.pipeline.store.outbox import Outbox

if TYPE_CHECKING:
    from pathlib import Path

MONDAY = datetime(2024, 1, 8, tzinfo=UTC)


def batch(n: int = 3) -> list[Decision | Signal]:
    return [Decision(symbol=f"S{i}", as_of=MONDAY, action="buy") for i in range(n)] + [
        Signal(symbol="X", as_of=MONDAY, vector=[1.0])
    ]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "signals.db"


def opened(file: Path) -> SignalStore:
    return SignalStore(f"sqlite:///{file}", settings=StoreSettings(lock_timeout_s=0.01))


def test_a_locked_database_keeps_the_batch_for_the_next_add(file: Path) -> None:
    with opened(file) as store:
        store.add(batch())
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        sent = batch()
        with pytest.raises(
            StoreUnavailableError, match=r"database is locked.*raise lock_timeout_s.*4 records"
        ) as caught:
            store.add(sent)
        assert caught.value.unwritten == tuple(sent)
        assert caught.value.kept_in is not None
        assert Outbox.read(caught.value.kept_in) == sent
        assert len(store.decisions()) == 3  # readers are not locked out
        other.execute("ROLLBACK")
        other.close()
        store.add(batch())
        assert len(store.decisions()) == 9
        assert not caught.value.kept_in.exists()


def test_a_batch_that_waits_is_stored_by_the_next_process(file: Path) -> None:
    with opened(file) as store:
        store.add(batch())
        with sqlite3.connect(file, isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreUnavailableError):
                store.add(batch())
        other.close()
    with opened(file) as fresh:
        assert fresh.flush_outbox() == 4
        assert fresh.flush_outbox() == 0
        assert len(fresh.decisions()) == 6


def test_a_deleted_file_is_noticed_before_the_commit_is_lost(file: Path) -> None:
    with opened(file) as store:
        store.add(batch())
        for part in file.parent.glob("signals.db*"):
            part.unlink()
        with pytest.raises(StoreUnavailableError, match="No such file"):
            store.add(batch())
        store.add(batch(1))
        assert len(store.decisions()) == 4


def test_a_replaced_file_is_noticed(file: Path) -> None:
    with opened(file) as store:
        store.add(batch())
        file.rename(file.with_name("moved.db"))
        sqlite3.connect(file).close()
        file.touch()
        with pytest.raises(StoreUnavailableError, match="deleted or replaced"):
            store.add(batch())
        assert store.flush_outbox() == 4


def test_a_file_that_goes_in_the_middle_of_a_batch_stores_nothing_silently(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(file) as store:
        store.add(batch())
        real = signals_module.SignalStore._insert

        def insert_and_unlink(self: SignalStore, *arguments: object) -> int:
            added = real(self, *arguments)  # type: ignore[arg-type]
            file.unlink(missing_ok=True)
            return added

        with monkeypatch.context() as patch:
            patch.setattr(signals_module.SignalStore, "_insert", insert_and_unlink)
            with pytest.raises(StoreUnavailableError) as caught:
                store.add(batch())
        assert caught.value.kept_in is not None
        for part in file.parent.glob("signals.db-*"):
            part.unlink()
        assert store.flush_outbox() == 4


def test_a_file_that_is_no_database_is_left_alone(file: Path) -> None:
    file.write_bytes(b"these are not the bytes you are looking for" * 100)
    with opened(file) as store:
        with pytest.raises(StoreUnavailableError, match="not a database; move the file away"):
            store.add(batch())
        assert file.read_bytes().startswith(b"these are not")
        file.unlink()
        assert store.flush_outbox() == 4


def test_a_damaged_database_says_so(file: Path) -> None:
    with opened(file) as store:
        store.add(batch(2000))
    content = bytearray(file.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    file.write_bytes(content)
    with opened(file) as store, pytest.raises(StoreUnavailableError, match=r"malformed.*backup"):
        store.decisions()


def test_a_full_disk_keeps_the_batch_in_the_error(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with opened(file) as store:
        store.add(batch(1))
        with store.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1")
        monkeypatch.setattr(Outbox, "keep", no_space)
        sent = batch(5_000)
        with pytest.raises(StoreUnavailableError, match=r"full; free space.*'unwritten'") as caught:
            store.add(sent)
        assert caught.value.unwritten == tuple(sent)
        assert caught.value.kept_in is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with (
        opened(tmp_path / "signals.db") as store,
        pytest.raises(StoreUnavailableError, match="unable to open"),
    ):
        store.add(batch())


def test_a_folder_that_is_a_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with opened(tmp_path / "taken" / "signals.db") as store, pytest.raises(StoreUnavailableError) as caught:
        store.add(batch())
    assert "taken" in str(caught.value)
    assert len(caught.value.unwritten) == 4


def test_a_read_only_database_can_be_read_and_says_so(file: Path) -> None:
    with opened(file) as store:
        store.add(batch())
    url = f"sqlite:///file:{file}?mode=ro&uri=true"
    with SignalStore(url) as store:
        assert len(store.decisions()) == 3
        with pytest.raises(StoreUnavailableError, match="make the file and its folder writable") as caught:
            store.add(batch())
    assert len(caught.value.unwritten) == 4


def test_a_database_in_shared_memory_makes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with SignalStore("sqlite:///file:shared?mode=memory&uri=true") as store:
        assert store.add(batch()) == 4
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_cannot_be_read_is_set_aside(file: Path) -> None:
    outbox = Outbox(file.with_name("signals.db.outbox"))
    kept = outbox.keep(batch())
    with kept.open("a") as text:
        text.write('{"kind": "decision", "sym\n')
    with opened(file) as store:
        assert store.flush_outbox() == 4
    assert kept.with_suffix(".damaged").read_text() == '{"kind": "decision", "sym\n'


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    url = "postgresql://trader:hunter2@127.0.0.1:1/none"
    with SignalStore(url, outbox=tmp_path / "outbox") as store:
        with pytest.raises(StoreUnavailableError, match="refused") as caught:
            store.add(batch())
        assert caught.value.kept_in is not None
        assert "hunter2" not in str(caught.value)


def test_a_wrong_password_is_not_shown(postgres_url: str) -> None:
    head, tail = postgres_url.split("@")
    wrong = f"{head.rsplit(':', 1)[0]}:hunter2@{tail}"
    with (
        SignalStore(wrong) as store,
        pytest.raises(StoreUnavailableError, match="check the user and password") as caught,
    ):
        store.add(batch())
    assert "hunter2" not in str(caught.value)


def test_a_session_ended_by_the_server_is_replaced(postgres_url: str, tmp_path: Path) -> None:
    with SignalStore(postgres_url, outbox=tmp_path) as store:
        store.add(batch())
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = 'trader'"
        admin = sa.create_engine(postgres_url.replace("postgresql:", "postgresql+psycopg:"))
        with admin.begin() as connection:
            connection.exec_driver_sql(ended)
        assert store.add(batch()) == 4
        admin.dispose()


def test_a_session_that_ends_in_the_middle_of_a_batch_loses_nothing(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = signals_module.SignalStore._insert
    url = postgres_url.replace("postgresql:", "postgresql+psycopg:")

    def insert_and_end(self: SignalStore, connection: sa.Connection, *rest: object) -> int:
        added = real(self, connection, *rest)  # type: ignore[arg-type]
        own = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
        admin = sa.create_engine(url)
        with admin.begin() as second:
            second.exec_driver_sql(f"SELECT pg_terminate_backend({own}, 5000)")
        admin.dispose()
        return added

    with SignalStore(postgres_url, outbox=tmp_path) as store:
        before = len(store.decisions())
        with monkeypatch.context() as patch:
            patch.setattr(signals_module.SignalStore, "_insert", insert_and_end)
            with pytest.raises(StoreUnavailableError, match="terminat") as caught:
                store.add(batch())
        assert caught.value.kept_in is not None
        assert len(store.decisions()) == before
        assert store.flush_outbox() == 4
        assert len(store.decisions()) == before + 3


def test_a_transaction_left_open_is_ended_by_the_server(postgres_url: str) -> None:
    settings = StoreSettings(idle_in_transaction_timeout_s=0.05)
    with SignalStore(postgres_url, settings=settings) as store, SignalStore(postgres_url) as clock:
        with store.engine.connect() as idle:
            idle.exec_driver_sql("SELECT 1")
            with clock.engine.connect() as other:
                other.exec_driver_sql("SELECT pg_sleep(0.3)")
            with pytest.raises(sa.exc.DBAPIError, match="idle-in-transaction timeout"):
                idle.exec_driver_sql("SELECT 1")
        assert store.add(batch()) == 4


def test_rows_locked_by_another_session_end_the_wait(postgres_url: str, tmp_path: Path) -> None:
    settings = StoreSettings(lock_timeout_s=0.05)
    with SignalStore(postgres_url, settings=settings, outbox=tmp_path) as store:
        store.add(batch())
        admin = sa.create_engine(postgres_url.replace("postgresql:", "postgresql+psycopg:"))
        with admin.begin() as holder:
            holder.exec_driver_sql("LOCK TABLE decisions IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(StoreUnavailableError, match="raise lock_timeout_s"):
                store.add(batch())
        assert store.flush_outbox() == 4
        admin.dispose()


def test_postgresql_without_its_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_tradeperf.pipeline.errors import MissingExtraError

    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(MissingExtraError, match=r"pytest-tradeperf\[postgres\]"):
        SignalStore("postgresql://trader@127.0.0.1/none")


KILLED = """
import sys
from datetime import UTC, datetime
from pytest_tradeperf.pipeline.store import Signal, SignalStore

with SignalStore(sys.argv[1]) as store:
    for number in range(100_000):
        rows = [Signal(symbol=f"N{number}", as_of=datetime(2024, 1, 8, tzinfo=UTC), vector=[1.0]) for _ in range(50)]
        store.add(rows)
        print(number, flush=True)
"""


def test_a_killed_process_leaves_whole_batches_and_all_it_reported(file: Path) -> None:
    url = f"sqlite:///{file}"
    with subprocess.Popen([sys.executable, "-c", KILLED, url], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        reported = [int(process.stdout.readline()) for _ in range(20)]
        process.kill()
        reported += [int(line) for line in process.stdout.read().split()]
    with SignalStore(url) as store:
        symbols = [signal.symbol for signal in store.signals()]
    assert len(symbols) % 50 == 0
    assert {f"N{number}" for number in reported} <= set(symbols)
