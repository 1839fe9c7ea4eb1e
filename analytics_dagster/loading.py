"""One load of one resource, from the API into the warehouse. No Dagster here.

    restore state ─► extract (reads all pages) ─► normalize ─► load (one transaction a table)

dlt's state and schemas are kept in the warehouse; the working folder lives as long as the
load, so that loads at the same time, or on other machines, share nothing but the warehouse.
The file is locked only while it is read or written, not while the API is read. A load that
fails before its last step has changed nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import dlt

from analytics_dagster.api_spec import Resource
from analytics_dagster.errors import AnalyticsError, LoadError, SandboxOverDataError
from analytics_dagster.source import Report, reading_source
from analytics_dagster.transport import Transport
from analytics_dagster.warehouse import DATASET, Warehouse

_MADE_UP = "made_up"


@dataclass(frozen=True)
class Loaded:
    """A load that was committed: its report, and the rows of the whole table after it."""

    report: Report
    table_rows: int

    @property
    def rows(self) -> int:
        """Rows that were inserted or updated: read = these + rejected + duplicates."""
        return self.report.reading.distinct - self.report.findings.rejected

    @property
    def duplicates(self) -> int:
        """Rows that came more than once, second readings included."""
        return self.report.reading.rows - self.report.reading.distinct


def pipeline_for(resource: Resource, warehouse: Warehouse, folder: str) -> dlt.Pipeline:
    """The dlt pipeline of a resource, named after it, with its working folder in `folder`."""
    return dlt.pipeline(
        resource.name,
        pipelines_dir=folder,
        destination=warehouse.description(),
        dataset_name=DATASET,
    )


def load(
    resource: Resource, transport: Transport, warehouse: Warehouse, *, made_up: bool = False
) -> Loaded:
    """Reads all of a resource and merges it into its table; `made_up` rows are the sandbox's.

    Raises:
        AnalyticsError: nothing was changed; the kind says why.
    """
    report = Report()
    with TemporaryDirectory(prefix="analytics_dagster_") as folder, _our_errors(transport):
        pipeline = pipeline_for(resource, warehouse, folder)
        with warehouse.writing() as destination:
            pipeline.sync_destination(destination)
        was_made_up = _was_made_up(pipeline)
        if made_up and was_made_up is False:
            raise SandboxOverDataError(
                f"{warehouse.path()} holds rows of your API in {DATASET}.{resource.name}, and no "
                "base URL is set: made-up rows are not loaded over them. Set "
                "ANALYTICS_API_BASE_URL, or ANALYTICS_DUCKDB_PATH to another file."
            )
        source = reading_source(resource, transport, report, {_MADE_UP: made_up})
        pipeline.extract(source, loader_file_format="parquet")
        pipeline.normalize()
        with warehouse.writing() as destination:
            pipeline.destination = destination
            if was_made_up and not made_up:
                _on_table(pipeline, "DELETE FROM {}")
            pipeline.load().raise_on_failed_jobs()
            [[table_rows]] = _on_table(pipeline, "SELECT count(*) FROM {}")
    return Loaded(report, table_rows)


def _on_table(pipeline: dlt.Pipeline, statement: str) -> Any:
    """The answer of the warehouse to a statement on the pipeline's table."""
    with pipeline.sql_client() as client:
        table = client.make_qualified_table_name(pipeline.pipeline_name)
        return client.execute_sql(statement.format(table))


def _was_made_up(pipeline: dlt.Pipeline) -> bool | None:
    """Whether the rows in the table are the sandbox's; None when nothing was loaded yet."""
    return pipeline.state.get("sources", {}).get(pipeline.pipeline_name, {}).get(_MADE_UP)


@contextmanager
def _our_errors(transport: Transport) -> Iterator[None]:
    """Raises the error of ours that dlt wrapped, or a `LoadError`, without what led to it."""
    try:
        yield
        return
    except Exception as error:  # noqa: BLE001  whatever dlt and the database raise
        failure = _ours(error) or LoadError(transport.redactor.text(_described(error)))
    failure.__cause__ = failure.__context__ = None
    raise failure


def _ours(error: BaseException | None) -> AnalyticsError | None:
    while error is not None and not isinstance(error, AnalyticsError):
        error = error.__cause__ or error.__context__
    return error


def _described(error: BaseException) -> str:
    """The kinds of the chained errors and what the last one says, without what it quotes.

    Databases quote the values of rows; only a path in double quotes is kept.
    """
    kinds = [type(error).__name__]
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
        kinds.append(type(error).__name__)
    lines = str(error).strip().splitlines() or [""]
    said = re.sub(r"'.*'", "…", lines[0])
    said = re.sub(r'"(?!/)[^"]*"', "…", said)
    return (
        f"{' from '.join(kinds)}: {said}. The rows in the table are as they were; run again, and "
        "if it stays, look at the database."
    )
