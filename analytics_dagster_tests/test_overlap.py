"""Runs at the same time on one DuckDB file: they wait for each other, and never for ever."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from analytics_dagster_tests.conftest import Checkout, Project, agents
from analytics_dagster_tests.fake_api import FakeApi, answer_after, delay, hang
from analytics_dagster_tests.one_load import one_load

AGENTS = "agents_overview"


@pytest.fixture(autouse=True)
def _three_resources(api: FakeApi, project: Project) -> None:
    api.rows |= {name: agents(250) for name in ("account_overview", AGENTS)}
    api.rows["current_queue_activity"] = agents(9)
    project.points_at(api)


MAKE_RUN = "python -m analytics_dagster"
MATERIALIZE = "dagster asset materialize -m analytics_dagster.definitions --select *"


def start(checkout: Checkout, line: str, log: Path) -> subprocess.Popen[bytes]:
    """A command in the background, with the settings of the project."""
    checkout.takes_settings()
    home = checkout.environment["DAGSTER_HOME"]
    with log.open("wb") as output:
        return subprocess.Popen(
            line.split(),
            cwd=checkout.folder,
            env=checkout.environment | {"DAGSTER_HOME": "" if "asset" in line else home},
            stdout=output,
            stderr=output,
        )


def test_eight_runs_at_the_same_moment_all_succeed(
    project: Project, api: FakeApi, checkout: Checkout, tmp_path: Path
) -> None:
    """Separate processes, a file that is not there yet: the table is right, nothing is doubled."""
    logs = [tmp_path / f"{number}.log" for number in range(8)]
    lines = [MAKE_RUN, MATERIALIZE] * 4
    running = [start(checkout, line, log) for line, log in zip(lines, logs, strict=True)]
    codes = [process.wait(200) for process in running]
    assert codes == [0] * 8, "\n".join(log.read_text() for log in logs)
    for name, rows in api.rows.items():
        assert project.query(f"SELECT count(*), count(DISTINCT id) FROM {name}") == [
            (len(rows), len(rows))
        ]


def test_of_two_versions_of_a_row_the_newer_one_stays(project: Project, api: FakeApi) -> None:
    """A run that began to read first and is slow does not put old rows over new ones."""
    assert project.run(AGENTS).success
    api.rows[AGENTS] = agents(250, total_talk_time=1, current_timestamp="2026-11-23T10:01:00Z")
    api.on(AGENTS, delay(1.5))
    slow = threading.Thread(target=project.run, args=(AGENTS,))
    slow.start()
    while len(api.requests) < 5:
        time.sleep(0.01)
    api.rows[AGENTS] = agents(250, total_talk_time=2, current_timestamp="2026-11-23T10:02:00Z")
    assert project.run(AGENTS).success
    slow.join()
    assert project.query(f"SELECT DISTINCT total_talk_time FROM {AGENTS}") == [(2,)]


def test_a_link_to_the_file_is_the_file(
    project: Project, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that knows the file by another name waits as well."""
    link = project.path.with_name("link.duckdb")
    link.symlink_to(project.path)
    with a_run_that_reads_for_ever(api):
        monkeypatch.setenv("ANALYTICS_DUCKDB_PATH", str(link))
        assert "OverlapError" in project.run(AGENTS, overlap_timeout=0.5).error


@contextmanager
def a_run_that_reads_for_ever(api: FakeApi) -> Iterator[int]:
    """Another process in the middle of a load; gives its id."""
    api.always(AGENTS, hang())
    with subprocess.Popen(one_load(), stderr=subprocess.DEVNULL) as process:
        while not api.requests:
            assert process.poll() is None
        api.heal()
        try:
            yield process.pid
        finally:
            process.kill()


def test_a_run_that_waits_goes_on_when_the_other_one_is_dead(
    project: Project, api: FakeApi
) -> None:
    """A killed process holds nothing."""
    with a_run_that_reads_for_ever(api):
        waiting = threading.Thread(target=project.run, args=(AGENTS,))
        waiting.start()
    waiting.join(20)
    assert not waiting.is_alive()
    assert project.query(f"SELECT count(*) FROM {AGENTS}") == [(250,)]


def test_the_folder_of_a_killed_load_is_cleared_away_and_no_other(
    project: Project, api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the next load of that resource into that file; a load that lives keeps its folder."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.setenv("TMPDIR", str(work))
    monkeypatch.setattr("tempfile.tempdir", None)

    def folders() -> list[Path]:
        return sorted(work.glob("analytics_dagster_*"))

    with a_run_that_reads_for_ever(api):
        left = folders()
        assert len(left) == 1
        assert not project.run(AGENTS, overlap_timeout=0.1).success
        assert folders() == left
    assert project.run("account_overview").success
    monkeypatch.setenv("ANALYTICS_DUCKDB_PATH", str(tmp_path / "another.duckdb"))
    assert project.run(AGENTS).success
    assert folders() == left
    monkeypatch.setenv("ANALYTICS_DUCKDB_PATH", str(project.path))
    assert project.run(AGENTS).success
    assert folders() == []


@contextmanager
def an_open_connection(path: Path, *, read_only: bool) -> Iterator[int]:
    """Another process that has the file open; gives its id."""
    code = f"import duckdb; c = duckdb.connect({str(path)!r}, read_only={read_only})"
    command = [sys.executable, "-c", f"{code}; print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        holder.stdout.readline()
        yield holder.pid
        holder.kill()


@pytest.mark.parametrize("read_only", [True, False], ids=["reader", "writer"])
def test_an_open_connection_is_waited_for_and_named(
    project: Project, api: FakeApi, read_only: Any
) -> None:
    """Reader or writer: a load that cannot wait any longer is red, and the rows are kept."""
    assert project.run(AGENTS).success
    api.rows[AGENTS] = agents(260)
    with an_open_connection(project.path, read_only=read_only) as pid:
        run = project.run(AGENTS)
    assert "WarehouseLockedError" in run.error
    assert f"(PID {pid})" in run.error
    assert project.query(f"SELECT count(*) FROM {AGENTS}") == [(250,)]
    assert project.run(AGENTS).success
    assert project.query(f"SELECT count(*) FROM {AGENTS}") == [(260,)]


@pytest.mark.parametrize("read_only", [True, False], ids=["reader", "writer"])
def test_a_connection_that_is_opened_while_the_api_is_read_is_waited_for_and_named(
    project: Project, api: FakeApi, read_only: Any
) -> None:
    """For as long as at the start; closed in time, it costs neither the run nor a second read."""
    assert project.run(AGENTS).success
    api.rows[AGENTS] = agents(260)
    with ExitStack() as opened:
        connection = an_open_connection(project.path, read_only=read_only)
        api.on(AGENTS, answer_after(lambda: opened.enter_context(connection)), at_offset=198)
        run = project.run(AGENTS)
    assert "WarehouseLockedError" in run.error
    assert project.query(f"SELECT count(*) FROM {AGENTS}") == [(250,)]
    with ExitStack() as opened:

        def open_for_a_moment() -> None:
            opened.enter_context(an_open_connection(project.path, read_only=read_only))
            threading.Timer(0.5, opened.close).start()

        api.requests.clear()
        api.on(AGENTS, answer_after(open_for_a_moment), at_offset=198)
        assert project.run(AGENTS).success
    assert len(api.requests) == 4
    assert project.query(f"SELECT count(*) FROM {AGENTS}") == [(260,)]
