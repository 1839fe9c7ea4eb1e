"""A DuckLake as a warehouse: a catalog in Postgres, and parquet files in a folder or on S3."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import duckdb
from dlt.destinations.sql_client import SqlClientBase
from dotenv import load_dotenv

from analytics_dagster.database import DATASET, AnyDestination, AskedByDuckDb, dlt_client
from analytics_dagster.ducklake_catalog import Catalog
from analytics_dagster.ducklake_files import file_errors, folder
from analytics_dagster.ducklake_settings import CATALOG_VARIABLE, credentials
from analytics_dagster.scratch import Scratch


@dataclass(frozen=True)
class DuckLakeWarehouse(AskedByDuckDb):
    """A DuckLake; see `database.Database` for the methods. Times are in seconds."""

    kind: ClassVar[str] = "ducklake"
    setting: ClassVar[str] = CATALOG_VARIABLE

    overlap_timeout: float
    memory_mb: int

    def place(self) -> str:
        """Server, database and schema of the catalog."""
        return credentials().catalog_location()

    def folders(self) -> list[Path]:
        """The folder of the files, or what there is of its path; none on S3."""
        lake = credentials()
        return [folder(lake)] if lake.storage.is_local_filesystem else []

    def is_there(self) -> bool:
        """Whether there is a catalog: attaching it would make it."""
        with Catalog.opened() as catalog:
            return catalog.is_there()

    def shown(self, table: str) -> str:
        """The table where the lake is attached under its own name."""
        return f"{credentials().ducklake_name}.{DATASET}.{table}"

    def look(self, table: str) -> str:
        """A command of Python's, which finds the credentials as a load does."""
        module, name = DuckLakeWarehouse.__module__, DuckLakeWarehouse.__name__
        return f"{sys.executable} -c \"from {module} import {name}; {self}.show('{table}')\""

    def show(self, table: str) -> None:
        """Prints rows of a table; with the settings of `.env`, as `make run`."""
        load_dotenv(interpolate=False)
        with self.attached() as connection:
            connection.sql(f"FROM {table}").show()

    @contextmanager
    def attached(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A DuckDB in which the tables are known by their names, while the block runs."""
        with (
            self.writing(alone=False) as destination,
            self.asking(destination, DATASET) as client,
        ):
            yield client.native_connection

    @contextmanager
    def one_load(self, resource: str) -> Iterator[Callable[[], None]]:
        """The lock is one of the catalog's server, and holds as long as a connection of its own.

        Raises:
            OverlapError: another run loaded the resource for `overlap_timeout` seconds.
            WarehouseConnectionError: the server cannot be reached, or refuses the credentials.
        """
        with Catalog.opened() as catalog:
            lock = catalog.lock(resource)
            lock.acquire(self.overlap_timeout)
            yield lock.check

    def is_being_loaded(self, resource: str) -> bool:
        """Whether a process that lives loads the resource now, on any host."""
        with Catalog.opened() as catalog:
            return catalog.lock(resource).holder() is not None

    @contextmanager
    def writing(self, *, alone: bool) -> Iterator[AnyDestination]:
        """The lake, written beside others, or `alone`, as also when it has to be made.

        Raises:
            OverlapError: another load had to be alone for `overlap_timeout` seconds.
            SettingError: the lake has its files in another place.
            WarehouseConnectionError: the server cannot be reached, or refuses the credentials.
            WarehousePathError: the files cannot be read or written.
        """
        with Catalog.opened() as catalog, TemporaryDirectory(prefix="duckdb_") as temporary:
            from analytics_dagster.ducklake_attaching import AttachingDuckLake

            if alone or not catalog.is_there():
                catalog.lock().acquire(self.overlap_timeout)
            with file_errors(catalog.lake):
                yield AttachingDuckLake(catalog.lake, Scratch(Path(temporary), self.memory_mb))

    def asking(
        self, destination: AnyDestination, resource: str
    ) -> AbstractContextManager[SqlClientBase[Any]]:
        """The connection is dlt's own."""
        return dlt_client(destination, resource)
