"""What every warehouse promises, on real databases; and what Postgres alone has to promise."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import psycopg2
import pytest

from analytics_dagster.api_reader import read_spec
from analytics_dagster.api_spec import ApiSpec
from analytics_dagster_tests.conftest import Project, Run, agents
from analytics_dagster_tests.fake_api import Exchange, FakeApi, delay, fault
from analytics_dagster_tests.postgres_server import PASSWORD, PostgresServer, running_postgres
from analytics_dagster_tests.test_definitions import GUARDED, ROOT, with_calls
from analytics_dagster_tests.test_full_refresh import each_look_finds_one_version
from analytics_dagster_tests.test_incremental import ONE_LOAD
from analytics_dagster_tests.test_overlap import a_run_that_reads_for_ever

AGENTS, CREDENTIALS = "agents_overview", "DESTINATION__POSTGRES__CREDENTIALS"
ALL = ("account_overview", AGENTS, "current_queue_activity")


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    with running_postgres() as running:
        yield running


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


@pytest.fixture(params=["duckdb", "postgres"])
def project(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: FakeApi
) -> AnyProject:
    """Both warehouses, one after the other, with an API of three resources."""
    if request.param == "duckdb":
        made: AnyProject = DuckDbProject(tmp_path / "analytics.duckdb", monkeypatch)
    else:
        made = on_postgres(request, tmp_path, monkeypatch)
    return ready(made, api)


@pytest.fixture
def postgres(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: FakeApi
) -> PostgresProject:
    """Postgres alone."""
    made = on_postgres(request, tmp_path, monkeypatch)
    ready(made, api)
    return made


def on_postgres(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> PostgresProject:
    server = request.getfixturevalue("server")
    return PostgresProject(tmp_path / "no.duckdb", monkeypatch, server)


def ready(project: AnyProject, api: FakeApi) -> AnyProject:
    api.rows |= {"account_overview": agents(4), AGENTS: agents(250), "current_queue_activity": []}
    project.points_at(api)
    return project


def figures(run: Run, *names: str) -> list[Any]:
    assert run.success, run.error
    metadata = run.metadata(AGENTS)
    return [metadata[name] for name in names]


def test_every_row_arrives_once_however_often_it_is_loaded(
    project: AnyProject, api: FakeApi
) -> None:
    """New rows are inserted, changed ones updated, and what is as it was is left alone."""
    assert project.run(AGENTS).success
    api.rows[AGENTS] = agents(260)
    api.rows[AGENTS][0]["total_calls_accepted"] = 4
    run = project.run(AGENTS)
    assert figures(run, "rows_loaded", "rows_unchanged", "dagster/row_count") == [11, 249, 260]
    assert project.query(
        f"SELECT count(*), count(DISTINCT id), max(total_calls_accepted) FROM {AGENTS}"
    ) == [(260, 260, 4)]


def test_columns_have_their_declared_types_and_are_not_null(
    project: AnyProject, spec: ApiSpec
) -> None:
    """Also in a table that was made by a load without rows."""
    types = {
        "bigint": {"BIGINT"},
        "text": {"VARCHAR", "CHARACTER VARYING"},
        "timestamp": {"TIMESTAMP WITH TIME ZONE"},
    }
    run = project.run("current_queue_activity")
    assert run.metadata("current_queue_activity")["dagster/row_count"] == 0
    found = project.query(
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns "
        "WHERE table_schema = 'analytics' AND table_name = 'current_queue_activity'"
    )
    columns = spec.resources[2].columns
    assert {name for name, _, _ in found} == set(columns)
    for name, kind, nullable in found:
        assert kind.upper() in types[columns[name].data_type]
        assert nullable == ("YES" if columns[name].nullable else "NO")


def test_a_new_field_becomes_a_column(project: AnyProject, api: FakeApi) -> None:
    """Rows that were there have it as NULL, and a refresh that lacks it keeps the column."""
    assert project.run(AGENTS).success
    for row in api.rows[AGENTS][:100]:
        row["badge"] = "gold"
    assert project.run(AGENTS).success
    counted = f"SELECT count(badge), count(*) FROM {AGENTS}"
    assert project.query(counted) == [(100, 250)]
    api.rows[AGENTS] = agents(250)
    assert project.refresh(AGENTS).success
    assert project.query(counted) == [(0, 250)]


VALUES: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "text": (
        {"data_type": "text"},
        [
            None,
            "",
            r"\N",
            "N",
            r"\.",
            'a "quoted" one',
            "two\nlines\r\nor, three",
            " ",
            "ü😀",
            "\t",
            "long " * 10**6,
        ],
    ),
    "moment": (
        {"data_type": "timestamp"},
        [None, "2026-11-23T10:00:00.123456+02:00", "0999-01-01T00:00:00Z", "9999-12-31T23:59:59Z"],
    ),
    "money": (
        {"data_type": "decimal", "precision": 38, "scale": 9},
        [None, "12345678901234567890123456789.123456789", "-0.000000001", "0"],
    ),
    "share": ({"data_type": "double"}, [None, 0.1, -1e-300, 1.7976931348623157e308, 5e-324]),
    "flag": ({"data_type": "bool"}, [None, True, False]),
    "day": ({"data_type": "date"}, [None, "2024-02-29", "0999-12-31"]),
    "detail": ({"data_type": "json"}, [None, {"b": [1.0, None], "a": "\u0000\n"}, "", {}, 1]),
    "count": ({"data_type": "bigint"}, [None, 2**63 - 1, -(2**63)]),
}


def test_every_value_survives_and_is_known_again(project: AnyProject, api: FakeApi) -> None:
    """NULL is not the empty text, and no sign, digit or zone is lost: nothing seems changed."""
    columns = {name: column for name, (column, _) in VALUES.items()}
    key = {"id": {"data_type": "bigint", "nullable": False}}
    spec = read_spec(with_calls(columns=key | columns))
    api.rows["calls"] = [
        {"id": n, **{name: values[n % len(values)] for name, (_, values) in VALUES.items()}}
        for n in range(40)
    ]
    first = project.run("calls", spec=spec)
    assert first.metadata("calls")["rows_loaded"] == 40
    again = project.run("calls", spec=spec).metadata("calls")
    assert (again["rows_loaded"], again["rows_unchanged"]) == (0, 40)
    texts = VALUES["text"][1]
    assert project.query("SELECT text FROM calls WHERE id < 11 ORDER BY id") == [
        (text,) for text in texts
    ]
    assert project.query("SELECT CAST(money AS VARCHAR), flag FROM calls WHERE id = 1") == [
        (VALUES["money"][1][1], True)
    ]


def test_rejected_rows_are_kept_with_the_reason(project: AnyProject, api: FakeApi) -> None:
    """Once each, however often they come; the rest loads."""
    api.rows[AGENTS][0]["total_talk_time"] = "many"
    for _ in range(2):
        assert project.run(AGENTS).success
    assert project.query(f"SELECT count(*) FROM {AGENTS}") == [(249,)]
    assert project.query("SELECT resource, reason FROM rejected_rows") == [
        (AGENTS, "total_talk_time: a text is no bigint")
    ]


def test_another_machine_goes_on_where_the_last_load_ended(
    project: AnyProject, api: FakeApi, tmp_path: Path
) -> None:
    """The warehouse is all that it needs to share."""
    assert project.run(AGENTS).success
    api.requests.clear()
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", ONE_LOAD],
        cwd=tmp_path / "elsewhere",
        env=os.environ | {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "0 250"), done.stderr
    assert {r.query.get("updated_since") for r in api.requests} == {"2026-11-23T09:50:00Z"}


def test_a_refresh_takes_away_what_is_gone_and_keeps_what_is_rejected(
    project: AnyProject, api: FakeApi
) -> None:
    """Gone rows are counted; of a rejected one the last good version stays."""
    assert project.run(AGENTS).success
    api.rows[AGENTS] = agents(240, total_talk_time=7)
    for row in api.rows[AGENTS][:20]:
        row["total_talk_time"] = "many"
    run = project.refresh(AGENTS)
    assert figures(run, "rows_loaded", "rows_kept", "rows_deleted") == [220, 20, 10]
    assert project.query(
        f"SELECT total_talk_time, count(*), min(id) FROM {AGENTS} GROUP BY 1 ORDER BY 1"
    ) == [(7, 220, 21), (90, 20, 1)]


def test_a_refresh_that_would_shrink_the_table_is_refused(
    project: AnyProject, api: FakeApi
) -> None:
    """The rows are as they were, unless the config allows it."""
    assert project.run(AGENTS).success
    api.rows[AGENTS] = agents(124)
    assert "ShrunkenError" in project.refresh(AGENTS).error
    assert project.query(f"SELECT count(*) FROM {AGENTS}") == [(250,)]
    assert figures(project.refresh(AGENTS, allow_shrink=True), "rows_deleted") == [126]


def test_a_reader_sees_the_old_rows_or_the_new_ones(project: AnyProject, api: FakeApi) -> None:
    """While loads and refreshes follow each other, each look finds one version of the table."""
    each_look_finds_one_version(project, api, versions=3)


@pytest.mark.parametrize("mode", ["incremental", "full_refresh"])
def test_a_statement_that_fails_in_the_middle_takes_the_others_back(
    project: AnyProject, api: FakeApi, mode: str
) -> None:
    """All of a load is in the table, or nothing; the error holds no row, and the next one mends."""
    assert project.run(AGENTS).success
    project.edit(f"ALTER TABLE {AGENTS} ALTER COLUMN name SET NOT NULL")
    api.rows[AGENTS] = agents(250, name=None, total_talk_time=123454321)
    run = project.run(AGENTS, config={"mode": mode})
    assert "LoadError" in run.error
    assert "123454321" not in run.error
    assert project.query(f"SELECT count(*), count(name) FROM {AGENTS}") == [(250, 250)]
    api.rows[AGENTS] = agents(250, total_talk_time=7)
    assert project.run(AGENTS, config={"mode": mode}).success
    assert project.query(f"SELECT DISTINCT total_talk_time FROM {AGENTS}") == [(7,)]


def test_made_up_rows_never_mix_with_real_ones(
    project: AnyProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real rows replace them, and they are refused over real rows; the message names the place."""

    def from_the_sandbox() -> Run:
        with monkeypatch.context() as patch:
            patch.delenv("ANALYTICS_API_BASE_URL")
            patch.delenv("ANALYTICS_API_KEY")
            return project.run(AGENTS)

    assert from_the_sandbox().success
    assert project.run(AGENTS).success
    assert project.query(f"SELECT count(*), max(id) FROM {AGENTS}") == [(250, 250)]
    refused = from_the_sandbox().error
    assert "SandboxOverDataError" in refused
    on_duckdb = isinstance(project, DuckDbProject)
    assert ("ANALYTICS_DUCKDB_PATH" if on_duckdb else CREDENTIALS) in refused
    assert ("analytics.duckdb" if on_duckdb else "127.0.0.1") in refused
    assert PASSWORD not in refused


