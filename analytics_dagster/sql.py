"""Names and texts as SQL takes them. Nothing else belongs here."""

from collections.abc import Iterable
from pathlib import Path


def quoted(column: str) -> str:
    """A column's name, whatever stands in it."""
    return '"' + column.replace('"', '""') + '"'


def names(columns: Iterable[str]) -> str:
    """The names of columns, as a list."""
    return ", ".join(map(quoted, columns))


def literal(text: str | Path) -> str:
    """A text or a path."""
    return "'" + str(text).replace("'", "''") + "'"


def parquet(*files: Path) -> str:
    """The rows of parquet files, to be read by DuckDB."""
    return f"read_parquet([{', '.join(map(literal, files))}], union_by_name = true)"


def copied(query: str, file: Path) -> str:
    """The statement that writes the rows of a query into a parquet file."""
    return f"COPY ({query}) TO {literal(file)} (FORMAT parquet, COMPRESSION uncompressed)"
