"""A lock on this host: the file of it stays, and the lock goes with the process, and only so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import gettempdir

from filelock import FileLock, Timeout

from analytics_dagster.errors import OverlapError, WarehouseError, WarehousePathError
from analytics_dagster.full_disk import full_disk
from analytics_dagster.progress import LOGGER

# Whoever may write the tables may lock them, too.
_MODE = 0o666


@contextmanager
def held(file: Path, what: str, timeout: float, how: str) -> Iterator[None]:
    """Keeps all others out that do `what` while the block runs; waits for them so many seconds.

    `how` is what to do when the file cannot be written.

    Raises:
        OverlapError: another process held the lock for all that time.
        WarehousePathError: the folder is not there, or cannot be written.
    """
    lock = FileLock(file, mode=_MODE)
    failure: WarehouseError | None = None
    try:
        # The lock would make the folder, and a mistyped path a second warehouse.
        file.parent.stat()
        if is_held(file):
            said = "%s is being loaded by %s: waiting for %g s at most."
            LOGGER.info(said, what, file.read_text(), timeout)
        lock.acquire(timeout)
        file.write_text(f"process {os.getpid()}")
    except Timeout:
        failure = OverlapError(
            f"{what} is being loaded by {file.read_text() or 'another run'}, for longer "
            f"than {timeout:g} s. Nothing was read or written. Wait for that run to end, or end "
            "it, and run again."
        )
    except OSError as error:
        failure = full_disk(error, file.parent) or WarehousePathError(
            f"{file} cannot be written: {error.strerror}. {how}"
        )
    if failure:
        raise failure
    try:
        yield
    finally:
        lock.release()


def is_held(file: Path) -> bool:
    """Whether a process that lives holds the lock now."""
    if not file.exists():
        return False
    try:
        with FileLock(file, mode=_MODE).acquire(0):
            return False
    except Timeout:
        return True


def elsewhere(place: str, name: str) -> Path:
    """The file of a lock for a place that is in no folder of this machine."""
    hashed = sha256(place.encode()).hexdigest()[:12]
    return Path(gettempdir()) / f"analytics_dagster_{hashed}.{name}.lock"
