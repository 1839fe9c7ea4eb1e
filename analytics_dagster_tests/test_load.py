"""Loads through Dagster, from a real HTTP server into a real DuckDB file."""

from __future__ import annotations

from typing import Any

import pytest

from analytics_dagster.api_config import MOST_REJECTED
from analytics_dagster.api_reader import read_spec
from analytics_dagster.api_spec import ApiSpec
from analytics_dagster_tests.conftest import Project, agents
from analytics_dagster_tests.fake_api import FakeApi, status
from analytics_dagster_tests.test_definitions import with_calls

COUNTED = ("rows_loaded", "rows_unchanged", "rows_before_cursor", "rows_rejected", "duplicates")
ALL = {"account_overview", "agents_overview", "current_queue_activity"}


@pytest.fixture(autouse=True)
def _three_resources(api: FakeApi, project: Project) -> None:
    api.rows |= {name: [] for name in ALL} | {"agents_overview": agents(250)}
    project.points_at(api)


def test_every_row_arrives_once_however_often_it_is_loaded(project: Project, api: FakeApi) -> None:
    """A second load merges: changed rows change, new rows come, nothing is there twice."""
    assert project.run("agents_overview").success
    api.rows["agents_overview"] = agents(260, total_calls_accepted=4)
    run = project.run("agents_overview")
    assert run.success
    assert project.query(
        "SELECT count(*), count(DISTINCT id), min(total_calls_accepted) FROM agents_overview"
    ) == [(260, 260, 4)]
    assert run.metadata("agents_overview")["dagster/row_count"] == 260


def test_the_figures_of_a_load_add_up(project: Project, api: FakeApi) -> None:
    """Rows read are rows loaded, rejected or duplicate; requests and pages are counted."""
    rows = api.rows["agents_overview"]
    rows[7]["id"] = None
    rows[9]["total_talk_time"] = 3.5
    figures = project.run("agents_overview").metadata("agents_overview")
    assert {name: figures[name] for name in ("rows_read", "rows_loaded", "rows_rejected")} == {
        "rows_read": 250,
        "rows_loaded": 248,
        "rows_rejected": 2,
    }
    assert (figures["duplicates"], figures["dagster/row_count"]) == (0, 248)
    assert (figures["pages"], figures["requests"], figures["total_at_api"]) == (4, 4, 250)
    assert figures["cursor"] == 1795428000


def test_rows_that_break_the_contract_are_kept_with_the_reason(
    project: Project, api: FakeApi
) -> None:
    """The rest loads, and a row that stays bad is kept once, not once a run."""
    api.rows["agents_overview"][0]["total_talk_time"] = "many"
    for hour in ("10", "11"):
        api.rows["agents_overview"][0]["current_timestamp"] = f"2026-11-23T{hour}:00:00Z"
        assert project.run("agents_overview").success
    assert project.query("SELECT count(*) FROM agents_overview") == [(249,)]
    [(resource, reason, raw)] = project.query("SELECT resource, reason, raw FROM rejected_rows")
    assert (resource, reason) == ("agents_overview", "total_talk_time: a text is no bigint")
    assert '"name": "Agent 1"' in raw
    assert "T11:00:00Z" in raw


@pytest.mark.parametrize(
    ("rows", "bad", "success"), [(250, 25, True), (250, 26, False), (3, 2, True), (3, 3, False)]
)
def test_a_load_of_mostly_bad_rows_is_red(
    project: Project,
    api: FakeApi,
    rows: int,
    bad: int,
    success: bool,  # noqa: FBT001
) -> None:
    """Above 10 % (of few rows: when none is good) nothing loads, and the reasons are counted."""
    api.rows["agents_overview"] = agents(rows)
    for row in api.rows["agents_overview"][:bad]:
        row["total_talk_time"] = "many"
    run = project.run("agents_overview")
    assert run.success == success
    if success:
        assert run.metadata("agents_overview")["rows_rejected"] == bad
        assert project.query("SELECT count(*) FROM rejected_rows") == [(bad,)]
    else:
        assert f"TooManyRejectedError: agents_overview: {bad} of {rows} rows" in run.error
        assert f"total_talk_time: a text is no bigint ({bad})" in run.error


@pytest.mark.parametrize(
    ("share", "rows", "bad", "success"),
    [
        (0.5, 250, 125, True),
        (0.5, 250, 126, False),
        (0, 250, 1, False),
        (0, 250, 0, True),
        (0.01, 250, 3, False),
        (1, 3, 3, True),
    ],
)
def test_the_share_of_rows_that_may_be_bad_is_set_for_each_resource(
    project: Project,
    api: FakeApi,
    monkeypatch: pytest.MonkeyPatch,
    share: float,
    rows: int,
    bad: int,
    success: bool,  # noqa: FBT001
) -> None:
    """In `MOST_REJECTED`, and to the row; a red load says the share, and changes nothing."""
    monkeypatch.setitem(MOST_REJECTED, "agents_overview", share)
    assert project.run("agents_overview").success
    api.rows["agents_overview"] = agents(rows, name="changed")
    for row in api.rows["agents_overview"][:bad]:
        row["total_talk_time"] = "many"
    run = project.run("agents_overview")
    assert run.success == success
    changed = "SELECT count(*) FROM agents_overview WHERE name = 'changed'"
    assert project.query(changed) == [(rows - bad if success else 0,)]
    assert success or f"At most {share:.0%} may" in run.error


