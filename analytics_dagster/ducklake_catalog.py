"""The catalog of a DuckLake, asked through a connection of its own to the Postgres that has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlt.destinations.impl.ducklake.configuration import DuckLakeCredentials

from analytics_dagster.database import DATASET
from analytics_dagster.ducklake_settings import (
    CATALOG_VARIABLE,
    STORAGE_VARIABLE,
    catalog,
    credentials,
    schema,
)
from analytics_dagster.errors import SettingError
from analytics_dagster.postgres_connection import connected
from analytics_dagster.postgres_lock import AdvisoryLock
from analytics_dagster.sql import quoted

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812  psycopg2's own name


@dataclass(frozen=True)
class Catalog:
    """The catalog of a `lake`, while the `connection` is open."""

    lake: DuckLakeCredentials
    connection: Connection

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[Catalog]:
        """The catalog that the settings name, for the block; it is not made.

        Raises:
            SettingError: the settings cannot be used.
            WarehouseConnectionError: the server cannot be reached, or refuses the credentials.
        """
        lake = credentials()
        with connected(catalog(lake), CATALOG_VARIABLE) as connection:
            yield cls(lake, connection)

    def lock(self, *resource: str) -> AdvisoryLock:
        """The lock of the whole lake, or of a resource in it."""
        # A database may have the catalogs of several lakes.
        return AdvisoryLock(self.connection, ".".join([schema(self.lake), DATASET, *resource]))

    def is_there(self) -> bool:
        """Whether there is a catalog, and not only the database for it.

        Raises:
            SettingError: there is one of a lake that has its files in another place.
        """
        table = f"{quoted(schema(self.lake))}.ducklake_metadata"
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass(%s)", (table,))
            if cursor.fetchone() == (None,):
                return False
            cursor.execute(f"SELECT value FROM {table} WHERE key = 'data_path'")
            [(files,)] = cursor.fetchall()
        if files != f"{self.lake.storage_url.rstrip('/')}/":
            raise SettingError(
                f"{STORAGE_VARIABLE} is {self.lake.storage_url}, and the files of the lake in "
                f"{self.lake.catalog_location()} are in {files}. Set it to that, or "
                f"{CATALOG_VARIABLE} to another database."
            )
        return True
