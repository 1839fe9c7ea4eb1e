"""A disk that is full in the middle of a load: a small one of its own, seen by the run alone."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from deltalake import DeltaTable

from analytics_dagster_tests.conftest import Checkout, agents
from analytics_dagster_tests.fake_api import FakeApi

AGENTS = "agents_overview"
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


@pytest.mark.parametrize("full", ["DuckDB file", "temporary folder"])
def test_a_full_disk_is_named_and_harms_no_row(
    api: FakeApi, checkout: Checkout, tmp_path: Path, small_disk: SmallDisk, full: str
) -> None:
    """The run is red, the old rows are there, and once there is room the next run is right."""
    on_it = full == "DuckDB file"
    path = (small_disk.folder if on_it else tmp_path) / "analytics.duckdb"
    seen = (small_disk.from_outside if on_it else tmp_path) / "analytics.duckdb"
    checkout.environment |= {
        "ANALYTICS_API_BASE_URL": api.base_url,
        "ANALYTICS_API_KEY": api.key,
        "ANALYTICS_DUCKDB_PATH": str(path),
        "TMPDIR": str(tmp_path if on_it else small_disk.folder),
    }
    run = f"{small_disk.entered} python -m analytics_dagster"

    def rows() -> list[tuple[int, int, int]]:
        copy = tmp_path / "copy"  # DuckDB would look for the file outside of the mount
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for part in seen.parent.glob("analytics.duckdb*"):
            shutil.copy(part, copy)
        with duckdb.connect(str(copy / "analytics.duckdb")) as file:
            table = f"analytics.analytics.{AGENTS}"
            return file.execute(
                f"SELECT count(*), min(total_talk_time), max(total_talk_time) FROM {table}"
            ).fetchall()

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
    assert rows() == [(3, 90, 90)]

    small_disk.make_room()
    assert checkout.run(run).returncode == 0
    assert rows() == [(2000, 7, 7)]


def test_a_full_disk_harms_no_row_of_a_delta_table(
    api: FakeApi, checkout: Checkout, tmp_path: Path, small_disk: SmallDisk
) -> None:
    """As above: no commit, no new rows."""
    checkout.environment |= {
        "ANALYTICS_API_BASE_URL": api.base_url,
        "ANALYTICS_API_KEY": api.key,
        "ANALYTICS_DESTINATION": "delta",
        "DESTINATION__FILESYSTEM__BUCKET_URL": str(small_disk.folder),
    }
    run = f"{small_disk.entered} python -m analytics_dagster"

    def values() -> set[int]:
        copy = tmp_path / "copy"  # deltalake would look for the table outside of the mount
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(small_disk.from_outside / "analytics" / AGENTS, copy)
        return set(DeltaTable(copy).to_pyarrow_table()["total_talk_time"].to_pylist())

    api.rows |= {"account_overview": [], AGENTS: agents(3), "current_queue_activity": []}
    assert checkout.run(run).returncode == 0
    api.rows[AGENTS] = [
        row | {"name": secrets.token_hex(1000)} for row in agents(2000, total_talk_time=7)
    ]
    small_disk.fill(left=MEGABYTE)
    failed = checkout.run(run)
    assert f"FAILED {AGENTS}: DiskFullError: The disk is full: {small_disk.folder} has " in (
        failed.stderr
    )
    assert values() == {90}
    small_disk.make_room()
    assert checkout.run(run).returncode == 0
    assert values() == {7}
