"""Full refreshes: everything is read, looked at, and put in place of the table at once."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import dagster as dg
import duckdb
import pytest

from analytics_dagster.api_config import SMALLEST_REFRESH
from analytics_dagster.definitions import defs
from analytics_dagster_tests.conftest import Checkout, Project, Versions, agents
from analytics_dagster_tests.fake_api import FakeApi, Fault, answer, status

AGENTS = "agents_overview"


@pytest.fixture(autouse=True)
def _loaded(api: FakeApi, project: Project) -> None:
    """250 agents, loaded once."""
    api.rows |= {"account_overview": agents(4), AGENTS: agents(250), "current_queue_activity": []}
    project.points_at(api)
    assert project.run().success


def content(project: Project) -> list[tuple[Any, ...]]:
    return project.query(f"SELECT count(*), min(id), max(id) FROM {AGENTS}")


def test_rows_that_are_gone_at_the_api_are_gone_and_counted(project: Project, api: FakeApi) -> None:
    """New rows come, changed ones change, and an incremental load would have kept the gone ones."""
    api.rows[AGENTS] = agents(260, total_talk_time=7)[20:]
    assert project.run(AGENTS).success
    assert content(project) == [(260, 1, 260)]
    figures = project.refresh(AGENTS).metadata(AGENTS)
    assert content(project) == [(240, 21, 260)]
    assert project.query(f"SELECT DISTINCT total_talk_time FROM {AGENTS}") == [(7,)]
    assert (figures["rows_deleted"], figures["rows_loaded"]) == (20, 240)
    assert figures["dagster/row_count"] == 240
    assert "read_since" not in figures


@pytest.mark.parametrize(("rows", "refused"), [(0, True), (124, True), (125, False)])
def test_an_answer_that_is_far_too_small_is_refused(
    project: Project,
    api: FakeApi,
    rows: int,
    refused: bool,  # noqa: FBT001
) -> None:
    """Below half of the rows: the message names both numbers and the setting that allows it."""
    api.rows[AGENTS] = agents(rows)
    run = project.refresh(AGENTS)
    assert run.success != refused
    if refused:
        assert "ShrunkenError" in run.error
        for said in (f"gave {rows} rows", "has 250", "50%", "allow_shrink: true"):
            assert said in run.error
        assert content(project) == [(250, 1, 250)]
        figures = project.refresh(AGENTS, allow_shrink=True).metadata(AGENTS)
        assert figures["rows_deleted"] == 250 - rows
    assert project.query(f"SELECT count(*) FROM {AGENTS}") == [(rows,)]


def test_the_share_that_must_stay_is_set_for_each_resource(
    project: Project, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In `SMALLEST_REFRESH`; the other resources keep the default."""
    monkeypatch.setitem(SMALLEST_REFRESH, AGENTS, 0.1)
    api.rows |= {AGENTS: agents(25), "account_overview": agents(1)}
    run = project.refresh()
    assert run.materialized == {AGENTS, "current_queue_activity"}
    assert "account_overview: the API gave 1 rows" in run.error


@pytest.mark.parametrize("offset", [0, 99, 198])
@pytest.mark.parametrize(
    "fault",
    [status(500), answer({"error": "busy"}), answer({"data": [], "total": 250})],
    ids=["500", "error body", "empty page"],
)
def test_a_refresh_that_fails_on_any_page_keeps_the_old_rows(
    project: Project, api: FakeApi, fault: Fault, offset: int
) -> None:
    """No page that is missing makes a smaller table."""
    api.rows[AGENTS] = agents(300, total_talk_time=7)
    api.always(AGENTS, fault, at_offset=offset)
    assert not project.refresh(AGENTS).success
    assert content(project) == [(250, 1, 250)]
    assert project.query(f"SELECT DISTINCT total_talk_time FROM {AGENTS}") == [(90,)]


