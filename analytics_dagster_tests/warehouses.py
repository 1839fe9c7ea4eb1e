"""The project on each of its warehouses, as the tests use them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
import pytest

from analytics_dagster.ducklake_warehouse import DuckLakeWarehouse
from analytics_dagster_tests.conftest import Project, Run, agents
from analytics_dagster_tests.fake_api import FakeApi
from analytics_dagster_tests.postgres_server import PostgresServer

CATALOG = "DESTINATION__DUCKLAKE__CREDENTIALS__CATALOG"
STORAGE = "DESTINATION__DUCKLAKE__CREDENTIALS__STORAGE__BUCKET_URL"
AGENTS, CREDENTIALS = "agents_overview", "DESTINATION__POSTGRES__CREDENTIALS"
ALL = ("account_overview", AGENTS, "current_queue_activity")


needs_ducklake = pytest.mark.skipif(
    find_spec("duckdb_extension_ducklake") is None,
    reason="DuckLake has an environment of its own: make test-ducklake",
)


class DuckDbProject(Project):
    """The project on a DuckDB file."""

    setting, place = "ANALYTICS_DUCKDB_PATH", "analytics.duckdb"

    def edit(self, sql: str) -> None:
        """Somebody works on the tables by hand."""
        with duckdb.connect(str(self.path)) as connection:
            connection.execute("USE analytics.analytics")
            connection.execute(sql)


class PostgresProject(Project):
    """The project on a Postgres database of its own."""

    setting, place = CREDENTIALS, "127.0.0.1"

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, server: PostgresServer) -> None:
        super().__init__(path, monkeypatch)
        self.server, self.credentials = server, server.new_database()
        self._set("ANALYTICS_DESTINATION", "postgres")
        self._set(CREDENTIALS, self.credentials)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return self.server.query(self.credentials, sql)

    edit = query


class DuckLakeProject(Project):
    """The project on a DuckLake of its own: a catalog on a server, and files in a folder."""

    setting, place = CATALOG, "127.0.0.1"

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, server: PostgresServer) -> None:
        super().__init__(path, monkeypatch)
        self.server, self.catalog = server, server.new_database()
        self._set("ANALYTICS_DESTINATION", "ducklake")
        self._set(CATALOG, self.catalog)
        self._set(STORAGE, str(path))

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with DuckLakeWarehouse(overlap_timeout=60, memory_mb=384).attached() as connection:
            return connection.execute(sql).fetchall()

    edit = query


AnyProject = DuckDbProject | PostgresProject | DuckLakeProject


def ready(project: AnyProject, api: FakeApi) -> AnyProject:
    api.rows |= {"account_overview": agents(4), AGENTS: agents(250), "current_queue_activity": []}
    project.points_at(api)
    return project


def figures(run: Run, *names: str) -> list[Any]:
    assert run.success, run.error
    metadata = run.metadata(AGENTS)
    return [metadata[name] for name in names]
