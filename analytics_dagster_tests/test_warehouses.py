"""What every warehouse promises, each on a real one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from analytics_dagster.api_reader import read_spec
from analytics_dagster.api_spec import ApiSpec
from analytics_dagster.warehouse import Warehouse
from analytics_dagster_tests.conftest import Checkout, Run, agents
from analytics_dagster_tests.fake_api import FakeApi, answer_after, status
from analytics_dagster_tests.one_load import one_load
from analytics_dagster_tests.postgres_server import PASSWORD
from analytics_dagster_tests.test_definitions import ROOT, with_calls
from analytics_dagster_tests.test_full_refresh import each_look_finds_one_version
from analytics_dagster_tests.test_overlap import a_run_that_reads_for_ever
from analytics_dagster_tests.warehouses import (
    AGENTS,
    ALL,
    AnyProject,
    DeltaProject,
    DuckDbProject,
    DuckLakeProject,
    OnServer,
    PostgresProject,
    SqliteProject,
    all_succeed,
    figures,
    needs_ducklake,
    ready,
)


@pytest.fixture(
    params=["duckdb", "postgres", pytest.param("ducklake", marks=needs_ducklake), "delta", "sqlite"]
)
def project(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: FakeApi
) -> AnyProject:
    """Every warehouse, one after the other, with an API of three resources."""
    if request.param == "duckdb":
        made: AnyProject = DuckDbProject(tmp_path / "analytics.duckdb", monkeypatch)
    elif request.param == "delta":
        made = DeltaProject(tmp_path / "no.duckdb", monkeypatch)
    elif request.param == "sqlite":
        made = SqliteProject(tmp_path / "any.db", monkeypatch)
    elif request.param == "postgres":
        server = request.getfixturevalue("postgres_server")
        made = PostgresProject(tmp_path / "no.duckdb", monkeypatch, server)
    else:
        server = request.getfixturevalue("postgres_server")
        made = DuckLakeProject(tmp_path / "lake", monkeypatch, server)
    return ready(made, api)


def calls(data_type: str | None) -> ApiSpec:
    """A resource with a column of this type, or with a field that is not declared."""
    columns: dict[str, Any] = {"id": {"data_type": "bigint", "nullable": False}}
    if data_type:
        columns["figure"] = {"data_type": data_type}
    return read_spec(with_calls(columns=columns))


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
    if isinstance(project, SqliteProject):
        pytest.skip("SQLite has other types, and no information_schema: see test_others.py")
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
    if isinstance(project, SqliteProject):
        pytest.skip("SQLite has no decimals and no JSON: see test_others.py")
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
        one_load(),
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


@pytest.mark.parametrize("mode", ["incremental", "full_refresh"])
def test_a_run_that_is_killed_while_it_writes_harms_no_row(
    project: AnyProject, api: FakeApi, mode: str
) -> None:
    """The next one repairs what is left, and need not wait for the dead one."""
    content = (
        "SELECT count(*), count(DISTINCT id), min(total_talk_time), max(total_talk_time) "
        f"FROM {AGENTS}"
    )
    assert project.run(AGENTS).success
    rows, talk_time = 250, 90
    # A server holds the load up; in files, a moment may be before or after what can harm.
    for seconds in (0,) if isinstance(project, OnServer) else (0, 0.03, 0.1):
        old = [(rows, rows, talk_time, talk_time)]
        rows, talk_time = rows + 10, talk_time + 30
        new = [(rows, rows, talk_time, talk_time)]
        api.rows[AGENTS] = agents(rows, total_talk_time=talk_time)
        project.kill_while_it_writes(one_load(AGENTS, mode), api, seconds)
        assert project.query(content) in ((old,) if isinstance(project, OnServer) else (old, new))
        assert project.run(AGENTS, config={"mode": mode}, overlap_timeout=5).success
        assert project.query(content) == new


def test_a_run_does_not_wait_for_ever_for_another_one(project: AnyProject, api: FakeApi) -> None:
    """It names who loads; others are loaded meanwhile, and a dead run is not waited for."""
    with a_run_that_reads_for_ever(api) as pid:
        assert Warehouse().database().is_being_loaded(AGENTS)
        run = project.run(overlap_timeout=0.5)
    assert "OverlapError" in run.error
    named, then = AGENTS, ", for longer than 0.5 s"
    if isinstance(project, OnServer):
        named, then = f"{project.dataset}.{AGENTS}", " on "
    assert f"{named} is being loaded by process {pid}{then}" in run.error
    assert ", for longer than 0.5 s" in run.error
    assert run.materialized == {"account_overview", "current_queue_activity"}
    assert project.run(AGENTS, overlap_timeout=5).success


ON_A_SERVER = ["postgres", pytest.param("ducklake", marks=needs_ducklake)]


@pytest.mark.parametrize("project", ON_A_SERVER, indirect=True)
def test_a_load_that_lost_its_lock_writes_nothing(
    project: PostgresProject | DuckLakeProject, api: FakeApi
) -> None:
    """Another one may have begun: what was read could be older than what is there now."""
    assert project.run(AGENTS).success
    api.rows[AGENTS] = agents(260)
    api.on(AGENTS, answer_after(project.end_locks), at_offset=198)
    run = project.run(AGENTS)
    assert "WarehouseConnectionError" in run.error
    assert f"kept other loads of {project.dataset}.{AGENTS} away" in run.error
    assert project.query(f"SELECT count(*) FROM {AGENTS}") == [(250,)]
    assert project.run(AGENTS).success


@pytest.mark.parametrize("project", ON_A_SERVER, indirect=True)
def test_a_full_disk_of_the_server_is_no_full_disk_here(
    project: PostgresProject | DuckLakeProject, api: FakeApi
) -> None:
    """The message says where to make room, and the old rows are there."""
    assert project.run(AGENTS).success
    project.refuse("No space left on device")
    api.rows[AGENTS] = agents(260, total_talk_time=8)
    run = project.run(AGENTS)
    assert "DiskFullError: The disk of the Postgres server is full" in run.error
    assert project.query(f"SELECT count(*), max(total_talk_time) FROM {AGENTS}") == [(250, 90)]


def test_first_loads_at_the_same_moment_all_succeed(project: AnyProject, api: FakeApi) -> None:
    """None of them finds the dataset; all fill the table of rejected rows, and lose none."""
    for name in ALL:
        api.rows[name] = agents(50)
        api.rows[name][0]["id"] = "none"
    all_succeed([one_load(name) for name in ALL * 2])
    for name in ALL:
        assert project.query(f"SELECT count(*), count(DISTINCT id) FROM {name}") == [(49, 49)]
    assert project.query("SELECT count(DISTINCT resource), count(*) FROM rejected_rows") == [(3, 3)]


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
    assert project.setting in refused
    assert project.place in refused
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


@pytest.mark.parametrize(
    ("mode", "tables"),
    [
        ("incremental", ["_dlt_version"]),
        ("full_refresh", ["_dlt_version", "_dlt_pipeline_state"]),
    ],
)
def test_tables_of_dlt_that_somebody_dropped_are_made_anew(
    project: AnyProject, api: FakeApi, mode: str, tables: list[str]
) -> None:
    """What stands in the table is compared with what is read, or replaced by it."""
    api.rows[AGENTS][0]["badge"] = 7
    assert project.run(AGENTS).success
    for table in tables:
        project.edit(f"DROP TABLE {table}")
    api.rows[AGENTS] = agents(255)
    api.rows[AGENTS][1]["badge"] = 8
    run = project.run(AGENTS, config={"mode": mode})
    assert run.success, run.error
    counted = f"SELECT count(*), count(DISTINCT id), sum(badge) FROM {AGENTS}"
    assert project.query(counted) == [(255, 255, 8)]
    assert figures(project.run(AGENTS), "rows_loaded") == [0]


@pytest.mark.parametrize("change", ["DROP COLUMN {}", "RENAME COLUMN {} TO mine"])
@pytest.mark.parametrize("mode", ["incremental", "full_refresh"])
def test_a_column_that_somebody_dropped_or_renamed_comes_back(
    project: AnyProject, api: FakeApi, mode: str, change: str
) -> None:
    """With all its values, also those of rows that the cursor has passed long ago; and a column of
    somebody's own is in nobody's way.
    """
    old = agents(90, current_timestamp="2026-11-20T10:00:00Z")
    api.rows[AGENTS] = [*old, *agents(100)[90:]]
    assert project.run(AGENTS).success
    project.edit(f"ALTER TABLE {AGENTS} {change.format('total_talk_time')}")
    assert project.run(AGENTS, config={"mode": mode}).success
    values = f"SELECT count(*), count(DISTINCT id), min(total_talk_time) FROM {AGENTS}"
    assert project.query(values) == [(100, 100, 90)]


def test_a_column_that_was_dropped_comes_back_also_when_the_next_load_fails(
    project: AnyProject, api: FakeApi
) -> None:
    """Whatever ends it: the load after it reads all."""
    old = agents(90, current_timestamp="2026-11-20T10:00:00Z")
    api.rows[AGENTS] = [*old, *agents(100)[90:]]
    assert project.run(AGENTS).success
    project.edit(f"ALTER TABLE {AGENTS} DROP COLUMN total_talk_time")
    api.always(AGENTS, status(404))
    assert "StatusError" in project.run(AGENTS).error
    api.heal()
    assert project.run(AGENTS).success
    assert project.query(f"SELECT count(total_talk_time) FROM {AGENTS}") == [(100,)]


CHANGES = [
    ("bigint", 5, "double", 1.5),
    ("bigint", 5, "text", "many"),
    ("text", "2026-11-20", "date", "2026-11-21"),
    (None, "2026-11-20T10:00:00Z", "timestamp", "2026-11-21T10:00:00Z"),
]


@pytest.mark.parametrize(("before", "value", "after", "new"), CHANGES)
def test_a_column_that_is_declared_otherwise_never_has_its_values_changed(
    project: AnyProject,
    api: FakeApi,
    before: str | None,
    value: object,
    after: str,
    new: object,
) -> None:
    """Loads of any mode are red and say what to do; a column that is dropped then comes anew."""
    api.rows["calls"] = [{"id": 1, "figure": value}]
    assert project.run("calls", spec=calls(before)).success
    api.rows["calls"] = [{"id": n, "figure": new} for n in (1, 2)]
    for mode in ("incremental", "full_refresh"):
        run = project.run("calls", spec=calls(after), config={"mode": mode})
        assert "AlteredTableError: analytics.calls.figure is " in run.error
        assert "or drop the column" in run.error
    assert project.query("SELECT count(*), count(figure) FROM calls") == [(1, 1)]
    project.edit("ALTER TABLE calls DROP COLUMN figure")
    run = project.run("calls", spec=calls(after))
    assert run.success, run.error
    assert run.metadata("calls")["rows_loaded"] == 2
    [(low, high)] = project.query(
        "SELECT CAST(min(figure) AS TEXT), CAST(max(figure) AS TEXT) FROM calls"
    )
    assert low == high
    assert low.replace(" ", "T").startswith(str(new).removesuffix("Z"))
    again = project.run("calls", spec=calls(after)).metadata("calls")
    assert (again["rows_loaded"], again["rows_unchanged"]) == (0, 2)


def test_a_type_that_was_changed_in_the_database_too_is_taken(
    project: AnyProject, api: FakeApi
) -> None:
    """Then rows stay that the API has no more; before, the load says what is wrong."""
    if isinstance(project, SqliteProject):
        pytest.skip("SQLite cannot change the type of a column")
    api.rows["calls"] = [{"id": 1, "figure": 5}, {"id": 2, "figure": 1}]
    assert project.run("calls", spec=calls("bigint")).success
    project.edit("ALTER TABLE calls ALTER COLUMN figure TYPE DOUBLE PRECISION")
    error = project.run("calls", spec=calls("bigint")).error
    assert "AlteredTableError: analytics.calls.figure is double in the table" in error
    api.rows["calls"] = [{"id": 2, "figure": 1.25}]
    run = project.run("calls", spec=calls("double"))
    assert run.success, run.error
    assert project.query("SELECT id, figure FROM calls ORDER BY id") == [(1, 5.0), (2, 1.25)]


def test_an_object_that_was_not_declared_can_be_declared_as_json(
    project: AnyProject, api: FakeApi
) -> None:
    """It is JSON in a text column, and stays so."""
    if isinstance(project, SqliteProject):
        pytest.skip("SQLAlchemy writes JSON as a text within JSON: see the README")
    api.rows["calls"] = [{"id": 1, "figure": {"a": 1}}]
    assert project.run("calls", spec=calls(None)).success
    api.rows["calls"] = [{"id": n, "figure": {"a": n}} for n in (1, 2)]
    for expected in ((1, 1), (0, 2)):
        run = project.run("calls", spec=calls("json"))
        assert run.success, run.error
        found = run.metadata("calls")
        assert (found["rows_loaded"], found["rows_unchanged"]) == expected
    assert project.query("SELECT count(figure) FROM calls") == [(2,)]


@pytest.mark.parametrize("mode", ["incremental", "full_refresh"])
def test_a_key_that_somebody_dropped_is_an_error_that_says_what_to_do(
    project: AnyProject, mode: str
) -> None:
    """No row can get it back; what the error proposes helps."""
    assert project.run(AGENTS).success
    project.edit(f"ALTER TABLE {AGENTS} DROP COLUMN id")
    run = project.run(AGENTS, config={"mode": mode})
    assert f"AlteredTableError: analytics.{AGENTS} lacks id" in run.error
    assert project.query(f"SELECT count(*) FROM {AGENTS}") == [(250,)]
    project.edit(f"DROP TABLE {AGENTS}")
    assert project.run(AGENTS, config={"mode": mode}).success
    assert project.query(f"SELECT count(DISTINCT id) FROM {AGENTS}") == [(250,)]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (
            "oracle",
            "'oracle' is no destination. Set it to one of duckdb, postgres, ducklake, delta",
        ),
        ("filesystem", "rows are not merged there"),
        ("weaviate", "cannot take parquet files"),
        ("lancedb", "cannot replace a table from a staging one"),
        ("clickhouse", "cannot keep others from seeing some of the rows of a statement"),
    ],
)
def test_a_destination_that_cannot_keep_the_promises_is_refused(
    monkeypatch: pytest.MonkeyPatch, checkout: Checkout, kind: str, said: str
) -> None:
    """When definitions load; with what is allowed instead."""
    monkeypatch.setenv("ANALYTICS_DESTINATION", kind)
    checkout.takes_settings()
    for command in ("python -m analytics_dagster", "dagster definitions validate"):
        done = checkout.run(command)
        assert done.returncode == 1
        assert "SettingError: ANALYTICS_DESTINATION=" in done.stderr + done.stdout
        assert said in " ".join((done.stderr + done.stdout).split())
