"""A disk that is full in the middle of a load: a small one of its own, seen by the run alone."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import pytest
from deltalake import DeltaTable

from analytics_dagster_tests.conftest import Checkout, agents
from analytics_dagster_tests.fake_api import FakeApi

AGENTS, NAME = "agents_overview", "analytics.duckdb"
VALUES = "SELECT count(*), min(total_talk_time), max(total_talk_time) FROM"
MEGABYTE = 10**6


class SmallDisk:
    """Sixty megabytes, mounted for the processes that enter it."""

    def __init__(self, holder: int, folder: Path, entering: str) -> None:
        self.folder = folder
        self.entered = f"nsenter --target {holder} --mount {entering}"
        self.from_outside = Path(f"/proc/{holder}/root") / folder.relative_to("/")
        self._filler = self.from_outside / "filler"

    def fill(self, left: int) -> None:
        """So many bytes are left."""
        free = shutil.disk_usage(self.from_outside).free
        self._filler.write_bytes(bytes(free - left))

    def make_room(self) -> None:
        """It is as it was before it was filled."""
        self._filler.unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    is_root = os.geteuid() == 0
    mapped = [] if is_root else ["--map-root-user"]
    mount = f"mount -t tmpfs -o size=60m tmpfs '{folder}' && echo mounted && exec sleep 600"
    command = ["unshare", "--mount", *mapped, "sh", "-c", mount]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as holder:
        assert holder.stdout
        said = holder.stdout.readline()
        if said != "mounted\n":
            holder.kill()
            pytest.skip(f"no disk can be mounted here: {said}")
        yield SmallDisk(holder.pid, folder, "" if is_root else "--user --preserve-credentials")
        holder.kill()


Place: TypeAlias = tuple[dict[str, str], Callable[[], list[Any]]]
"""The settings that put a load on the small disk, and the values that the table has."""


def delta(small_disk: SmallDisk, tmp_path: Path) -> Place:
    def values() -> list[Any]:
        copy = tmp_path / "copy"  # deltalake would look for the table outside of the mount
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(small_disk.from_outside / "analytics" / AGENTS, copy)
        with duckdb.connect() as connection:
            connection.register("agents", DeltaTable(copy).to_pyarrow_dataset())
            return connection.execute(f"{VALUES} agents").fetchall()

    settings = {
        "ANALYTICS_DESTINATION": "delta",
        "DESTINATION__FILESYSTEM__BUCKET_URL": str(small_disk.folder),
    }
    return settings, values


def duckdb_file(small_disk: SmallDisk, tmp_path: Path) -> Place:
    settings = {"ANALYTICS_DUCKDB_PATH": str(small_disk.folder / NAME), "TMPDIR": str(tmp_path)}
    return settings, partial(values_in_duckdb, small_disk.from_outside, tmp_path / "copy")


def temporary_folder(small_disk: SmallDisk, tmp_path: Path) -> Place:
    settings = {"ANALYTICS_DUCKDB_PATH": str(tmp_path / NAME), "TMPDIR": str(small_disk.folder)}
    return settings, partial(values_in_duckdb, tmp_path, tmp_path / "copy")


def values_in_duckdb(folder: Path, copy: Path) -> list[Any]:
    """What a copy of the file has: DuckDB would look for the file outside of the mount."""
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for part in folder.glob(f"{NAME}*"):
        shutil.copy(part, copy)
    with duckdb.connect(str(copy / NAME)) as file:
        return file.execute(f"{VALUES} analytics.analytics.{AGENTS}").fetchall()


@pytest.mark.parametrize("full", [duckdb_file, temporary_folder, delta])
def test_a_full_disk_is_named_and_harms_no_row(
    api: FakeApi,
    checkout: Checkout,
    tmp_path: Path,
    small_disk: SmallDisk,
    full: Callable[[SmallDisk, Path], Place],
) -> None:
    """The run is red, the old rows are there, and once there is room the next run is right."""
    settings, values = full(small_disk, tmp_path)
    checkout.environment |= {
        "ANALYTICS_API_BASE_URL": api.base_url,
        "ANALYTICS_API_KEY": api.key,
        **settings,
    }
    run = f"{small_disk.entered} python -m analytics_dagster"
    api.rows |= {"account_overview": [], AGENTS: agents(3), "current_queue_activity": []}
    assert checkout.run(run).returncode == 0
    api.rows[AGENTS] = [
        row | {"name": secrets.token_hex(1000)} for row in agents(2000, total_talk_time=7)
    ]
    small_disk.fill(left=MEGABYTE)
    failed = checkout.run(run)
    assert failed.returncode == 1
    told = f"FAILED {AGENTS}: DiskFullError: The disk is full: {small_disk.folder} has "
    assert told in failed.stderr
    assert "MB left" in failed.stderr
    assert "and run again" in failed.stderr
    assert values() == [(3, 90, 90)]

    small_disk.make_room()
    assert checkout.run(run).returncode == 0
    assert values() == [(2000, 7, 7)]
