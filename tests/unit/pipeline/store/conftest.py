from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from pytest_tradeperf.pipeline.store import SignalStore

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = secrets.token_hex(8)


def server_programs() -> Path | None:
    """The folder of PostgreSQL's server programs, newest version first; Debian keeps them off the PATH."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    if debian:
        return debian[-1].parent
    return Path(on_path).resolve().parent if on_path else None


def installed_programs() -> Path:
    """As above, installed from Debian's package first where a CI run is allowed to; otherwise a skip that says how."""
    found = server_programs()
    if found is None and os.environ.get("CI") and os.geteuid() == 0 and shutil.which("apt-get"):
        for command in (["apt-get", "update", "-q"], ["apt-get", "install", "-qy", "postgresql"]):
            subprocess.run(command, check=False, capture_output=True, timeout=300)
        found = server_programs()
    if found is None:
        pytest.skip("PostgreSQL's server is not installed: apt-get install postgresql")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """A real server on loopback, in a folder and on a port of its own, gone after the session."""
    pytest.importorskip(
        "psycopg", reason="the driver is not installed: pip install 'pytest-tradeperf[postgres]'"
    )
    programs = installed_programs()
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="tradeperf-pg-"))
    try:
        if user is not None:
            shutil.chown(folder, user)
        secret = folder / "password"
        secret.write_text(PASSWORD)
        if user is not None:
            shutil.chown(secret, user)
        data, port = folder / "data", free_port()
        make: list[Path | str] = [
            programs / "initdb",
            "-D",
            data,
            "-U",
            "trader",
            "-A",
            "scram-sha-256",
            f"--pwfile={secret}",
        ]
        subprocess.run(
            [*make, "--no-sync", "--no-instructions", "-E", "UTF8", "--locale=C"],
            check=True,
            capture_output=True,
            user=user,
            cwd=folder,
        )
        options = (
            f"-p {port} -h 127.0.0.1 -k {folder} -c fsync=off -c max_connections=30 -c shared_buffers=16MB"
        )
        control: list[Path | str] = [programs / "pg_ctl", "-D", data, "-w", "-t", "60"]
        subprocess.run(
            [*control, "-l", folder / "log", "-o", options, "start"],
            check=True,
            user=user,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield f"postgresql://trader:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run(
                [*control, "-m", "immediate", "stop"], check=True, user=user, cwd=folder, capture_output=True
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The server's URL, its tables dropped after the test."""
    from pytest_tradeperf.pipeline.store.schema import METADATA

    yield postgres_server
    engine = sa.create_engine(postgres_server.replace("postgresql:", "postgresql+psycopg:"))
    METADATA.drop_all(engine)
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/signals.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def store(url: str, tmp_path: Path) -> Iterator[SignalStore]:
    with SignalStore(url, outbox=tmp_path / "outbox") as made:
        yield made
