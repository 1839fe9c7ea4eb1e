"""A real Postgres server on loopback, from Debian's package, for as long as the tests run."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2

USER, PASSWORD = "loader", "s3cr%t/pass word"
_QUOTED = "s3cr%25t%2Fpass%20word"
_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@dataclass
class PostgresServer:
    """The server; each test gets a database of its own."""

    port: int
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def new_database(self) -> str:
        """The credentials of an empty database, as the settings take them."""
        name = f"warehouse_{next(self._numbers)}"
        self.query(self.credentials("postgres"), f"CREATE DATABASE {name}")
        return self.credentials(name)

    def credentials(self, database: str) -> str:
        return f"postgresql://{USER}:{_QUOTED}@127.0.0.1:{self.port}/{database}"

    def query(self, credentials: str, sql: str) -> list[tuple[Any, ...]]:
        """The answer to a statement, in the schema of the tables; none is a list, too."""
        connection = psycopg2.connect(credentials, options="-csearch_path=analytics")
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    assert found, "Postgres is not installed: apt-get install -y postgresql"
    return found[-1].parent


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A new server; it is ended, and its data removed, after the block."""
    binaries = _binaries()
    folder = Path(tempfile.mkdtemp(prefix="postgres_", dir="/tmp"))
    # Postgres refuses to be root; anybody else may run it.
    account: dict[str, Any] = {}
    if os.geteuid() == 0:
        account = {"user": "postgres", "group": "postgres"}
        shutil.chown(folder, **account)
    try:
        _initialize(binaries, folder, account)
        with _served(binaries, folder, account) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _initialize(binaries: Path, folder: Path, account: dict[str, Any]) -> None:
    password = folder / "password"
    password.write_text(PASSWORD)
    password.chmod(0o644)
    options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
    made = subprocess.run(
        [binaries / "initdb", "-D", folder / "data", f"--pwfile={password}", "-U", USER, *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        **account,
    )
    assert made.returncode == 0, made.stderr


@contextmanager
def _served(binaries: Path, folder: Path, account: dict[str, Any]) -> Iterator[PostgresServer]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = (*_FAST, "listen_addresses=127.0.0.1", "unix_socket_directories=", f"port={port}")
    options = [part for setting in settings for part in ("-c", setting)]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            [binaries / "postgres", "-D", folder / "data", *options],
            cwd=folder,
            stdout=log,
            stderr=log,
            **account,
        ) as process,
    ):
        try:
            yield _reachable(PostgresServer(port), process, folder / "log")
        finally:
            process.send_signal(signal.SIGQUIT)


def _reachable(
    server: PostgresServer, process: subprocess.Popen[bytes], log: Path
) -> PostgresServer:
    give_up_at = time.monotonic() + 30
    while time.monotonic() < give_up_at:
        assert process.poll() is None, log.read_text()
        with suppress(psycopg2.OperationalError):
            server.query(server.credentials("postgres"), "SELECT 1")
            break
        time.sleep(0.05)
    return server
