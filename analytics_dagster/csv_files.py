"""Rows as CSV between DuckDB and Postgres: NULL, the empty text and every sign stay themselves.

NULL is written as a backslash and an N, without quotes; whatever else there is, is in quotes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from analytics_dagster.api_spec import Column
from analytics_dagster.scratch import Scratch
from analytics_dagster.sql import literal, parquet, quoted

COPY_FROM = r"FORMAT csv, NULL '\N', ENCODING 'UTF8'"
COPY_TO = rf"{COPY_FROM}, FORCE_QUOTE *"
"""The options of Postgres's COPY."""

_LONGEST_ROW = 32 * 2**20  # bytes
_READ = rf"""auto_detect = false, header = false, delim = ',', quote = '"', escape = '"',
nullstr = '\N', allow_quoted_nulls = false, parallel = false,
max_line_size = {_LONGEST_ROW}, buffer_size = {_LONGEST_ROW}"""
_TYPES = {
    "bigint": "BIGINT",
    "text": "VARCHAR",
    "timestamp": "TIMESTAMPTZ",
    "double": "DOUBLE",
    "bool": "BOOLEAN",
    "date": "DATE",
    "json": "VARCHAR",
}


def as_csv(file: Path, scratch: Scratch) -> Path:
    """The rows of a parquet file as a CSV file with the names of the columns in its first row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    csv = file.with_suffix(".csv")
    columns = [(quoted(c.name), pa.types.is_string(c.type)) for c in pq.read_schema(file)]
    # Postgres has no character NUL in a text; the picture of it is better than no load.
    rows = ", ".join(f"replace({c}, chr(0), '␀') AS {c}" if text else c for c, text in columns)
    options = r"FORMAT csv, HEADER, NULLSTR '\N', FORCE_QUOTE *"
    with scratch.connect() as connection:
        connection.execute(
            f"COPY (SELECT {rows} FROM {parquet(file)}) TO {literal(csv)} ({options})"
        )
    return csv


def from_csv(csv: Path, columns: Mapping[str, Column]) -> str:
    """The rows of a CSV file without a first row of names, to be read by DuckDB."""
    types = ", ".join(f"{literal(name)}: {literal(_type(c))}" for name, c in columns.items())
    return f"read_csv({literal(csv)}, columns = {{{types}}}, {_READ})"


def _type(column: Column) -> str:
    if column.data_type == "decimal":
        return f"DECIMAL({column.precision}, {column.scale})"
    return _TYPES[column.data_type]
