"""Whether an error means a full disk, and what to say then. Nothing else belongs here."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from analytics_dagster.errors import DiskFullError

# By Python, Postgres and DuckDB; the last one is DuckDB's for what it puts aside while it sorts.
_SAYS_SO = re.compile("No space left on device|Disk quota exceeded|max_temp_directory_size")


def full_disk(error: BaseException | None, *folders: Path) -> DiskFullError | None:
    """The error of ours for one that a full disk led to, or None.

    `folders` are those that were written; the one with the least space is named first.
    """
    errors = list(chain(error))
    if not any(_SAYS_SO.search(str(each)) for each in errors):
        return None
    if any(map(_is_of_postgres, errors)):
        return DiskFullError(
            "The disk of the Postgres server is full. Each table has its old rows or the new ones, "
            "never some of both. Make room there, and run again."
        )
    fullest = sorted(folders, key=lambda folder: shutil.disk_usage(folder).free)
    free = "; ".join(map(_described, fullest))
    return DiskFullError(
        f"The disk is full: {free}. Each table has its old rows or the new ones, never some of "
        "both. Make room there, or set TMPDIR for the rows on their way, and ANALYTICS_DUCKDB_PATH "
        "where the DuckDB file is there, to folders on a larger disk, and run again."
    )


def _is_of_postgres(error: BaseException) -> bool:
    # DuckDB repeats what Postgres says of the catalog of a lake.
    return type(error).__module__.startswith("psycopg2") or "ERROR:  " in str(error)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _described(folder: Path) -> str:
    usage = shutil.disk_usage(folder)
    return f"{folder} has {usage.free / 1e6:.1f} of {usage.total / 1e6:.1f} MB left"
