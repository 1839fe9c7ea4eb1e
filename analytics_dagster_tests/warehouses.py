"""The project on each of its warehouses, as the tests use them."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from analytics_dagster.ducklake_warehouse import DuckLakeWarehouse
from analytics_dagster.sql import quoted
from analytics_dagster_tests.conftest import Project, Run, agents
from analytics_dagster_tests.fake_api import FakeApi
from analytics_dagster_tests.postgres_server import PostgresServer
from analytics_dagster_tests.s3_server import ACCESS_KEY, SECRET, S3Server

CATALOG = "DESTINATION__DUCKLAKE__CREDENTIALS__CATALOG"
STORAGE = "DESTINATION__DUCKLAKE__CREDENTIALS__STORAGE__BUCKET_URL"
AGENTS, CREDENTIALS = "agents_overview", "DESTINATION__POSTGRES__CREDENTIALS"
ALL = ("account_overview", AGENTS, "current_queue_activity")
TABLES = (*ALL, "calls", "rejected_rows")
PLACE, S3 = "DESTINATION__FILESYSTEM__BUCKET_URL", "DESTINATION__FILESYSTEM__CREDENTIALS"


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


class DeltaProject(Project):
    """The project on Delta tables of its own, in a folder or, with a server, on S3."""

    setting = PLACE

    def __init__(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, server: S3Server | None = None
    ) -> None:
        super().__init__(path, monkeypatch)
        self.server = server
        self.place = f"s3://{server.new_bucket()}/all" if server else str(path.with_name("lake"))
        self.options = server.options if server else {}
        if not server:
            Path(self.place).mkdir()
        self._set("ANALYTICS_DESTINATION", "delta")
        self._set(PLACE, self.place)
        if server:
            self._set(f"{S3}__AWS_ACCESS_KEY_ID", ACCESS_KEY)
            self._set(f"{S3}__AWS_SECRET_ACCESS_KEY", SECRET)
            self._set(f"{S3}__ENDPOINT_URL", server.url)

    def table(self, name: str) -> DeltaTable | None:
        """One of the tables, or None where there is none."""
        uri = f"{self.place}/analytics/{name}"
        there = DeltaTable.is_deltatable(uri, self.options)
        return DeltaTable(uri, storage_options=self.options) if there else None

    def opened(self, name: str) -> DeltaTable:
        """One of the tables, which is there."""
        table = self.table(name)
        assert table
        return table

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with self._copied() as connection:
            return connection.execute(sql).fetchall()

    def edit(self, sql: str) -> None:
        """Somebody works on the tables by hand."""
        with self._copied() as connection:
            connection.execute(sql)
            for name in TABLES:
                if (table := self.table(name)) is None:
                    continue
                columns = "SELECT column_name, is_nullable FROM information_schema.columns WHERE "
                found = connection.execute(f"{columns} table_name = '{name}'").fetchall()
                if not found:
                    self._remove(name)
                    continue
                rows = connection.sql(f"FROM {name}").to_arrow_table()
                nullable = dict(found)
                fields = [f.with_nullable(nullable[f.name] == "YES") for f in rows.schema]
                write_deltalake(
                    table, rows.cast(pa.schema(fields)), mode="overwrite", schema_mode="overwrite"
                )

    def _remove(self, name: str) -> None:
        if self.server is None:
            shutil.rmtree(f"{self.place}/analytics/{name}")
            return
        self.server.remove(f"{self.place}/analytics/{name}/")

    @contextmanager
    def _copied(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """The tables as a DuckDB has them, under their names and those of `delta_scan`."""
        with duckdb.connect() as connection:
            connection.execute("CREATE SCHEMA analytics; USE analytics")
            shown = (
                "CREATE MACRO delta_scan(uri) AS TABLE FROM query_table(split_part(uri, '/', -1))"
            )
            connection.execute(shown)
            for name in TABLES:
                if table := self.table(name):
                    connection.register("rows", table.to_pyarrow_dataset())
                    connection.execute(f"CREATE TABLE {name} AS FROM rows")
                    for field in table.schema().fields:
                        if not field.nullable:
                            alter = f"ALTER TABLE {name} ALTER {quoted(field.name)} SET NOT NULL"
                            connection.execute(alter)
            yield connection


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


class SqliteProject(Project):
    """The project on another destination of dlt's: SQLite files, by SQLAlchemy."""

    setting, place = "DESTINATION__SQLALCHEMY__CREDENTIALS", "sqlalchemy"

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(path, monkeypatch)
        self._set("ANALYTICS_DESTINATION", "sqlalchemy")
        self._set(self.setting, f"sqlite:///{path}")

    @property
    def tables(self) -> Path:
        """The file of the tables: dlt makes one of its own for each dataset."""
        return self.path.with_name(f"{self.path.stem}__analytics{self.path.suffix}")

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            connection.execute("ATTACH ? AS analytics", [str(self.tables)])
            return connection.execute(sql).fetchall()

    def edit(self, sql: str) -> None:
        """Somebody works on the tables by hand; SQLite adds no NOT NULL to a column."""
        words = sql.split()
        if words[-3:] == ["SET", "NOT", "NULL"]:
            sql = (
                f"CREATE TRIGGER analytics.refused BEFORE INSERT ON {words[2]} "
                f"WHEN NEW.{words[5]} IS NULL BEGIN SELECT RAISE(ABORT, 'NOT NULL'); END"
            )
        self.query(sql)


AnyProject = DuckDbProject | PostgresProject | DuckLakeProject | DeltaProject | SqliteProject


def ready(project: AnyProject, api: FakeApi) -> AnyProject:
    api.rows |= {"account_overview": agents(4), AGENTS: agents(250), "current_queue_activity": []}
    project.points_at(api)
    return project


def figures(run: Run, *names: str) -> list[Any]:
    assert run.success, run.error
    metadata = run.metadata(AGENTS)
    return [metadata[name] for name in names]
