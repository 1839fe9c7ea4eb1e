"""What goes wrong with the files of a DuckLake, in words of ours. Nothing else belongs here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dlt.destinations.impl.ducklake.configuration import DuckLakeCredentials

from analytics_dagster.ducklake_settings import STORAGE_VARIABLE
from analytics_dagster.errors import WarehousePathError
from analytics_dagster.full_disk import chain, full_disk

# By Python, and by DuckDB of a folder and of S3. What may follow is one line.
_SAYS_SO = re.compile(r"(\[Errno|IO Error:|HTTP Error:).*")


@contextmanager
def file_errors(lake: DuckLakeCredentials) -> Iterator[None]:
    """Raises the error of ours for one of the lake's folder or bucket, within the block.

    Raises:
        WarehousePathError: files cannot be read or written there.
        DiskFullError: there is no space.
    """
    try:
        yield
        return
    except Exception as error:
        folders = [folder(lake)] if lake.storage.is_local_filesystem else []
        failure = full_disk(error, *folders) or _unusable(error, lake.storage_url)
        if failure is None:
            raise
    raise failure from None


def folder(lake: DuckLakeCredentials) -> Path:
    """The folder of the files, or what there is of its path."""
    path = Path(lake.storage_url)
    return next(each for each in (path, *path.parents) if each.exists())


def _unusable(error: BaseException, place: str) -> WarehousePathError | None:
    for each in chain(error):
        said = _SAYS_SO.search(str(each))
        if said and place.rpartition("://")[2] in said[0]:
            return WarehousePathError(
                f"The files of the lake in {place} cannot be read or written: {said[0].rstrip('.')}"
                f". Each table has its old rows or the new ones, never some of both. Check "
                f"{STORAGE_VARIABLE} and what stands beside it (or .dlt/secrets.toml)."
            )
    return None
