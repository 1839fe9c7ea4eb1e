"""The warehouse: one DuckDB file, its lock, and the dlt destination that writes it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import dlt
import duckdb
from dlt.common.destination import Destination
from dlt.destinations.impl.duckdb.configuration import DuckDbCredentials
from filelock import BaseFileLock, FileLock, Timeout
from pydantic import Field

from analytics_dagster import scratch
from analytics_dagster.errors import (
    OverlapError,
    SettingError,
    WarehouseError,
    WarehouseLockedError,
    WarehousePathError,
)
from analytics_dagster.full_disk import full_disk
from analytics_dagster.progress import LOGGER
from analytics_dagster.sql import literal, quoted

DATASET = "analytics"
# Without a name of its own the file analytics.duckdb would be the catalog `analytics`, and
# DuckDB refuses to choose between a catalog and a schema of one name.
CATALOG = "warehouse"
AnyDestination = Destination[Any, Any]
PATH_VARIABLE = "ANALYTICS_DUCKDB_PATH"
PROJECT_ROOT = Path(__file__).resolve().parents[1]


class Warehouse(dg.ConfigurableResource[None]):
    """The DuckDB file that the assets are loaded into; the tables are in dataset `analytics`."""

    duckdb_path: str = Field(
        default="",
        description="The DuckDB file; relative to the project's root. Empty: "
        f"{PATH_VARIABLE}, and when that is unset analytics.duckdb.",
    )
    lock_timeout: float = Field(
        default=60,
        gt=0,
        description="Seconds to wait while another program holds the DuckDB file.",
    )
    overlap_timeout: float = Field(
        default=600,
        gt=0,
        description="Seconds to wait while another run loads the same resource.",
    )
    memory_mb: int = Field(
        default=384,
        ge=128,
        description="Megabytes that DuckDB may take during a load, beside what Python takes.",
    )

    def path(self) -> Path:
        """The absolute path of the DuckDB file.

        Raises:
            SettingError: it names no file.
        """
        name = self.duckdb_path or os.environ.get(PATH_VARIABLE, "analytics.duckdb")
        if not name.strip() or name.startswith((":", "md:")):
            shown = name.partition("?")[0]  # behind it MotherDuck has its token
            raise SettingError(
                f"{PATH_VARIABLE}={shown!r} names no file. Set it to the path of a DuckDB file, "
                "or unset it to use analytics.duckdb."
            )
        return (PROJECT_ROOT / Path(name).expanduser()).resolve()

    def shown(self, table: str) -> str:
        """The table as a reader of the file names it: DuckDB calls the database by the file."""
        return f"{quoted(self.path().name.partition('.')[0])}.{DATASET}.{table}"

    def description(self) -> AnyDestination:
        """The kind of destination, before it is opened: settings are not looked at."""
        return dlt.destinations.duckdb()

    @contextmanager
    def one_load(self, resource: str) -> Iterator[None]:
        """While the block runs, no other run loads the resource into this file.

        One load reads the API after the other: of two at the same time the one that ends last
        could put old rows over new ones. The file beside the DuckDB file stays; the lock goes
        with the process.

        Raises:
            OverlapError: another run loaded the resource for `overlap_timeout` seconds.
            WarehousePathError: the folder cannot be written.
        """
        lock = self._lock(resource)
        file = Path(lock.lock_file)
        failure: WarehouseError | None = None
        try:
            # The lock would make the folder, and a mistyped path a second warehouse.
            file.parent.stat()
            if self.is_being_loaded(resource):
                LOGGER.info(
                    "%s is being loaded by %s: waiting for %g s at most.",
                    resource,
                    file.read_text(),
                    self.overlap_timeout,
                )
            lock.acquire(self.overlap_timeout)
            file.write_text(f"process {os.getpid()}")
        except Timeout:
            failure = OverlapError(
                f"{resource} is being loaded by {file.read_text() or 'another run'}, for longer "
                f"than {self.overlap_timeout:g} s. Nothing was read or written. Wait for that run "
                "to end, or end it, and run again."
            )
        except OSError as error:
            failure = full_disk(error, file.parent) or WarehousePathError(
                f"{PATH_VARIABLE}: {file} cannot be written: {error.strerror}. Set "
                f"{PATH_VARIABLE} to a DuckDB file in a folder that exists and that you may write."
            )
        if failure:
            raise failure
        try:
            yield
        finally:
            lock.release()

    def is_being_loaded(self, resource: str) -> bool:
        """Whether a process that lives loads the resource now."""
        lock = self._lock(resource)
        if not Path(lock.lock_file).exists():
            return False
        try:
            with lock.acquire(0):
                return False
        except Timeout:
            return True

    def _lock(self, resource: str) -> BaseFileLock:
        path = self.path()
        # Whoever may write the DuckDB file may lock it, too.
        return FileLock(path.with_name(f"{path.name}.{resource}.lock"), mode=0o666)

    @contextmanager
    def writing(self) -> Iterator[AnyDestination]:
        """The file as a dlt destination, locked by DuckDB while the block runs.

        It has transactions: dlt merges and replaces by DELETE and INSERT, and without them a
        process that is killed in between leaves the table empty.

        Raises:
            WarehouseLockedError: another program held the file for `lock_timeout` seconds.
            WarehousePathError: the file cannot be opened or created.
        """
        path = self.path()
        with scratch.connect(Path(f"{path}.tmp"), self.memory_mb) as connection:
            self._attach(connection, path, time.monotonic() + self.lock_timeout)
            credentials = DuckDbCredentials(connection, local_config={"schema": f"{CATALOG}.main"})
            yield dlt.destinations.duckdb(
                credentials, supports_transactions=True, replace_strategy="insert-from-staging"
            )

    def _attach(self, connection: duckdb.DuckDBPyConnection, path: Path, give_up_at: float) -> None:
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
