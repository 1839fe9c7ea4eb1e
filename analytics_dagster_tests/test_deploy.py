"""The profiles in deploy/ fit each other, the code, and the tools that read them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from analytics_dagster.in_flight import LONGEST_RUN
from analytics_dagster.resources import AnalyticsApi
from analytics_dagster_tests.conftest import Checkout
from analytics_dagster_tests.postgres_server import PostgresServer
from analytics_dagster_tests.test_definitions import ROOT

DEPLOY = ROOT / "deploy"
UNITS = sorted(DEPLOY.glob("*/*.service"))
needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd is not installed here"
)


def settings(file: str) -> Any:
    return yaml.safe_load((DEPLOY / file).read_text())


def test_the_default_is_the_profile_local() -> None:
    """`make run` and `make dev` use its instance file."""
    assert (ROOT / ".dagster" / "dagster.yaml").read_text() == (
        DEPLOY / "local" / "dagster.yaml"
    ).read_text()


def test_a_server_keeps_what_the_default_promises() -> None:
    """Its instance has the same settings, beside storage, retries, and how many runs there are."""
    local, server = settings("local/dagster.yaml"), settings("server/dagster.yaml")
    local_monitoring, monitoring = (each.pop("run_monitoring") for each in (local, server))
    assert monitoring.items() >= local_monitoring.items()
    assert monitoring["max_runtime_seconds"] == LONGEST_RUN.total_seconds()
    assert local.pop("concurrency").keys() == server.pop("concurrency").keys()
    assert server.keys() - local.keys() == {"storage", "run_retries"}
    assert server.items() >= local.items()


def test_dagster_takes_the_instance_of_a_server(
    checkout: Checkout, postgres_server: PostgresServer
) -> None:
    """Runs, events and schedules go to Postgres, and no command shows its password."""
    database = postgres_server.new_database()
    url = database.replace("postgresql:", "postgresql+psycopg2:")
    home = checkout.folder / ".dagster"
    shutil.copy(DEPLOY / "server" / "dagster.yaml", home / "dagster.yaml")
    checkout.environment["DAGSTER_POSTGRES_URL"] = url
    done = checkout.run("dagster instance info")
    assert done.returncode == 0, done.stderr
    assert postgres_server.query(database, "SELECT count(*) FROM public.runs") == [(0,)]
    assert "s3cr" not in done.stdout + done.stderr


def test_a_worker_is_never_given_a_step_that_another_one_may_still_do() -> None:
    """The longest step ends before the broker gives it away, and that before the run is ended."""
    source = settings("celery/worker.yaml")["execution"]["config"]["config_source"]
    visibility = source["broker_transport_options"]["visibility_timeout"]
    assert source["task_time_limit"] < visibility
    assert visibility < settings("server/dagster.yaml")["run_monitoring"]["max_runtime_seconds"]
    assert AnalyticsApi().resource_timeout < LONGEST_RUN.total_seconds()


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_takes_the_units(unit: Path, tmp_path: Path) -> None:
    """It knows every key; nothing is wrong but that the project is not in /opt here."""
    shutil.copytree(DEPLOY / "server", tmp_path, dirs_exist_ok=True)
    shutil.copy(unit, tmp_path)
    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / unit.name],
        capture_output=True,
        text=True,
        check=False,
    )
    odd = [line for line in done.stderr.splitlines() if unit.name in line or ".conf" in line]
    assert all("is not executable: No such file" in line for line in odd), odd


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_that_is_enabled_starts_with_the_machine(unit: Path, tmp_path: Path) -> None:
    """`systemctl enable` makes it a part of what a machine starts."""
    system = tmp_path / "etc" / "systemd" / "system"
    system.mkdir(parents=True)
    shutil.copy(unit, system)
    subprocess.run(["systemctl", f"--root={tmp_path}", "enable", unit.stem], check=True)
    assert (system / "multi-user.target.wants" / unit.name).is_symlink()


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_what_a_unit_starts_is_there(unit: Path) -> None:
    """The program is one of this environment, and the files are those of deploy/."""
    [line] = re.findall(r"^ExecStart=(.*)$", unit.read_text(), re.MULTILINE)
    program, *_ = line.split()
    assert program.startswith("/opt/analytics/.venv/bin/")
    assert (Path(sys.executable).parent / Path(program).name).exists()
    for file in re.findall(r"deploy/\S+", line):
        assert (ROOT / file).exists()
