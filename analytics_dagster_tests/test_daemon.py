"""`dagster dev` left alone: its daemon ticks, runs come and go, the API fails and recovers."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest

from analytics_dagster_tests.conftest import Checkout, Listener, Project, agents
from analytics_dagster_tests.fake_api import FakeApi, hang, status
from analytics_dagster_tests.test_dagster_dev import (
    PLACE,
    STATUS,
    DagsterDev,
    running_dev,
    started_dev,
    wait_until,
)

# Two long stories, as a daemon's minute takes a minute.
pytestmark = [pytest.mark.daemon, pytest.mark.timeout(900)]

AGENTS = "agents_overview"
ALL = ("account_overview", AGENTS, "current_queue_activity")
START_SENSOR = """
mutation ($selector: SensorSelector!) {
  startSensor(sensorSelector: $selector) { __typename ... on PythonError { message } }
}"""
RUNS = """
{ runsOrError(limit: 100) { ... on Runs { results {
    runId status startTime tags { key value } assetSelection { path }
} } } }"""
LOGS = """
query ($id: ID!) { logsForRun(runId: $id, limit: 1000) { ... on EventConnection {
  events { ... on MessageEvent { message } ... on EngineEvent { metadataEntries {
    label ... on TextMetadataEntry { text } } } }
} } }"""
TICKS = """
query ($selector: InstigationSelector!) {
  instigationStateOrError(instigationSelector: $selector) {
    ... on InstigationState { ticks(limit: 50) { status skipReason cursor error { message } } }
  }
}"""


class Automation:
    """The runs and ticks of a `dagster dev`, as its UI shows them."""

    def __init__(self, dev: DagsterDev) -> None:
        self.dev = dev

    def runs(self, tag: str, status: str) -> list[str]:
        """The ids of the runs that a schedule or a sensor (by its tag) asked for."""
        return [
            run["runId"]
            for run in self.dev.ask(RUNS)["runsOrError"]["results"]
            if run["status"] == status and tag in {item["value"] for item in run["tags"]}
        ]

    def waits_for(self, tag: str, status: str, *, more_than: int = 0) -> str:
        """The newest such run, when there are more than so many."""
        wait_until(lambda: len(self.runs(tag, status)) > more_than, patience=300)
        return self.runs(tag, status)[0]

    def ticks(self, name: str) -> list[Any]:
        """The last ticks of a schedule or a sensor."""
        answer = self.dev.ask(TICKS, selector={**PLACE, "name": name})
        ticks: list[Any] = answer["instigationStateOrError"]["ticks"]
        return ticks

    def process_of(self, run: str) -> int:
        """The process that works on a run."""
        events = str(self.dev.ask(LOGS, id=run))
        found = re.search(r"pid: (\d+)|'label': 'pid', 'text': '(\d+)'", events)
        assert found, events
        return int(found[1] or found[2])


@pytest.fixture(autouse=True)
def _every_minute(checkout: Checkout, project: Project, api: FakeApi, listener: Listener) -> None:
    """A schedule of every minute, three agents, and somebody to tell."""
    api.filter_field = "current_timestamp"
    api.rows |= {name: agents(3) for name in ALL}
    checkout.environment |= {
        "ANALYTICS_API_BASE_URL": api.base_url,
        "ANALYTICS_API_KEY": api.key,
        "ANALYTICS_DUCKDB_PATH": str(project.path),
        "ANALYTICS_SCHEDULE": "* * * * *",
        "ANALYTICS_ALERT_WEBHOOK_URL": listener.url,
    }


@pytest.fixture
def automation(checkout: Checkout, tmp_path: Path) -> Iterator[Automation]:
    """A running daemon."""
    with running_dev(checkout, tmp_path / "dev.log") as dev:
        yield Automation(dev)


def test_the_daemon_loads_fails_tells_and_recovers(
    automation: Automation,
    api: FakeApi,
    project: Project,
    listener: Listener,
    checkout: Checkout,
) -> None:
    """Runs of schedule and sensor move the table; a failure is told; a dead run is noticed."""

    def ids() -> set[int]:
        return {row[0] for row in project.query(f"SELECT id FROM {AGENTS}")}

    schedule, sensor = "incremental_load_schedule", "change_sensor"
    automation.waits_for(schedule, "SUCCESS")
    assert ids() == {1, 2, 3}

    api.rows[AGENTS] = agents(4, current_timestamp="2026-11-23T10:01:00Z")
    automation.dev.ask(START_SENSOR, selector={**PLACE, "sensorName": sensor})
    automation.waits_for(sensor, "SUCCESS")
    wait_until(lambda: ids() == {1, 2, 3, 4})

    api.always(AGENTS, status(404))
    api.rows[AGENTS] = agents(5, current_timestamp="2026-11-23T10:02:00Z")
    failed = automation.waits_for(schedule, "FAILURE")
    wait_until(lambda: any(failed in alert["text"] for alert in listener.alerts), patience=90)
    [told] = [alert["text"] for alert in listener.alerts if failed in alert["text"]]
    assert f"• {AGENTS}: StatusError: {api.base_url}/v1/{AGENTS}" in told
    assert ids() == {1, 2, 3, 4}

    api.heal()
    healed = len(automation.runs(schedule, "SUCCESS"))
    automation.waits_for(schedule, "SUCCESS", more_than=healed)
    wait_until(lambda: ids() == {1, 2, 3, 4, 5})

    api.always(AGENTS, hang(300))
    dying = automation.waits_for(schedule, "STARTED")
    wait_until(lambda: api.requests[-1].resource == AGENTS)
    os.kill(automation.process_of(dying), signal.SIGKILL)
    wait_until(lambda: dying in automation.runs(schedule, "FAILURE"), patience=300)
    wait_until(lambda: any(dying in alert["text"] for alert in listener.alerts), patience=90)
    assert ids() == {1, 2, 3, 4, 5}

    for name in (schedule, sensor):
        assert {tick["error"] and tick["error"]["message"] for tick in automation.ticks(name)} == {
            None
        }
    assert_nowhere(api.key, checkout.folder / ".dagster")


def test_after_a_power_cut_the_daemon_goes_on(
    checkout: Checkout, api: FakeApi, project: Project, listener: Listener, tmp_path: Path
) -> None:
    """All its processes are killed; the run they leave blocks no tick, and counts as dead in time.

    In the time that a run may take at most, which is a minute here: nobody is left who could
    have seen it die.
    """
    settings = checkout.folder / ".dagster" / "dagster.yaml"
    hours, minute = "max_runtime_seconds: 21600", "max_runtime_seconds: 60"
    assert hours in settings.read_text()
    hasty = settings.read_text().replace(hours, f"{minute}\n  poll_interval_seconds: 5")
    settings.write_text(hasty)
    api.always(AGENTS, hang(300))
    with started_dev(checkout, tmp_path / "killed.log") as (dev, process):
        cut_off = dev.launch("incremental_load")["run"]["runId"]
        wait_until(lambda: AGENTS in {request.resource for request in api.requests})
        worker = Automation(dev).process_of(cut_off)
        os.killpg(process.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(worker))
    api.heal()
    with running_dev(checkout, tmp_path / "dev.log") as dev:
        Automation(dev).waits_for("incremental_load_schedule", "SUCCESS")
        wait_until(lambda: dev.ask(STATUS, id=cut_off)["runOrError"]["status"] == "FAILURE")
        wait_until(lambda: any(cut_off in alert["text"] for alert in listener.alerts))
    for name in ALL:
        assert project.query(f"SELECT id FROM {name} ORDER BY id") == [(1,), (2,), (3,)]


def is_alive(process: int) -> bool:
    """Whether there is such a process."""
    with suppress(ProcessLookupError):
        os.kill(process, 0)
        return True
    return False


def assert_nowhere(key: str, folder: Path) -> None:
    """No file in which Dagster keeps runs, logs and ticks holds the key in any spelling."""
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert key.encode() not in content, path
            assert quote_plus(key).encode() not in content, path
