"""The project on each of its warehouses, as the tests use them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from analytics_dagster_tests.conftest import Project, Run, agents
from analytics_dagster_tests.fake_api import FakeApi
from analytics_dagster_tests.postgres_server import PostgresServer

AGENTS, CREDENTIALS = "agents_overview", "DESTINATION__POSTGRES__CREDENTIALS"
ALL = ("account_overview", AGENTS, "current_queue_activity")


class DuckDbProject(Project):
    """The project on a DuckDB file."""

    def edit(self, sql: str) -> None:
        """Somebody works on the tables by hand."""
        with duckdb.connect(str(self.path)) as connection:
            connection.execute("USE analytics.analytics")
            connection.execute(sql)


class PostgresProject(Project):
    """The project on a Postgres database of its own."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, server: PostgresServer) -> None:
        super().__init__(path, monkeypatch)
        self.server, self.credentials = server, server.new_database()
        self._set("ANALYTICS_DESTINATION", "postgres")
        self._set(CREDENTIALS, self.credentials)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return self.server.query(self.credentials, sql)

    edit = query


AnyProject = DuckDbProject | PostgresProject


def ready(project: AnyProject, api: FakeApi) -> AnyProject:
    api.rows |= {"account_overview": agents(4), AGENTS: agents(250), "current_queue_activity": []}
    project.points_at(api)
    return project


def figures(run: Run, *names: str) -> list[Any]:
    assert run.success, run.error
    metadata = run.metadata(AGENTS)
    return [metadata[name] for name in names]
