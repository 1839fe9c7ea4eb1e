"""A landed reading as a dlt source: the files to load, and the state that counts with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import dlt
from dlt.extract.source import DltSource

from analytics_dagster.api_spec import REJECTED_ROWS, Resource
from analytics_dagster.contract import REJECTED_COLUMNS
from analytics_dagster.description import source_of, table_of
from analytics_dagster.landing import Landed


def landed_source(
    resource: Resource, landed: Landed, state: Mapping[str, Any], *, replaces: bool
) -> DltSource:
    """The source of a landed reading; its rows are merged, or replace those in the table.

    `state` is kept in the warehouse, and counts once all of the load is committed.
    """

    def rows() -> Iterator[Any]:
        dlt.current.source_state().update(state)
        yield _imported(landed.accepted, landed.rows + landed.rows_kept)

    columns = {**resource.columns, **landed.findings.undeclared}
    table = (resource.name, rows, resource.primary_key, columns)
    parts = [table_of(*table, "replace") if replaces else table_of(*table)]
    if landed.rejected:
        rejected = [_imported(landed.rejected, landed.findings.rejected)]
        parts.append(table_of(REJECTED_ROWS, rejected, ["rejected_id"], REJECTED_COLUMNS))
    return source_of(resource, parts)


def _imported(path: Path, rows: int) -> Any:
    file_format: Literal["csv", "parquet"] = "csv" if path.suffix == ".csv" else "parquet"
    return dlt.mark.with_file_import(str(path), file_format, rows)
