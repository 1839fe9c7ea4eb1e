"""Postgres as dlt's destination, with a COPY of ours: dlt's takes an empty text for NULL.

Imports psycopg2, so it is imported when a load runs, and not before.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, cast

import dlt
from dlt.common.destination.client import HasFollowupJobs, LoadJob, RunnableLoadJob
from dlt.common.destination.typing import PreparedTableSchema
from dlt.destinations.impl.postgres.configuration import PostgresCredentials
from dlt.destinations.impl.postgres.factory import PostgresTypeMapper
from dlt.destinations.impl.postgres.postgres import PostgresClient

from analytics_dagster.csv_files import COPY_FROM
from analytics_dagster.sql import names


class _Types(PostgresTypeMapper):
    # A jsonb is not the text that the API sent, and refuses some that JSON allows.
    sct_to_unbound_dbt = PostgresTypeMapper.sct_to_unbound_dbt | {"json": "json"}


class _Copy(RunnableLoadJob, HasFollowupJobs):
    def run(self) -> None:
        client = cast(PostgresClient, self._job_client).sql_client
        table = client.make_qualified_table_name(self.load_table_name)
        with Path(self._file_path).open("rb") as file:
            [header] = csv.reader([file.readline().decode()])
            with client.begin_transaction(), client.native_connection.cursor() as cursor:
                cursor.copy_expert(f"COPY {table} ({names(header)}) FROM STDIN ({COPY_FROM})", file)


class _Client(PostgresClient):
    def create_load_job(
        self,
        table: PreparedTableSchema,
        file_path: str,
        load_id: str,
        restore: bool = False,  # noqa: FBT001, FBT002  dlt's signature
    ) -> LoadJob:
        if file_path.endswith(".csv"):
            return _Copy(file_path)
        return super().create_load_job(table, file_path, load_id, restore)


class CopyingPostgres(dlt.destinations.postgres):
    """The destination: atomic merges and swaps, in which readers wait for nobody."""

    def __init__(self, credentials: PostgresCredentials) -> None:
        super().__init__(
            credentials,
            destination_name="postgres",
            supports_transactions=True,
            # TRUNCATE shows an empty table to transactions that began before it.
            supports_truncate_command=False,
            replace_strategy="insert-from-staging",
            type_mapper=_Types,
        )

    @property
    def client_class(self) -> type[Any]:
        """The client that loads by COPY."""
        return _Client
