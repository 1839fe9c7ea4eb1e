"""Postgres as a warehouse: its locks, and the dlt destination that writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from dlt.destinations.sql_client import SqlClientBase

from analytics_dagster.csv_files import COPY_TO, as_csv, from_csv
from analytics_dagster.database import DATASET, AnyDestination, Question, dlt_client
from analytics_dagster.postgres_connection import CREDENTIALS_VARIABLE, connected, credentials
from analytics_dagster.postgres_lock import AdvisoryLock
from analytics_dagster.scratch import Scratch
from analytics_dagster.sql import names


@dataclass(frozen=True)
class PostgresWarehouse:
    """A Postgres database; see `database.Database` for the methods. Times are in seconds."""

    kind: ClassVar[str] = "postgres"
    setting: ClassVar[str] = CREDENTIALS_VARIABLE
    file_format: ClassVar[Literal["parquet", "csv"]] = "csv"
    has_types: ClassVar[bool] = True

    overlap_timeout: float

    def place(self) -> str:
        """Server and database."""
        found = credentials()
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
        found = credentials()
        options = f"-h {found.host} -p {found.port} -U {found.username} -d {found.database}"
        return f'psql {options} -c "SELECT * FROM {self.shown(table)} LIMIT 20"'

    @contextmanager
    def one_load(self, resource: str) -> Iterator[Callable[[], None]]:
        """The lock is one of the server's, and holds as long as a connection of its own.

        Raises:
            OverlapError: another run loaded the resource for `overlap_timeout` seconds.
            WarehouseConnectionError: the server cannot be reached, or refuses the credentials.
        """
        with connected(credentials(), CREDENTIALS_VARIABLE) as connection:
            lock = AdvisoryLock(connection, f"{DATASET}.{resource}")
            lock.acquire(self.overlap_timeout)
            yield lock.check

    def is_being_loaded(self, resource: str) -> bool:
        """Whether a process that lives loads the resource now, on any host."""
        with connected(credentials(), CREDENTIALS_VARIABLE) as connection:
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
        with connected(credentials(), CREDENTIALS_VARIABLE) as connection:
            from analytics_dagster.postgres_copying import CopyingPostgres

            if alone:
                AdvisoryLock(connection, DATASET).acquire(self.overlap_timeout)
            yield CopyingPostgres(credentials())

    def asking(
        self, destination: AnyDestination, resource: str
    ) -> AbstractContextManager[SqlClientBase[Any]]:
        """The connection is dlt's own."""
        return dlt_client(destination, resource)

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
