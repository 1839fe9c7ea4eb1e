"""What DuckLake alone has to promise as a warehouse: a real server has its catalog."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from analytics_dagster.ducklake_warehouse import DuckLakeWarehouse
from analytics_dagster_tests.conftest import agents
from analytics_dagster_tests.fake_api import Exchange, FakeApi, delay, fault
from analytics_dagster_tests.postgres_server import PostgresServer
from analytics_dagster_tests.test_definitions import GUARDED, ROOT
from analytics_dagster_tests.test_incremental import ONE_LOAD
from analytics_dagster_tests.test_overlap import a_run_that_reads_for_ever
from analytics_dagster_tests.test_postgres import ONE_OF_THREE
from analytics_dagster_tests.warehouses import (
    AGENTS,
    ALL,
    CATALOG,
    STORAGE,
    DuckLakeProject,
    needs_ducklake,
    ready,
)

INSTALL = 'pip install "analytics-dagster[ducklake]"'


@pytest.fixture
def lake(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    api: FakeApi,
    postgres_server: PostgresServer,
) -> DuckLakeProject:
    made = DuckLakeProject(tmp_path / "lake", monkeypatch, postgres_server)
    ready(made, api)
    return made


# Settings


def test_definitions_for_ducklake_load_without_library_credentials_or_network(
    tmp_path: Path,
) -> None:
    """And the assets say what they are loaded into."""
    shown = "print(sorted(module.defs.resolve_asset_graph().get(key).kinds))"
    code = f"import sys\nsys.modules['psycopg2'] = None\n{GUARDED}\nfor key in "
    code += f"module.defs.resolve_all_asset_keys(): {shown}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "HOME": "/nonexistent", "ANALYTICS_DESTINATION": "ducklake"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("['api', 'dlt', 'ducklake']") == 3


@pytest.mark.skipif(needs_ducklake.args[0] is False, reason="this DuckDB can have a DuckLake")
def test_a_duckdb_that_can_have_no_lake_is_named_with_the_command_that_installs_one(
    lake: DuckLakeProject, api: FakeApi
) -> None:
    """Before the API is asked."""
    run = lake.run(AGENTS)
    assert "SettingError: DuckLake is the destination; it needs DuckDB 1.5.x, and " in run.error
    assert INSTALL in run.error
    assert api.requests == []


@needs_ducklake
@pytest.mark.parametrize(
    "library", ["psycopg2", "duckdb_extension_ducklake", "duckdb_extension_postgres_scanner"]
)
def test_a_library_that_is_missing_is_named_with_the_command_that_installs_it(
    lake: DuckLakeProject,
    api: FakeApi,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    library: str,
) -> None:
    """Before the API is asked, when DuckDB has it not and cannot download it either."""
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    run = lake.run(AGENTS)
    assert "SettingError" in run.error
    assert library.removeprefix("duckdb_extension_") in run.error
    assert INSTALL in run.error
    assert api.requests == []


@needs_ducklake
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("", "no whole credentials"),
        ("no url at all", "no whole credentials"),
        ("sqlite:///catalog.sqlite", "no whole credentials"),
        ("postgres://loader:s3cr3t@127.0.0.1:1/x", "Connection refused"),
        ("postgres://loader:s3cr3t@127.0.0.1:{port}/postgres", "password authentication failed"),
        ("postgres://nobody:s3cr3t@127.0.0.1:{port}/postgres", "password authentication failed"),
        ("postgres://loader:s3cr3t@s3cr@127.0.0.1:{port}/postgres", "two @"),
        ("postgres://loader:s3cr%25t%2Fpass%20word@127.0.0.1:{port}/gone", "does not exist"),
    ],
    ids=["missing", "no URL", "SQLite", "unreachable", "password", "user", "two @", "database"],
)
def test_a_catalog_that_does_not_work_is_told_without_the_password(
    lake: DuckLakeProject, api: FakeApi, monkeypatch: pytest.MonkeyPatch, wrong: str, said: str
) -> None:
    """One error, which says what is wrong and which variable to set; the API is not asked."""
    monkeypatch.setenv(CATALOG, wrong.format(port=lake.server.port))
    error = lake.run(AGENTS).error
    assert "WarehouseConnectionError" in error
    assert said in error
    assert CATALOG in error
    assert "s3cr" not in error
    assert api.requests == []


@needs_ducklake
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("", "no whole credentials for DuckLake"),
        ("lake", "='lake' is no whole path"),
        ("~/lake", "='~/lake' is no whole path"),
        ("memory://lake", "='memory://…' is no whole path"),
        ("s3://bucket/lake", "aws_access_key_id"),
        ("/tmp/other", "the files of the lake in postgres://127.0.0.1:"),
    ],
    ids=["missing", "relative", "home", "scheme", "no key of S3", "another lake"],
)
def test_a_place_for_files_that_does_not_work_is_told(
    lake: DuckLakeProject, api: FakeApi, monkeypatch: pytest.MonkeyPatch, wrong: str, said: str
) -> None:
    """One error, which says what is wrong and which variable to set; the API is not asked."""
    assert lake.run(AGENTS).success
    api.requests.clear()
    monkeypatch.setenv(STORAGE, wrong)
    error = lake.run(AGENTS).error
    assert said in error
    assert STORAGE in error
    assert api.requests == []


# Loads at the same time


@needs_ducklake
def test_runs_on_other_machines_wait_and_name_who_loads(
    lake: DuckLakeProject, api: FakeApi
) -> None:
    """For one resource; the other ones are loaded meanwhile."""
    with a_run_that_reads_for_ever(api) as pid:
        run = lake.run(overlap_timeout=0.5)
    assert "OverlapError" in run.error
    assert f"ducklake.analytics.{AGENTS} is being loaded by process {pid} on " in run.error
    assert run.materialized == {"account_overview", "current_queue_activity"}
    assert lake.run(AGENTS, overlap_timeout=5).success


@fault
def answer_while(exchange: Exchange, lake: DuckLakeProject) -> None:
    """Somebody ends the connection that holds the lock; then the API answers honestly."""
    lake.server.query(
        lake.catalog,
        "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid) "
        "WHERE locktype = 'advisory' AND datname = current_database()",
    )
    delay(0)(exchange)


@needs_ducklake
def test_a_load_that_lost_its_lock_writes_nothing(lake: DuckLakeProject, api: FakeApi) -> None:
    """Another one may have begun: what was read could be older than what is there now."""
    assert lake.run(AGENTS).success
    api.rows[AGENTS] = agents(260)
    api.on(AGENTS, answer_while(lake), at_offset=198)
    run = lake.run(AGENTS)
    assert "WarehouseConnectionError" in run.error
    assert f"kept other loads of ducklake.analytics.{AGENTS} away" in run.error
    assert lake.query(f"SELECT count(*) FROM {AGENTS}") == [(250,)]
    assert lake.run(AGENTS).success


@needs_ducklake
def test_first_loads_at_the_same_moment_all_succeed(lake: DuckLakeProject, api: FakeApi) -> None:
    """None of them finds a catalog; all fill the table of rejected rows, and lose none."""
    for name in ALL:
        api.rows[name] = agents(50)
        api.rows[name][0]["id"] = "none"
    all_succeed([[sys.executable, "-c", ONE_OF_THREE, str(number % 3)] for number in range(6)])
    for name in ALL:
        assert lake.query(f"SELECT count(*), count(DISTINCT id) FROM {name}") == [(49, 49)]
    assert lake.query("SELECT count(DISTINCT resource), count(*) FROM rejected_rows") == [(3, 3)]


class Moving(dict[str, Any]):
    """The rows of an API that are other ones each time they are looked at."""

    looks = itertools.count(1)

    def __getitem__(self, key: str) -> Any:
        return agents(60, total_talk_time=next(self.looks))


MANY_LOADS = ONE_OF_THREE.replace(
    "        landed =", "        for full in (False, True) * 2: landed ="
).replace("Warehouse())", "Warehouse(), full_refresh=full)")


@needs_ducklake
def test_loads_of_different_resources_at_the_same_time_all_succeed(
    lake: DuckLakeProject, api: FakeApi
) -> None:
    """Loads and refreshes that commit in each other's way are written one after the other."""
    assert "for full" in MANY_LOADS
    assert "full_refresh" in MANY_LOADS
    for name in ALL:
        api.rows[name] = agents(50)
    assert lake.run().success
    api.rows = Moving(api.rows)
    all_succeed([[sys.executable, "-c", MANY_LOADS, str(number)] for number in range(3)])
    for name in ALL:
        [(rows, ids, oldest, newest)] = lake.query(
            "SELECT count(*), count(DISTINCT id), min(total_talk_time), max(total_talk_time) "
            f"FROM {name}"
        )
        assert (rows, ids, oldest) == (60, 60, newest)


def all_succeed(commands: list[list[str]]) -> None:
    running = [subprocess.Popen(command, stderr=subprocess.PIPE) for command in commands]
    told = [process.communicate(timeout=200)[1].decode() for process in running]
    assert [process.returncode for process in running] == [0] * len(commands), "\n".join(told)
