"""What holds for destinations of dlt's that the project has no code of its own for.

The one that is tested is SQLite, by SQLAlchemy; test_warehouses.py has what all promise.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dlt.destinations.exceptions import DatabaseUndefinedRelation
from dlt.destinations.sql_client import SqlClientBase

from analytics_dagster import other_warehouse
from analytics_dagster.api_reader import read_spec
from analytics_dagster.api_spec import ApiSpec
from analytics_dagster.other_warehouse import OtherWarehouse
from analytics_dagster_tests.fake_api import FakeApi
from analytics_dagster_tests.test_definitions import GUARDED, ROOT, with_calls
from analytics_dagster_tests.test_warehouses import VALUES
from analytics_dagster_tests.warehouses import AGENTS, SqliteProject, figures, ready

CONTENT = f"SELECT count(*), count(DISTINCT id), max(total_talk_time) FROM {AGENTS}"


@pytest.fixture
def sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: FakeApi) -> SqliteProject:
    """SQLite files in a folder."""
    made = SqliteProject(tmp_path / "any.db", monkeypatch)
    ready(made, api)
    return made


def loaded_definitions(kind: str) -> subprocess.CompletedProcess[str]:
    shown = "print(sorted(module.defs.resolve_asset_graph().get(key).kinds))"
    code = f"{GUARDED}\nfor key in module.defs.resolve_all_asset_keys(): {shown}"
    return subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(ROOT), "HOME": "/nonexistent", "ANALYTICS_DESTINATION": kind},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("kind", "has_transactions"), [("snowflake", True), ("bigquery", False), ("databricks", False)]
)
def test_definitions_load_without_the_library_and_say_what_is_not_promised(
    kind: str, *, has_transactions: bool
) -> None:
    """And the assets say what they are loaded into; nothing is opened."""
    done = loaded_definitions(kind)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(f"'{kind}'") == 3
    assert done.stderr.count(f"{kind} is not tested with this project") == 1
    assert ("It has no transactions" in done.stderr) is not has_transactions


def test_a_library_that_is_missing_is_named_with_the_command_that_installs_it(
    sqlite: SqliteProject, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the API is asked."""
    monkeypatch.setenv("ANALYTICS_DESTINATION", "snowflake")
    assert 'pip install "dlt[snowflake]"' in sqlite.run(AGENTS).error
    assert api.requests == []


@pytest.mark.parametrize(
    ("credentials", "said"),
    [
        (None, "There are no whole settings for sqlalchemy"),
        ("sqlite:////nonexistent/any.db", "cannot be reached: OperationalError"),
        ("postgresql+psycopg2://u:geheim@127.0.0.1:1/x", "cannot be reached: OperationalError"),
        ("mysql+pymysql://u:geheim@127.0.0.1:1/x", "cannot be reached: MissingDependency"),
    ],
)
def test_a_database_that_cannot_be_used_is_told_without_the_password(
    sqlite: SqliteProject,
    api: FakeApi,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    credentials: str | None,
    said: str,
) -> None:
    """Before the API is asked; a check says the same."""
    monkeypatch.delenv(sqlite.setting)
    if credentials:
        monkeypatch.setenv(sqlite.setting, credentials)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        run = sqlite.run(AGENTS, instance=instance)
    assert "WarehouseConnectionError: " in run.error
    assert said in run.error
    assert sqlite.setting in run.error
    assert "geheim" not in str(run.result.all_events)
    assert api.requests == []


def test_a_place_is_told_apart_from_another_one_and_holds_no_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Locks and working folders go by it."""
    places = set()
    for server in ("a", "b"):
        url = f"postgresql://u:geheim@{server}:5432/x"
        monkeypatch.setenv(SqliteProject.setting, url)
        places.add(OtherWarehouse("sqlalchemy", 1, 128).place())
    assert len(places) == 2
    assert "geheim" not in str(places)


def test_required_columns_are_not_null(sqlite: SqliteProject, spec: ApiSpec) -> None:
    """Also in a table that was made by a load without rows."""
    assert sqlite.run("current_queue_activity").success
    found = sqlite.query(
        "SELECT name, \"notnull\" FROM pragma_table_info('current_queue_activity')"
    )
    columns = spec.resources[2].columns
    assert dict(found) == {name: int(not column.nullable) for name, column in columns.items()}


def test_every_value_that_sqlite_has_a_type_for_is_known_again(
    sqlite: SqliteProject, api: FakeApi
) -> None:
    """Decimals are floats there, and SQLAlchemy writes JSON as a text within JSON."""
    kept = {name: value for name, value in VALUES.items() if name not in ("money", "detail")}
    columns = {name: column for name, (column, _) in kept.items()}
    key = {"id": {"data_type": "bigint", "nullable": False}}
    spec = read_spec(with_calls(columns=key | columns))
    api.rows["calls"] = [
        {"id": n, **{name: values[n % len(values)] for name, (_, values) in kept.items()}}
        for n in range(40)
    ]
    assert sqlite.run("calls", spec=spec).metadata("calls")["rows_loaded"] == 40
    again = sqlite.run("calls", spec=spec).metadata("calls")
    assert (again["rows_loaded"], again["rows_unchanged"]) == (0, 40)
    refreshed = sqlite.run("calls", spec=spec, config={"mode": "full_refresh"})
    assert refreshed.metadata("calls")["rows_loaded"] == 40
    texts = sqlite.query("SELECT text FROM calls WHERE id < 11 ORDER BY id")
    assert texts == [(text,) for text in VALUES["text"][1]]


def test_a_look_copies_rows_in_parts(
    sqlite: SqliteProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the last part is a short one."""
    monkeypatch.setattr("analytics_dagster.other_warehouse._ROWS_AT_A_TIME", 100)
    assert sqlite.run(AGENTS).success
    assert figures(sqlite.run(AGENTS), "rows_unchanged", "dagster/row_count") == [250, 250]


def test_a_copy_that_breaks_off_is_no_table_that_is_missing(
    sqlite: SqliteProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB's full disk looks to dlt like a table that is not there."""
    assert sqlite.run(AGENTS).success
    put = other_warehouse._put

    def breaks_off(part: Any, statement: str, copy: SqlClientBase[Any]) -> None:
        if statement.startswith("INSERT"):
            raise DatabaseUndefinedRelation(OSError("no space"))
        put(part, statement, copy)

    monkeypatch.setattr(other_warehouse, "_put", breaks_off)
    assert "LoadError" in sqlite.refresh(AGENTS).error
    assert sqlite.query(CONTENT) == [(250, 250, 90)]
