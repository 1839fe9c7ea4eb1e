"""What Postgres alone has to promise as a warehouse, on a real server."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import psycopg2
import pytest

from analytics_dagster_tests.conftest import agents
from analytics_dagster_tests.fake_api import FakeApi
from analytics_dagster_tests.postgres_server import PostgresServer
from analytics_dagster_tests.warehouses import AGENTS, CREDENTIALS, PostgresProject, ready


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


def test_different_resources_are_written_at_the_same_time(
    postgres: PostgresProject, api: FakeApi
) -> None:
    """One that is held up in the middle of its transaction holds up no other one."""
    assert postgres.run().success
    for name in ("account_overview", AGENTS):
        api.rows[name] = agents(5, total_talk_time=8, number_of_agents=8)
    with postgres.held_up(AGENTS):
        waiting = threading.Thread(target=postgres.run, args=(AGENTS,))
        waiting.start()
        while not postgres.waits():
            assert waiting.is_alive()
        assert postgres.run("account_overview").success
        assert postgres.query("SELECT count(*) FROM account_overview") == [(5,)]
        assert postgres.waits()
    waiting.join(20)
    assert postgres.query(f"SELECT count(*) FROM {AGENTS} WHERE total_talk_time = 8") == [(5,)]


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


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("ALTER COLUMN name SET NOT NULL", "(column name, table agents_overview)"),
        ("ADD CONSTRAINT few CHECK (total_talk_time < 99)", "constraint few, table agents_over"),
        ("ADD CONSTRAINT one UNIQUE (total_talk_time)", "constraint one, table agents_over"),
    ],
)
def test_what_postgres_refuses_is_named_without_a_value(
    postgres: PostgresProject, api: FakeApi, change: str, named: str
) -> None:
    """Column, constraint and table, which whoever set them has to look at."""
    api.rows[AGENTS] = agents(1)
    assert postgres.run(AGENTS).success
    postgres.edit(f"ALTER TABLE analytics.{AGENTS} {change}")
    api.rows[AGENTS] = agents(3, name=None, total_talk_time=123454321)
    error = postgres.run(AGENTS).error
    assert named in error
    assert "123454321" not in error


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
    with postgres.held_up("rejected_rows"):
        first = threading.Thread(target=postgres.run, args=(AGENTS,))
        first.start()
        while not postgres.waits():
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
