"""Incremental loads: what is new, all of it, from where the last load ended."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest

from analytics_dagster.api_config import REST_API
from analytics_dagster.api_reader import read_spec
from analytics_dagster.api_spec import ApiSpec
from analytics_dagster_tests.conftest import Project, agents
from analytics_dagster_tests.fake_api import FakeApi, status
from analytics_dagster_tests.one_load import one_load

AGENTS = "agents_overview"
TEN = datetime(2026, 11, 23, 10, tzinfo=timezone.utc)


def at(minutes: float) -> str:
    """A moment so many minutes after ten, as the API writes it."""
    return (TEN + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")


def agent(number: int, minutes: float, **changes: Any) -> dict[str, Any]:
    return agents(number)[-1] | {"current_timestamp": at(minutes)} | changes


def with_incremental(**changes: Any) -> ApiSpec:
    """The project's configuration with another `incremental` of the agents."""
    config: Any = copy.deepcopy(REST_API)
    incremental = config["resources"][1]["endpoint"]["incremental"] | changes
    config["resources"][1]["endpoint"]["incremental"] = {
        key: value for key, value in incremental.items() if value is not None
    }
    return read_spec(config)


@pytest.fixture(autouse=True)
def _loaded(api: FakeApi, project: Project) -> None:
    """An API that filters, 250 agents of ten o'clock, and one load."""
    api.filter_field = "current_timestamp"
    api.rows[AGENTS] = agents(250)
    project.points_at(api)
    assert project.run(AGENTS).success
    api.requests.clear()


def ids(project: Project) -> list[int]:
    return [row[0] for row in project.query(f"SELECT id FROM {AGENTS} ORDER BY id")]


def asked_since(api: FakeApi) -> set[str | None]:
    """The moments since which the API was asked for rows."""
    return {request.query.get("updated_since") for request in api.requests}


@pytest.mark.parametrize("filters", [True, False], ids=["filters", "ignores the filter"])
def test_what_is_new_is_loaded_whether_the_api_filters_or_not(
    project: Project,
    api: FakeApi,
    filters: bool,  # noqa: FBT001
) -> None:
    """New and changed rows come, with the same result; old rows are not even read, or left out."""
    api.filter_field = "current_timestamp" if filters else None
    api.rows[AGENTS][7] |= {"current_timestamp": at(30), "total_calls_accepted": 99}
    api.rows[AGENTS].append(agent(251, 31))
    for row in api.rows[AGENTS][:100]:
        row["current_timestamp"] = at(-11) if row["id"] != 8 else at(30)
    figures = project.run(AGENTS).metadata(AGENTS)
    assert asked_since(api) == {at(-10)}
    assert ids(project) == list(range(1, 252))
    assert project.query(f"SELECT total_calls_accepted FROM {AGENTS} WHERE id = 8") == [(99,)]
    assert (figures["rows_loaded"], figures["rows_unchanged"]) == (2, 150)
    assert figures["rows_before_cursor"] == (0 if filters else 99)
    assert figures["read_since"] == (TEN - timedelta(minutes=10)).timestamp()
    assert figures["cursor"] == (TEN + timedelta(minutes=31)).timestamp()


def test_a_run_with_nothing_new_says_zero(project: Project, api: FakeApi) -> None:
    """Also when the API sends the rows of the lag window again: they are told as unchanged."""
    figures = project.run(AGENTS).metadata(AGENTS)
    assert (figures["rows_loaded"], figures["rows_unchanged"]) == (0, 250)
    api.rows[AGENTS] = []
    figures = project.run(AGENTS).metadata(AGENTS)
    assert (figures["rows_read"], figures["rows_loaded"], figures["requests"]) == (0, 0, 1)
    assert figures["dagster/row_count"] == 250
    assert figures["cursor"] == TEN.timestamp()


def test_rows_that_come_late_are_loaded_within_the_lag(project: Project, api: FakeApi) -> None:
    """Ten minutes by default; what is later still comes with a full refresh."""
    api.rows[AGENTS] += [agent(251, -9.9), agent(252, -10.1)]
    assert project.run(AGENTS).success
    assert ids(project)[250:] == [251]
    assert project.refresh(AGENTS).success
    assert ids(project)[250:] == [251, 252]


def test_without_a_lag_rows_on_the_boundary_are_neither_lost_nor_doubled(
    project: Project, api: FakeApi
) -> None:
    """A row of the very moment where the last load ended comes, once."""
    spec = with_incremental(lag=0)
    api.rows[AGENTS] += [agent(251, 0), agent(252, -0.1)]
    figures = project.run(AGENTS, spec=spec).metadata(AGENTS)
    assert asked_since(api) == {at(0)}
    assert ids(project)[250:] == [251]
    assert (figures["rows_loaded"], figures["rows_unchanged"]) == (1, 250)


def test_a_row_from_the_future_is_loaded_and_stops_no_later_row(
    project: Project, api: FakeApi
) -> None:
    """It is counted, and the cursor stays where the other rows are."""
    api.rows[AGENTS] += [agent(251, 0, current_timestamp="2099-01-01T00:00:00Z"), agent(252, 5)]
    figures = project.run(AGENTS).metadata(AGENTS)
    assert figures["rows_in_future"] == 1
    assert figures["cursor"] == (TEN + timedelta(minutes=5)).timestamp()
    api.rows[AGENTS].append(agent(253, 6))
    assert project.run(AGENTS).success
    assert ids(project)[250:] == [251, 252, 253]


