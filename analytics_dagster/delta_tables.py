"""Delta tables as they are read: through a DuckDB that the files are handed to.

DuckDB's own extension for them would have to be downloaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dlt.destinations.sql_client import SqlClientBase

from analytics_dagster.api_spec import REJECTED_ROWS
from analytics_dagster.copied_tables import empty_dataset
from analytics_dagster.delta_settings import CREDENTIALS_VARIABLE, PLACE_VARIABLE, DeltaSettings
from analytics_dagster.errors import OverlapError, WarehouseConnectionError

if TYPE_CHECKING:
    from deltalake import DeltaTable

_COLOURS = re.compile(r"\x1b\[[\d;]*m")
# What S3 answers; else the innermost error, which stands last.
_SAID = re.compile(r"<Code>(\w+)</Code>|([^\n]*)$")


def opened(settings: DeltaSettings, table: str) -> DeltaTable | None:
    """The newest version of a table, or None when there is no such table.

    Raises:
        WarehouseConnectionError: the place cannot be used.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError, TableNotFoundError

    try:
        return DeltaTable(settings.uri(table), storage_options=dict(settings.options))
    except TableNotFoundError:
        return None
    except (DeltaError, OSError) as error:
        found = _SAID.search(_COLOURS.sub("", str(error)).strip())
    said = "".join(filter(None, found.groups())) if found else ""
    raise WarehouseConnectionError(
        f"{settings.uri(table)} cannot be read: {said.strip().rstrip('.')}. Nothing was changed. "
        f"Check {PLACE_VARIABLE} and {CREDENTIALS_VARIABLE}__… (or .dlt/secrets.toml), and that "
        "the server runs and can be reached from here."
    )


def check_version(table: DeltaTable, expected: int) -> None:
    """Looks whether a table still has the version that a load found.

    Raises:
        OverlapError: somebody wrote it since.
    """
    if table.version() != expected:
        raise OverlapError(
            f"{table.table_uri} was written by another run or program since this load began: it "
            f"has version {table.version()}, and had {expected}. Nothing was written over that. "
            "Run again; if it stays, let only one host load into these tables."
        )


@contextmanager
def asked(settings: DeltaSettings, resource: str, memory_mb: int) -> Iterator[SqlClientBase[Any]]:
    """A DuckDB with the tables of a resource as they are when the block begins."""
    with empty_dataset(resource, memory_mb) as client:
        for name in (resource, REJECTED_ROWS):
            if table := opened(settings, name):
                client.native_connection.register(f"{name}_rows", table.to_pyarrow_dataset())
                view = client.make_qualified_table_name(name)
                client.execute_sql(f"CREATE VIEW {view} AS FROM {name}_rows")
        yield client
