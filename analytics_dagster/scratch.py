"""DuckDB within bounds: a load takes as much memory for a large table as for a small one.

Left to itself, DuckDB keeps whatever it touched, up to most of the machine's memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

# Each thread has its own buffers: many of them would not fit into the memory of a load.
_THREADS = 2


def connect(temp_directory: Path, memory_mb: int) -> duckdb.DuckDBPyConnection:
    """A DuckDB in memory; what does not fit it puts aside in the folder."""
    return duckdb.connect(config=bounds(temp_directory, memory_mb))


def bounds(temp_directory: Path, memory_mb: int) -> dict[str, Any]:
    """The settings of such a DuckDB."""
    return {
        "temp_directory": str(temp_directory),
        "memory_limit": f"{memory_mb}MB",
        "threads": _THREADS,
    }


@dataclass(frozen=True)
class Scratch:
    """Where a load works: a temporary folder, and the megabytes that DuckDB may take."""

    folder: Path
    memory_mb: int

    def connect(self) -> duckdb.DuckDBPyConnection:
        """A DuckDB without a file, within the bounds of the load."""
        return connect(self.folder, self.memory_mb)