def test_resources_without_rows_are_a_success_that_says_zero(
    project: Project, api: FakeApi
) -> None:
    """Also on the first load: the table is there, with its columns, and the figures are 0."""
    api.rows["agents_overview"] = []
    run = project.run()
    assert run.materialized == ALL
    for name in ALL:
        figures = run.metadata(name)
        assert (figures["rows_loaded"], figures["dagster/row_count"]) == (0, 0)
        assert project.query(f"SELECT count(*) FROM {name}") == [(0,)]


def test_declared_columns_reach_duckdb(project: Project, spec: ApiSpec) -> None:
    """Types and NOT NULL of the table are the declared ones, and no column is missing."""
    project.run("agents_overview")
    types = {"bigint": "BIGINT", "text": "VARCHAR", "timestamp": "TIMESTAMP WITH TIME ZONE"}
    declared = {
        name: (types[column.data_type], "YES" if column.nullable else "NO")
        for name, column in spec.resources[1].columns.items()
    }
    found = project.query(
        "SELECT column_name, data_type, is_nullable FROM information_schema.columns "
        "WHERE table_schema = 'analytics' AND table_name = 'agents_overview'"
    )
    assert {name: (kind, nullable) for name, kind, nullable in found} == declared


@pytest.mark.parametrize("newest", [0, -1])
def test_of_a_row_that_comes_twice_the_newest_stays(
    project: Project, api: FakeApi, newest: int
) -> None:
    """Whichever comes first; the other one is counted as a duplicate."""
    rows = api.rows["agents_overview"]
    rows.append(dict(rows[0]))
    rows[newest] |= {"current_timestamp": "2026-11-23T11:00:00Z", "name": "newest"}
    figures = project.run("agents_overview").metadata("agents_overview")
    assert (figures["rows_loaded"], figures["dagster/row_count"]) == (250, 250)
    assert project.query("SELECT name FROM agents_overview WHERE id = 1") == [("newest",)]


def test_a_new_field_of_the_api_becomes_a_column_and_is_reported(
    project: Project, api: FakeApi
) -> None:
    """It keeps its type on later loads, and old rows have it as NULL."""
    project.run("agents_overview")
    for row in api.rows["agents_overview"][:100]:
        row["ai_agent_calls"] = 2
    figures = project.run("agents_overview").metadata("agents_overview")
    assert figures["new_fields"] == {"ai_agent_calls": "bigint"}
    names = [column.name for column in figures["dagster/column_schema"].columns]
    assert names[-1] == "ai_agent_calls"
    assert project.query("SELECT sum(ai_agent_calls), count(*) FROM agents_overview") == [
        (200, 250)
    ]
    later = project.run("agents_overview").metadata("agents_overview")
    assert "new_fields" not in later
    assert [column.name for column in later["dagster/column_schema"].columns] == names


@pytest.mark.parametrize("columns", [{}, {"current_timestamp": {"data_type": "bigint"}}])
def test_a_resource_needs_no_cursor(
    project: Project, api: FakeApi, columns: dict[str, Any]
) -> None:
    """The key is all that an added resource must declare; the figures lack the cursor."""
    added = with_calls()
    added["resources"][-1]["columns"] |= columns
    api.rows["calls"] = [{"id": 1, "current_timestamp": 5}, {"id": 2, "current_timestamp": 6}]
    figures = project.run("calls", spec=read_spec(added)).metadata("calls")
    assert figures["dagster/row_count"] == 2
    assert "cursor" not in figures


def test_a_new_field_on_a_late_page_is_no_trouble(project: Project, api: FakeApi) -> None:
    """Batches with and without the column go into one load."""
    api.rows["agents_overview"] = agents(12_000)
    api.rows["agents_overview"][-1]["late"] = "here"
    assert project.run("agents_overview").success
    assert project.query("SELECT count(late), count(*) FROM agents_overview") == [(1, 12_000)]


@pytest.mark.parametrize("rows", [250, 100, 1])
def test_expected_fields_that_vanish_are_reported_as_long_as_they_are_away(
    project: Project, api: FakeApi, rows: int
) -> None:
    """From all rows or from some pages: the metadata counts the rows, also when nothing changed."""
    for row in api.rows["agents_overview"][:rows]:
        del row["total_talk_time"]
    for changed in (250, 0):
        figures = project.run("agents_overview").metadata("agents_overview")
        assert figures["rows_loaded"] == changed
        assert figures["missing_fields"] == {"total_talk_time": rows}


