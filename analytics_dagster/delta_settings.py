"""Where Delta tables are, and with which credentials: as dlt finds it, when it is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from dlt.common.configuration import resolve_configuration
from dlt.common.configuration.exceptions import ConfigurationException
from dlt.common.configuration.specs.exceptions import ObjectStoreRsCredentialsException
from dlt.common.storages.configuration import FileSystemCredentials
from dlt.destinations.impl.filesystem.configuration import FilesystemDestinationClientConfiguration

from analytics_dagster.database import DATASET
from analytics_dagster.errors import SettingError, WarehouseConnectionError

PLACE_VARIABLE = "DESTINATION__FILESYSTEM__BUCKET_URL"
CREDENTIALS_VARIABLE = "DESTINATION__FILESYSTEM__CREDENTIALS"
# A relative path counts from here, as that of a DuckDB file does.
_ROOT = Path(__file__).resolve().parents[1]
_SECTIONS = ("destination", "filesystem")
_BUCKETS = ("s3", "az", "abfss", "gs", "gcs")
# With the condition, two commits of one version cannot both succeed. Left to itself, deltalake
# takes minutes to say that nobody answers.
_OPTIONS = {"conditional_put": "etag", "max_retries": "3", "retry_timeout": "30s"}


@dataclass(frozen=True)
class DeltaSettings:
    """The place of the tables: a URL without a slash at its end, or the path of a folder.

    `options` are those of deltalake, with the credentials.
    """

    url: str
    folder: Path | None
    credentials: FileSystemCredentials
    options: Mapping[str, str]

    def uri(self, table: str) -> str:
        """Where a table is."""
        return f"{self.url}/{DATASET}/{table}"


def delta_settings() -> DeltaSettings:
    """The settings of this moment.

    Raises:
        SettingError: a library is missing, or there is no place that Delta tables can be in.
        WarehouseConnectionError: there are no credentials for it.
    """
    if find_spec("deltalake") is None or find_spec("s3fs") is None:
        raise SettingError(
            "Delta tables are the destination, and the libraries for them are not installed. "
            'Install them: pip install -e ".[delta]"'
        )
    from dlt.common.libs.deltalake import deltalake_storage_options

    found = _found()
    url, folder = _checked(found.bucket_url or "")
    try:
        options = deltalake_storage_options(found.credentials, found.deltalake_storage_options)
        return DeltaSettings(
            url, folder, found.credentials, options if folder else {**_OPTIONS, **options}
        )
    except ObjectStoreRsCredentialsException:
        pass
    raise WarehouseConnectionError(
        f"{PLACE_VARIABLE} is on S3, and no region is set. Set "
        f"{CREDENTIALS_VARIABLE}__REGION_NAME, or {CREDENTIALS_VARIABLE}__ENDPOINT_URL for "
        "a server that is not Amazon's."
    )


def _found() -> FilesystemDestinationClientConfiguration:
    given = {"dataset_name": DATASET, "local_dir": str(_ROOT)}
    spec = FilesystemDestinationClientConfiguration()
    try:
        return resolve_configuration(spec, sections=_SECTIONS, explicit_value=given)
    except (ConfigurationException, ValueError) as error:
        # Not what it says, which may quote the secret.
        missing = getattr(error, "fields", ())
    if "bucket_url" in missing:
        raise SettingError(f"{PLACE_VARIABLE} is not set. {_HOW}")
    raise WarehouseConnectionError(
        f"{PLACE_VARIABLE} cannot be used, or there are no whole credentials for it. {_HOW} For S3 "
        f"set {CREDENTIALS_VARIABLE}__AWS_ACCESS_KEY_ID, __AWS_SECRET_ACCESS_KEY, and "
        "__REGION_NAME or __ENDPOINT_URL, or the same under [destination.filesystem.credentials] "
        "in .dlt/secrets.toml."
    )


_HOW = (
    f"Set {PLACE_VARIABLE}, or bucket_url under [destination.filesystem] in .dlt/config.toml, to "
    "the folder of the Delta tables, like /srv/lake, or to a bucket, like s3://lake/calls."
)


def _checked(url: str) -> tuple[str, Path | None]:
    scheme, separator, rest = url.partition("://")
    if "@" in rest or "?" in rest:
        raise SettingError(f"{PLACE_VARIABLE} holds more than a place, perhaps a secret. {_HOW}")
    if separator and scheme in _BUCKETS:
        return url.rstrip("/"), None
    if separator and scheme != "file":
        raise SettingError(f"{PLACE_VARIABLE}={url!r} is no folder, and no bucket. {_HOW}")
    folder = _ROOT / (rest if separator else url)
    return str(folder), folder
