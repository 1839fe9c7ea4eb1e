"""What Postgres alone has to promise as a warehouse, on a real server."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest

from analytics_dagster_tests.conftest import agents
from analytics_dagster_tests.fake_api import Exchange, FakeApi, delay, fault
from analytics_dagster_tests.postgres_server import PostgresServer
from analytics_dagster_tests.test_incremental import ONE_LOAD
from analytics_dagster_tests.test_overlap import a_run_that_reads_for_ever
from analytics_dagster_tests.warehouses import AGENTS, ALL, CREDENTIALS, PostgresProject, ready


@pytest.fixture
def postgres(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    api: FakeApi,
    postgres_server: PostgresServer,
) -> PostgresProject:
    made = PostgresProject(tmp_path / "no.duckdb", monkeypatch, postgres_server)
    ready(made, api)
    return made


def test_a_library_that_is_missing_is_named_with_the_command_that_installs_it(
    postgres: PostgresProject, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the API is asked."""
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    run = postgres.run(AGENTS)
    assert 'pip install -e ".[postgres]"' in run.error
    assert api.requests == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("", "no whole credentials"),
        ("no url at all", "no whole credentials"),
        ("postgresql://loader:s3cr3t@127.0.0.1:1/x", "Connection refused"),
        ("postgresql://loader:s3cr3t@127.0.0.1:{port}/postgres", "password authentication failed"),
        ("postgresql://nobody:s3cr3t@127.0.0.1:{port}/postgres", "password authentication failed"),
        ("postgresql://loader:s3cr3t@s3cr@127.0.0.1:{port}/postgres", "two @"),
        ("postgresql://loader:a@b/s3cr3t@127.0.0.1:{port}/postgres", "two @"),
        ("postgresql://loader:s3cr%25t%2Fpass%20word@127.0.0.1:{port}/gone", "does not exist"),
    ],
    ids=["missing", "no URL", "unreachable", "password", "user", "two @", "a slash", "database"],
)
def test_credentials_that_do_not_work_are_told_without_the_password(
    postgres: PostgresProject,
    api: FakeApi,
    monkeypatch: pytest.MonkeyPatch,
    wrong: str,
    said: str,
) -> None:
    """One error, which says what is wrong and which variable to set; the API is not asked."""
    monkeypatch.setenv(CREDENTIALS, wrong.format(port=postgres.server.port))
    error = postgres.run(AGENTS).error
    assert "WarehouseConnectionError" in error
    assert said in error
    assert CREDENTIALS in error
    assert "s3cr" not in error
    assert api.requests == []


def test_runs_on_other_machines_wait_and_name_who_loads(
    postgres: PostgresProject, api: FakeApi
) -> None:
    """For one resource; the other ones are loaded meanwhile."""
    with a_run_that_reads_for_ever(api) as pid:
        run = postgres.run(overlap_timeout=0.5)
    assert "OverlapError" in run.error
    assert f"analytics.{AGENTS} is being loaded by process {pid} on " in run.error
    assert run.materialized == {"account_overview", "current_queue_activity"}
    assert postgres.run(AGENTS, overlap_timeout=5).success


@contextmanager
def held_up(project: PostgresProject, table: str) -> Iterator[None]:
    """A transaction of somebody's that lets nobody write the table."""
    connection = psycopg2.connect(project.credentials)
    with connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLE analytics.{table} IN SHARE MODE")
    yield
    connection.close()


def waits_for_the_table(project: PostgresProject) -> bool:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    return project.query(waiting) == [(1,)]


def test_different_resources_are_written_at_the_same_time(
    postgres: PostgresProject, api: FakeApi
) -> None:
    """One that is held up in the middle of its transaction holds up no other one."""
    assert postgres.run().success
    for name in ("account_overview", AGENTS):
        api.rows[name] = agents(5, total_talk_time=8, number_of_agents=8)
    with held_up(postgres, AGENTS):
        waiting = threading.Thread(target=postgres.run, args=(AGENTS,))
        waiting.start()
        while not waits_for_the_table(postgres):
            assert waiting.is_alive()
        assert postgres.run("account_overview").success
        assert postgres.query("SELECT count(*) FROM account_overview") == [(5,)]
        assert waits_for_the_table(postgres)
    waiting.join(20)
    assert postgres.query(f"SELECT count(*) FROM {AGENTS} WHERE total_talk_time = 8") == [(5,)]


@pytest.mark.parametrize("mode", ["incremental", "full_refresh"])
def test_a_run_that_is_killed_while_it_writes_harms_no_row(
    postgres: PostgresProject, api: FakeApi, mode: str
) -> None:
    """The next one repairs what is left, and need not wait for the dead one."""
    assert postgres.run(AGENTS).success
    api.rows[AGENTS] = agents(260, total_talk_time=8)
    refresh = f"full_refresh={mode == 'full_refresh'}"
    code = ONE_LOAD.replace("Warehouse())", f"Warehouse(), {refresh})")
    assert refresh in code
    with held_up(postgres, AGENTS), subprocess.Popen([sys.executable, "-c", code]) as process:
        while not waits_for_the_table(postgres):
            assert process.poll() is None
        process.kill()
    content = f"SELECT count(*), min(total_talk_time), max(total_talk_time) FROM {AGENTS}"
    assert postgres.query(content) == [(250, 90, 90)]
    assert postgres.run(AGENTS, config={"mode": mode}, overlap_timeout=5).success
    assert postgres.query(content) == [(260, 8, 8)]


