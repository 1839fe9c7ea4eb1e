"""Where a DuckLake is, as dlt finds it, and the extensions with which DuckDB reaches it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import duckdb
from dlt.common.configuration import configspec, resolve_configuration
from dlt.common.configuration.exceptions import ConfigurationException
from dlt.common.configuration.specs import BaseConfiguration
from dlt.destinations.impl.ducklake.configuration import DuckLakeCredentials
from dlt.destinations.impl.postgres.configuration import PostgresCredentials

from analytics_dagster.errors import SettingError, WarehouseConnectionError
from analytics_dagster.postgres_connection import checked
from analytics_dagster.sql import literal

_SECTIONS = ("destination", "ducklake")
CATALOG_VARIABLE = "DESTINATION__DUCKLAKE__CREDENTIALS__CATALOG"
STORAGE_VARIABLE = "DESTINATION__DUCKLAKE__CREDENTIALS__STORAGE__BUCKET_URL"
_HOW = (
    f"Set {CATALOG_VARIABLE}, or catalog under [destination.ducklake.credentials] in "
    ".dlt/secrets.toml, to postgres://user:password@host:5432/database, with other signs than "
    "letters and digits percent-encoded."
)
_HOW_STORAGE = (
    f"Set {STORAGE_VARIABLE}, or bucket_url under [destination.ducklake.credentials.storage] in "
    ".dlt/secrets.toml, to the whole path of a folder, or to s3://bucket/folder with "
    "aws_access_key_id, aws_secret_access_key and region_name under storage.credentials beside it."
)
# What dlt does with DuckDB 1.5 it cannot do with 2.0, and the packages are for one version each.
_VERSION = "1.5."
_INSTALL = 'Install what it needs: pip install -e ".[ducklake]"'


@configspec
class _Settings(BaseConfiguration):
    # dlt looks for the parts of credentials in other places when they are not a part themselves.
    credentials: DuckLakeCredentials = None  # type: ignore[assignment]


def credentials() -> DuckLakeCredentials:
    """The credentials as dlt finds them now.

    Raises:
        SettingError: this DuckDB cannot be used, or the storage is no folder and not on S3.
        WarehouseConnectionError: there are no credentials, or not all of them.
    """
    if not duckdb.__version__.startswith(_VERSION):
        raise SettingError(
            f"DuckLake is the destination; it needs DuckDB {_VERSION}x, and {duckdb.__version__} "
            f"is installed. {_INSTALL}"
        )
    try:
        found = resolve_configuration(_Settings(), sections=_SECTIONS).credentials
    except (ConfigurationException, TypeError, ValueError):
        found = None  # the exception may quote the password
    if found is None:
        raise WarehouseConnectionError(
            f"There are no whole credentials for DuckLake. {_HOW} {_HOW_STORAGE}"
        )
    catalog(found)
    _check_storage(found.storage.original_bucket_url())
    return found


def catalog(of: DuckLakeCredentials) -> PostgresCredentials:
    """The credentials of the Postgres database that the catalog is in.

    Raises:
        WarehouseConnectionError: they are not whole, or those of another kind of database.
    """
    is_postgres = of.catalog.drivername in {"postgres", "postgresql"}
    found = PostgresCredentials(of.catalog.to_native_representation()) if is_postgres else None
    return checked(found, _HOW)


def schema(of: DuckLakeCredentials) -> str:
    """The schema of that database that the catalog is in."""
    return of.metadata_schema or of.ducklake_name


def _check_storage(url: str) -> None:
    scheme, _, path = url.rpartition("://")
    # A relative path would be another folder for each current one.
    if scheme != "s3" and not (scheme in {"", "file"} and Path(path).is_absolute()):
        shown = f"{scheme}://…" if scheme else url
        raise SettingError(
            f"{STORAGE_VARIABLE}={shown!r} is no whole path and not on S3. {_HOW_STORAGE}"
        )


def extensions(of: DuckLakeCredentials) -> list[str]:
    """The extensions that DuckDB needs, as its LOAD takes them.

    Raises:
        SettingError: one is not installed, and DuckDB cannot download it.
    """
    needed = ["ducklake", "postgres_scanner"]
    return list(map(_loadable, needed if of.storage.is_local_filesystem else [*needed, "httpfs"]))


def _loadable(extension: str) -> str:
    package = find_spec(f"duckdb_extension_{extension}")
    files = Path(str(package and package.origin)).parent / "extensions" / f"v{duckdb.__version__}"
    if (file := files / f"{extension}.duckdb_extension").exists():
        return literal(file)
    try:
        with duckdb.connect() as connection:
            connection.execute(f"INSTALL {extension}")
        return extension
    except duckdb.Error as error:
        said = str(error).splitlines()[0]
    raise SettingError(
        f"DuckDB's extension {extension} is not installed, and cannot be downloaded: {said} "
        f"{_INSTALL}"
    )