def test_checks_find_what_is_wrong_with_a_table(
    project: AnyProject, api: FakeApi, tmp_path: Path
) -> None:
    """A good load passes all of them; the SQL that a failed one shows finds the rows."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        good = project.run(AGENTS, instance=instance)
        assert good.success
        made = good.result.get_asset_check_evaluations()
        assert len(made) == 9
        assert [each.description for each in made if not each.passed] == []
        project.edit(f"INSERT INTO {AGENTS} SELECT * FROM {AGENTS} WHERE id = 7")
        api.rows[AGENTS][8]["total_talk_time"] = -1
        made = project.run(AGENTS, instance=instance).result.get_asset_check_evaluations()
    failed = {each.check_name: each for each in made if not each.passed}
    assert set(failed) == {"unique_key", "plausible_ranges"}
    for check, rows in (("unique_key", 2), ("plausible_ranges", 1)):
        assert len(project.query(str(failed[check].metadata["sql"].value))) == rows


@pytest.mark.parametrize("table", [AGENTS, "rejected_rows"])
def test_a_table_that_somebody_dropped_comes_back(
    project: AnyProject, api: FakeApi, table: str
) -> None:
    """With all its rows, or for what is rejected from now on."""
    api.rows[AGENTS][0]["total_talk_time"] = "many"
    assert project.run(AGENTS).success
    project.edit(f"DROP TABLE {table}")
    assert project.run(AGENTS).success
    assert project.query(f"SELECT count(*) FROM {AGENTS}") == [(249,)]
    assert project.query("SELECT count(*) FROM rejected_rows") == [(1,)]


def test_an_unknown_destination_is_told_with_what_is_allowed(
    project: AnyProject, monkeypatch: pytest.MonkeyPatch, checkout: Any
) -> None:
    """Before anything is read."""
    monkeypatch.setenv("ANALYTICS_DESTINATION", "oracle")
    checkout.takes_settings()
    done = checkout.run("python -m analytics_dagster")
    assert done.returncode == 1
    assert "SettingError: ANALYTICS_DESTINATION='oracle' is no destination" in done.stderr
    assert "duckdb, postgres" in done.stderr
    assert project


def test_definitions_for_postgres_load_without_library_credentials_or_network(
    tmp_path: Path,
) -> None:
    """And the assets say what they are loaded into."""
    shown = "print(sorted(module.defs.resolve_asset_graph().get(key).kinds))"
    code = f"import sys\nsys.modules['psycopg2'] = None\n{GUARDED}\nfor key in "
    code += f"module.defs.resolve_all_asset_keys(): {shown}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "HOME": "/nonexistent", "ANALYTICS_DESTINATION": "postgres"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("['api', 'dlt', 'postgres']") == 3


def test_a_library_that_is_missing_is_named_with_the_command_that_installs_it(
    postgres: PostgresProject, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the API is asked."""
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    run = postgres.run(AGENTS)
    assert 'pip install "analytics-dagster[postgres]"' in run.error
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
        ("postgresql://loader:s3cr%25t%2Fpass%20word@127.0.0.1:{port}/gone", "does not exist"),
    ],
    ids=["missing", "no URL", "unreachable", "password", "user", "two @", "database"],
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
