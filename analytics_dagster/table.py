"""The table of a resource as it stands in the warehouse, and what a load asks it, in SQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, get_args

import dlt
import pyarrow.parquet as pq
from dlt.common.schema.typing import TColumnSchema, TTableSchemaColumns
from dlt.destinations.exceptions import DatabaseUndefinedRelation
from dlt.destinations.sql_client import SqlClientBase

from analytics_dagster.api_spec import Column, DataType, Resource
from analytics_dagster.columns import api_name
from analytics_dagster.sql import copied, literal, names, parquet, quoted
from analytics_dagster.warehouse import DATASET, AnyDestination

# DuckDB refuses JSON that escapes half a surrogate pair, and quotes all of it. What the first
# group finds is kept: an escaped backslash, or a whole pair.
_HALF_A_PAIR = r"(\\\\|\\ud[89ab]..\\ud[c-f]..)|\\ud[89a-f].."
_KEPT = r"\1"


class Table:
    """The table of a resource, asked through a connection of dlt's.

    `known` are the columns of earlier loads, as dlt keeps them.
    """

    def __init__(
        self, resource: Resource, client: SqlClientBase[Any], known: TTableSchemaColumns
    ) -> None:
        self._resource = resource
        self._client = client
        self._known = known

    @classmethod
    @contextmanager
    def opened(
        cls,
        resource: Resource,
        destination: AnyDestination,
        known: TTableSchemaColumns | None = None,
    ) -> Iterator[Table]:
        """The table, while the block runs; to be used within `Warehouse.writing`."""
        dataset = dlt.dataset(destination, DATASET, dlt.Schema(resource.name))
        with dataset.sql_client as client:
            yield cls(resource, client, known or {})

    def rows(self) -> int | None:
        """The number of rows, or None when there is no table."""
        return self._number("SELECT count(*) FROM {table}") if self.exists() else None

    def exists(self, name: str = "") -> bool:
        """Whether there is such a table in the dataset; without a name, that of the resource."""
        try:
            self._rows_of("SELECT 1 FROM {table} LIMIT 0", name)
        except DatabaseUndefinedRelation:
            return False
        return True

    def undeclared_columns(self) -> dict[str, Column]:
        """The columns that earlier loads added, or declared."""
        return {
            name: _described(hints)
            for name, hints in self._known.items()
            if name not in self._resource.columns and hints.get("data_type") in get_args(DataType)
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
        conditions = {
            name: f"{quoted(name)} IS NOT NULL" for name in columns if name in self._known
        }
        return [name for name, count in self.counts(conditions).items() if count]

    def missing(self, file: Path) -> int:
        """How many rows of the table have a key that is not in the parquet file."""
        key = names(self._resource.primary_key)
        return self._number(
            f"SELECT count(*) FROM {{table}} ANTI JOIN {parquet(file)} USING ({key})"
        )

    def with_last_good(self, file: Path, rejected: Path) -> tuple[Path, int]:
        """The parquet file and the rows of the table whose new versions are rejected; their number.

        Those are not gone at the API: their last good version is better than none.
        """
        same_key = " AND ".join(
            f"CAST(old.{quoted(column)} AS VARCHAR) = whole ->> {literal(_json_path(column))}"
            for column in self._resource.primary_key
        )
        whole = f"regexp_replace(raw, {literal(_HALF_A_PAIR)}, {literal(_KEPT)}, 'g') AS whole"
        key = names(self._resource.primary_key)
        both = file.with_name("with_last_good.parquet")
        query = (
            f"FROM {parquet(file)} UNION ALL BY NAME SELECT old.* FROM {{table}} AS old "
            f"ANTI JOIN {parquet(file)} AS new USING ({key}) WHERE EXISTS "
            f"(FROM (SELECT {whole} FROM {parquet(rejected)}) WHERE {same_key})"
        )
        return both, self._number(copied(query, both))

    def changed(self, file: Path, since: datetime | None) -> tuple[Path, int]:
        """The parquet file without the rows that the table has already, and the rows left.

        A row that the table has in a newer version, if not one from the future, is left out as
        well. With `since` only newer rows of the table are compared; the file has no older ones.
        """
        unchanged = [
            f"new.{quoted(name)} IS NOT DISTINCT FROM "
            + (f"old.{quoted(name)}" if name in self._known else "NULL")
            for name in pq.read_schema(file).names
        ]
        kept, recent = _no_row_of("old", unchanged), ""
        if incremental := self._resource.endpoint.incremental:
            cursor = quoted(incremental.column)
            same_key = [f"new.{key} = old.{key}" for key in map(quoted, self._resource.primary_key)]
            now = _moment(datetime.now(timezone.utc))
            newer = [*same_key, f"old.{cursor} > new.{cursor}", f"old.{cursor} <= {now}"]
            kept += f" AND {_no_row_of('old', newer)}"
            recent = f"WHERE {cursor} >= {_moment(since)}" if since else ""
        changed = file.with_name("changed.parquet")
        query = (
            f"WITH old AS (SELECT * FROM {{table}} {recent}) "
            f"SELECT * FROM {parquet(file)} AS new WHERE {kept}"
        )
        return changed, self._number(copied(query, changed))

    def _number(self, query: str) -> int:
        [[number]] = self._rows_of(query) or [[0]]
        return int(number)

    def _rows_of(self, query: str, name: str = "") -> Sequence[Sequence[Any]]:
        table = self._client.make_qualified_table_name(name or self._resource.name)
        return self._client.execute_sql(query.replace("{table}", table)) or []


def _described(hints: TColumnSchema) -> Column:
    is_decimal = hints.get("data_type") == "decimal"
    keys = ("data_type", "precision", "scale") if is_decimal else ("data_type",)
    return Column.model_validate({key: hints.get(key) for key in keys})


def _no_row_of(table: str, conditions: list[str]) -> str:
    return f"NOT EXISTS (SELECT 1 FROM {table} WHERE {' AND '.join(conditions)})"


def _moment(moment: datetime) -> str:
    return f"TIMESTAMPTZ {literal(moment.isoformat())}"


def _json_path(column: str) -> str:
    return f'$."{api_name(column)}"'
