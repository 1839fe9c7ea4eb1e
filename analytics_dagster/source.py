"""One resource as a dlt source: described for Dagster, or with the files to load.

The source and its schema are named after the resource, so that resources share nothing but
the dataset and the table of rejected rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import dlt
from dlt.common.schema.typing import TWriteDispositionConfig
from dlt.extract.resource import DltResource
from dlt.extract.source import DltSource

from analytics_dagster.api_spec import REJECTED_ROWS, Column, Resource
from analytics_dagster.contract import REJECTED_COLUMNS
from analytics_dagster.landing import Landed

# Each landed file has a key once; looking for doubles again would take time and memory.
_MERGE: TWriteDispositionConfig = {
    "disposition": "merge",
    "strategy": "delete-insert",
    "deduplicated": True,
}


def described_source(resource: Resource) -> DltSource:
    """The source as `@dlt_assets` wants it: it has the columns and loads nothing."""
    columns = _hints(resource.columns)
    return _source(resource, [_table(resource.name, [], resource.primary_key, columns)])


def landed_source(
    resource: Resource, landed: Landed, state: Mapping[str, Any], *, replaces: bool
) -> DltSource:
    """The source of a landed reading; its rows are merged, or replace those in the table.

    `state` is kept in the warehouse, and counts once all of the load is committed.
    """

    def rows() -> Iterator[Any]:
        dlt.current.source_state().update(state)
        yield _imported(landed.accepted, landed.rows + landed.rows_kept)

    columns = _hints({**resource.columns, **landed.findings.undeclared})
    disposition: TWriteDispositionConfig = "replace" if replaces else _MERGE
    parts = [_table(resource.name, rows, resource.primary_key, columns, disposition)]
    if landed.rejected:
        rejected = [_imported(landed.rejected, landed.findings.rejected)]
        parts.append(_table(REJECTED_ROWS, rejected, ["rejected_id"], _hints(REJECTED_COLUMNS)))
    return _source(resource, parts)


def _source(resource: Resource, parts: list[DltResource]) -> DltSource:
    return dlt.source(lambda: parts, name=resource.name)()


def _table(
    name: str,
    data: Any,
    key: list[str],
    columns: Any,
    write_disposition: TWriteDispositionConfig = _MERGE,
) -> DltResource:
    table: DltResource = dlt.resource(
        data,
        name=name,
        primary_key=key,
        write_disposition=write_disposition,
        columns=columns,
    )
    return table


def _imported(path: Path, rows: int) -> Any:
    file_format: Literal["csv", "parquet"] = "csv" if path.suffix == ".csv" else "parquet"
    return dlt.mark.with_file_import(str(path), file_format, rows)


def _hints(columns: Mapping[str, Column]) -> Any:
    return {
        name: column.model_dump(by_alias=True, exclude_none=True)
        for name, column in columns.items()
    }