@pytest.mark.parametrize("mode", ["incremental", "full_refresh"])
def test_a_statement_that_fails_in_the_middle_takes_the_others_back(
    project: Project, api: FakeApi, mode: str
) -> None:
    """Old rows are deleted and new ones inserted in one transaction, or neither is."""
    with duckdb.connect(str(project.path)) as connection:
        connection.execute("USE analytics.analytics")
        connection.execute(f"ALTER TABLE {AGENTS} ALTER COLUMN name SET NOT NULL")
    api.rows[AGENTS] = agents(250, name=None)
    run = project.run(AGENTS, config={"mode": mode})
    assert "LoadError" in run.error
    assert content(project) == [(250, 1, 250)]
    api.rows[AGENTS] = agents(250, total_talk_time=7)
    assert project.run(AGENTS, config={"mode": mode}).success
    assert project.query(f"SELECT DISTINCT total_talk_time FROM {AGENTS}") == [(7,)]


def test_a_refresh_touches_no_other_table(project: Project, api: FakeApi) -> None:
    """What was loaded of the others stays, whatever the API says of them now."""
    api.rows |= {"account_overview": [], AGENTS: agents(200)}
    assert project.refresh(AGENTS).success
    assert project.query("SELECT count(*) FROM account_overview") == [(4,)]
    assert content(project) == [(200, 1, 200)]


def test_rows_that_the_api_serves_twice_are_in_the_table_once(
    project: Project, api: FakeApi
) -> None:
    """The newest of them, else the one that came last."""
    rows = api.rows[AGENTS]
    rows.append(rows[0] | {"name": "last"})
    rows.append(rows[1] | {"name": "older", "current_timestamp": "2026-11-23T09:00:00Z"})
    figures = project.refresh(AGENTS).metadata(AGENTS)
    assert (figures["duplicates"], figures["rows_loaded"]) == (2, 250)
    assert project.query(f"SELECT name FROM {AGENTS} WHERE id < 3 ORDER BY id") == [
        ("last",),
        ("Agent 2",),
    ]


def test_a_row_that_is_rejected_keeps_its_last_good_version(project: Project, api: FakeApi) -> None:
    """It is not gone at the API, so it is not gone from the table, nor counted as gone."""
    api.rows[AGENTS] = agents(240, total_talk_time=7)
    for row in api.rows[AGENTS][:20]:
        row["total_talk_time"] = "many"
    figures = project.refresh(AGENTS).metadata(AGENTS)
    assert (figures["rows_loaded"], figures["rows_rejected"], figures["rows_kept"]) == (220, 20, 20)
    assert (figures["rows_deleted"], figures["duplicates"]) == (10, 0)
    assert project.query(
        f"SELECT total_talk_time, count(*), min(id) FROM {AGENTS} GROUP BY 1 ORDER BY 1"
    ) == [(7, 220, 21), (90, 20, 1)]


@pytest.mark.parametrize("text", ["\ud800", "\udc00x", "\\\\ud800 😀 \ud83d", '"\ud800"'])
def test_half_a_character_in_a_rejected_row_stops_no_refresh(
    project: Project, api: FakeApi, text: str
) -> None:
    """JSON with half a surrogate pair is refused by DuckDB; the row is kept all the same."""
    api.rows[AGENTS][0] |= {"name": text, "total_talk_time": text}
    run = project.refresh(AGENTS)
    assert run.success
    assert run.metadata(AGENTS)["rows_kept"] == 1
    assert project.query(f"SELECT name FROM {AGENTS} WHERE id = 1") == [("Agent 1",)]


def test_a_table_of_rejected_rows_that_somebody_dropped_comes_back(
    project: Project, api: FakeApi
) -> None:
    """Clearing it away is no harm."""
    api.rows[AGENTS][0]["total_talk_time"] = "many"
    assert project.run(AGENTS).success
    with duckdb.connect(str(project.path)) as connection:
        connection.execute("DROP TABLE analytics.analytics.rejected_rows")
    api.rows[AGENTS][1]["total_talk_time"] = "many"
    assert project.run(AGENTS).success
    assert project.query("SELECT count(*) FROM rejected_rows") == [(2,)]