@pytest.mark.parametrize("field", ["total_hold_time", "ai_agent_calls"])
def test_a_field_that_need_not_be_there_is_missed_once_the_table_has_values_of_it(
    project: Project, api: FakeApi, field: str
) -> None:
    """One of the larger plan, or one that was added: not before, and by the load that loses it."""
    rows = api.rows["agents_overview"]
    assert "missing_fields" not in project.run("agents_overview").metadata("agents_overview")
    for row in rows:
        row[field] = 5
    assert "missing_fields" not in project.run("agents_overview").metadata("agents_overview")
    for row in rows:
        del row[field]
    figures = project.run("agents_overview").metadata("agents_overview")
    assert figures["missing_fields"] == {field: 250}


@pytest.mark.parametrize("mode", ["incremental", "full_refresh"])
def test_every_row_that_is_read_is_counted_in_one_place(
    project: Project, api: FakeApi, mode: str
) -> None:
    """New, unchanged, too old, rejected, or a repetition of one of them: each counted by itself."""
    assert project.run("agents_overview").success
    rows = agents(255)
    rows[0]["current_timestamp"] = "2026-11-23T09:00:00Z"
    rows[1]["total_talk_time"] = "many"
    rows += [dict(rows[n]) for n in (1, 2, 254)]
    api.rows["agents_overview"] = rows
    figures = project.run("agents_overview", config={"mode": mode}).metadata("agents_overview")
    is_refresh = mode == "full_refresh"
    assert {name: figures[name] for name in COUNTED} == {
        "rows_loaded": 254 if is_refresh else 5,
        "rows_unchanged": 0 if is_refresh else 248,
        "rows_before_cursor": 0 if is_refresh else 1,
        "rows_rejected": 1,
        "duplicates": 3,
    }
    assert figures["rows_read"] == 258 == sum(figures[name] for name in COUNTED)


def test_a_dead_resource_leaves_the_others_loaded(project: Project, api: FakeApi) -> None:
    """The run is red, and the other two are in the warehouse."""
    api.always("account_overview", status(500))
    run = project.run()
    assert not run.success
    assert run.materialized == ALL - {"account_overview"}
    assert "StatusError" in run.error
    assert "/v1/account_overview" in run.error


@pytest.mark.parametrize("offset", [0, 99, 198])
def test_a_load_that_fails_on_any_page_changes_nothing(
    project: Project, api: FakeApi, offset: int
) -> None:
    """The rows stay as they were, and the next load is complete."""
    project.run("agents_overview")
    api.rows["agents_overview"] = agents(250, total_calls_accepted=9)
    api.on("agents_overview", status(500), at_offset=offset)
    assert not project.run("agents_overview").success
    changed = "SELECT count(*) FROM agents_overview WHERE total_calls_accepted = 9"
    assert project.query(changed) == [(0,)]
    assert project.run("agents_overview").success
    assert project.query(changed) == [(250,)]


def test_retries_are_counted_and_shown(project: Project, api: FakeApi) -> None:
    """A load that recovered is green, and says what it cost."""
    api.on("agents_overview", status(503), at_offset=99)
    figures = project.run("agents_overview", retries=1).metadata("agents_overview")
    assert (figures["retries"], figures["requests"]) == (1, 5)
    assert figures["seconds_waited"] >= 2


def test_the_warehouse_is_all_that_a_load_leaves_behind(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dlt's working folder is a temporary one and gone after the run; a lock's file is empty."""
    work = project.path.parent / "work"
    work.mkdir()
    monkeypatch.setenv("TMPDIR", str(work))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("HOME", str(project.path.parent / "home"))
    project.run("agents_overview")
    left = {path.name for path in project.path.parent.iterdir()}
    assert left == {"work", "analytics.duckdb", "analytics.duckdb.agents_overview.lock"}
    assert [path for path in work.iterdir() if path.name.startswith("analytics_dagster_")] == []


def test_the_sandbox_never_mixes_with_real_rows(
    project: Project, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real rows replace made-up ones; made-up rows are refused over real ones."""

    def without_settings(**run: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.delenv("ANALYTICS_API_BASE_URL")
            patch.delenv("ANALYTICS_API_KEY")
            return project.run("agents_overview", **run)

    figures = without_settings().metadata("agents_overview")
    assert figures["dagster/row_count"] > 250
    assert "MADE-UP" in figures["made_up"]
    assert project.run("agents_overview").success
    assert project.query("SELECT count(*), max(id) FROM agents_overview") == [(250, 250)]
    refused = without_settings()
    assert "SandboxOverDataError" in refused.error
    assert "ANALYTICS_API_BASE_URL" in refused.error
    assert project.query("SELECT count(*), max(id) FROM agents_overview") == [(250, 250)]
    assert len(api.requests) == 4
