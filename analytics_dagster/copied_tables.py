"""The tables of a resource as a DuckDB in memory has them, for questions in its own SQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import dlt
from dlt.destinations.impl.duckdb.configuration import DuckDbCredentials
from dlt.destinations.sql_client import SqlClientBase

from analytics_dagster.database import dlt_client
from analytics_dagster.scratch import connect


@contextmanager
def empty_dataset(resource: str, memory_mb: int) -> Iterator[SqlClientBase[Any]]:
    """A DuckDB whose dataset has no tables yet; what does not fit into memory it puts aside."""
    with (
        TemporaryDirectory() as folder,
        connect(Path(folder), memory_mb) as connection,
        dlt_client(dlt.destinations.duckdb(DuckDbCredentials(connection)), resource) as client,
    ):
        client.create_dataset()
        yield client
