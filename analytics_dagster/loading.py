"""One load of one resource, from the API into the warehouse. No Dagster here.

    restore state ─► land (reads all pages) ─► guard ─► extract, normalize, load with dlt

dlt's state and schemas are kept in the warehouse; the working folder lives as long as the
load, so that loads on other machines share nothing but the warehouse. A DuckDB file is locked
only while it is read or written, not while the API is read. A load that fails before its last step
has changed nothing, and the last step is one transaction a table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import dlt

from analytics_dagster.api_config import SMALLEST_REFRESH
from analytics_dagster.api_spec import Resource
from analytics_dagster.comparison import Comparison
from analytics_dagster.database import DATASET, Database
from analytics_dagster.errors import SandboxOverDataError, ShrunkenError
from analytics_dagster.landing import Landed, land
from analytics_dagster.load_errors import our_errors
from analytics_dagster.mending import CURSOR, known_columns, mend
from analytics_dagster.scratch import Scratch
from analytics_dagster.source import landed_source
from analytics_dagster.table import Table
from analytics_dagster.transport import Transport
from analytics_dagster.warehouse import Warehouse
from analytics_dagster.working_folder import working_folder

_SMALLEST_SHARE = 0.5
_MADE_UP = "made_up"


@dataclass(frozen=True)
class Loaded:
    """A load that was committed: what it read, and the rows of the whole table after it.

    `since` is where an incremental load began to read, and `cursor` where the next one will
    go on; `deleted` are the rows that a full refresh took away.
    """

    landed: Landed
    table_rows: int
    since: datetime | None
    cursor: datetime | None
    deleted: int | None


def load(  # noqa: PLR0913  four of them have defaults
    resource: Resource,
    transport: Transport,
    warehouse: Warehouse,
    *,
    full_refresh: bool = False,
    allow_shrink: bool = False,
    made_up: bool = False,
    before_writing: Callable[[], None] = lambda: None,
) -> Loaded:
    """Reads what is new of a resource and merges it into its table.

    A full refresh reads everything and replaces the table, also by far fewer rows when it is
    `allow_shrink`.
    `made_up` rows are the sandbox's: real ones replace them in any mode. What `before_writing`
    raises keeps the rows as they were.

    Raises:
        AnalyticsError: nothing was changed; the kind says why.
    """
    database = warehouse.database()
    with (
        database.one_load(resource.name) as check_alone,
        working_folder(database, resource.name, warehouse.memory_mb) as scratch,
        our_errors(transport.redactor, *database.folders(), scratch.folder.parent),
    ):
        with database.writing(alone=False) as destination:
            pipeline = dlt.pipeline(
                resource.name,
                pipelines_dir=str(scratch.folder),
                destination=destination,
                dataset_name=DATASET,
            )
            pipeline.sync_destination()
            known = known_columns(pipeline, resource.name)
            with Table.opened(resource, database, destination, known) as table:
                known = mend(pipeline, resource, table)
                before = _Before.of(pipeline, table, replaces=full_refresh)
        if made_up and before.made_up is False:
            raise SandboxOverDataError(
                f"{database.place()} holds rows of your API in {DATASET}.{resource.name}, and no "
                "base URL is set: made-up rows are not loaded over them. Set "
                f"ANALYTICS_API_BASE_URL, or {database.setting} to another place."
            )
        if before.made_up and not made_up:
            before = _Before(rows=0, replaces=True)
        since = before.since(resource)
        landed = land(resource, transport, table.undeclared_columns(), scratch, since)
        if before.replaces and not allow_shrink:
            _check_shrunken(resource, before, landed)
        cursor = before.moved_cursor(landed.newest)
        state = {_MADE_UP: made_up, CURSOR: cursor and cursor.isoformat()}
        # Shared are the dataset, which the first load makes, and the table of rejected rows.
        with database.writing(alone=not known or landed.rejected is not None) as destination:
            pipeline.destination = destination
            with Table.opened(resource, database, destination, known) as table:
                comparison = Comparison(resource, table, database, scratch)
                deleted = _compare(resource, landed, comparison, before, since)
                if before.replaces or landed.rows or landed.rejected or state != before.state:
                    _convert(landed, database, scratch)
                    source = landed_source(resource, landed, state, replaces=before.replaces)
                    pipeline.extract(source, loader_file_format=database.file_format)
                    pipeline.normalize()
                    before_writing()
                    check_alone()
                    pipeline.load().raise_on_failed_jobs()
            with Table.opened(resource, database, destination) as table:
                return Loaded(landed, table.rows() or 0, since, cursor, deleted)


def _convert(landed: Landed, database: Database, scratch: Scratch) -> None:
    """Puts files that the database loads in the place of the parquet ones."""
    landed.accepted = database.load_file(landed.accepted, scratch)
    if landed.rejected:
        landed.rejected = database.load_file(landed.rejected, scratch)


@dataclass(frozen=True)
class _Before:
    """What a load finds: the rows of the table, and the state that the last load left."""

    rows: int
    replaces: bool
    state: Mapping[str, Any] = field(default_factory=dict)

    @property
    def made_up(self) -> bool | None:
        """Whether the rows are the sandbox's; None when nothing was loaded yet."""
        return self.state.get(_MADE_UP)

    @property
    def cursor(self) -> datetime | None:
        """The newest cursor value that was loaded."""
        cursor = self.state.get(CURSOR)
        return datetime.fromisoformat(cursor) if cursor else None

    @classmethod
    def of(cls, pipeline: dlt.Pipeline, table: Table, *, replaces: bool) -> _Before:
        """What is in the warehouse now."""
        state = pipeline.state.get("sources", {}).get(pipeline.pipeline_name, {})
        return cls(table.rows() or 0, replaces, state)

    def since(self, resource: Resource) -> datetime | None:
        """Where to begin to read; None for all. The cursor of a table without rows is none."""
        incremental = resource.endpoint.incremental
        if self.replaces or not self.rows or not self.cursor or not incremental:
            return None
        try:
            return self.cursor - timedelta(seconds=incremental.lag)
        except OverflowError:
            return None

    def moved_cursor(self, newest: datetime | None) -> datetime | None:
        """The cursor after a load: never back, except with the rows themselves."""
        if self.replaces or not self.rows:
            return newest
        return max(filter(None, (self.cursor, newest)), default=None)


