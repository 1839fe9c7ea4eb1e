"""Connections to Postgres: with the credentials that dlt finds, when they are needed."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from dlt.common.configuration import resolve_configuration
from dlt.common.configuration.exceptions import ConfigurationException
from dlt.destinations.impl.postgres.configuration import PostgresCredentials

from analytics_dagster.errors import SettingError, WarehouseConnectionError
from analytics_dagster.redaction import Redactor

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection  # noqa: N812  psycopg2's own name

_SECTIONS = ("destination", "postgres", "credentials")
CREDENTIALS_VARIABLE = "DESTINATION__POSTGRES__CREDENTIALS"
_HOW = (
    f"Set {CREDENTIALS_VARIABLE}, or [destination.postgres] credentials in .dlt/secrets.toml, to "
    "postgresql://user:password@host:5432/database, with other signs than letters and digits "
    "percent-encoded."
)


def credentials() -> PostgresCredentials:
    """The credentials as dlt finds them now.

    Raises:
        WarehouseConnectionError: it finds none, or not all of them.
    """
    try:
        found = resolve_configuration(PostgresCredentials(), sections=_SECTIONS)
    except (ConfigurationException, ValueError):
        found = None  # the exception may quote the password
    return checked(found, _HOW)


def checked(found: PostgresCredentials | None, how: str) -> PostgresCredentials:
    """The credentials, when they are whole; `how` says how to set them.

    Raises:
        WarehouseConnectionError: they are not.
    """
    if found is None or not (found.host and found.username and found.database):
        raise WarehouseConnectionError(f"There are no whole credentials for Postgres. {how}")
    if "@" in found.host + found.database:
        raise WarehouseConnectionError(
            f"The credentials for Postgres have two @ in them, or a sign that ends a part. {how}"
        )
    return found


@contextmanager
def connected(to: PostgresCredentials, variable: str) -> Iterator[Connection]:
    """A connection for the block, which says in pg_stat_activity whose it is.

    `variable` is the one that the credentials are set in.

    Raises:
        SettingError: the library is not installed.
        WarehouseConnectionError: the server cannot be reached, or refuses the credentials.
    """
    if find_spec("psycopg2") is None:
        extra = variable.split("__")[1].lower()
        raise SettingError(
            f"{variable} names a Postgres server, and the library psycopg2 is not installed. "
            f'Install it: pip install -e ".[{extra}]"'
        )
    connection = _connection(to, variable)
    try:
        yield connection
    finally:
        connection.close()


def _connection(to: PostgresCredentials, variable: str) -> Connection:
    import psycopg2

    whose = f"process {os.getpid()} on {socket.gethostname()}"
    try:
        connection = psycopg2.connect(
            to.to_native_representation(),
            application_name=whose[:63],
            keepalives_idle=60,
        )
        connection.autocommit = True
        return connection
    except psycopg2.Error as error:
        said = (str(error).strip().splitlines() or [""])[0]
    # Without the connection, which is named below in words of ours.
    said = re.sub(r"^.*?(FATAL|failed): +", "", said)
    said = Redactor(str(to.password or "")).text(said)
    raise WarehouseConnectionError(
        f"Postgres at {to.host}:{to.port}, database {to.database}, "
        f"user {to.username}, cannot be used: {said.rstrip('.')}. Nothing was changed. "
        f"Check {variable} (or .dlt/secrets.toml), and that the server runs and can be "
        "reached from here."
    )
