"""The table of a resource as it stands in the warehouse, and what a load asks it, in SQL."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import dlt
import pyarrow.parquet as pq
from dlt.destinations.exceptions import DatabaseUndefinedRelation

from analytics_dagster.api_spec import Resource
from analytics_dagster.sql import literal, parquet, quoted
from analytics_dagster.values import ARROW_TYPES


class Table:
    """The table that the pipeline of a resource loads; to be asked while the file is open."""

    def __init__(self, pipeline: dlt.Pipeline, resource: Resource) -> None:
        self._pipeline = pipeline
        self._resource = resource

    def rows(self) -> int | None:
        """The number of rows, or None when there is no table."""
        try:
            return self._number("SELECT count(*) FROM {table}")
        except DatabaseUndefinedRelation:
            return None

    def mend(self) -> None:
        """Makes the table anew when it was loaded before and somebody dropped it.

        dlt takes the schema that it stored for what is there.
        """
        if self._resource.name in self._pipeline.schemas and self.rows() is None:
            with self._pipeline.destination_client() as client:
                client.update_stored_schema(force=True)

    def undeclared_columns(self) -> dict[str, str]:
        """The columns that earlier loads added, to their dlt data types."""
        return {
            name: kind
            for name, kind in self._columns().items()
            if name not in self._resource.columns and kind in ARROW_TYPES
        }

    def missing(self, file: Path) -> int:
        """How many rows of the table have a key that is not in the parquet file."""
        key = ", ".join(map(quoted, self._resource.primary_key))
        return self._number(
            f"SELECT count(*) FROM {{table}} ANTI JOIN {parquet(file)} USING ({key})"
        )

    def changed(self, file: Path, since: datetime | None) -> tuple[Path, int]:
        """The parquet file without the rows that the table has already, and the rows left.

        With `since` only newer rows of the table are compared; the file has no older ones.
        """
        old_columns = self._columns()
        conditions = [
            f"new.{quoted(name)} IS NOT DISTINCT FROM "
            + (f"old.{quoted(name)}" if name in old_columns else "NULL")
            for name in pq.read_schema(file).names
        ]
        if since and (incremental := self._resource.endpoint.incremental):
            recent = f"TIMESTAMPTZ {literal(since.isoformat())}"
            conditions.append(f"old.{quoted(incremental.column)} >= {recent}")
        changed = file.with_name("changed.parquet")
        rows = self._number(
            f"COPY (SELECT * FROM {parquet(file)} AS new WHERE NOT EXISTS "
            f"(SELECT 1 FROM {{table}} AS old WHERE {' AND '.join(conditions)})) "
            f"TO {literal(changed)} (FORMAT parquet, COMPRESSION uncompressed)"
        )
        return changed, rows

    def _columns(self) -> dict[str, str]:
        schemas, name = self._pipeline.schemas, self._resource.name
        if name not in schemas or name not in schemas[name].tables:
            return {}
        columns = schemas[name].get_table_columns(name)
        return {column: str(hints.get("data_type")) for column, hints in columns.items()}

    def _number(self, query: str) -> int:
        with self._pipeline.sql_client() as client:
            table = client.make_qualified_table_name(self._resource.name)
            [[number]] = client.execute_sql(query.replace("{table}", table)) or [[0]]
            return int(number)
