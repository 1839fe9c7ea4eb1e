"""The folder in which a load works. It is temporary, also when the load is killed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from analytics_dagster.database import Database
from analytics_dagster.scratch import Scratch


@contextmanager
def working_folder(database: Database, resource: str, memory_mb: int) -> Iterator[Scratch]:
    """A new folder, gone after the block; and those of loads that were killed are gone before it.

    To be used within `Database.one_load`: no other load of the resource into it lives then, so
    whatever folder there is of one was left behind.
    """
    owner = sha256(f"{database.place()}\n{resource}".encode()).hexdigest()[:12]
    prefix = f"analytics_dagster_{owner}_"
    for left in Path(gettempdir()).glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(prefix=prefix) as folder:
        yield Scratch(Path(folder), memory_mb)
