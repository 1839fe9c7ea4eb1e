"""The tables as a load finds them, against what earlier loads left and what the columns declare:
mended where no value is lost by it, and otherwise refused. Nothing is read of the API here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dlt
from dlt.common.schema.typing import TColumnSchema, TTableSchemaColumns
from dlt.destinations.job_client_impl import SqlJobClientWithStagingDataset
from dlt.extract.source import DltSource

from analytics_dagster.api_spec import REJECTED_ROWS, Column, Resource
from analytics_dagster.database import DATASET
from analytics_dagster.description import source_of, table_of
from analytics_dagster.errors import AlteredTableError
from analytics_dagster.table import Table

CURSOR = "cursor"


def known_columns(pipeline: dlt.Pipeline, table: str) -> TTableSchemaColumns:
    """The columns of a table, as earlier loads of the pipeline left them."""
    name, schemas = pipeline.pipeline_name, pipeline.schemas
    is_known = name in schemas and table in schemas[name].tables
    return schemas[name].get_table_columns(table) if is_known else {}


def mend(pipeline: dlt.Pipeline, resource: Resource, table: Table) -> TTableSchemaColumns:
    """Makes tables and columns that somebody dropped anew, and returns the columns of the table.

    dlt takes what it stored for what is there. Rows that are there lack the values of a new column:
    the cursor is forgotten before, so that the next load reads all, also when this one fails.

    Raises:
        AlteredTableError: the table cannot hold what the columns declare.
    """
    name, there = resource.name, table.columns()
    known = known_columns(pipeline, name)
    lost = known.keys() - (there or set())
    changed = {
        each: column
        for each, column in resource.columns.items()
        if each in known and not _holds(known[each], column)
    }
    if there is not None:
        types = table.types()
        _check_lost(resource, known, lost)
        _check_types(resource, {**known, **types}, there)
        if not known:
            return {each: types[each] for each in there & types.keys()}
        if lost:
            pipeline.run(_without_cursor(resource))
    if lost or changed:
        _drop_staging_table(pipeline, name)
    if changed:
        declared = table_of(name, [], resource.primary_key, changed)
        pipeline.default_schema.update_table(declared.compute_table_schema())
        pipeline.schemas.save_schema(pipeline.default_schema)
    rejected = known_columns(pipeline, REJECTED_ROWS).keys()
    if lost or (rejected and not rejected <= (table.columns(REJECTED_ROWS) or set())):
        with pipeline.destination_client() as client:
            client.update_stored_schema(force=True)
    return known_columns(pipeline, name)


def _check_lost(resource: Resource, known: TTableSchemaColumns, lost: set[str]) -> None:
    nullable = {name: hints.get("nullable", True) for name, hints in known.items()}
    nullable |= {name: column.nullable for name, column in resource.columns.items()}
    if required := [name for name in sorted(lost) if not nullable[name]]:
        raise AlteredTableError(
            f"{DATASET}.{resource.name} lacks {', '.join(required)}, which is never NULL: somebody "
            "dropped or renamed it. Give it back; or drop the table, or move it away, and load "
            "again: a new one is made, with all that the API has."
        )


def _check_types(resource: Resource, types: TTableSchemaColumns, there: set[str]) -> None:
    for name, column in resource.columns.items():
        if name in there & types.keys() and not _holds(types[name], column):
            raise AlteredTableError(
                f"{DATASET}.{resource.name}.{name} is {_type_name(types[name])} in the table and "
                f"declared {column.type_name}: values would be changed or refused. Give both the "
                f"same type; or drop the {'column' if column.nullable else 'table'} and load "
                "again: it is made anew, with all that the API has."
            )


def _holds(there: TColumnSchema, declared: Column) -> bool:
    """Whether a column takes all values of the declared one as they are."""
    kind = there.get("data_type")
    if kind != declared.data_type:
        return (kind, declared.data_type) == ("text", "json")
    if kind != "decimal":
        return True
    scale, declared_scale = there.get("scale") or 0, declared.scale or 0
    digits = (there.get("precision") or 0) - scale
    return scale >= declared_scale and digits >= (declared.precision or 0) - declared_scale


def _type_name(column: TColumnSchema) -> str:
    kind = str(column.get("data_type"))
    is_decimal = kind == "decimal"
    return f"decimal({column.get('precision')}, {column.get('scale')})" if is_decimal else kind


def _drop_staging_table(pipeline: dlt.Pipeline, name: str) -> None:
    """The rows pass through it, and dlt makes no other one where it is there."""
    with pipeline.destination_client() as client:
        if isinstance(client, SqlJobClientWithStagingDataset):
            with client.with_staging_dataset() as staging:
                if staging.is_storage_initialized():
                    staging.drop_tables(name)


def _without_cursor(resource: Resource) -> DltSource:
    def nothing() -> Iterator[Any]:
        dlt.current.source_state().update({CURSOR: None})
        yield from ()

    return source_of(resource, [table_of(resource.name, nothing, resource.primary_key, {})])
