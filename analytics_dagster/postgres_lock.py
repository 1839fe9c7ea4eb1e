"""Advisory locks of Postgres: they hold across hosts, and go with the connection that took them."""

from __future__ import annotations

import time
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from analytics_dagster.errors import OverlapError, WarehouseConnectionError
from analytics_dagster.progress import LOGGER

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812  psycopg2's own name

_SECONDS_BETWEEN_TRIES = 0.2
# A lock of 64 bits is shown as two halves.
_HOLDERS = """
SELECT pid, coalesce(nullif(application_name, ''), 'another program')
FROM pg_locks LEFT JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND objsubid = 1
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND classid = %s::bigint::oid AND objid = %s::bigint::oid
"""


class AdvisoryLock:
    """A lock under a name, as seen by one connection."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._name = name
        digest = sha256(name.encode()).digest()
        self._key = int.from_bytes(digest[:8], "big", signed=True)

    def acquire(self, timeout: float) -> None:
        """Waits for the lock, so many seconds at most.

        Raises:
            OverlapError: another connection held it for all that time.
        """
        give_up_at = time.monotonic() + timeout
        is_told = False
        while self._asked("SELECT pg_try_advisory_lock(%s)", self._key) == [(False,)]:
            holder = self.holder() or "another run"
            if not is_told:
                is_told = True
                said = "%s is being loaded by %s: waiting for %g s at most."
                LOGGER.info(said, self._name, holder, timeout)
            if time.monotonic() > give_up_at:
                raise OverlapError(
                    f"{self._name} is being loaded by {holder}, for longer than {timeout:g} s. "
                    "Nothing was written. Wait for that run to end, or end it, and run again."
                )
            time.sleep(_SECONDS_BETWEEN_TRIES)

    def holder(self) -> str | None:
        """Who holds the lock, as pg_stat_activity names him, or None."""
        found = self._holders()
        return f"{found[0][1]} (Postgres backend {found[0][0]})" if found else None

    def check(self) -> None:
        """Looks whether this connection still holds the lock.

        Raises:
            WarehouseConnectionError: it does not.
        """
        [(mine,)] = self._asked("SELECT pg_backend_pid()")
        if mine not in [pid for pid, _ in self._holders()]:
            raise _lost(self._name)

    def _holders(self) -> list[Any]:
        halves = divmod(self._key % 2**64, 2**32)
        return self._asked(_HOLDERS, *halves)

    def _asked(self, query: str, *values: int) -> list[Any]:
        import psycopg2

        try:
            with self._connection.cursor() as cursor:
                cursor.execute(query, values)
                return list(cursor.fetchall())
        except psycopg2.Error:
            pass
        raise _lost(self._name)


def _lost(name: str) -> WarehouseConnectionError:
    return WarehouseConnectionError(
        f"The connection to Postgres that kept other loads of {name} away broke. Nothing was "
        "written. Run again; if it stays, connect to the server itself and not through a pool of "
        "connections, and look whether it ends idle ones."
    )