def test_an_older_version_does_not_replace_a_newer_one(project: Project, api: FakeApi) -> None:
    """A replica of the API that lags behind takes nothing back; a row from the future may go."""
    api.rows[AGENTS] += [agent(251, 0, current_timestamp="2099-01-01T00:00:00Z")]
    assert project.run(AGENTS).success
    api.rows[AGENTS][0] = agent(1, -5, name="older")
    api.rows[AGENTS][250] = agent(251, 5, name="mended")
    assert project.run(AGENTS).metadata(AGENTS)["rows_loaded"] == 1
    assert project.query(f"SELECT name FROM {AGENTS} WHERE id IN (1, 251) ORDER BY id") == [
        ("Agent 1",),
        ("mended",),
    ]


@pytest.mark.parametrize("moment", [None, "", "not a date", "2026-02-30T00:00:00Z", [1]], ids=str)
def test_a_row_without_a_readable_moment_stops_no_later_row(
    project: Project, api: FakeApi, moment: Any
) -> None:
    """It is kept in `rejected_rows`, and counted; the others come."""
    api.rows[AGENTS] += [agent(251, 0, current_timestamp=moment), agent(252, 5)]
    figures = project.run(AGENTS).metadata(AGENTS)
    assert (figures["rows_rejected"], figures["rows_loaded"]) == (1, 1)
    api.rows[AGENTS].append(agent(253, 6))
    assert project.run(AGENTS).success
    assert ids(project)[250:] == [252, 253]
    assert project.query("SELECT count(*) FROM rejected_rows") == [(1,)]


def test_the_parameter_is_written_as_the_api_takes_it(project: Project, api: FakeApi) -> None:
    """With `convert`, for example as epoch seconds; without `start_param` nothing is asked for."""
    epoch = with_incremental(
        convert=lambda moment: int(
            datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()
        )
    )
    api.rows[AGENTS].append(agent(251, 1))
    assert project.run(AGENTS, spec=epoch).metadata(AGENTS)["rows_loaded"] == 1
    assert asked_since(api) == {str(int(TEN.timestamp()) - 600)}
    api.requests.clear()
    assert project.run(AGENTS, spec=with_incremental(start_param=None)).success
    assert asked_since(api) == {None}


def test_the_duckdb_file_is_all_that_the_next_load_needs(
    project: Project, api: FakeApi, tmp_path: Path
) -> None:
    """Another folder, another home, another process: it goes on where the last load ended."""
    moved = tmp_path / "elsewhere" / "moved.duckdb"
    moved.parent.mkdir()
    shutil.move(project.path, moved)
    for left in project.path.parent.glob("analytics*"):
        left.unlink()
    api.rows[AGENTS].append(agent(251, 1))
    environment = os.environ | {
        "ANALYTICS_DUCKDB_PATH": str(moved),
        "HOME": str(moved.parent),
        "TMPDIR": str(moved.parent),
        "DAGSTER_HOME": "",
    }
    environment.pop("DAGSTER_HOME")
    done = subprocess.run(
        one_load(),
        cwd=moved.parent,
        env=environment | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "1 250"), done.stderr
    assert asked_since(api) == {at(-10)}


@pytest.mark.parametrize("offset", [0, 99, 198])
def test_a_load_that_fails_on_any_page_leaves_the_cursor(
    project: Project, api: FakeApi, offset: int
) -> None:
    """The next load reads from the same moment, and nothing is lost."""
    api.rows[AGENTS] = [agent(n, 20 + n) for n in range(1, 261)]
    api.on(AGENTS, status(500), at_offset=offset)
    assert not project.run(AGENTS).success
    assert project.run(AGENTS).metadata(AGENTS)["rows_loaded"] == 260
    assert asked_since(api) == {at(-10)}


def test_a_full_refresh_in_between_leaves_the_cursor_right(project: Project, api: FakeApi) -> None:
    """The next incremental load goes on where the refresh ended, also when that is further back."""
    api.rows[AGENTS] = [agent(n, -30) for n in range(1, 250)]
    assert project.refresh(AGENTS).metadata(AGENTS)["cursor"] == TEN.timestamp() - 1800
    assert asked_since(api) == {None}
    api.requests.clear()
    assert project.run(AGENTS).success
    assert asked_since(api) == {at(-40)}


@pytest.mark.parametrize("statement", ["DROP TABLE", "TRUNCATE"])
def test_a_table_that_somebody_emptied_is_loaded_as_a_whole(
    project: Project, api: FakeApi, statement: str
) -> None:
    """The cursor of rows that are no more is none; a dropped table comes back with its columns."""
    with duckdb.connect(str(project.path)) as connection:
        connection.execute(f"{statement} analytics.analytics.{AGENTS}")
    assert project.run(AGENTS).metadata(AGENTS)["rows_loaded"] == 250
    assert asked_since(api) == {None}
    assert ids(project) == list(range(1, 251))
    assert ("id", "NO") in project.query(
        "SELECT column_name, is_nullable FROM information_schema.columns "
        f"WHERE table_schema = 'analytics' AND table_name = '{AGENTS}'"
    )
