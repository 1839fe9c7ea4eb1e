"""What dlt and the database say of a load that failed, without the rows that they quote."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from analytics_dagster.errors import AnalyticsError, LoadError, MemoryLimitError
from analytics_dagster.full_disk import full_disk
from analytics_dagster.redaction import Redactor

# These are about files and memory. What any other says may hold a value, quoted or not.
_NO_VALUES = (duckdb.IOException, duckdb.OutOfMemoryException, OSError)
_VALUES = re.compile(r"""( value|['"{(]).*?( when casting from source column \w+)?$""")


@contextmanager
def our_errors(redactor: Redactor, *folders: Path) -> Iterator[None]:
    """Raises the error of ours that dlt wrapped, or that fits, without what led to it.

    `folders` are those that are written; their disks may be full. Within the block dlt logs that
    a load failed, and not what the database said.
    """
    logger, brief = logging.getLogger("dlt"), _Brief()
    logger.addFilter(brief)
    try:
        yield
        return
    except Exception as error:  # noqa: BLE001  whatever dlt and the database raise
        failure = (
            _ours(error)
            or full_disk(error, *folders)
            or _out_of_memory(error)
            or LoadError(redactor.text(_described(error)))
        )
    finally:
        logger.removeFilter(brief)
    failure.__cause__ = failure.__context__ = None
    raise failure


class _Brief(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        said = record.getMessage().partition(" with message ")[0]
        record.msg, record.args = said.partition("\n")[0], None
        record.exc_info = record.exc_text = None
        return True


def _ours(error: BaseException | None) -> AnalyticsError | None:
    while error is not None and not isinstance(error, AnalyticsError):
        error = error.__cause__ or error.__context__
    return error


def _out_of_memory(error: BaseException | None) -> MemoryLimitError | None:
    while error is not None and "Out of Memory Error" not in str(error):
        error = error.__cause__ or error.__context__
    if error is None:
        return None
    return MemoryLimitError(
        "DuckDB needs more memory than it may take. Each table has its old rows or the new ones, "
        "never some of both. Set memory_mb of the resource `warehouse` higher, and run again."
    )


def _described(error: BaseException) -> str:
    """The kinds of the chained errors and what the last one says, without values."""
    kinds = [type(error).__name__]
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
        kinds.append(type(error).__name__)
    said = (str(error).strip().splitlines() or [""])[0]
    if not isinstance(error, _NO_VALUES):
        said = _VALUES.sub(r"\1…\2", said)
    return (
        f"{' from '.join(kinds)}: {said}{_named_by_postgres(error)}. The table has its old rows or "
        "the new ones, never some of both, and the next load reads from where this one did. Run "
        "again, and if it stays, look at the database."
    )


def _named_by_postgres(error: BaseException) -> str:
    """What Postgres says a failure is about, beside a text that may quote a row."""
    told, kinds = getattr(error, "diag", None), ("column", "constraint", "table")
    names = [(kind, getattr(told, f"{kind}_name", None)) for kind in kinds]
    named = ", ".join(f"{kind} {name}" for kind, name in names if name)
    return f" ({named})" if named else ""