def _compare(
    resource: Resource,
    landed: Landed,
    comparison: Comparison,
    before: _Before,
    since: datetime | None,
) -> int | None:
    """Leaves in the landed file what the table has to become; the rows that a refresh deletes."""
    landed.missing_fields = _missing_fields(resource, landed, comparison.table, before)
    if not before.replaces:
        if before.rows:
            landed.leave_out(*comparison.changed(landed.accepted, since))
        return None
    if not before.rows:
        return 0
    if landed.rejected:
        landed.add_kept(*comparison.with_last_good(landed.accepted, landed.rejected))
    return comparison.missing(landed.accepted)


def _check_shrunken(resource: Resource, before: _Before, landed: Landed) -> None:
    share = SMALLEST_REFRESH.get(resource.name, _SMALLEST_SHARE)
    if landed.rows < share * before.rows:
        raise ShrunkenError(
            f"{resource.name}: the API gave {landed.rows} rows that can be loaded, and the table "
            f"has {before.rows}; a full refresh leaves at least {share:.0%} of them. Nothing was "
            "changed. If so many rows are really gone, run it again with allow_shrink: true, or "
            "set another share in api_config.SMALLEST_REFRESH; otherwise ask the API's owner."
        )


def _missing_fields(
    resource: Resource, landed: Landed, table: Table, before: _Before
) -> dict[str, int]:
    """The columns that rows lacked, of those expected and those that the table has values in.

    Asked before the load puts NULL in their place.
    """
    lacking = landed.findings.lacking([*resource.columns, *landed.findings.undeclared])
    expected = {name for name, column in resource.columns.items() if column.expected}
    filled = table.with_values(lacking.keys() - expected) if before.rows else []
    return {name: rows for name, rows in lacking.items() if name in {*expected, *filled}}
