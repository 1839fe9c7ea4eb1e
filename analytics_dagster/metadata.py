"""What Dagster shows of an asset: its declared columns, and the figures of each load."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from analytics_dagster.api_spec import Column, Resource
from analytics_dagster.database import DATASET
from analytics_dagster.traffic import Traffic

if TYPE_CHECKING:
    from analytics_dagster.loading import Loaded


def declared_metadata(resource: Resource) -> dict[str, Any]:
    """The table and its declared columns, visible before the first load."""
    return {
        "dagster/table_name": f"{DATASET}.{resource.name}",
        "dagster/column_schema": _table_schema(resource.columns, resource.primary_key),
        "endpoint": dg.MetadataValue.text(f"GET {resource.endpoint.path}"),
    }


def load_metadata(resource: Resource, loaded: Loaded, traffic: Traffic) -> dict[str, Any]:
    """The figures of one load.

    Waits are in seconds. `read_since` is where the load began to read, and `cursor` where the
    next one goes on, less its lag. `missing_fields` are columns to the rows that lacked them.
    """
    landed = loaded.landed
    reading, findings = landed.reading, landed.findings
    new_columns = {
        name: column.model_copy(update={"description": "Not declared; added."})
        for name, column in findings.undeclared.items()
    }
    figures: dict[str, Any] = {
        "dagster/row_count": loaded.table_rows,
        "dagster/column_schema": _table_schema(
            dict(resource.columns) | new_columns, resource.primary_key
        ),
        "rows_read": reading.rows,
        "rows_loaded": landed.rows,
        "rows_rejected": findings.rejected,
        "rows_unchanged": landed.rows_unchanged,
        "rows_before_cursor": landed.rows_before_cursor,
        "rows_in_future": landed.rows_in_future,
        "duplicates": landed.duplicates,
        "pages": reading.pages,
        "readings": reading.readings,
        "requests": traffic.requests,
        "retries": traffic.retries,
        "seconds_waited": round(traffic.seconds_waited, 1),
    }
    return figures | _where_known(
        total_at_api=reading.total,
        rows_deleted=loaded.deleted,
        rows_kept=landed.rows_kept or None,
        read_since=_timestamp(loaded.since),
        cursor=_timestamp(loaded.cursor),
        rejected_reasons=dict(findings.reasons),
        new_fields=findings.new_fields,
        missing_fields=landed.missing_fields,
    )


def _where_known(**figures: Any) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if value not in (None, {}, [])}


def _timestamp(moment: datetime | None) -> dg.MetadataValue[Any] | None:
    return None if moment is None else dg.MetadataValue.timestamp(moment)


def _table_schema(columns: Mapping[str, Column], key: list[str]) -> dg.TableSchema:
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name,
                column.data_type,
                description=column.description or None,
                constraints=dg.TableColumnConstraints(
                    nullable=column.nullable, unique=[name] == key
                ),
            )
            for name, column in columns.items()
        ]
    )
