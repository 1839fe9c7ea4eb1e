"""What DuckLake alone has to promise as a warehouse: a real server has its catalog."""

from __future__ import annotations

import itertools
import re
import secrets
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
import requests

from analytics_dagster.definitions import defs
from analytics_dagster.ducklake_warehouse import DuckLakeWarehouse
from analytics_dagster_tests.conftest import Checkout, agents
from analytics_dagster_tests.fake_api import FakeApi
from analytics_dagster_tests.leaks import Leaks
from analytics_dagster_tests.one_load import one_load
from analytics_dagster_tests.postgres_server import PASSWORD, PostgresServer
from analytics_dagster_tests.s3_server import S3Server
from analytics_dagster_tests.test_full_disk import MEGABYTE, SmallDisk, small_disk
from analytics_dagster_tests.warehouses import (
    AGENTS,
    ALL,
    CATALOG,
    STORAGE,
    DuckLakeProject,
    all_succeed,
    figures,
    needs_ducklake,
    ready,
)

INSTALL = 'pip install -e ".[ducklake]"'


__all__ = ["small_disk"]  # a fixture


@pytest.fixture
def lake(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    api: FakeApi,
    postgres_server: PostgresServer,
) -> DuckLakeProject:
    made = DuckLakeProject(tmp_path / "lake", monkeypatch, postgres_server)
    ready(made, api)
    return made


# Settings


@pytest.mark.skipif(duckdb.__version__.startswith("1.5."), reason="this DuckDB can have a lake")
def test_a_duckdb_that_can_have_no_lake_is_named_with_the_command_that_installs_one(
    lake: DuckLakeProject, api: FakeApi
) -> None:
    """Before the API is asked."""
    run = lake.run(AGENTS)
    assert "SettingError: DuckLake is the destination; it needs DuckDB 1.5.x, and " in run.error
    assert INSTALL in run.error
    assert api.requests == []


@needs_ducklake
@pytest.mark.parametrize(
    "library", ["psycopg2", "duckdb_extension_ducklake", "duckdb_extension_postgres_scanner"]
)
def test_a_library_that_is_missing_is_named_with_the_command_that_installs_it(
    lake: DuckLakeProject,
    api: FakeApi,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    library: str,
) -> None:
    """Before the API is asked, when DuckDB has it not and cannot download it either."""
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    run = lake.run(AGENTS)
    assert "SettingError" in run.error
    assert library.removeprefix("duckdb_extension_") in run.error
    assert INSTALL in run.error
    assert api.requests == []


@needs_ducklake
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("", "no whole credentials"),
        ("no url at all", "no whole credentials"),
        ("sqlite:///catalog.sqlite", "no whole credentials"),
        ("postgres://loader:s3cr3t@127.0.0.1:1/x", "Connection refused"),
        ("postgres://loader:s3cr3t@127.0.0.1:{port}/postgres", "password authentication failed"),
        ("postgres://nobody:s3cr3t@127.0.0.1:{port}/postgres", "password authentication failed"),
        ("postgres://loader:s3cr3t@s3cr@127.0.0.1:{port}/postgres", "two @"),
        ("postgres://loader:s3cr%25t%2Fpass%20word@127.0.0.1:{port}/gone", "does not exist"),
    ],
    ids=["missing", "no URL", "SQLite", "unreachable", "password", "user", "two @", "database"],
)
def test_a_catalog_that_does_not_work_is_told_without_the_password(
    lake: DuckLakeProject, api: FakeApi, monkeypatch: pytest.MonkeyPatch, wrong: str, said: str
) -> None:
    """One error, which says what is wrong and which variable to set; the API is not asked."""
    monkeypatch.setenv(CATALOG, wrong.format(port=lake.server.port))
    error = lake.run(AGENTS).error
    assert "WarehouseConnectionError" in error
    assert said in error
    assert CATALOG in error
    assert "s3cr" not in error
    assert api.requests == []


@needs_ducklake
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("", "no whole credentials for DuckLake"),
        ("lake", "='lake' is no whole path"),
        ("~/lake", "='~/lake' is no whole path"),
        ("memory://lake", "='memory://…' is no whole path"),
        ("s3://bucket/lake", "aws_access_key_id"),
        ("/nowhere", "the files of the lake in postgres://127.0.0.1:"),
    ],
    ids=["missing", "relative", "home", "scheme", "no key of S3", "another lake"],
)
def test_a_place_for_files_that_does_not_work_is_told(
    lake: DuckLakeProject, api: FakeApi, monkeypatch: pytest.MonkeyPatch, wrong: str, said: str
) -> None:
    """One error, which says what is wrong and which variable to set; the API is not asked."""
    assert lake.run(AGENTS).success
    api.requests.clear()
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv(STORAGE, wrong)
    error = lake.run(AGENTS).error
    assert said in error
    assert STORAGE in error
    assert api.requests == []


