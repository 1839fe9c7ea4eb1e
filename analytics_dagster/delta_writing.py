"""Delta tables as dlt's destination: a load that another one overtook writes nothing over it.

Imports deltalake, so it is imported when a load runs, and not before.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import dlt
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Field, Schema, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError
from dlt.common.destination.exceptions import DestinationTerminalException
from dlt.common.libs.pyarrow import columns_to_arrow, get_local_dataset_reader
from dlt.common.schema.typing import TSchemaTables, TTableFormat
from dlt.destinations.impl.filesystem.filesystem import DeltaLoadFilesystemJob, FilesystemClient
from fsspec.implementations.local import LocalFileSystem

from analytics_dagster.database import AnyDestination
from analytics_dagster.delta_settings import DeltaSettings
from analytics_dagster.delta_tables import check_version, opened
from analytics_dagster.errors import OverlapError

_NO_RETRY = CommitProperties(max_commit_retries=0)


def create_table(uri: str, columns: pa.Schema, **options: Any) -> None:
    """Makes a table that is not there, as version 0 alone; `options` are those of deltalake.

    Trying again, deltalake would commit a table that another host made meanwhile as version 1,
    and all hosts would believe that a load had overtaken them.
    """
    schema = Schema.from_arrow(columns)
    try:
        DeltaTable.create(uri, schema, mode="ignore", commit_properties=_NO_RETRY, **options)
    except CommitFailedError:
        if not DeltaTable.is_deltatable(uri, options.get("storage_options")):
            raise


class _Write(DeltaLoadFilesystemJob):
    """dlt's job, but for a replacement, and for what it would try again in vain.

    Delta lets a replacement pass beside a commit that only adds rows, which would stay.
    """

    def run(self) -> None:
        is_replaced = self._load_table["write_disposition"] == "replace"
        try:
            self._replace() if is_replaced else super().run()
        except CommitFailedError:
            raise  # dlt tries again, with the table as it is then
        except (DeltaError, OSError, OverlapError) as error:
            raise DestinationTerminalException(type(error).__name__) from error

    def _replace(self) -> None:
        table = self._job_client.load_open_table("delta", self.load_table_name)
        with get_local_dataset_reader(self.file_paths) as rows:
            write_deltalake(
                table,
                rows,
                mode="overwrite",
                schema_mode="merge",  # a column of somebody's own may stand there
                commit_properties=_NO_RETRY,
            )


class _WholeFiles(LocalFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A folder in which a file of dlt's is there whole, or not at all, as in a bucket.

    dlt reads them when a load begins: half a one, of a load that was killed or of a full disk,
    would let no other load begin until somebody removes it.
    """

    def write_text(self, path: str, value: str, encoding: str | None = None, **_: Any) -> None:
        """Writes beside it, under a name that dlt takes for none of its own, and moves it there."""
        beside = Path(path).with_name(f".{uuid4().hex}")
        try:
            with beside.open("x", encoding=encoding) as file:
                file.write(value)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


class _Client(FilesystemClient):
    settings: DeltaSettings
    versions: dict[str, int]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        if self.is_local_filesystem:
            self.fs_client = _WholeFiles()

    def create_dataset(self) -> None:
        """Makes the folder of the tables, if no other load did, at this moment or before it ended.

        dlt looks for its own file in there, and not for the folder.
        """
        self.fs_client.makedirs(self.dataset_path, exist_ok=True)

    def update_stored_schema(
        self,
        only_tables: Iterable[str] | None = None,
        expected_update: TSchemaTables | None = None,
        force: bool = False,  # noqa: FBT001, FBT002  dlt's signature
    ) -> TSchemaTables:
        """Makes the tables and columns first, as in a database: dlt makes them of the rows.

        Two first loads would then both add their rows, no column would be NOT NULL, and a load
        that is killed in between would leave a schema that the table has not.
        """
        for name in filter(self._is_delta, only_tables or self.schema.tables):
            columns = self.schema.get_table_columns(name)
            self._make(name, columns_to_arrow(columns, self.capabilities, "UTC"))
        return super().update_stored_schema(only_tables, expected_update, force)  # type: ignore[arg-type]

    def _make(self, name: str, columns: pa.Schema) -> None:
        table = opened(self.settings, name)
        if table is None:
            create_table(
                self.settings.uri(name),
                columns,
                configuration=self.config.deltalake_configuration,
                storage_options=dict(self.settings.options),
            )
            return
        there = {field.name for field in table.schema().fields}
        missing = [column for column in columns if column.name not in there]
        if not missing:
            return
        self._check(name, table)
        fields = [Field.from_arrow(column.with_nullable(True)) for column in missing]
        try:
            table.alter.add_columns(fields, commit_properties=_NO_RETRY)
        except CommitFailedError:
            self.load_open_table("delta", name)  # says that another load wrote it
            raise
        self.versions[name] = table.version()

    def load_open_table(self, table_format: TTableFormat, table_name: str, **kwargs: Any) -> Any:
        """The table as the load found it; the commit fails when it is not the newest then."""
        table = super().load_open_table(table_format, table_name, **kwargs)
        self._check(table_name, table)
        return table

    @staticmethod
    def get_reference_followup_job_class(table: Any) -> Any:
        """The job that writes a table."""
        dlts = FilesystemClient.get_reference_followup_job_class(table)
        return _Write if dlts is DeltaLoadFilesystemJob else dlts

    def _check(self, name: str, table: DeltaTable) -> None:
        if name in self.versions:
            check_version(table, self.versions[name])

    def _is_delta(self, name: str) -> bool:
        return self.is_open_table("delta", name)


class _Destination(dlt.destinations.filesystem):
    settings: DeltaSettings
    versions: dict[str, int]

    @property
    def client_class(self) -> type[Any]:
        """The client that makes and writes the tables."""
        return _Client

    def client(self, schema: Any, initial_config: Any = None) -> Any:
        """A client that knows the tables."""
        client = cast(_Client, super().client(schema, initial_config))
        client.settings, client.versions = self.settings, self.versions
        return client


def delta_destination(settings: DeltaSettings, versions: dict[str, int]) -> AnyDestination:
    """The destination: what has another version than in `versions` is not written."""
    made = _Destination(
        settings.url,
        settings.credentials,
        destination_name="filesystem",
        preferred_table_format="delta",
        deltalake_storage_options=dict(settings.options),
    )
    made.settings, made.versions = settings, versions
    return made
