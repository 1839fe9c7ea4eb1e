"""Names and texts as SQL takes them. Nothing else belongs here."""

from pathlib import Path


def quoted(column: str) -> str:
    """A column's name, whatever stands in it."""
    return '"' + column.replace('"', '""') + '"'


def literal(text: str | Path) -> str:
    """A text or a path."""
    return "'" + str(text).replace("'", "''") + "'"


def parquet(*files: Path) -> str:
    """The rows of parquet files, to be read by DuckDB."""
    return f"read_parquet([{', '.join(map(literal, files))}], union_by_name = true)"
