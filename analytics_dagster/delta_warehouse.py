"""Delta tables as a warehouse: the lock of this host, and the versions that a load may replace."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from dlt.destinations.sql_client import SqlClientBase

from analytics_dagster import file_lock
from analytics_dagster.api_spec import REJECTED_ROWS
from analytics_dagster.database import AnyDestination, AskedByDuckDb
from analytics_dagster.delta_settings import PLACE_VARIABLE, DeltaSettings, delta_settings
from analytics_dagster.delta_tables import asked, opened
from analytics_dagster.sql import literal


@dataclass(frozen=True)
class DeltaWarehouse(AskedByDuckDb):
    """Delta tables; see `database.Database` for the methods. Times are in seconds.

    `versions` are those of the tables when a load of them began.
    """

    kind: ClassVar[str] = "delta"
    setting: ClassVar[str] = PLACE_VARIABLE

    overlap_timeout: float
    memory_mb: int
    versions: dict[str, int] = field(default_factory=dict)

    def place(self) -> str:
        """The folder, or the URL of the bucket."""
        return delta_settings().url

    def folders(self) -> list[Path]:
        """The folder, where it is one of this machine."""
        folder = delta_settings().folder
        return [folder] if folder else []

    def is_there(self) -> bool:
        """Asking makes nothing."""
        return True

    def shown(self, table: str) -> str:
        """The table as DuckDB's extension `delta` reads it."""
        return f"delta_scan({literal(delta_settings().uri(table))})"

    def look(self, table: str) -> str:
        """A command of Python's; for a bucket it needs the credentials in AWS's variables."""
        opened = f"deltalake.DeltaTable('{delta_settings().uri(table)}').to_pyarrow_dataset()"
        code = f"import deltalake, duckdb; t = {opened}; duckdb.sql('FROM t').show()"
        return f'{sys.executable} -c "{code}"'

    @contextmanager
    def one_load(self, resource: str) -> Iterator[Callable[[], None]]:
        """A file keeps the loads of this host apart; of hosts the second one may not commit.

        Raises:
            OverlapError: another run loaded the resource for `overlap_timeout` seconds.
            WarehouseConnectionError: the bucket cannot be used.
            WarehousePathError: the folder cannot be written.
        """
        settings = delta_settings()
        with self._alone(settings, resource):
            found = opened(settings, resource)
            self.versions[resource] = found.version() if found else 0
            yield lambda: None  # the destination looks at the version

    def is_being_loaded(self, resource: str) -> bool:
        """Whether a process of this host that lives loads the resource now."""
        return file_lock.is_held(_lock(delta_settings(), resource))

    @contextmanager
    def writing(self, *, alone: bool) -> Iterator[AnyDestination]:
        """The tables, written beside others, or `alone` on this host.

        Raises:
            OverlapError: another load had to be alone for `overlap_timeout` seconds.
        """
        from analytics_dagster.delta_writing import delta_destination

        settings = delta_settings()
        with self._alone(settings, REJECTED_ROWS) if alone else ExitStack():
            yield delta_destination(settings, self.versions)

    def asking(
        self,
        destination: AnyDestination,  # noqa: ARG002  dlt would ask an extension that is not there
        resource: str,
    ) -> AbstractContextManager[SqlClientBase[Any]]:
        """A DuckDB that reads the tables as they are now."""
        return asked(delta_settings(), resource, self.memory_mb)

    def _alone(self, settings: DeltaSettings, name: str) -> AbstractContextManager[None]:
        how = f"Set {PLACE_VARIABLE} to a folder that exists and that you may write."
        if not settings.folder:
            how = "Set TMPDIR to a folder that you may write."
        return file_lock.held(_lock(settings, name), name, self.overlap_timeout, how)


def _lock(settings: DeltaSettings, name: str) -> Path:
    if settings.folder:
        return settings.folder / f"{name}.lock"
    return file_lock.elsewhere(settings.url, name)
