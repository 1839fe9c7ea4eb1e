"""DuckLake as dlt's destination, with a way of ours to the catalog: dlt's has the password in the
statement, and DuckDB repeats it in its errors.

Imports psycopg2, so it is imported when a load runs, and not before.
"""

from __future__ import annotations

from typing import Any

import dlt
from dlt.common.configuration.specs import AwsCredentials
from dlt.common.destination import DestinationCapabilitiesContext
from dlt.destinations.impl.ducklake.configuration import (
    DuckLakeClientConfiguration,
    DuckLakeCredentials,
)
from dlt.destinations.impl.ducklake.ducklake import DuckLakeClient
from dlt.destinations.impl.ducklake.sql_client import DuckLakeSqlClient
from psycopg2.extensions import make_dsn

from analytics_dagster.ducklake_settings import catalog, extensions, schema
from analytics_dagster.scratch import Scratch, bounds
from analytics_dagster.sql import literal, quoted


class _SqlClient(DuckLakeSqlClient):
    @property
    def attach_statement(self) -> str:
        """The catalog without its password, and all rows in files.

        Few rows would be in tables of the catalog, if Postgres takes the names of their columns.
        """
        lake = self.credentials
        to = catalog(lake)
        more = {name: str(value) for name, value in to.get_query().items()}
        dsn = make_dsn(host=to.host, port=to.port, dbname=to.database, user=to.username, **more)
        return (
            f"ATTACH {literal(f'ducklake:postgres:{dsn}')} AS {quoted(lake.ducklake_name)} ("
            f"DATA_PATH {literal(lake.storage_url)}, METADATA_SCHEMA {literal(schema(lake))}, "
            "DATA_INLINING_ROW_LIMIT 0)"
        )


class _Client(DuckLakeClient):
    def __init__(
        self,
        schema: dlt.Schema,
        config: DuckLakeClientConfiguration,
        capabilities: DestinationCapabilitiesContext,
    ) -> None:
        super().__init__(schema, config, capabilities)
        names = (self.sql_client.dataset_name, self.sql_client.staging_dataset_name)
        self.sql_client = _SqlClient(*names, config.credentials, capabilities)


def _escape(aws: AwsCredentials) -> None:
    # dlt puts it between quotes as it is, and DuckDB repeats a statement that it cannot read.
    if aws.aws_secret_access_key:
        aws.aws_secret_access_key = aws.aws_secret_access_key.replace("'", "''")


class AttachingDuckLake(dlt.destinations.ducklake):
    """The destination: atomic merges and swaps, in which readers wait for nobody."""

    def __init__(self, lake: DuckLakeCredentials, scratch: Scratch) -> None:
        password = literal(str(lake.catalog.password or ""))
        secret = f"CREATE SECRET (TYPE postgres, PASSWORD {password})"
        # Beside what the settings say.
        lake.statements = [*(lake.statements or []), secret]
        lake.extensions = [*(lake.extensions or []), *extensions(lake)]
        lake.global_config = (lake.global_config or {}) | bounds(scratch.folder, scratch.memory_mb)
        if isinstance(lake.storage.credentials, AwsCredentials):
            _escape(lake.storage.credentials)
        lake.resolve()
        super().__init__(
            lake,
            destination_name="ducklake",
            supports_transactions=True,
            replace_strategy="insert-from-staging",
            # Each connection is a DuckDB that may take all of the memory.
            loader_parallelism_strategy="sequential",
        )

    @property
    def client_class(self) -> type[Any]:
        """The client that attaches the lake in this way."""
        return _Client