def test_a_refresh_adds_new_columns_and_keeps_old_ones(project: Project, api: FakeApi) -> None:
    """The table is filled anew, not made anew."""
    for row in api.rows[AGENTS]:
        row["badge"] = "gold"
    assert project.refresh(AGENTS).success
    for row in api.rows[AGENTS]:
        del row["badge"]
    assert project.refresh(AGENTS).success
    assert project.query(f"SELECT count(*), count(badge) FROM {AGENTS}") == [(250, 0)]


def test_the_first_load_may_be_a_refresh(project: Project) -> None:
    """Nothing was there, so nothing is gone."""
    project.path.unlink()
    assert project.refresh(AGENTS).metadata(AGENTS)["rows_deleted"] == 0
    assert content(project) == [(250, 1, 250)]


ENDLESS_LOADS = """
import itertools
from analytics_dagster.api_config import REST_API
from analytics_dagster.api_reader import read_spec
from analytics_dagster.resources import AnalyticsApi
from analytics_dagster.loading import load
from analytics_dagster.warehouse import Warehouse

spec = read_spec(REST_API)
with AnalyticsApi().process_config_and_initialize_cm() as api:
    with api.connect(spec.client) as transport:
        for full_refresh in itertools.cycle([False, True]):
            load(spec.resources[1], transport, Warehouse(), full_refresh=full_refresh)
            print(full_refresh, flush=True)
"""


def test_a_reader_sees_the_old_rows_or_the_new_ones(project: Project, api: FakeApi) -> None:
    """While refreshes follow each other, every look at the table finds one version of it."""
    each_look_finds_one_version(project, api, versions=4)


def each_look_finds_one_version(project: Project, api: FakeApi, versions: int) -> None:
    """Loads and refreshes without end, until so many versions of the table were seen."""
    api.rows = Versions(api.rows, AGENTS, lambda version: agents(90, total_talk_time=version))
    assert project.refresh(AGENTS, allow_shrink=True).success
    looks: set[int] = set()
    command = [sys.executable, "-c", ENDLESS_LOADS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        process.stdout.readline()
        while len(looks) < versions:
            assert process.poll() is None
            try:
                [(count, oldest, newest)] = project.query(
                    f"SELECT count(*), min(total_talk_time), max(total_talk_time) FROM {AGENTS}"
                )
            except duckdb.Error:  # the file is being written
                continue
            assert oldest == newest
            assert count == 90
            looks.add(newest)
        process.kill()


def test_the_job_refreshes_every_resource(
    project: Project, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`full_refresh` needs no config; a selection of its assets takes the same mode."""
    monkeypatch.setenv("ANALYTICS_DUCKDB_PATH", str(project.path))
    api.rows |= {AGENTS: agents(200), "account_overview": agents(3)}
    job = defs.resolve_job_def("full_refresh")
    with dg.DagsterInstance.ephemeral() as instance:
        assert job.execute_in_process(instance=instance).success
    assert content(project) == [(200, 1, 200)]
    assert project.query("SELECT count(*) FROM account_overview") == [(3,)]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ('{"mode": "full"}', "['incremental', 'full_refresh'] got full"),
        ('{"allow_shrink": "perhaps"}', 'not valid for expected type "Bool"'),
        ('{"lag": 5}', "allow_shrink?"),
    ],
)
def test_a_wrong_run_config_is_refused_with_what_is_allowed(
    checkout: Checkout, config: str, said: str
) -> None:
    """Before anything is read or written."""
    run_config = f'{{"ops": {{"{AGENTS}": {{"config": {config}}}}}}}'
    done = checkout.run(
        "dagster asset materialize -m analytics_dagster.definitions "
        f"--select analytics/{AGENTS} --config-json '{run_config}'"
    )
    assert done.returncode != 0
    assert said in done.stdout + done.stderr
    assert not (checkout.folder / "analytics.duckdb").exists()
