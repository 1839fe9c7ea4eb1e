"""One resource as dlt describes it: its table, key and columns. Nothing is loaded here.

The source and its schema are named after the resource, so that resources share nothing but
the dataset and the table of rejected rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dlt
from dlt.common.schema.typing import TWriteDispositionConfig
from dlt.extract.resource import DltResource
from dlt.extract.source import DltSource

from analytics_dagster.api_spec import Column, Resource

# The strategy is the destination's own: databases delete and insert, Delta tables take an upsert.
# Each landed file has a key once; looking for doubles again would take time and memory.
_MERGE: Any = {"disposition": "merge", "deduplicated": True}


def described_source(resource: Resource) -> DltSource:
    """The source as `@dlt_assets` wants it: it has the columns and loads nothing."""
    return source_of(
        resource, [table_of(resource.name, [], resource.primary_key, resource.columns)]
    )


def source_of(resource: Resource, parts: list[DltResource]) -> DltSource:
    """The source of a resource, from its tables."""
    return dlt.source(lambda: parts, name=resource.name)()


def table_of(
    name: str,
    data: Any,
    key: list[str],
    columns: Mapping[str, Column],
    write_disposition: TWriteDispositionConfig = _MERGE,
) -> DltResource:
    """A table and what is loaded into it; unless something else is said, merged by the key."""
    table: DltResource = dlt.resource(
        data,
        name=name,
        primary_key=key,
        write_disposition=write_disposition,
        columns=_hints(columns),
    )
    return table


def _hints(columns: Mapping[str, Column]) -> Any:
    return {
        name: column.model_dump(by_alias=True, exclude_none=True)
        for name, column in columns.items()
    }
