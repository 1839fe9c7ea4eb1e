"""The profile of deploy/celery, whole: three machines, Postgres and Redis, and what may die.

Run by `make test-scale`, as it takes minutes. The commands are those of the units in deploy/.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from analytics_dagster_tests.conftest import agents
from analytics_dagster_tests.fake_api import FakeApi, delay, hang
from analytics_dagster_tests.leaks import Leaks
from analytics_dagster_tests.machines import Machine, working
from analytics_dagster_tests.postgres_server import PostgresServer
from analytics_dagster_tests.redis_server import RedisServer, running_redis
from analytics_dagster_tests.test_daemon import RUNS, Automation
from analytics_dagster_tests.test_dagster_dev import PLACE, DagsterDev, wait_until
from analytics_dagster_tests.test_definitions import ROOT
from analytics_dagster_tests.warehouses import AGENTS, ALL, CREDENTIALS

pytestmark = [pytest.mark.scale, pytest.mark.timeout(600)]

DEPLOY = ROOT / "deploy"
KEY = "sC4leKey0fTheApi+/=%"
# So soon is the step of a machine that died given to another one; the profile has an hour.
HASTE = {
    "task_time_limit: 3300": "task_time_limit: 20",
    "visibility_timeout: 3600": "visibility_timeout: 25",
}
# A worker looks every 100 seconds for what another one left.
REDELIVERY = 300
UNITS = (
    *("server/analytics-code", "server/analytics-daemon", "server/analytics-webserver"),
    "celery/analytics-worker",
)
SCHEDULE = "incremental_load_schedule"
STATE = """
query ($selector: ScheduleSelector!) {
  scheduleOrError(scheduleSelector: $selector) { ... on Schedule { scheduleState { id } } }
}"""
START = """
mutation ($selector: ScheduleSelector!) {
  startSchedule(scheduleSelector: $selector) { __typename ... on PythonError { message } }
}"""
STOP = """
mutation ($id: String!) {
  stopRunningSchedule(id: $id) { __typename ... on PythonError { message } }
}"""
STEPS = """
query ($id: ID!) { logsForRun(runId: $id, limit: 1000) { ... on EventConnection { events {
  __typename ... on MessageEvent { stepKey timestamp message }
  ... on EngineEvent { metadataEntries { label ... on TextMetadataEntry { text } } }
  ... on ExecutionStepFailureEvent { error { message cause { message } } }
} } } }"""


def units(folder: Path, ports: dict[str, int]) -> dict[str, str]:
    """The commands of the units, with ports that are free here and a hasty worker."""
    changes = {"4266": str(ports["code"]), "3000": str(ports["webserver"]), **HASTE}
    for name in ("server/workspace.yaml", "celery/worker.yaml"):
        text = (DEPLOY / name).read_text()
        for old, new in changes.items():
            text = text.replace(old, new)
        (folder / Path(name).name).write_text(text)
    made = {}
    for unit in (
        "server/analytics-code",
        "server/analytics-daemon",
        "server/analytics-webserver",
        "celery/analytics-worker",
    ):
        [line] = re.findall(
            r"^ExecStart=(.*)$", (DEPLOY / f"{unit}.service").read_text(), re.MULTILINE
        )
        line = line.replace("/opt/analytics/.venv/bin", str(Path(sys.executable).parent))
        line = re.sub(r"deploy/\w+/(\w+\.yaml)", rf"{folder}/\1", line)
        # With two steps at a time neither worker can take all three.
        line = line.replace("--concurrency 4", "--concurrency 2")
        for name, port in (("4266", "code"), ("3000", "webserver")):
            line = line.replace(name, str(ports[port]))
        made[unit.rpartition("-")[2]] = line
    return made


def path_of_the_units() -> str:
    """Where their processes look for programs."""
    common = (DEPLOY / "server" / "analytics-.service.d" / "common.conf").read_text()
    [path] = re.findall(r"^Environment=PATH=(.*)$", common, re.MULTILINE)
    return str(path).replace("/opt/analytics/.venv/bin", str(Path(sys.executable).parent))


@dataclass
class Deployment:
    """A server and two workers, seen by GraphQL, and what they load from and into."""

    api: FakeApi
    postgres: PostgresServer
    warehouse: str
    storage: str
    server: Machine
    workers: list[Machine]
    broker: RedisServer
    automation: Automation

    def events(self, run: str) -> str:
        """All that the event log of a run says."""
        return str(self.automation.dev.ask(STEPS, id=run))

    def steps(self, run: str) -> dict[str, list[Any]]:
        """Each step of a run: the machines that took it up, and when it began and ended last."""
        events = self.automation.dev.ask(STEPS, id=run)["logsForRun"]["events"]
        found: dict[str, list[Any]] = {}
        for event in events:
            step = found.setdefault(event.get("stepKey") or "", [[], 0.0, 0.0])
            for entry in event.get("metadataEntries") or []:
                if entry["label"] == "Celery worker":
                    step[0].append(entry["text"].partition("@")[2])
            kinds = {"ExecutionStepStartEvent": 1, "ExecutionStepSuccessEvent": 2}
            if kind := kinds.get(event["__typename"]):
                step[kind] = float(event["timestamp"]) / 1000
        return found

    def ticks(self, *, on: bool) -> None:
        """Switches the schedule on or off, as the UI does."""
        ask, here = self.automation.dev.ask, PLACE | {"scheduleName": SCHEDULE}
        if on:
            assert "PythonError" not in str(ask(START, selector=here))
            return
        state = ask(STATE, selector=here)["scheduleOrError"]["scheduleState"]["id"]
        assert "PythonError" not in str(ask(STOP, id=state))

    def run_that_hangs(self, rows: int, *, minute: int, seconds: float = 300, **tags: str) -> str:
        """A run in which the API, that has so many rows of that minute, stops to answer."""
        at = f"2026-11-23T10:{minute:02}:00Z"
        self.api.rows |= {AGENTS: agents(rows, total_talk_time=minute, current_timestamp=at)}
        self.api.requests.clear()
        self.api.always(AGENTS, hang(seconds), at_offset=99)
        run = self.launch(tags={f"dagster/{name}": value for name, value in tags.items()})
        second = (AGENTS, "99")
        wait_until(
            lambda: second in {(r.resource, r.query.get("offset")) for r in self.api.requests}
        )
        return run

    def loading_process(self) -> int:
        """The one process that loads, of those that keep other loads of a resource away."""
        holders = (
            "SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid) "
            "WHERE locktype = 'advisory' AND granted AND datname = current_database()"
        )
        wait_until(lambda: len(self.postgres.query(self.warehouse, holders)) == 1)
        [(name,)] = self.postgres.query(self.warehouse, holders)
        return int(str(name).split()[1])

    def launch(self, job: str = "incremental_load", tags: dict[str, str] | None = None) -> str:
        answer = self.automation.dev.launch(job, tags=tags)
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def status(self, run: str) -> str:
        runs = self.automation.dev.ask(RUNS)["runsOrError"]["results"]
        return next(str(each["status"]) for each in runs if each["runId"] == run)

    def ends_well(self, run: str) -> None:
        with suppress(AssertionError):
            wait_until(lambda: self.status(run) in {"SUCCESS", "FAILURE", "CANCELED"}, REDELIVERY)
        assert self.status(run) == "SUCCESS", f"{self.events(run)}\n{self.logs()}"

    def table_is_that_of_the_api(self) -> None:
        for name in ALL:
            found = self.postgres.query(self.warehouse, f"SELECT id, total_talk_time FROM {name}")
            assert sorted(found) == sorted(
                (row["id"], row["total_talk_time"]) for row in self.api.rows[name]
            )

    def logs(self) -> str:
        return "\n".join(machine.logs() for machine in (self.server, *self.workers))


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer
) -> Iterator[Deployment]:
    """All of it, from the units of the profile, with a tick every minute."""
    folder = tmp_path_factory.mktemp("scale")
    ports = {name: free_port() for name in ("code", "webserver")}
    commands = units(folder, ports)
    warehouse, storage = postgres_server.new_database(), postgres_server.new_database()
    instance = DEPLOY / "server" / "dagster.yaml"
    with (
        FakeApi(key=KEY, filter_field="current_timestamp") as api,
        running_redis(folder, DEPLOY / "celery" / "redis.conf") as broker,
    ):
        api.rows |= {name: agents(150) for name in ALL}
        for name in ALL:
            api.always(name, delay(1))
        settings = {
            "PATH": path_of_the_units(),
            "ANALYTICS_API_BASE_URL": api.base_url,
            "ANALYTICS_API_KEY": api.key,
            "ANALYTICS_DESTINATION": "postgres",
            "ANALYTICS_EXECUTOR": "celery",
            "ANALYTICS_SCHEDULE": "* * * * *",
            CREDENTIALS: warehouse,
            "DAGSTER_POSTGRES_URL": storage.replace("postgresql:", "postgresql+psycopg2:"),
            "CELERY_BROKER_URL": f"{broker.url}/0",
            "CELERY_RESULT_BACKEND": f"{broker.url}/1",
        }
        worker = {"worker": commands.pop("worker")}
        server, *workers = [
            Machine(name, folder, instance, settings, does)
            for name, does in (("server", commands), ("worker-a", worker), ("worker-b", worker))
        ]
        with working([*workers, server]):
            automation = Automation(DagsterDev(f"http://127.0.0.1:{ports['webserver']}"))
            wait_until(automation.dev.is_ready)
            made = Deployment(
                api, postgres_server, warehouse, storage, server, workers, broker, automation
            )
            made.ticks(on=False)
            yield made


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def test_a_tick_of_the_schedule_loads_on_both_machines_at_once(deployment: Deployment) -> None:
    """Each resource is a step of its own, and all three are worked on at the same time."""
    deployment.ticks(on=True)
    run = deployment.automation.waits_for(SCHEDULE, "SUCCESS")
    deployment.ticks(on=False)
    steps = {name: deployment.steps(run)[name] for name in ALL}
    assert {machine for names, _, _ in steps.values() for machine in names} == {
        "worker-a",
        "worker-b",
    }
    assert max(begin for _, begin, _ in steps.values()) < min(end for _, _, end in steps.values())
    deployment.table_is_that_of_the_api()


def test_workers_that_are_warm_load_what_is_new(deployment: Deployment) -> None:
    """A second run in the same processes, asked for in the UI, is as right as the first one."""
    rows = agents(170, total_talk_time=5, current_timestamp="2026-11-23T10:05:00Z")
    deployment.api.rows |= dict.fromkeys(ALL, rows)
    deployment.ends_well(deployment.launch())
    deployment.table_is_that_of_the_api()
    deployment.ends_well(deployment.launch("full_refresh"))
    deployment.table_is_that_of_the_api()


def test_a_worker_that_dies_in_the_middle_of_a_load_is_replaced(deployment: Deployment) -> None:
    """Its machine loses power; another one does the step again, and the run ends well."""
    run = deployment.run_that_hangs(180, minute=6)
    [first] = deployment.steps(run)[AGENTS][0]
    [dying] = [worker for worker in deployment.workers if worker.name == first]
    dying.kill()
    deployment.api.heal()
    deployment.ends_well(run)
    deployment.table_is_that_of_the_api()
    assert [first] != deployment.steps(run)[AGENTS][0][1:] != []
    dying.start()


def test_a_process_of_a_worker_that_dies_is_replaced_at_once(deployment: Deployment) -> None:
    """As when memory runs out: the worker gives the step back itself."""
    run = deployment.run_that_hangs(185, minute=7)
    process = deployment.loading_process()
    deployment.api.heal()
    os.kill(process, signal.SIGKILL)
    deployment.ends_well(run)
    assert len(deployment.steps(run)[AGENTS][0]) == 2
    deployment.table_is_that_of_the_api()


def test_a_run_whose_process_dies_is_begun_again(deployment: Deployment) -> None:
    """It is marked as failed, and a retry does what was not done."""
    run = deployment.run_that_hangs(190, minute=8)
    os.kill(deployment.automation.process_of(run), signal.SIGKILL)
    wait_until(lambda: deployment.status(run) == "FAILURE")
    deployment.api.heal()
    again = deployment.automation.waits_for(run, "SUCCESS")
    assert again != run
    deployment.table_is_that_of_the_api()


def test_a_step_that_comes_back_after_its_run_ended_loads_nothing(deployment: Deployment) -> None:
    """The broker gives the step of a dead worker to another one, whatever became of the run."""
    run = deployment.run_that_hangs(195, minute=9, max_retries="0")
    os.kill(deployment.automation.process_of(run), signal.SIGKILL)
    wait_until(lambda: deployment.status(run) == "FAILURE")
    [first] = deployment.steps(run)[AGENTS][0]
    [dying] = [worker for worker in deployment.workers if worker.name == first]
    dying.kill()
    dying.start()
    deployment.api.heal()
    wait_until(lambda: len(deployment.steps(run)[AGENTS][0]) == 2, REDELIVERY)
    wait_until(lambda: "RunEndedError" in deployment.events(run))


def test_a_worker_that_is_stopped_ends_its_steps_first(deployment: Deployment) -> None:
    """As `systemctl stop` does it: no other one has to do them again."""
    run = deployment.run_that_hangs(198, minute=10, seconds=8)
    [name] = deployment.steps(run)[AGENTS][0]
    [stopped] = [worker for worker in deployment.workers if worker.name == name]
    [process] = stopped.running
    unit = (DEPLOY / "celery" / "analytics-worker.service").read_text()
    [stop] = re.findall(r"^ExecStop=(.*)$", unit, re.MULTILINE)
    deployment.api.heal()
    stopping = {**os.environ, "MAINPID": str(process.pid)}
    with subprocess.Popen(shlex.split(stop), env=stopping):
        assert process.wait(120) == 0
    deployment.ends_well(run)
    assert deployment.steps(run)[AGENTS][0] == [name]
    deployment.table_is_that_of_the_api()
    stopped.kill()
    stopped.start()


def test_a_broker_that_is_restarted_loses_no_step(deployment: Deployment) -> None:
    """Steps that are worked on, and those that wait, are done; the next run is like any other."""
    run = deployment.run_that_hangs(200, minute=11, seconds=8)
    deployment.broker.stop()
    time.sleep(3)
    deployment.broker.start()
    deployment.api.heal()
    deployment.ends_well(run)
    deployment.ends_well(deployment.launch())
    deployment.table_is_that_of_the_api()


def test_neither_broker_nor_storage_nor_a_disk_ever_holds_the_key(deployment: Deployment) -> None:
    """Everything that Redis was told, Dagster's database, and what the machines wrote."""
    secrets = Leaks(deployment.api.key)
    told = deployment.broker.told.read_text(errors="replace")
    assert "execute_plan" in told
    assert "celery-task-meta" in told
    tables = deployment.postgres.query(
        deployment.storage,
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'",
    )
    stored = [
        str(deployment.postgres.query(deployment.storage, f'SELECT * FROM public."{table}"'))
        for (table,) in tables
    ]
    assert any("agents_overview" in text for text in stored)
    disks = deployment.server.disk.parent
    assert len(list(disks.iterdir())) > 3
    assert secrets.among(deployment.broker.told, *stored, disks) == []
    assert not [text for text in (told, *stored) if "s3cr%25t" in text or "s3cr%t" in text]
