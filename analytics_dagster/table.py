"""The table of a resource as it stands in the warehouse, and what is asked of it in SQL that every
destination understands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast, get_args

from dlt.common.schema.typing import TColumnSchema, TColumnType, TTableSchemaColumns
from dlt.destinations.exceptions import DatabaseUndefinedRelation
from dlt.destinations.sql_client import SqlClientBase

from analytics_dagster.api_spec import Column, DataType, Resource
from analytics_dagster.database import AnyDestination, Database
from analytics_dagster.sql import names, quoted

_TYPES = """
SELECT column_name, data_type, numeric_precision, numeric_scale FROM information_schema.columns
WHERE table_schema = %s AND table_name = %s
"""


class Table:
    """The table of a resource, asked through a `client`: a connection of dlt's.

    `known` are the columns of earlier loads.
    """

    def __init__(
        self,
        resource: Resource,
        client: SqlClientBase[Any],
        known: TTableSchemaColumns,
        *,
        has_types: bool,
    ) -> None:
        self._resource = resource
        self._has_types = has_types
        self.client = client
        self.known = {
            name: _described(hints)
            for name, hints in known.items()
            if hints.get("data_type") in get_args(DataType)
        }

    @classmethod
    @contextmanager
    def opened(
        cls,
        resource: Resource,
        database: Database,
        destination: AnyDestination,
        known: TTableSchemaColumns | None = None,
    ) -> Iterator[Table]:
        """The table, while the block runs; to be used within `Database.writing`."""
        with database.asking(destination, resource.name) as client:
            yield cls(resource, client, known or {}, has_types=database.has_types)

    @property
    def name(self) -> str:
        """The table as SQL takes it."""
        return self._named(self._resource.name)

    def rows(self) -> int | None:
        """The number of rows, or None when there is no table."""
        return self._number("SELECT count(*) FROM {table}") if self.exists() else None

    def exists(self) -> bool:
        """Whether there is such a table."""
        return self.columns() is not None

    def columns(self, name: str = "") -> set[str] | None:
        """The columns of a table of the dataset, or None when there is no such table.

        Without a name, that of the resource.
        """
        table = self._named(name or self._resource.name)
        try:
            with self.client.execute_query(f"SELECT * FROM {table} LIMIT 0") as cursor:
                return set(cursor.columns_schema)
        except DatabaseUndefinedRelation:
            return None

    def types(self) -> TTableSchemaColumns:
        """The columns with their types in dlt's terms, where the database can be asked for them."""
        if not self._has_types:
            return {}
        typed = self.client.capabilities.get_type_mapper().from_destination_type
        rows = self.client.execute_sql(_TYPES, self.client.dataset_name, self._resource.name) or []
        return {name: _with_decimals(typed(*described)) for name, *described in rows}

    def undeclared_columns(self) -> dict[str, Column]:
        """The columns that earlier loads added, or declared."""
        return {
            name: column
            for name, column in self.known.items()
            if name not in self._resource.columns
        }

    def counts(self, conditions: Mapping[str, str]) -> dict[str, int]:
        """How many rows meet each condition, under the names of the conditions."""
        if not conditions:
            return {}
        counted = ", ".join(f"count(*) FILTER (WHERE {each})" for each in conditions.values())
        [row] = self._rows_of(f"SELECT {counted} FROM {{table}}")
        return dict(zip(conditions, row, strict=True))

    def keys(self, condition: str, most: int) -> list[Any]:
        """The primary keys of the first rows that meet a condition; lists where they are of
        several columns.
        """
        key = names(self._resource.primary_key)
        query = f"SELECT {key} FROM {{table}} WHERE {condition} ORDER BY {key} LIMIT {most}"
        rows = self._rows_of(query)
        return [row[0] if len(row) == 1 else list(row) for row in rows]

    def with_values(self, columns: Iterable[str]) -> list[str]:
        """Those of the columns that any row has a value in."""
        conditions = {name: f"{quoted(name)} IS NOT NULL" for name in columns if name in self.known}
        return [name for name, count in self.counts(conditions).items() if count]

    def _number(self, query: str) -> int:
        [[number]] = self._rows_of(query) or [[0]]
        return int(number)

    def _rows_of(self, query: str) -> Sequence[Sequence[Any]]:
        return self.client.execute_sql(query.replace("{table}", self.name)) or []

    def _named(self, table: str) -> str:
        return self.client.make_qualified_table_name(table)


def _with_decimals(column: TColumnType) -> TColumnSchema:
    """A decimal of DuckDB's without a scale is what dlt calls `wei`."""
    is_decimal = column["data_type"] == "wei"
    return cast(TColumnSchema, column | {"data_type": "decimal"} if is_decimal else column)


def _described(hints: TColumnSchema) -> Column:
    is_decimal = hints.get("data_type") == "decimal"
    keys = ("data_type", "precision", "scale") if is_decimal else ("data_type",)
    return Column.model_validate({key: hints.get(key) for key in keys})
