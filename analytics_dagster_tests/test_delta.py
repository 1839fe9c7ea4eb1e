"""What Delta tables alone have to promise, in real folders and on a real S3 server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from dlt.common.libs.pyarrow import get_local_dataset_reader

from analytics_dagster.delta_settings import delta_settings
from analytics_dagster.delta_writing import create_table
from analytics_dagster.warehouse import Warehouse
from analytics_dagster_tests.conftest import agents
from analytics_dagster_tests.fake_api import FakeApi, answer_after
from analytics_dagster_tests.leaks import Leaks
from analytics_dagster_tests.one_load import one_load
from analytics_dagster_tests.s3_server import SECRET, S3Server
from analytics_dagster_tests.test_definitions import ROOT
from analytics_dagster_tests.test_overlap import a_run_that_reads_for_ever
from analytics_dagster_tests.warehouses import (
    AGENTS,
    ALL,
    PLACE,
    S3,
    DeltaProject,
    figures,
    kill_when,
    ready,
)

CONTENT = f"SELECT count(*), count(DISTINCT id), max(total_talk_time) FROM {AGENTS}"


@pytest.fixture
def delta(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: FakeApi) -> DeltaProject:
    """Tables in a folder."""
    made = DeltaProject(tmp_path / "no.duckdb", monkeypatch)
    ready(made, api)
    return made


@pytest.fixture
def on_s3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: FakeApi, s3_server: S3Server
) -> DeltaProject:
    """Tables in a bucket."""
    made = DeltaProject(tmp_path / "no.duckdb", monkeypatch, s3_server)
    ready(made, api)
    return made


@pytest.mark.parametrize("library", ["deltalake", "s3fs"])
def test_a_library_that_is_missing_is_named_with_the_command_that_installs_it(
    on_s3: DeltaProject, api: FakeApi, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    """Before the API is asked."""
    monkeypatch.setitem(sys.modules, library, None)
    run = on_s3.run(AGENTS)
    assert 'pip install -e ".[delta]"' in run.error
    assert api.requests == []


@pytest.mark.parametrize(
    ("variable", "wrong", "said"),
    [
        (PLACE, None, "is not set"),
        (PLACE, "no/lake", f"{ROOT}/no/lake/{AGENTS}.lock cannot be written: No such"),
        (PLACE, "ftp://host/lake", "is no folder, and no bucket"),
        (PLACE, "/nonexistent/lake", "No such file or directory"),
        (PLACE, f"s3://key:{SECRET}@bucket", "perhaps a secret"),
        (PLACE, "s3://no-such-bucket/x", "NoSuchBucket"),
        (f"{S3}__ENDPOINT_URL", "http://127.0.0.1:1", "Connection refused"),
        (f"{S3}__ENDPOINT_URL", None, "no region is set"),
        (f"{S3}__AWS_SECRET_ACCESS_KEY", None, "no whole credentials"),
    ],
    ids=["no place", "relative", "scheme", "folder", "two", "bucket", "server", "region", "secret"],
)
def test_settings_that_do_not_work_are_told_without_the_secret(
    on_s3: DeltaProject,
    api: FakeApi,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    variable: str,
    wrong: str | None,
    said: str,
) -> None:
    """One error, which says what is wrong and which variable to set; the API is not asked."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    if wrong is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, wrong)
    error = on_s3.run(AGENTS).error
    assert said in error
    assert "errors.Setting" in error or "errors.Warehouse" in error
    assert PLACE in error
    assert Leaks(SECRET).among(error, *capfd.readouterr()) == []
    assert api.requests == []


