"""Postgres as a warehouse: its credentials, its locks, and the dlt destination that writes it."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from dlt.common.configuration import resolve_configuration
from dlt.common.configuration.exceptions import ConfigurationException
from dlt.destinations.impl.postgres.configuration import PostgresCredentials
from dlt.destinations.sql_client import SqlClientBase

from analytics_dagster.csv_files import COPY_TO, as_csv, from_csv
from analytics_dagster.database import DATASET, AnyDestination, Question
from analytics_dagster.errors import SettingError, WarehouseConnectionError
from analytics_dagster.postgres_lock import AdvisoryLock
from analytics_dagster.redaction import Redactor
from analytics_dagster.scratch import Scratch
from analytics_dagster.sql import names

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812  psycopg2's own name

_SECTIONS = ("destination", "postgres", "credentials")
CREDENTIALS_VARIABLE = "DESTINATION__POSTGRES__CREDENTIALS"
_HOW = (
    f"Set {CREDENTIALS_VARIABLE}, or [destination.postgres] credentials in .dlt/secrets.toml, to "
    "postgresql://user:password@host:5432/database, with other signs than letters and digits "
    "percent-encoded."
)


@dataclass(frozen=True)
class PostgresWarehouse:
    """A Postgres database; see `database.Database` for the methods. Times are in seconds."""

    kind: ClassVar[str] = "postgres"
    setting: ClassVar[str] = CREDENTIALS_VARIABLE
    file_format: ClassVar[Literal["parquet", "csv"]] = "csv"

    overlap_timeout: float

    def place(self) -> str:
        """Server and database."""
        found = _credentials()
        return f"{found.host}:{found.port}/{found.database}"

    def folders(self) -> list[Path]:
        """None: the server has its own."""
        return []

    def is_there(self) -> bool:
        """Asking makes nothing."""
        return True

    def shown(self, table: str) -> str:
        """Schema and table."""
        return f"{DATASET}.{table}"

    def look(self, table: str) -> str:
        """A command of Postgres's own program, which asks for the password."""
        found = _credentials()
        options = f"-h {found.host} -p {found.port} -U {found.username} -d {found.database}"
        return f'psql {options} -c "SELECT * FROM {self.shown(table)} LIMIT 20"'

    @contextmanager
    def one_load(self, resource: str) -> Iterator[Callable[[], None]]:
        """The lock is one of the server's, and holds as long as a connection of its own.

        Raises:
            OverlapError: another run loaded the resource for `overlap_timeout` seconds.
            WarehouseConnectionError: the server cannot be reached, or refuses the credentials.
        """
        with _connected() as connection:
            lock = AdvisoryLock(connection, f"{DATASET}.{resource}")
            lock.acquire(self.overlap_timeout)
            yield lock.check

    def is_being_loaded(self, resource: str) -> bool:
        """Whether a process that lives loads the resource now, on any host."""
        with _connected() as connection:
            return AdvisoryLock(connection, f"{DATASET}.{resource}").holder() is not None

    @contextmanager
    def writing(self, *, alone: bool) -> Iterator[AnyDestination]:
        """The database, written beside others, or `alone`.

        Of first loads that make the dataset together, or that fill the table in which dlt stages
        rejected rows, one would break the other.

        Raises:
            OverlapError: another load had to be alone for `overlap_timeout` seconds.
            WarehouseConnectionError: the server cannot be reached, or refuses the credentials.
        """
        with _connected() as connection:
            from analytics_dagster.postgres_copying import CopyingPostgres

            if alone:
                AdvisoryLock(connection, DATASET).acquire(self.overlap_timeout)
            yield CopyingPostgres(_credentials())

    def load_file(self, file: Path, scratch: Scratch) -> Path:
        """The rows as CSV, for COPY."""
        return as_csv(file, scratch)

    def answer(
        self, question: Question, client: SqlClientBase[Any], table: str, scratch: Scratch
    ) -> int:
        """The number that answers a question, from a copy of what it needs of the table."""
        copy = scratch.folder / "old.csv"
        rows = f"SELECT {names(question.columns)} FROM {table} {question.where}"
        with copy.open("wb") as file, client.native_connection.cursor() as cursor:
            cursor.execute("SET datestyle TO 'ISO, YMD'; SET timezone TO 'UTC'")
            cursor.copy_expert(f"COPY ({rows}) TO STDOUT ({COPY_TO})", file)
        query = question.query.replace("{table}", from_csv(copy, question.columns))
        with scratch.connect() as connection:
            [[number]] = connection.execute(query).fetchall()
        copy.unlink()
        return int(number)


def _credentials() -> PostgresCredentials:
    """The credentials as dlt finds them now."""
    try:
        found = resolve_configuration(PostgresCredentials(), sections=_SECTIONS)
    except (ConfigurationException, ValueError):
        found = None  # the exception may quote the password
    if found is None or not (found.host and found.username and found.database):
        raise WarehouseConnectionError(f"There are no whole credentials for Postgres. {_HOW}")
    if "@" in found.host:
        raise WarehouseConnectionError(f"The credentials for Postgres have two @ in them. {_HOW}")
    return found


@contextmanager
def _connected() -> Iterator[Connection]:
    """A connection of its own, which says in pg_stat_activity whose it is."""
    if find_spec("psycopg2") is None:
        raise SettingError(
            "Postgres is the destination, and the library psycopg2 is not installed. Install it: "
            'pip install "analytics-dagster[postgres]"'
        )
    connection = _connection(_credentials())
    try:
        yield connection
    finally:
        connection.close()


def _connection(credentials: PostgresCredentials) -> Connection:
    import psycopg2

    whose = f"process {os.getpid()} on {socket.gethostname()}"
    try:
        connection = psycopg2.connect(
            credentials.to_native_representation(),
            application_name=whose[:63],
            keepalives_idle=60,
        )
        connection.autocommit = True
        return connection
    except psycopg2.Error as error:
        said = (str(error).strip().splitlines() or [""])[0]
    # Without the connection, which is named below in words of ours.
    said = re.sub(r"^.*?(FATAL|failed): +", "", said)
    said = Redactor(str(credentials.password or "")).text(said)
    raise WarehouseConnectionError(
        f"Postgres at {credentials.host}:{credentials.port}, database {credentials.database}, "
        f"user {credentials.username}, cannot be used: {said.rstrip('.')}. Nothing was changed. "
        f"Check {CREDENTIALS_VARIABLE} (or .dlt/secrets.toml), and that the server runs and can be "
        "reached from here."
    )
