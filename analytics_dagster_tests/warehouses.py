"""The project on each of its warehouses, as the tests use them."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb
import psycopg2
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
TABLE_ID = """
SELECT max(table_id) FROM ducklake.ducklake_table JOIN ducklake.ducklake_schema USING (schema_id)
WHERE table_name = '{}' AND schema_name = 'analytics'
"""
WAIT = """
CREATE FUNCTION ducklake.wait() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$;
CREATE TRIGGER wait BEFORE INSERT ON ducklake.ducklake_data_file
FOR EACH ROW WHEN (NEW.table_id = {table}) EXECUTE FUNCTION ducklake.wait()
"""
REFUSE = """
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
RAISE 'could not extend file "base/1/2": {}' USING ERRCODE = 'disk_full';
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION public.refuse()
"""
WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE wait_event = '{}' AND datname = current_database()
"""

needs_ducklake = pytest.mark.skipif(
    find_spec("duckdb_extension_ducklake") is None,
    reason="DuckLake has an environment of its own: make test-ducklake",
)


def kill_when(begins: Callable[[], bool], command: list[str], seconds: float = 0) -> None:
    """Starts a process, and kills it so many seconds after something has begun."""
    with subprocess.Popen(command) as process:
        while not begins():
            assert process.poll() is None
        time.sleep(seconds)
        process.kill()


class InFiles(Project):
    """A project whose tables are files on this machine."""

    def kill_while_it_writes(self, command: list[str], api: FakeApi, seconds: float) -> None:
        """Kills a load so many seconds after the first change to a file since it asked the API."""
        seen: list[set[tuple[str, int, int]]] = []

        def writes() -> bool:
            if api.requests:
                seen.append(self._files())
            return bool(seen) and seen[-1] != seen[0]

        api.requests.clear()
        kill_when(writes, command, seconds)

    def _files(self) -> set[tuple[str, int, int]]:
        found = set()
        for path in self.path.parent.rglob("*"):
            with suppress(FileNotFoundError):
                stat = path.stat()
                if path.is_file() and stat.st_size and path.suffix != ".lock":
                    found.add((str(path), stat.st_size, stat.st_mtime_ns))
        return found


class DuckDbProject(InFiles):
    """The project on a DuckDB file."""

    setting, place = "ANALYTICS_DUCKDB_PATH", "analytics.duckdb"

    def edit(self, sql: str) -> None:
        """Somebody works on the tables by hand."""
        with duckdb.connect(str(self.path)) as connection:
            connection.execute("USE analytics.analytics")
            connection.execute(sql)


class OnServer(Project):
    """A project that has a database of its own on a Postgres server."""

    dataset = "analytics"
    written = AGENTS
    """A table of the server's that a load of agents writes."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, server: PostgresServer) -> None:
        super().__init__(path, monkeypatch)
        self.server, self.credentials = server, server.new_database()

    def ask_server(self, sql: str) -> list[tuple[Any, ...]]:
        """What the database itself answers."""
        return self.server.query(self.credentials, sql)

    def refuse(self, why: str) -> None:
        """From now on the server takes no rows of agents, as if its disk were full."""
        self.ask_server(REFUSE.format(why, self.written))

    def held_up(self, table: str) -> AbstractContextManager[None]:
        """Nobody can write the table to the end."""
        raise NotImplementedError

    def waits(self) -> bool:
        """Whether a load is held up."""
        raise NotImplementedError

    def kill_while_it_writes(self, command: list[str], _: FakeApi, seconds: float) -> None:
        """Kills a load that is held up in its transaction since so many seconds."""
        with self.held_up(AGENTS):
            kill_when(self.waits, command, seconds)

    def end_locks(self) -> None:
        """Somebody ends the connections that keep other loads away."""
        self.ask_server(
            "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid) "
            "WHERE locktype = 'advisory' AND datname = current_database()"
        )


class PostgresProject(OnServer):
    """The project on a Postgres database of its own."""

    setting, place = CREDENTIALS, "127.0.0.1"

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, server: PostgresServer) -> None:
        super().__init__(path, monkeypatch, server)
        self._set("ANALYTICS_DESTINATION", "postgres")
        self._set(CREDENTIALS, self.credentials)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return self.ask_server(sql)

    edit = query

    @contextmanager
    def held_up(self, table: str) -> Iterator[None]:
        """A transaction of somebody's that lets nobody write the table."""
        connection = psycopg2.connect(self.credentials)
        with connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE analytics.{table} IN SHARE MODE")
        try:
            yield
        finally:
            connection.close()

    def waits(self) -> bool:
        """Whether a load is held up."""
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        return self.query(waiting) == [(1,)]


class DeltaProject(InFiles):
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
        """Somebody works on the tables by hand, or drops one of dlt's, which are plain folders."""
        if sql.startswith("DROP TABLE _dlt_"):
            self._remove(sql.rsplit(maxsplit=1)[-1])
            return
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


class DuckLakeProject(OnServer):
    """The project on a DuckLake of its own: a catalog on a server, and files in a folder."""

    setting, place, dataset = CATALOG, "127.0.0.1", "ducklake.analytics"
    written = "ducklake.ducklake_data_file"

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, server: PostgresServer) -> None:
        super().__init__(path, monkeypatch, server)
        self._set("ANALYTICS_DESTINATION", "ducklake")
        self._set(CATALOG, self.credentials)
        self._set(STORAGE, str(path))

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with DuckLakeWarehouse(overlap_timeout=60, memory_mb=384).attached() as connection:
            return connection.execute(sql).fetchall()

    edit = query

    @contextmanager
    def held_up(self, table: str) -> Iterator[None]:
        """Who commits new files of the table waits in the middle of it."""
        [(number,)] = self.ask_server(TABLE_ID.format(table))
        self.ask_server(WAIT.format(table=number))
        connection = psycopg2.connect(self.credentials)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(1)")
        try:
            yield
        finally:
            connection.close()

    def waits(self, event: str = "advisory") -> bool:
        """Whether a commit is held up, or waits for another one's `transactionid`."""
        return self.ask_server(WAITING.format(event)) == [(1,)]


class SqliteProject(InFiles):
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


def all_succeed(commands: list[list[str]]) -> None:
    """Runs processes at the same time."""
    running = [subprocess.Popen(command, stderr=subprocess.PIPE) for command in commands]
    told = [process.communicate(timeout=200)[1].decode() for process in running]
    assert [process.returncode for process in running] == [0] * len(commands), "\n".join(told)
