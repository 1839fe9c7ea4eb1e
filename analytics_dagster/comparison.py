"""What was read, held against the table as it stands: what is new, gone, or to be kept.

DuckDB joins the parquet files with the table, or with a copy of what is needed of it, in bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import pyarrow.parquet as pq

from analytics_dagster.api_spec import Column, Resource
from analytics_dagster.columns import api_name
from analytics_dagster.database import Database, Question
from analytics_dagster.scratch import Scratch
from analytics_dagster.sql import copied, literal, names, parquet, quoted
from analytics_dagster.table import Table

# DuckDB refuses JSON that escapes half a surrogate pair, and quotes all of it. What the first
# group finds is kept: an escaped backslash, or a whole pair.
_HALF_A_PAIR = r"(\\\\|\\ud[89ab]..\\ud[c-f]..)|\\ud[89a-f].."
_KEPT = r"\1"


@dataclass(frozen=True)
class Comparison:
    """The table of a resource beside the files of a load in its folder."""

    resource: Resource
    table: Table
    database: Database
    scratch: Scratch

    def missing(self, file: Path) -> int:
        """How many rows of the table have a key that is not in the parquet file."""
        key = self.resource.primary_key
        query = f"SELECT count(*) FROM {{table}} ANTI JOIN {parquet(file)} USING ({names(key)})"
        return self._answer(query, {name: self.table.known[name] for name in key})

    def with_last_good(self, file: Path, rejected: Path) -> tuple[Path, int]:
        """The parquet file and the rows of the table whose new versions are rejected; their number.

        Those are not gone at the API: their last good version is better than none.
        """
        same_key = " AND ".join(
            # DuckDB 1 compares before it looks into JSON, if nothing tells it otherwise.
            f"CAST(old.{quoted(column)} AS VARCHAR) = (whole ->> {literal(_json_path(column))})"
            for column in self.resource.primary_key
        )
        whole = f"regexp_replace(raw, {literal(_HALF_A_PAIR)}, {literal(_KEPT)}, 'g') AS whole"
        key = names(self.resource.primary_key)
        both = file.with_name("with_last_good.parquet")
        query = (
            f"FROM {parquet(file)} UNION ALL BY NAME SELECT old.* FROM {{table}} AS old "
            f"ANTI JOIN {parquet(file)} AS new USING ({key}) WHERE EXISTS "
            f"(FROM (SELECT {whole} FROM {parquet(rejected)}) WHERE {same_key})"
        )
        return both, self._answer(copied(query, both), self.table.known)

    def changed(self, file: Path, since: datetime | None) -> tuple[Path, int]:
        """The parquet file without the rows that the table has already, and the rows left.

        A row that the table has in a newer version, if not one from the future, is left out as
        well. With `since` only newer rows of the table are compared; the file has no older ones.
        """
        read = pq.read_schema(file).names
        unchanged = [
            f"new.{quoted(name)} IS NOT DISTINCT FROM "
            + (f"old.{quoted(name)}" if name in self.table.known else "NULL")
            for name in read
        ]
        kept, recent = _no_row_of("old", unchanged), ""
        if incremental := self.resource.endpoint.incremental:
            cursor = quoted(incremental.column)
            same_key = [f"new.{key} = old.{key}" for key in map(quoted, self.resource.primary_key)]
            now = _moment(datetime.now(timezone.utc))
            newer = [*same_key, f"old.{cursor} > new.{cursor}", f"old.{cursor} <= {now}"]
            kept += f" AND {_no_row_of('old', newer)}"
            recent = f"WHERE {cursor} >= {_moment(since)}" if since else ""
        changed = file.with_name("changed.parquet")
        query = (
            f"WITH old AS (SELECT * FROM {{table}} {recent}) "
            f"SELECT * FROM {parquet(file)} AS new WHERE {kept}"
        )
        needed = {name: c for name, c in self.table.known.items() if name in read}
        return changed, self._answer(copied(query, changed), needed, recent)

    def _answer(self, query: str, columns: Mapping[str, Column], where: str = "") -> int:
        question = Question(query, columns, where)
        return self.database.answer(question, self.table.client, self.table.name, self.scratch)


def _no_row_of(table: str, conditions: list[str]) -> str:
    return f"NOT EXISTS (SELECT 1 FROM {table} WHERE {' AND '.join(conditions)})"


def _moment(moment: datetime) -> str:
    return f"TIMESTAMPTZ {literal(moment.isoformat())}"


def _json_path(column: str) -> str:
    return f'$."{api_name(column)}"'