@fault
def answer_while(exchange: Exchange, project: PostgresProject) -> None:
    """Somebody ends the connection that holds the lock; then the API answers honestly."""
    project.query(
        "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity USING (pid) "
        "WHERE locktype = 'advisory' AND datname = current_database()"
    )
    delay(0)(exchange)


def test_a_load_that_lost_its_lock_writes_nothing(postgres: PostgresProject, api: FakeApi) -> None:
    """Another one may have begun: what was read could be older than what is there now."""
    assert postgres.run(AGENTS).success
    api.rows[AGENTS] = agents(260)
    api.on(AGENTS, answer_while(postgres), at_offset=198)
    run = postgres.run(AGENTS)
    assert "WarehouseConnectionError" in run.error
    assert f"kept other loads of analytics.{AGENTS} away" in run.error
    assert postgres.query(f"SELECT count(*) FROM {AGENTS}") == [(250,)]
    assert postgres.run(AGENTS).success


def test_a_transaction_that_reads_sees_one_version_through_a_refresh(
    postgres: PostgresProject, api: FakeApi
) -> None:
    """Also one that began before it and looks at the table after it; the refresh does not wait."""
    assert postgres.run(AGENTS).success
    content = f"SELECT count(*), max(total_talk_time) FROM {AGENTS}"
    connection = psycopg2.connect(postgres.credentials, options="-csearch_path=analytics")
    connection.set_session(isolation_level="REPEATABLE READ")
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        api.rows[AGENTS] = agents(240, total_talk_time=8)
        assert postgres.refresh(AGENTS).success
        cursor.execute(content)
        assert cursor.fetchall() == [(250, 90)]
    connection.close()
    assert postgres.query(content) == [(240, 8)]


def test_the_character_nul_stops_no_load(postgres: PostgresProject, api: FakeApi) -> None:
    """Postgres refuses it in a text; its picture is stored in its place."""
    api.rows[AGENTS][0]["name"] = "a\u0000b"
    assert postgres.run(AGENTS).success
    assert postgres.query(f"SELECT name FROM {AGENTS} WHERE id = 1") == [("a␀b",)]


FULL_DISK = """
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
RAISE 'could not extend file "base/1/2": No space left on device' USING ERRCODE = 'disk_full';
END $$;
CREATE TRIGGER full_disk BEFORE INSERT ON agents_overview EXECUTE FUNCTION fail()
"""


def test_a_full_disk_of_the_server_is_no_full_disk_here(
    postgres: PostgresProject, api: FakeApi
) -> None:
    """The message says where to make room, and the old rows are there."""
    assert postgres.run(AGENTS).success
    postgres.edit(FULL_DISK)
    api.rows[AGENTS] = agents(260, total_talk_time=8)
    run = postgres.run(AGENTS)
    assert "DiskFullError: The disk of the Postgres server is full" in run.error
    assert postgres.query(f"SELECT count(*), max(total_talk_time) FROM {AGENTS}") == [(250, 90)]


def test_a_name_that_is_too_long_for_postgres_is_cut(
    postgres: PostgresProject, api: FakeApi
) -> None:
    """Above 63 signs, as dlt does it; the values are loaded."""
    for row in api.rows[AGENTS]:
        row["how_often_" * 9] = 5
    for _ in range(2):
        assert postgres.run(AGENTS).success
    [(name,)] = postgres.query(
        "SELECT column_name FROM information_schema.columns WHERE column_name LIKE 'how_often%' "
        "AND table_schema = 'analytics'"
    )
    assert postgres.query(f"SELECT sum({name}) FROM {AGENTS}") == [(1250,)]


def test_rejected_rows_of_loads_at_the_same_time_are_all_kept(
    postgres: PostgresProject, api: FakeApi
) -> None:
    """Resources share the table, and the one in which dlt stages it."""
    for name in ("account_overview", AGENTS):
        api.rows[name] = agents(5)
        api.rows[name][0]["id"] = "none"
    assert postgres.run("account_overview", AGENTS).success
    postgres.edit("TRUNCATE rejected_rows")
    api.requests.clear()
    with held_up(postgres, "rejected_rows"):
        first = threading.Thread(target=postgres.run, args=(AGENTS,))
        first.start()
        while not waits_for_the_table(postgres):
            assert first.is_alive()
        second = threading.Thread(target=postgres.run, args=("account_overview",))
        second.start()
        second.join(2)
        assert second.is_alive()
    for run in (first, second):
        run.join(20)
    assert sorted(postgres.query("SELECT resource FROM rejected_rows")) == [
        ("account_overview",),
        (AGENTS,),
    ]


ONE_OF_THREE = ONE_LOAD.replace("import AnalyticsApi", "import AnalyticsApi\nimport sys").replace(
    "spec.resources[1]", "spec.resources[int(sys.argv[1])]"
)


def test_first_loads_at_the_same_moment_all_succeed(
    postgres: PostgresProject, api: FakeApi
) -> None:
    """None of them finds the dataset; all fill the table of rejected rows, and lose none."""
    for name in ALL:
        api.rows[name] = agents(50)
        api.rows[name][0]["id"] = "none"
    commands = [[sys.executable, "-c", ONE_OF_THREE, str(number % 3)] for number in range(6)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE) for command in commands]
    told = [process.communicate(timeout=100)[1].decode() for process in running]
    assert [process.returncode for process in running] == [0] * 6, "\n".join(told)
    for name in ALL:
        assert postgres.query(f"SELECT count(*), count(DISTINCT id) FROM {name}") == [(49, 49)]
    assert postgres.query("SELECT count(DISTINCT resource), count(*) FROM rejected_rows") == [
        (3, 3)
    ]
