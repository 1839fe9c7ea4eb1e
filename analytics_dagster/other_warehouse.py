"""Another destination of dlt's as a warehouse: a look copies the tables, as SQL has many dialects.

So the destination itself is asked for nothing but columns of a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

import dlt
from dlt.common.libs.pyarrow import columns_to_arrow
from dlt.common.schema.typing import TTableSchemaColumns
from dlt.destinations.exceptions import DatabaseUndefinedRelation
from dlt.destinations.sql_client import SqlClientBase

from analytics_dagster import file_lock
from analytics_dagster.api_spec import REJECTED_ROWS
from analytics_dagster.copied_tables import empty_dataset
from analytics_dagster.database import DATASET, AnyDestination, AskedByDuckDb, dlt_client
from analytics_dagster.errors import WarehouseConnectionError
from analytics_dagster.other_settings import location, other_destination, variable

_ROWS_AT_A_TIME = 10_000


@dataclass(frozen=True)
class OtherWarehouse(AskedByDuckDb):
    """A destination of dlt's; see `database.Database` for the methods. Times are in seconds."""

    kind: str
    overlap_timeout: float
    memory_mb: int
    has_types: ClassVar[bool] = False

    @property
    def setting(self) -> str:
        """The variable of dlt's."""
        return variable(self.kind)

    def place(self) -> str:
        """Its name, and a sign for where it is: what the settings themselves say may be secret.

        Raises:
            SettingError: the library of the destination is missing.
            WarehouseConnectionError: there are no whole settings for it.
        """
        sign = sha256(location(self.kind).encode()).hexdigest()[:8]
        return f"{self.kind} ({sign})"

    def folders(self) -> list[Path]:
        """None that are known."""
        return []

    def is_there(self) -> bool:
        """Asking makes nothing of the project's."""
        return True

    def shown(self, table: str) -> str:
        """Dataset and table."""
        return f"{DATASET}.{table}"

    def look(self, table: str) -> str:
        """A query; the program for it is the destination's."""
        return f"SELECT * FROM {self.shown(table)}"

    @contextmanager
    def one_load(self, resource: str) -> Iterator[Callable[[], None]]:
        """A file keeps the loads of this host apart; hosts know nothing of each other.

        Raises:
            OverlapError: another run loaded the resource for `overlap_timeout` seconds.
            SettingError: the library of the destination is missing.
            WarehouseConnectionError: it cannot be reached, or there are no whole settings for it.
        """
        with self._alone(resource):
            self._check_reached(resource)
            yield lambda: None

    def is_being_loaded(self, resource: str) -> bool:
        """Whether a process of this host that lives loads the resource now."""
        return file_lock.is_held(file_lock.elsewhere(self.place(), resource))

    @contextmanager
    def writing(self, *, alone: bool) -> Iterator[AnyDestination]:
        """The database, written beside others, or `alone` on this host.

        Raises:
            OverlapError: another load had to be alone for `overlap_timeout` seconds.
            SettingError: the library of the destination is missing.
            WarehouseConnectionError: there are no whole settings for it.
        """
        with self._alone(REJECTED_ROWS) if alone else ExitStack():
            yield other_destination(self.kind)

    @contextmanager
    def asking(self, destination: AnyDestination, resource: str) -> Iterator[SqlClientBase[Any]]:
        """A DuckDB with the tables as they are when the block begins.

        Raises:
            WarehouseConnectionError: the database cannot be reached.
        """
        self._check_reached(resource)
        schema = dlt.dataset(destination, DATASET, resource).schema
        with empty_dataset(resource, self.memory_mb) as copy:
            with dlt_client(destination, resource) as client:
                for name in {resource, REJECTED_ROWS} & schema.tables.keys():
                    _copy(name, schema.get_table_columns(name), client, copy)
            yield copy

    def _alone(self, name: str) -> AbstractContextManager[None]:
        how = "Set TMPDIR to a folder that you may write."
        lock = file_lock.elsewhere(self.place(), name)
        return file_lock.held(lock, name, self.overlap_timeout, how)

    def _check_reached(self, resource: str) -> None:
        try:
            with dlt_client(other_destination(self.kind), resource):
                return
        except Exception as error:  # noqa: BLE001  whatever the library of the destination raises
            said = type(error).__name__
        raise WarehouseConnectionError(
            f"{self.place()} cannot be reached: {said}. Nothing was changed. Check {self.setting} "
            "and its parts (or .dlt/secrets.toml), that the driver which they name is installed, "
            "and that the server runs and can be reached from here."
        )


def _copy(
    name: str, columns: TTableSchemaColumns, client: SqlClientBase[Any], copy: SqlClientBase[Any]
) -> None:
    """Copies a table, if it is there, under the types that dlt stored for it."""
    table = client.make_qualified_table_name(name)
    try:
        with client.execute_query(f"SELECT * FROM {table} WHERE 1 = 0") as cursor:
            there = {column.casefold() for column in cursor.columns_schema}
    except DatabaseUndefinedRelation:
        return
    columns = {column: hints for column, hints in columns.items() if column.casefold() in there}
    empty = columns_to_arrow(columns, client.capabilities, "UTC").empty_table()
    made = copy.make_qualified_table_name(name)
    _put(empty, f"CREATE TABLE {made} AS FROM part", copy)
    listed = ", ".join(map(client.escape_column_name, columns))
    with client.execute_query(f"SELECT {listed} FROM {table}") as cursor:
        cursor.columns_schema = columns
        for part in cursor.iter_arrow(chunk_size=_ROWS_AT_A_TIME):
            _put(part, f"INSERT INTO {made} BY NAME FROM part", copy)


def _put(part: Any, statement: str, copy: SqlClientBase[Any]) -> None:
    copy.native_connection.register("part", part)
    copy.execute_sql(statement)
    copy.native_connection.unregister("part")
