"""A complete reading of one resource as parquet files: typed, deduplicated, ready to load.

    pages ─► batches ─► contract ─► window of the cursor ─► parquet ─► one row per key

Nothing here is in the warehouse yet: dlt imports the files as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analytics_dagster.api_config import MOST_REJECTED
from analytics_dagster.api_spec import Column, Resource
from analytics_dagster.contract import Contract, Findings
from analytics_dagster.envelope import Page
from analytics_dagster.errors import TooManyRejectedError
from analytics_dagster.pages import Reading, read_whole
from analytics_dagster.scratch import Scratch
from analytics_dagster.sql import copied, names, parquet, quoted
from analytics_dagster.transport import Transport

BATCH_ROWS = 10_000
_LARGEST_SHARE = 0.1


@dataclass
class Landed:
    """What was read, and where it lies.

    `rows` are in the accepted file, one per key. `rows_before_cursor` and `rows_unchanged` were
    read and are not loaded, the latter because the table has them already. `rows_in_future` do
    not move the cursor: `newest` is its latest value that is not after the start of the reading.
    `rows_kept` are in the file as well: the last good versions of rows that were rejected.
    `duplicates` came more than once. Each is counted where it is found, so that they can be
    compared: `reading.rows` are `rows`, `rows_unchanged`, `rows_before_cursor`, `duplicates` and
    `findings.rejected` together. `missing_fields` are the columns that rows lacked and should
    have, to the number of those rows.
    """

    reading: Reading
    findings: Findings
    accepted: Path = Path()
    rejected: Path | None = None
    rows: int = 0
    rows_kept: int = 0
    rows_unchanged: int = 0
    rows_before_cursor: int = 0
    rows_in_future: int = 0
    duplicates: int = 0
    newest: datetime | None = None
    missing_fields: dict[str, int] = field(default_factory=dict)

    def leave_out(self, file: Path, rows: int) -> None:
        """Puts a file with only the changed rows in the place of the accepted one."""
        self.accepted = file
        self.rows, self.rows_unchanged = rows, self.rows - rows

    def add_kept(self, file: Path, rows: int) -> None:
        """Puts a file with rows of the table beside the read ones in the place of the other."""
        self.accepted, self.rows_kept = file, rows - self.rows


def land(
    resource: Resource,
    transport: Transport,
    undeclared: Mapping[str, Column],
    scratch: Scratch,
    since: datetime | None,
) -> Landed:
    """Reads all rows, or those since a moment, into parquet files.

    `undeclared` are the columns that the table has beside the declared ones.

    Raises:
        IncompleteReadError: the pages do not add up.
        TooManyRejectedError: too many rows break the contract.
    """
    reading = Reading()
    incremental = resource.endpoint.incremental

    def take(pages: Iterator[Page]) -> Landed:
        started = datetime.now(timezone.utc)
        contract = Contract(resource, undeclared)
        landed = Landed(reading, contract.findings)
        accepted = _Files(scratch.folder / f"accepted_{reading.readings}")
        rejected = _Files(scratch.folder / f"rejected_{reading.readings}")
        with closing(accepted), closing(rejected):
            for rows in _gathered(pages):
                batch = contract.batch(rows)
                kept = batch.accepted
                if incremental:
                    kept = _within(kept, incremental.column, since, started, landed)
                accepted.write(kept)
                if batch.rejected.num_rows:
                    rejected.write(batch.rejected)
        landed.accepted, landed.rows, repeated = _one_row_per_key(resource, accepted.paths, scratch)
        landed.duplicates = repeated + contract.findings.duplicates
        landed.rejected = next(iter(rejected.paths), None)
        return landed

    landed = read_whole(resource, transport, take, reading, since)
    _check_rejected(resource, landed)
    return landed


def _within(
    table: pa.Table, cursor: str, since: datetime | None, started: datetime, landed: Landed
) -> pa.Table:
    """The rows since a moment. A row from the future is one of them, and no cursor."""
    if since is not None:
        recent = table.filter(pc.greater_equal(table[cursor], pa.scalar(since)))
        landed.rows_before_cursor += table.num_rows - recent.num_rows
        table = recent
    past = table[cursor].filter(pc.less_equal(table[cursor], pa.scalar(started)))
    landed.rows_in_future += table.num_rows - len(past)
    newest = pc.max(past).as_py()
    landed.newest = max(filter(None, (landed.newest, newest)), default=None)
    return table


class _Files:
    """Parquet files in a folder of their own; another one begins when the columns change."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.paths: list[Path] = []
        self._folder = folder
        self._writer: pq.ParquetWriter | None = None

    def write(self, table: pa.Table) -> None:
        if self._writer is None or self._writer.schema != table.schema:
            self.close()
            self.paths.append(self._folder / f"{len(self.paths):06}.parquet")
            # Read once, a moment later: compression would only take time.
            self._writer = pq.ParquetWriter(self.paths[-1], table.schema, compression="none")
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer:
            self._writer.close()


def _one_row_per_key(
    resource: Resource, files: list[Path], scratch: Scratch
) -> tuple[Path, int, int]:
    """One file with the newest row of each key, else the one that came last.

    Its rows, and those that are left out, are counted beside it.
    """
    key = names(resource.primary_key)
    incremental = resource.endpoint.incremental
    order = [f"{quoted(incremental.column)} DESC"] if incremental else []
    newest_first = ", ".join([*order, "file_index DESC", "file_row_number DESC"])
    rows = parquet(*files)
    with scratch.connect() as connection:
        distinct = f"SELECT count(*) FROM (SELECT DISTINCT {key} FROM {rows})"
        query = f"SELECT count(*), ({distinct}) FROM {rows}"
        [[found, kept]] = connection.execute(query).fetchall()
        if found == kept and len(files) == 1:
            return files[0], kept, 0
        one = files[0].with_name("one_row_per_key.parquet")
        newest = (
            f"SELECT * FROM {rows} QUALIFY "
            f"row_number() OVER (PARTITION BY {key} ORDER BY {newest_first}) = 1"
        )
        connection.execute(copied(newest, one))
    return one, kept, found - kept


def _check_rejected(resource: Resource, landed: Landed) -> None:
    rejected, rows = landed.findings.rejected, landed.reading.distinct
    share = MOST_REJECTED.get(resource.name)
    if share is None:
        share = _LARGEST_SHARE
        # Of ten rows a share says nothing; of none that is good it does.
        most = min(max(10, share * rows), rows - 1)
    else:
        most = share * rows
    if rejected and rejected > most:
        reasons = ", ".join(f"{text} ({n})" for text, n in landed.findings.reasons.most_common(5))
        raise TooManyRejectedError(
            f"{resource.name}: {rejected} of {rows} rows break the contract: {reasons}. At most "
            f"{share:.0%} may; nothing was loaded. If that is how the API answers, mend the "
            "columns in the REST API configuration, or set another share in "
            "api_config.MOST_REJECTED; otherwise ask its owner."
        )


def _gathered(pages: Iterator[Page]) -> Iterator[list[Any]]:
    """The rows of all pages, about `BATCH_ROWS` at a time; an empty list when there are none."""
    rows: list[Any] = []
    is_empty = True
    for page in pages:
        rows += page.rows
        is_empty &= not page.rows
        if len(rows) >= BATCH_ROWS:
            yield rows
            rows = []
    if rows or is_empty:
        # An empty batch makes the table: a resource without rows is no missing resource.
        yield rows
