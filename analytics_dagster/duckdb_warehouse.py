"""DuckDB as a warehouse: one file, its locks, and the dlt destination that writes it."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import dlt
import duckdb
from dlt.destinations.impl.duckdb.configuration import DuckDbCredentials
from dlt.destinations.sql_client import SqlClientBase

from analytics_dagster import file_lock, scratch
from analytics_dagster.database import DATASET, AnyDestination, AskedByDuckDb, dlt_client
from analytics_dagster.errors import WarehouseLockedError, WarehousePathError
from analytics_dagster.full_disk import full_disk
from analytics_dagster.progress import LOGGER
from analytics_dagster.sql import literal, quoted

# Without a name of its own the file analytics.duckdb would be the catalog `analytics`, and
# DuckDB refuses to choose between a catalog and a schema of one name.
CATALOG = "warehouse"
PATH_VARIABLE = "ANALYTICS_DUCKDB_PATH"


@dataclass(frozen=True)
class DuckDbWarehouse(AskedByDuckDb):
    """A DuckDB file; see `database.Database` for the methods. Times are in seconds."""

    kind: ClassVar[str] = "duckdb"
    setting: ClassVar[str] = PATH_VARIABLE

    path: Path
    lock_timeout: float
    overlap_timeout: float
    memory_mb: int

    def place(self) -> str:
        """The path of the file."""
        return str(self.path)

    def folders(self) -> list[Path]:
        """The folder of the file."""
        return [self.path.parent]

    def is_there(self) -> bool:
        """Whether there is the file: opening it would make it."""
        return self.path.exists()

    def shown(self, table: str) -> str:
        """The table as a reader of the file names it: DuckDB calls the database by the file."""
        return f"{quoted(self.path.name.partition('.')[0])}.{DATASET}.{table}"

    def look(self, table: str) -> str:
        """A command of Python's: DuckDB has no program of its own here."""
        shown = self.shown(table).replace('"', r"\"")
        opened = f"import duckdb; duckdb.connect('{self.path}')"
        return f"{sys.executable} -c \"{opened}.sql('FROM {shown}').show()\""

    @contextmanager
    def one_load(self, resource: str) -> Iterator[Callable[[], None]]:
        """The file beside the DuckDB file stays; the lock goes with the process, and only so.

        Raises:
            OverlapError: another run loaded the resource for `overlap_timeout` seconds.
            WarehousePathError: the folder cannot be written.
        """
        how = (
            f"Set {PATH_VARIABLE} to a DuckDB file in a folder that exists and that you may write."
        )
        with file_lock.held(self._lock(resource), resource, self.overlap_timeout, how):
            yield lambda: None

    def is_being_loaded(self, resource: str) -> bool:
        """Whether a process that lives loads the resource now."""
        return file_lock.is_held(self._lock(resource))

    def _lock(self, resource: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{resource}.lock")

    @contextmanager
    def writing(self, *, alone: bool) -> Iterator[AnyDestination]:  # noqa: ARG002  it always is
        """The file, locked by DuckDB while the block runs.

        Raises:
            WarehouseLockedError: another program held the file for `lock_timeout` seconds.
            WarehousePathError: the file cannot be opened or created.
        """
        with scratch.connect(Path(f"{self.path}.tmp"), self.memory_mb) as connection:
            self._attach(connection, time.monotonic() + self.lock_timeout)
            credentials = DuckDbCredentials(connection, local_config={"schema": f"{CATALOG}.main"})
            yield dlt.destinations.duckdb(
                credentials, supports_transactions=True, replace_strategy="insert-from-staging"
            )

    def asking(
        self, destination: AnyDestination, resource: str
    ) -> AbstractContextManager[SqlClientBase[Any]]:
        """The connection is dlt's own."""
        return dlt_client(destination, resource)

    def _attach(self, connection: duckdb.DuckDBPyConnection, give_up_at: float) -> None:
        path = self.path
        is_told = False
        while True:
            try:
                connection.execute(f"ATTACH {literal(path)} AS {CATALOG}")
                return
            except duckdb.Error as error:
                problem = str(error)
                full = full_disk(error, path.parent)
            if full:
                raise full
            if "Could not set lock" not in problem:
                raise WarehousePathError(
                    f"{PATH_VARIABLE}: {path} cannot be opened as a DuckDB file for writing: "
                    f"{problem.splitlines()[0].rstrip('!.')}. Set {PATH_VARIABLE} to a DuckDB "
                    "file, or to a new one, in a folder that exists and that you may write."
                )
            found = re.search(r"lock is held in (.*?\(PID \d+\))", problem)
            holder = found[1] if found else "another program"
            if not is_told:
                LOGGER.info("%s is held by %s: waiting.", path, holder)
                is_told = True
            if time.monotonic() > give_up_at:
                raise WarehouseLockedError(
                    f"{path} is held by {holder}, for longer "
                    f"than {self.lock_timeout:g} s. Close that program or its connection, and run "
                    "again; the rows are as they were."
                )
            time.sleep(0.2)
