"""Where steps work is a setting; what cannot work is told when definitions load."""

from __future__ import annotations

import sys
from pathlib import Path

import dagster as dg
import pytest

from analytics_dagster.errors import SettingError
from analytics_dagster.executors import build_executor
from analytics_dagster.warehouse import Warehouse
from analytics_dagster_tests.conftest import Checkout, Project, agents
from analytics_dagster_tests.fake_api import Exchange, FakeApi, delay, fault
from analytics_dagster_tests.postgres_server import PostgresServer
from analytics_dagster_tests.warehouses import AGENTS, ALL, CREDENTIALS


@pytest.mark.parametrize(
    ("name", "kind"),
    [(None, "in_process"), ("multiprocess", "multiprocess"), ("celery", "celery")],
)
def test_the_environment_names_the_executor(
    monkeypatch: pytest.MonkeyPatch, name: str | None, kind: str
) -> None:
    """Steps work in the process of the run unless a setting says otherwise."""
    monkeypatch.setenv("ANALYTICS_DESTINATION", "postgres")
    if name:
        monkeypatch.setenv("ANALYTICS_EXECUTOR", name)
    assert build_executor(Warehouse()).name == kind


@pytest.mark.parametrize(
    ("name", "destination", "said"),
    [
        ("parallel", "postgres", "'parallel' is no executor. Set it to one of in_process, multip"),
        ("", "postgres", "'' is no executor"),
        ("celery", "duckdb", "ANALYTICS_DESTINATION=duckdb is a file of one machine"),
        ("kubernetes", "duckdb", "ANALYTICS_DESTINATION=duckdb is a file of one machine"),
    ],
)
def test_an_executor_that_cannot_work_is_told_with_what_to_set(
    monkeypatch: pytest.MonkeyPatch, name: str, destination: str, said: str
) -> None:
    """Steps on other machines would each load into a file of their own, and end green."""
    monkeypatch.setenv("ANALYTICS_EXECUTOR", name)
    monkeypatch.setenv("ANALYTICS_DESTINATION", destination)
    with pytest.raises(SettingError, match=said):
        build_executor(Warehouse())


@pytest.mark.parametrize(("name", "library"), [("celery", "celery"), ("kubernetes", "k8s")])
def test_a_library_that_is_missing_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, name: str, library: str
) -> None:
    """When definitions load, and not in the middle of the night."""
    monkeypatch.setenv("ANALYTICS_EXECUTOR", name)
    monkeypatch.setenv("ANALYTICS_DESTINATION", "postgres")
    monkeypatch.setitem(sys.modules, f"dagster_{library}", None)
    with pytest.raises(SettingError, match=rf'pip install -e "\.\[{name}\]"'):
        build_executor(Warehouse())


def test_processes_beside_each_other_load_all_tables(
    checkout: Checkout,
    api: FakeApi,
    postgres_server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With `multiprocess` each resource is loaded by a process of its own."""
    api.rows |= {name: agents(120) for name in ALL}
    monkeypatch.setenv("ANALYTICS_API_BASE_URL", api.base_url)
    monkeypatch.setenv("ANALYTICS_API_KEY", api.key)
    monkeypatch.setenv("ANALYTICS_EXECUTOR", "multiprocess")
    monkeypatch.setenv("ANALYTICS_DESTINATION", "postgres")
    checkout.takes_settings()
    credentials = postgres_server.new_database()
    checkout.environment[CREDENTIALS] = credentials
    done = checkout.run("dagster job execute -m analytics_dagster.definitions -j incremental_load")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Launching subprocess for") >= 3
    for name in ALL:
        rows = postgres_server.query(
            credentials, f"SELECT count(*), count(DISTINCT id) FROM {name}"
        )
        assert rows == [(120, 120)]


def test_celery_without_a_broker_says_which_variable_to_set(checkout: Checkout) -> None:
    """Nothing goes to a broker that somebody else may run here."""
    checkout.environment |= {"ANALYTICS_EXECUTOR": "celery", "ANALYTICS_DESTINATION": "postgres"}
    done = checkout.run("dagster job execute -m analytics_dagster.definitions -j incremental_load")
    assert done.returncode != 0
    assert "CELERY_BROKER_URL" in done.stderr


@fault
def answer_when_cancelled(exchange: Exchange, instance: dg.DagsterInstance) -> None:
    """Somebody cancels the run; then the API answers honestly."""
    [run] = instance.get_runs()
    instance.report_run_canceled(run)
    delay(0)(exchange)


@pytest.mark.parametrize("mode", ["incremental", "full_refresh"])
def test_a_run_that_was_cancelled_writes_nothing_more(
    project: Project, api: FakeApi, tmp_path: Path, mode: str
) -> None:
    """A worker on another machine goes on to read; nobody tells it that the run is over."""
    api.rows[AGENTS] = agents(250)
    project.points_at(api)
    assert project.run(AGENTS).success
    api.rows[AGENTS] = agents(260, total_talk_time=7)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        api.on(AGENTS, answer_when_cancelled(instance), at_offset=198)
        run = project.run(AGENTS, config={"mode": mode}, instance=instance)
    assert "RunEndedError" in run.error
    assert "is CANCELED" in run.error
    rows = project.query(f"SELECT count(*), max(total_talk_time) FROM {AGENTS}")
    assert rows == [(250, 90)]
    assert project.run(AGENTS).success
