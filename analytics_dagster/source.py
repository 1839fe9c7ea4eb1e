"""One resource as a dlt source: described for Dagster, or reading for a load.

The source and its schema are named after the resource, so that resources share nothing but
the dataset. A reading source has three parts: the batches, read once and not loaded as such,
the table of accepted rows, and the table of rejected ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import dlt
import pyarrow.compute as pc
from dlt.extract.resource import DltResource
from dlt.extract.source import DltSource

from analytics_dagster.api_spec import REJECTED_ROWS, Column, Resource
from analytics_dagster.columns import CURSOR
from analytics_dagster.contract import REJECTED_COLUMNS, Batch, Contract, Findings
from analytics_dagster.errors import TooManyRejectedError
from analytics_dagster.pages import Reading, read_pages
from analytics_dagster.transport import Transport
from analytics_dagster.values import ARROW_TYPES

BATCH_ROWS = 10_000
MOST_REJECTED = 0.1
"""The largest share of rejected rows that is still a load; of ten rows a share says nothing."""


@dataclass
class Report:
    """What a load did so far: the pages, the contract, and the cursor of the accepted rows."""

    reading: Reading = field(default_factory=Reading)
    findings: Findings = field(default_factory=Findings)
    cursor_from: datetime | None = None
    cursor_to: datetime | None = None

    def add_cursor(self, batch: Batch) -> None:
        """Widens the span of the cursor by the accepted rows of a batch."""
        if CURSOR not in batch.accepted.column_names:
            return
        span = pc.min_max(batch.accepted[CURSOR]).as_py()
        if not isinstance(span["min"], datetime):
            return
        self.cursor_from = min(self.cursor_from or span["min"], span["min"])
        self.cursor_to = max(self.cursor_to or span["max"], span["max"])


def described_source(resource: Resource) -> DltSource:
    """The source as `@dlt_assets` wants it: it has the columns and reads nothing."""
    return _source(resource, [_accepted(resource, dlt.resource([], name=f"{resource.name}_rows"))])


def reading_source(
    resource: Resource, transport: Transport, report: Report, state: Mapping[str, Any]
) -> DltSource:
    """The source that reads the API; `report` fills while it is extracted.

    `state` is kept in the warehouse, committed together with the rows.
    """

    def batches() -> Iterator[Batch]:
        contract = _contract(resource)
        report.findings = contract.findings
        for rows in _gathered(resource, transport, report.reading):
            batch = contract.batch(rows)
            report.add_cursor(batch)
            yield batch
        _check_rejected(resource, report)
        dlt.current.source_state().update(state)

    read = dlt.resource(batches, name=f"{resource.name}_batches", selected=False)
    return _source(resource, [read, _accepted(resource, read), _rejected(read)])


def _source(resource: Resource, parts: list[DltResource]) -> DltSource:
    return dlt.source(lambda: parts, name=resource.name)()


def _accepted(resource: Resource, batches: DltResource) -> DltResource:
    columns = _hints(resource.columns)
    if CURSOR in columns:
        # Of rows that come more than once the newest stays.
        columns[CURSOR]["dedup_sort"] = "desc"
    return dlt.transformer(
        lambda batch: batch.accepted,
        data_from=batches,
        name=resource.name,
        primary_key=resource.primary_key,
        write_disposition=resource.write_disposition,
        columns=columns,
    )


def _rejected(batches: DltResource) -> DltResource:
    return dlt.transformer(
        lambda batch: batch.rejected if batch.rejected.num_rows else None,
        data_from=batches,
        name=REJECTED_ROWS,
        primary_key="rejected_id",
        write_disposition="merge",
        columns=_hints(REJECTED_COLUMNS),
    )


def _hints(columns: Mapping[str, Column]) -> Any:
    return {name: column.model_dump(by_alias=True) for name, column in columns.items()}


def _contract(resource: Resource) -> Contract:
    schema = dlt.current.source_schema()
    table = schema.get_table_columns(resource.name) if resource.name in schema.tables else {}
    known = {
        name: str(column.get("data_type"))
        for name, column in table.items()
        if name not in resource.columns and column.get("data_type") in ARROW_TYPES
    }
    return Contract(resource, known, schema.naming.normalize_identifier)


def _check_rejected(resource: Resource, report: Report) -> None:
    rejected, rows = report.findings.rejected, report.reading.distinct
    if rejected > max(10, MOST_REJECTED * rows) or rejected == rows > 0:
        reasons = ", ".join(f"{text} ({n})" for text, n in report.findings.reasons.most_common(5))
        raise TooManyRejectedError(
            f"{resource.name}: {rejected} of {rows} rows break the contract: {reasons}. At most "
            f"{MOST_REJECTED:.0%} may; nothing was loaded. If that is how the API answers, mend "
            "the columns in the REST API configuration; otherwise ask its owner."
        )


def _gathered(resource: Resource, transport: Transport, reading: Reading) -> Iterator[list[Any]]:
    """The rows of all pages, about `BATCH_ROWS` at a time; an empty list when there are none."""
    rows: list[Any] = []
    for page in read_pages(resource, transport, reading):
        rows += page.rows
        if len(rows) >= BATCH_ROWS:
            yield rows
            rows = []
    if rows or not reading.rows:
        # An empty batch makes the table: a resource without rows is no missing resource.
        yield rows