@needs_ducklake
def test_settings_of_duckdb_that_dlt_knows_are_kept(
    lake: DuckLakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As how often a commit is repeated; the memory is the project's to say."""
    settings = '{"ducklake_max_retry_count": 50, "memory_limit": "9GB"}'
    monkeypatch.setenv(CATALOG.replace("CATALOG", "GLOBAL_CONFIG"), settings)
    assert lake.query(
        "SELECT current_setting('ducklake_max_retry_count'), current_setting('memory_limit')"
    ) == [(50, "366.2 MiB")]


# Loads at the same time


class Moving(dict[str, Any]):
    """The rows of an API that are other ones each time they are looked at."""

    looks = itertools.count(1)

    def __getitem__(self, key: str) -> Any:
        return agents(60, total_talk_time=next(self.looks))


@needs_ducklake
def test_loads_of_different_resources_at_the_same_time_all_succeed(
    lake: DuckLakeProject, api: FakeApi
) -> None:
    """Loads and refreshes that commit in each other's way are written one after the other."""
    for name in ALL:
        api.rows[name] = agents(50)
    assert lake.run().success
    api.rows = Moving(api.rows)
    all_succeed([one_load(name, *["incremental", "full_refresh"] * 2) for name in ALL])
    for name in ALL:
        [(rows, ids, oldest, newest)] = lake.query(
            "SELECT count(*), count(DISTINCT id), min(total_talk_time), max(total_talk_time) "
            f"FROM {name}"
        )
        assert (rows, ids, oldest) == (60, 60, newest)


# Promises of one load


@needs_ducklake
def test_commits_at_the_same_time_follow_each_other(lake: DuckLakeProject, api: FakeApi) -> None:
    """The second of two resources is read beside the first, and waits for its commit alone."""
    assert lake.run().success
    for name in ("account_overview", AGENTS):
        api.rows[name] = agents(5, total_talk_time=8, number_of_agents=8)
    with lake.held_up(AGENTS):
        first = threading.Thread(target=lake.run, args=(AGENTS,), daemon=True)
        first.start()
        while not lake.waits():
            assert first.is_alive()
        second = threading.Thread(target=lake.run, args=("account_overview",), daemon=True)
        second.start()
        while not lake.waits("transactionid"):
            assert second.is_alive()
    for run in (first, second):
        run.join(60)
    for name in ("account_overview", AGENTS):
        assert lake.query(f"SELECT count(*) FROM {name} WHERE total_talk_time = 8") == [(5,)]


@needs_ducklake
def test_a_transaction_that_reads_sees_one_version_through_a_refresh(
    lake: DuckLakeProject, api: FakeApi
) -> None:
    """Also one that looks at the table after it; the refresh does not wait."""
    assert lake.run(AGENTS).success
    content = f"SELECT count(*), max(total_talk_time) FROM {AGENTS}"
    with DuckLakeWarehouse(overlap_timeout=1, memory_mb=384).attached() as reader:
        reader.begin()
        assert reader.execute(content).fetchall() == [(250, 90)]
        api.rows[AGENTS] = agents(240, total_talk_time=8)
        assert lake.refresh(AGENTS).success
        assert reader.execute(content).fetchall() == [(250, 90)]
        reader.commit()
        assert reader.execute(content).fetchall() == [(240, 8)]


@needs_ducklake
def test_the_character_nul_stops_no_load(lake: DuckLakeProject, api: FakeApi) -> None:
    """The catalog, which has the least and the largest name, is in Postgres, which refuses it."""
    for row in api.rows[AGENTS]:
        row["name"] = f"{row['id']}\u0000b"
    for _ in range(2):
        assert lake.run(AGENTS).success
    assert lake.query(f"SELECT name FROM {AGENTS} WHERE id = 1") == [("1\u0000b",)]


@needs_ducklake
def test_a_commit_that_the_catalog_refuses_shows_no_row(
    lake: DuckLakeProject, api: FakeApi, capfd: pytest.CaptureFixture[str]
) -> None:
    """DuckDB repeats what it wanted to store of the values; nothing of that is passed on."""
    assert lake.run(AGENTS).success
    lake.refuse("not today")
    api.rows[AGENTS] = agents(260, name="Zoe Barnes", total_talk_time=123454321)
    run = lake.run(AGENTS)
    assert "LoadError" in run.error
    assert "Failed to commit" in run.error
    told = run.error + "".join(capfd.readouterr())
    assert "Zoe Barnes" not in told
    assert "123454321" not in told
    assert lake.query(f"SELECT count(*), max(total_talk_time) FROM {AGENTS}") == [(250, 90)]


CONTENT = f"SELECT count(*), min(total_talk_time), max(total_talk_time) FROM {AGENTS}"
LOOK = f"""
from analytics_dagster.ducklake_warehouse import DuckLakeWarehouse
with DuckLakeWarehouse(overlap_timeout=1, memory_mb=384).attached() as connection:
    print(connection.execute("{CONTENT}").fetchall())
"""


@needs_ducklake
@pytest.mark.usefixtures("lake")
def test_a_full_disk_of_the_folder_is_named_and_harms_no_row(
    api: FakeApi, small_disk: SmallDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once there is room, the next load is right."""
    monkeypatch.setenv(STORAGE, str(small_disk.folder / "lake"))

    def run(command: list[str]) -> subprocess.CompletedProcess[str]:
        command = [*small_disk.entered.split(), *command]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    api.rows[AGENTS] = agents(3)
    assert run(one_load()).returncode == 0
    api.rows[AGENTS] = [
        row | {"name": secrets.token_hex(1000)} for row in agents(2000, total_talk_time=7)
    ]
    small_disk.fill(left=MEGABYTE)
    assert f"DiskFullError: The disk is full: {small_disk.folder}" in run(one_load()).stderr
    small_disk.make_room()
    assert run([sys.executable, "-c", LOOK]).stdout == "[(3, 90, 90)]\n"
    assert run(one_load()).stdout == "2000 0\n"
    assert run([sys.executable, "-c", LOOK]).stdout == "[(2000, 7, 7)]\n"


@needs_ducklake
def test_a_folder_that_cannot_be_used_is_told_with_the_variable(lake: DuckLakeProject) -> None:
    """Here it is no folder but a file."""
    lake.path.write_text("")
    error = lake.run(AGENTS).error
    assert f"WarehousePathError: The files of the lake in {lake.path} cannot be" in error
    assert STORAGE in error


@needs_ducklake
def test_looking_makes_no_lake(lake: DuckLakeProject, tmp_path: Path) -> None:
    """Checks of tables that were never loaded say so, and leave the database as it is."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        job = defs.resolve_job_def("check_tables")
        assert job.execute_in_process(instance=instance).success
    assert lake.ask_server("SELECT count(*) FROM pg_namespace WHERE nspname = 'ducklake'") == [(0,)]
    assert not lake.path.exists()


@needs_ducklake
def test_the_command_that_shows_rows_works(lake: DuckLakeProject, checkout: Checkout) -> None:
    """As `make run` prints it, with the settings of `.env`; it holds no password."""
    assert lake.run(AGENTS).success
    look = DuckLakeWarehouse(overlap_timeout=1, memory_mb=384).look(AGENTS)
    assert PASSWORD not in look
    found = [(name, checkout.environment.pop(name)) for name in (CATALOG, STORAGE)]
    settings = "".join(f"{name}='{value}'\n" for name, value in found)
    (checkout.folder / ".env").write_text(settings)
    shown = checkout.run(look)
    assert "250 rows" in shown.stdout, shown.stderr


@needs_ducklake
def test_old_versions_stay_readable_until_they_are_cleaned_up(
    lake: DuckLakeProject, api: FakeApi
) -> None:
    """With the statements of the README; then their files are gone, and the rows are not."""
    assert lake.run(AGENTS).success
    [(before,)] = lake.query("SELECT max(snapshot_id) FROM ducklake_snapshots('ducklake')")
    for version in range(2):
        api.rows[AGENTS] = agents(250, total_talk_time=version)
        assert lake.refresh(AGENTS).success
    old = f"SELECT max(total_talk_time) FROM {AGENTS} AT (VERSION => {before})"
    assert lake.query(old) == [(90,)]
    left_by_a_killed_run = lake.path / "analytics" / AGENTS / "ducklake-never-committed.parquet"
    left_by_a_killed_run.write_bytes(next(lake.path.rglob("*.parquet")).read_bytes())
    files = len(list(lake.path.rglob("*.parquet")))
    with DuckLakeWarehouse(overlap_timeout=1, memory_mb=384).attached() as connection:
        connection.execute("CALL ducklake.set_option('expire_older_than', '0 seconds')")
        connection.execute("CALL ducklake.set_option('delete_older_than', '0 seconds')")
        connection.execute("CHECKPOINT ducklake")
    assert len(list(lake.path.rglob("*.parquet"))) < files - 1
    assert not left_by_a_killed_run.exists()
    assert lake.query(f"SELECT count(*), max(total_talk_time) FROM {AGENTS}") == [(250, 1)]
    api.rows[AGENTS] = agents(260)
    assert lake.run(AGENTS).success
    assert lake.query(f"SELECT count(*), max(total_talk_time) FROM {AGENTS}") == [(260, 90)]


# On S3


SECRET = "wJalrXUtnFEMI/K7MDENG'bPxRfiCYSECRETKEY"


@pytest.fixture
def bucket(
    lake: DuckLakeProject,  # noqa: ARG001  it sets the place that is changed here
    monkeypatch: pytest.MonkeyPatch,
    s3_server: S3Server,
) -> str:
    """The URL of an empty bucket on a server; the lake has its files there."""
    below = STORAGE.replace("BUCKET_URL", "CREDENTIALS__")
    name = s3_server.new_bucket()
    monkeypatch.setenv(STORAGE, f"s3://{name}/lake")
    monkeypatch.setenv(f"{below}ENDPOINT_URL", s3_server.url)
    monkeypatch.setenv(f"{below}REGION_NAME", "eu-central-1")
    monkeypatch.setenv(f"{below}AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv(f"{below}AWS_SECRET_ACCESS_KEY", SECRET)
    return f"{s3_server.url}/{name}"


@needs_ducklake
def test_a_lake_on_s3_is_loaded_merged_and_refreshed(
    lake: DuckLakeProject, api: FakeApi, bucket: str
) -> None:
    """And read from there; nothing is left on this machine."""
    assert lake.run(AGENTS).success
    api.rows[AGENTS] = agents(260)
    api.rows[AGENTS][0]["total_talk_time"] = 7
    assert figures(lake.run(AGENTS), "rows_loaded", "rows_unchanged") == [11, 249]
    content = f"SELECT count(*), min(total_talk_time), max(total_talk_time) FROM {AGENTS}"
    assert lake.query(content) == [(260, 7, 90)]
    api.rows[AGENTS] = agents(240, total_talk_time=8)
    assert figures(lake.refresh(AGENTS), "rows_deleted") == [20]
    assert lake.query(content) == [(240, 8, 8)]
    assert f"lake/analytics/{AGENTS}/" in requests.get(bucket, timeout=10).text
    assert not lake.path.exists()


@needs_ducklake
@pytest.mark.parametrize(
    ("part", "wrong", "said"),
    [
        ("BUCKET_URL", "s3://gone/lake", "Not Found"),
        ("CREDENTIALS__ENDPOINT_URL", "http://127.0.0.1:1", "Could not connect"),
    ],
    ids=["bucket", "server"],
)
@pytest.mark.usefixtures("bucket")
def test_a_bucket_that_cannot_be_used_is_told_with_the_variable(
    lake: DuckLakeProject, monkeypatch: pytest.MonkeyPatch, part: str, wrong: str, said: str
) -> None:
    """And once it can, the next load is right."""
    with monkeypatch.context() as patch:
        patch.setenv(STORAGE.replace("BUCKET_URL", part), wrong)
        error = lake.run(AGENTS).error
        lake.ask_server("DROP SCHEMA ducklake CASCADE")
    assert "WarehousePathError: The files of the lake in s3://" in error
    assert said in error
    assert STORAGE in error
    assert lake.run(AGENTS).success


@needs_ducklake
def test_no_secret_is_shown_or_stored(
    lake: DuckLakeProject,
    api: FakeApi,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither the password nor the key of S3: in logs, errors, files, bucket and catalog."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("RUNTIME__LOG_LEVEL", "DEBUG")
    command = [sys.executable, "-X", "dev", *one_load()[1:]]
    said = [subprocess.run(command, capture_output=True, text=True, check=True)]
    lake.refuse("No space left on device")
    api.rows[AGENTS] = agents(260)
    said.append(subprocess.run(command, capture_output=True, text=True, check=False))
    assert "DiskFullError" in said[1].stderr
    monkeypatch.setenv(STORAGE.replace("BUCKET_URL", "CREDENTIALS__ENDPOINT_URL"), "http://[")
    said.append(subprocess.run(command, capture_output=True, text=True, check=False))
    assert said[2].returncode
    tables = lake.ask_server("SELECT tablename FROM pg_tables WHERE schemaname = 'ducklake'")
    rows = [str(lake.ask_server(f"SELECT * FROM ducklake.{t}")) for (t,) in tables]
    keys = re.findall("<Key>(.*?)</Key>", requests.get(bucket, timeout=10).text)
    for number, key in enumerate(keys):
        content = requests.get(f"{bucket}/{key}", timeout=10).content
        (tmp_path / f"{number}.parquet").write_bytes(content)
    assert keys
    assert rows
    texts = [text for each in said for text in (each.stdout, each.stderr)]
    assert [text for text in (*texts, *rows) if PASSWORD[:4] in text] == []
    assert Leaks(SECRET).among(tmp_path, *texts, *rows) == []