def test_everything_works_on_s3_and_the_secret_is_nowhere(
    on_s3: DeltaProject, api: FakeApi, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Merge, rejected rows, a new field, a refresh, checks; not even Dagster's files have it."""
    api.rows[AGENTS][0]["total_talk_time"] = "many"
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        assert on_s3.run(AGENTS, instance=instance).success
        api.rows[AGENTS] = agents(260, badge="gold")
        again = on_s3.run(AGENTS, instance=instance)
        assert figures(again, "rows_loaded", "dagster/row_count") == [260, 260]
        api.rows[AGENTS] = agents(255, total_talk_time=8)
        refreshed = on_s3.refresh(AGENTS)
        assert figures(refreshed, "rows_deleted", "dagster/row_count") == [5, 255]
        assert figures(on_s3.run(AGENTS), "rows_loaded", "rows_unchanged") == [0, 255]
    assert on_s3.query(CONTENT) == [(255, 255, 8)]
    assert on_s3.query("SELECT resource FROM rejected_rows") == [(AGENTS,)]
    assert Leaks(SECRET).among(tmp_path / "dagster", *capfd.readouterr()) == []


def test_a_load_that_is_killed_while_it_writes_the_schema_harms_no_other(
    delta: DeltaProject, api: FakeApi
) -> None:
    """The file of it is there whole or not at all: the next load reads it."""
    schemas = Path(delta.place) / "analytics" / "_dlt_version"
    assert delta.run(AGENTS).success
    for number in range(3):
        there = set(schemas.iterdir())
        api.rows[AGENTS] = agents(250, total_talk_time=number, **{f"new_{number}": 1})
        kill_when(partial(_is_changed, schemas, there), one_load())
        for file in set(schemas.iterdir()) - there:
            assert file.name.startswith(".") or json.loads(file.read_text())
        assert delta.run(AGENTS).success
        assert delta.query(CONTENT) == [(250, 250, number)]


def _is_changed(folder: Path, there: set[Path]) -> bool:
    return set(folder.iterdir()) != there


def test_a_load_that_was_killed_when_it_had_made_the_folder_harms_no_other(
    delta: DeltaProject,
) -> None:
    """The next one takes the folder as it is; dlt would make it again, and fail."""
    (Path(delta.place) / "analytics").mkdir()
    assert delta.run(AGENTS).success


@pytest.mark.parametrize("mode", ["incremental", "full_refresh"])
def test_columns_stay_not_null(delta: DeltaProject, api: FakeApi, mode: str) -> None:
    """Whatever the rows went through; the tables themselves refuse one without a value."""
    for badge in ({}, {"badge": "gold"}):
        api.rows[AGENTS] = [*agents(50, **badge), *agents(1, **badge)]
        run = delta.run(AGENTS, config={"mode": mode})
        assert figures(run, "duplicates") == [1]
        table = delta.opened(AGENTS)
        required = {field.name for field in table.schema().fields if not field.nullable}
        assert required == {"id", "current_timestamp"}
    with pytest.raises(Exception, match="failed validation check"):
        write_deltalake(table, pa.table({"id": [None]}), mode="append", schema_mode="merge")


def test_the_command_that_shows_a_table_works(delta: DeltaProject) -> None:
    """It is the one that `make run` prints."""
    assert delta.run(AGENTS).success
    look = Warehouse().database().look(AGENTS)
    shown = subprocess.run(look, shell=True, capture_output=True, text=True, check=True)  # noqa: S602
    assert "250 rows" in shown.stdout


def test_asking_makes_nothing(delta: DeltaProject) -> None:
    """Checks of tables that were never loaded leave the folder as it was."""
    from analytics_dagster.definitions import defs

    job = defs.resolve_job_def("check_tables")
    with dg.DagsterInstance.ephemeral() as instance:
        done = job.execute_in_process(instance=instance, raise_on_error=False)
    assert {each.description for each in done.get_asset_check_evaluations()} == {
        "the table was never loaded: run incremental_load"
    }
    assert list(Path(delta.place).iterdir()) == []


def test_runs_on_this_host_wait_for_each_other_on_s3_too(on_s3: DeltaProject, api: FakeApi) -> None:
    """For one resource; when that run is dead, the next one loads at once."""
    with a_run_that_reads_for_ever(api) as pid:
        assert Warehouse().database().is_being_loaded(AGENTS)
        run = on_s3.run(AGENTS, "account_overview", overlap_timeout=0.5)
    assert "OverlapError" in run.error
    assert f"{AGENTS} is being loaded by process {pid}" in run.error
    assert run.materialized == {"account_overview"}
    assert on_s3.run(AGENTS, overlap_timeout=5).success


@pytest.mark.parametrize("mode", ["incremental", "full_refresh"])
def test_a_load_that_another_host_overtook_writes_nothing(
    on_s3: DeltaProject, api: FakeApi, mode: str
) -> None:
    """What it read may be older than what is there now; the next load reads again."""
    assert on_s3.run(AGENTS).success
    newer = on_s3.opened(AGENTS)
    rows = newer.to_pyarrow_table().slice(0, 1).set_column(0, "id", pa.array([999]))
    api.on(AGENTS, answer_after(lambda: write_deltalake(newer, rows, mode="append")), at_offset=198)
    api.rows[AGENTS] = agents(260, total_talk_time=8)
    run = on_s3.run(AGENTS, config={"mode": mode})
    assert "OverlapError" in run.error
    assert "was written by another run or program since this load began" in run.error
    assert on_s3.query(CONTENT) == [(251, 251, 90)]
    assert on_s3.run(AGENTS).success
    assert on_s3.query(CONTENT) == [(261, 261, 90)]


@pytest.mark.parametrize("mode", ["incremental", "full_refresh"])
def test_what_another_host_adds_in_the_last_moment_stays_alone(
    delta: DeltaProject, api: FakeApi, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Between the look at the version and the commit, which no setting of a test can hit."""
    assert delta.run(AGENTS).success
    rows = delta.opened(AGENTS).to_pyarrow_table().slice(0, 1).set_column(0, "id", pa.array([999]))

    def read(files: list[str]) -> Any:
        if delta.opened(AGENTS).version() == before:
            write_deltalake(delta.opened(AGENTS), rows, mode="append")
        return get_local_dataset_reader(files)

    before = delta.opened(AGENTS).version()
    monkeypatch.setattr("analytics_dagster.delta_writing.get_local_dataset_reader", read)
    monkeypatch.setattr("dlt.common.libs.pyarrow.get_local_dataset_reader", read)
    api.rows[AGENTS] = agents(260, total_talk_time=8)
    assert "OverlapError" in delta.run(AGENTS, config={"mode": mode}).error
    assert delta.query(CONTENT) == [(251, 251, 90)]


def started_on(host: Path, command: list[str]) -> subprocess.Popen[bytes]:
    """A process with a temporary folder of its own, and so with locks of its own."""
    host.mkdir()
    environment = os.environ | {"TMPDIR": str(host)}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)


@pytest.mark.parametrize("mode", ["incremental", "full_refresh"])
def test_of_hosts_that_load_at_the_same_moment_one_wins(
    on_s3: DeltaProject, tmp_path: Path, mode: str
) -> None:
    """The others say so and change nothing: no row is there twice, or from two of them."""
    if mode == "full_refresh":
        assert on_s3.run(AGENTS).success
    running = [started_on(tmp_path / host, one_load(AGENTS, mode)) for host in "abc"]
    told = [process.communicate(timeout=100)[1].decode() for process in running]
    failed = [text for text, process in zip(told, running, strict=True) if process.returncode]
    assert len(failed) < len(running), "\n".join(told)
    assert all("OverlapError" in text for text in failed), "\n".join(failed)
    assert on_s3.query(CONTENT) == [(250, 250, 90)]


@pytest.mark.parametrize("place", ["bucket", "folder"])
def test_hosts_that_make_a_table_at_the_same_moment_make_it_once(
    on_s3: DeltaProject, tmp_path: Path, place: str
) -> None:
    """No load takes the making of the table by another host for a load, and gives up."""
    options = dict(delta_settings().options) if place == "bucket" else {}
    at_once = Barrier(4)

    def make(uri: str) -> None:
        at_once.wait(10)
        create_table(uri, pa.schema({"id": pa.int64()}), storage_options=options)

    with ThreadPoolExecutor(4) as hosts:
        for number in range(5):
            uri = f"{on_s3.place if place == 'bucket' else tmp_path}/{number}"
            list(hosts.map(make, [uri] * 4))
            assert DeltaTable(uri, storage_options=options).version() == 0


def test_a_load_whose_state_was_not_kept_is_repeated(delta: DeltaProject, api: FakeApi) -> None:
    """Table and state are two commits: killed between them, a load reads the same rows again."""
    assert delta.run(AGENTS).success
    states = Path(delta.place, "analytics", "_dlt_pipeline_state")
    before = set(states.iterdir())
    later = "2026-11-23T11:00:00Z"
    api.rows[AGENTS] = agents(260, current_timestamp=later, total_talk_time=120)
    assert delta.run(AGENTS).success
    [newest] = set(states.iterdir()) - before
    newest.unlink()
    api.requests.clear()
    assert figures(delta.run(AGENTS), "rows_loaded", "rows_unchanged") == [0, 260]
    assert {r.query.get("updated_since") for r in api.requests} == {"2026-11-23T09:50:00Z"}
    assert delta.query(CONTENT) == [(260, 260, 120)]


def test_first_loads_of_hosts_at_the_same_moment_all_succeed(
    on_s3: DeltaProject, api: FakeApi, tmp_path: Path
) -> None:
    """All fill the table of rejected rows, and lose none."""
    for name in ALL:
        api.rows[name] = agents(50)
        api.rows[name][0]["id"] = "none"
    running = [started_on(tmp_path / f"host-{name}", one_load(name)) for name in ALL]
    told = [process.communicate(timeout=100)[1].decode() for process in running]
    assert [process.returncode for process in running] == [0] * 3, "\n".join(told)
    for name in ALL:
        assert on_s3.query(f"SELECT count(*), count(DISTINCT id) FROM {name}") == [(49, 49)]
    assert on_s3.query("SELECT count(DISTINCT resource), count(*) FROM rejected_rows") == [(3, 3)]
