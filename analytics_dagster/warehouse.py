"""The config resource for the warehouse: which database it is, and how long to wait for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import dlt
from pydantic import Field

from analytics_dagster.database import AnyDestination, Database
from analytics_dagster.duckdb_warehouse import PATH_VARIABLE, DuckDbWarehouse
from analytics_dagster.errors import SettingError
from analytics_dagster.other_settings import is_of_dlt, lacks, other_destination, tell

DESTINATION_VARIABLE = "ANALYTICS_DESTINATION"
PROJECT_ROOT = Path(__file__).resolve().parents[1]
_DESTINATIONS: dict[str, Callable[[], AnyDestination]] = {
    "duckdb": dlt.destinations.duckdb,
    "postgres": dlt.destinations.postgres,
    "ducklake": dlt.destinations.ducklake,
    "delta": lambda: dlt.destinations.filesystem(destination_name="delta"),
}
_KINDS = list(_DESTINATIONS)


class Warehouse(dg.ConfigurableResource[None]):
    """The database that the assets are loaded into; the tables are in dataset `analytics`."""

    destination: str = Field(
        default="",
        description=f"One of {', '.join(_KINDS)}, or another one of dlt's. Empty: "
        f"{DESTINATION_VARIABLE}, and when that is unset {_KINDS[0]}.",
    )
    duckdb_path: str = Field(
        default="",
        description="The DuckDB file; relative to the project's root. Empty: "
        f"{PATH_VARIABLE}, and when that is unset analytics.duckdb.",
    )
    lock_timeout: float = Field(
        default=60,
        gt=0,
        description="Seconds to wait while another program holds the DuckDB file.",
    )
    overlap_timeout: float = Field(
        default=600,
        gt=0,
        description="Seconds to wait while another run loads the same resource.",
    )
    memory_mb: int = Field(
        default=384,
        ge=128,
        description="Megabytes that DuckDB may take during a load, beside what Python takes; it "
        "compares rows on their way to any destination.",
    )

    def kind(self) -> str:
        """The kind of destination.

        Raises:
            SettingError: there is no such kind, or it cannot keep what the project promises.
        """
        kind = self.destination or os.environ.get(DESTINATION_VARIABLE, _KINDS[0])
        if kind == "filesystem":
            raise SettingError(
                f"{DESTINATION_VARIABLE}='filesystem' would be plain files: rows are not merged "
                "there, so that they come twice, and a reader sees a table that is replaced in "
                "the middle of it. Set it to delta: Delta tables in the same folder or bucket."
            )
        if kind not in _KINDS and not is_of_dlt(kind):
            raise SettingError(
                f"{DESTINATION_VARIABLE}={kind!r} is no destination. Set it to one of "
                f"{', '.join(_KINDS)}, or unset it to use {_KINDS[0]}."
            )
        if kind not in _KINDS and (lacked := lacks(kind)):
            raise SettingError(
                f"{DESTINATION_VARIABLE}={kind!r} cannot {lacked}, as dlt says, and a load has to. "
                f"Set it to one of {', '.join(_KINDS)}, or unset it to use {_KINDS[0]}."
            )
        return kind

    def database(self) -> Database:
        """The database by the settings of this moment; it is not opened.

        Raises:
            SettingError: they name no kind of destination, or no file.
        """
        if self.kind() == "postgres":
            from analytics_dagster.postgres_warehouse import PostgresWarehouse

            return PostgresWarehouse(self.overlap_timeout)
        if self.kind() == "ducklake":
            from analytics_dagster.ducklake_warehouse import DuckLakeWarehouse

            return DuckLakeWarehouse(self.overlap_timeout, self.memory_mb)
        if self.kind() == "delta":
            from analytics_dagster.delta_warehouse import DeltaWarehouse

            return DeltaWarehouse(self.overlap_timeout, self.memory_mb)
        if self.kind() not in _KINDS:
            from analytics_dagster.other_warehouse import OtherWarehouse

            return OtherWarehouse(self.kind(), self.overlap_timeout, self.memory_mb)
        return DuckDbWarehouse(self.path(), self.lock_timeout, self.overlap_timeout, self.memory_mb)

    def description(self) -> AnyDestination:
        """The kind of destination, before it is opened: its own settings are not looked at."""
        if (kind := self.kind()) in _DESTINATIONS:
            return _DESTINATIONS[kind]()
        tell(kind)
        return other_destination(kind)

    def path(self) -> Path:
        """The absolute path of the DuckDB file.

        Raises:
            SettingError: it names no file.
        """
        name = self.duckdb_path or os.environ.get(PATH_VARIABLE, "analytics.duckdb")
        if not name.strip() or name.startswith((":", "md:")):
            shown = name.partition("?")[0]  # behind it MotherDuck has its token
            raise SettingError(
                f"{PATH_VARIABLE}={shown!r} names no file. Set it to the path of a DuckDB file, "
                "or unset it to use analytics.duckdb."
            )
        return (PROJECT_ROOT / Path(name).expanduser()).resolve()
