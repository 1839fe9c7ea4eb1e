"""What a user is told when something is wrong, through a run of Dagster.

Each message names the setting or the URL, the value, and the next act; none holds the key;
and the rows that were there stay as they were.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import duckdb
import pytest

from analytics_dagster.resources import AnalyticsApi
from analytics_dagster_tests.conftest import Checkout, Project, Run, agents
from analytics_dagster_tests.fake_api import FakeApi, raw, status, unused_port

KEY_SPELLINGS = ("a+b/c=%d", "a%2Bb%2Fc%3D%25d", "a%2bb%2fc%3d%25d", "a%2Bb/c%3D%25d")


@pytest.fixture
def loaded(project: Project, api: FakeApi) -> Project:
    """A project whose warehouse holds three agents."""
    api.rows["agents_overview"] = agents(3)
    project.points_at(api)
    assert project.run("agents_overview").success
    return project


def told(run: Run) -> str:
    """The message of a red run, searched for the key first."""
    assert not run.success
    everything = "\n".join(str(event) for event in run.result.all_events)
    assert not [spelling for spelling in KEY_SPELLINGS if spelling in everything]
    return run.error


def assert_unchanged(project: Project) -> None:
    assert project.query("SELECT count(*) FROM agents_overview") == [(3,)]


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ANALYTICS_API_KEY", None, ["MissingApiKeyError", "set ANALYTICS_API_KEY"]),
        ("ANALYTICS_API_KEY", "", ["MissingApiKeyError", "ANALYTICS_API_KEY is blank"]),
        ("ANALYTICS_API_KEY", "  ", ["MissingApiKeyError", "ANALYTICS_API_KEY is blank"]),
        ("ANALYTICS_API_KEY", "key\n", ["MissingApiKeyError", "control characters"]),
        ("ANALYTICS_API_KEY", "Agent 1", ["MissingApiKeyError", "has 7 characters"]),
        ("ANALYTICS_API_BASE_URL", None, ["SettingError", "no ANALYTICS_API_BASE_URL"]),
        ("ANALYTICS_API_BASE_URL", "", ["SettingError", "ANALYTICS_API_BASE_URL=''"]),
        ("ANALYTICS_API_BASE_URL", "api.example.com", ["='api.example.com'", "https://"]),
        ("ANALYTICS_API_BASE_URL", "ftp://x", ["='ftp://x'", "https://"]),
        ("ANALYTICS_API_BASE_URL", "http://x:99999", ["='http://x:99999'"]),
        ("ANALYTICS_API_BASE_URL", "http://[x", ["='http://[x'"]),
        ("ANALYTICS_DUCKDB_PATH", "", ["SettingError", "ANALYTICS_DUCKDB_PATH=''"]),
        ("ANALYTICS_DUCKDB_PATH", ":memory:", ["ANALYTICS_DUCKDB_PATH=':memory:'"]),
    ],
)
def test_a_bad_setting_is_named_with_its_value(
    loaded: Project,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str | None,
    words: list[str],
) -> None:
    """The run fails at once and says which variable to set to what."""
    if value is None:
        monkeypatch.delenv(variable)
    else:
        monkeypatch.setenv(variable, value)
    message = told(loaded.run("agents_overview"))
    assert [word for word in words if word not in message] == []
    assert_unchanged(loaded)


def test_a_key_within_the_base_url_is_not_shown(
    loaded: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever pastes a whole URL with the key, or another one, is told so without it."""
    url = "https://api.example.com/v1?api_key="
    for key, said in (("a%2Bb%2Fc%3D%25d", " holds the key"), ("other", f"='{url[:26]}'")):
        monkeypatch.setenv("ANALYTICS_API_BASE_URL", f"{url}{key}")
        message = told(loaded.run())
        assert f"ANALYTICS_API_BASE_URL{said}" in message
        assert key not in message


@pytest.mark.parametrize(
    "location",
    [
        "{key}",
        "api.example.com/v1/{key}",
        "ftp://api.example.com/" + "x" * 68 + "/{key}",
        "http://{key}:1",
        "http://{key}@127.0.0.1:1",
        "http://127.0.0.1:1/{key}/v1",
    ],
)
@pytest.mark.parametrize("key", ["S3cr3tKey0123456789", "SecretKey-abc+/x=="])
def test_a_key_in_the_place_of_the_base_url_is_not_shown(
    loaded: Project, monkeypatch: pytest.MonkeyPatch, location: str, key: str
) -> None:
    """Not even a part of it, nor in lower case; nothing is sent anywhere."""
    monkeypatch.setenv("ANALYTICS_API_KEY", key)
    monkeypatch.setenv("ANALYTICS_API_BASE_URL", location.format(key=key))
    message = told(loaded.run("agents_overview"))
    assert "SettingError: ANALYTICS_API_BASE_URL holds the key" in message
    assert "secretkey" not in message.lower()
    assert "s3cr3t" not in message.lower()


@pytest.mark.parametrize(
    ("base_url", "key", "words"),
    [
        ("https://me:hid?den@api.example.com", "a+b/c=%d", "ANALYTICS_API_BASE_URL='…'"),
        ("https://api.example.com/#hidden", "a+b/c=%d", "='https://api.example.com/'"),
        ("hidden", "https://api.example.com", "they are mixed up"),
    ],
)
def test_a_secret_in_the_wrong_setting_is_not_shown(
    loaded: Project, monkeypatch: pytest.MonkeyPatch, base_url: str, key: str, words: str
) -> None:
    """As a user or a fragment of the base URL, or in its place."""
    monkeypatch.setenv("ANALYTICS_API_BASE_URL", base_url)
    monkeypatch.setenv("ANALYTICS_API_KEY", key)
    message = told(loaded.run("agents_overview"))
    assert words in message
    assert "hid" not in message
    assert "hid" not in AnalyticsApi().shown_location()


def test_the_token_of_another_warehouse_is_not_shown(
    loaded: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MotherDuck has it in the path."""
    monkeypatch.setenv("ANALYTICS_DUCKDB_PATH", "md:mine?motherduck_token=hidden")
    message = told(loaded.run("agents_overview"))
    assert "ANALYTICS_DUCKDB_PATH='md:mine' names no file" in message


def test_the_key_may_stand_in_the_secrets_of_dlt(
    loaded: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without ANALYTICS_API_KEY, dlt.secrets["api_key"] is used."""
    monkeypatch.delenv("ANALYTICS_API_KEY")
    monkeypatch.setenv("API_KEY", "a+b/c=%d")
    assert loaded.run("agents_overview").success


def test_a_wrong_key_is_called_a_wrong_key(
    loaded: Project, monkeypatch: pytest.MonkeyPatch, api: FakeApi
) -> None:
    """It is tried once, and the message says 401 and which variable to check."""
    monkeypatch.setenv("ANALYTICS_API_KEY", "another key")
    api.requests.clear()
    message = told(loaded.run("agents_overview", retries=3))
    assert "UnauthorizedError" in message
    assert "HTTP 401" in message
    assert "ANALYTICS_API_KEY" in message
    assert "another" not in message
    assert len(api.requests) == 1
    assert_unchanged(loaded)


@pytest.mark.parametrize("kind", ["refused", "unknown host"])
def test_an_api_that_cannot_be_reached_is_named(
    loaded: Project, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A refused connection and an unknown host name the URL and the variable."""
    dead = f"http://127.0.0.1:{unused_port()}"
    base_url = dead if kind == "refused" else "http://no-such-host.invalid"
    monkeypatch.setenv("ANALYTICS_API_BASE_URL", base_url)
    message = told(loaded.run("agents_overview"))
    assert f"UnreachableError: {base_url}/v1/agents_overview" in message
    assert "ANALYTICS_API_BASE_URL" in message
    assert_unchanged(loaded)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (raw(b"<html>Sign in, Agent 1</html>", "text/html"), ["not JSON", "text/html"]),
        (
            raw(b'{"error": "Agent 1 is unhappy"}'),
            ["data_selector 'data'", "found nothing, but 'error'"],
        ),
        (status(404), ["HTTP 404", "REST API configuration"]),
        (status(500), ["HTTP 500", "Run again later"]),
        (status(429, retry_after="4000"), ["HTTP 429", "4000 s", "Run again after"]),
    ],
)
def test_an_answer_that_is_no_page_is_described(
    loaded: Project, api: FakeApi, fault: Callable[..., None], words: list[str]
) -> None:
    """The message names the URL and what came, without a word of the body."""
    api.always("agents_overview", fault)
    message = told(loaded.run("agents_overview"))
    assert f"{api.base_url}/v1/agents_overview?updated_since=2026-11-23T09" in message
    assert "&limit=100&offset=0: " in message
    assert [word for word in words if word not in message] == []
    assert "Agent 1" not in message
    assert_unchanged(loaded)


@pytest.mark.parametrize("kind", ["missing folder", "folder", "other file"])
def test_a_path_that_is_no_duckdb_file_is_named(
    loaded: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """What stands there is left alone."""
    path = tmp_path / "there"
    if kind == "missing folder":
        path = path / "analytics.duckdb"
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_text("my notes " * 2000)
    monkeypatch.setenv("ANALYTICS_DUCKDB_PATH", str(path))
    message = told(loaded.run("agents_overview"))
    assert "WarehousePathError" in message
    assert str(path) in message
    assert "Set ANALYTICS_DUCKDB_PATH" in message
    assert kind != "other file" or path.read_text() == "my notes " * 2000


@contextmanager
def another_program(path: Path) -> Iterator[int]:
    """A process that holds the DuckDB file; gives its id."""
    code = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print(flush=True); input()"
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        holder.stdout.readline()
        try:
            yield holder.pid
        finally:
            holder.kill()


def test_a_locked_file_names_the_program_that_holds_it(loaded: Project) -> None:
    """After a bounded wait the run is red, and the file as it was."""
    with another_program(loaded.path) as pid:
        message = told(loaded.run("agents_overview"))
    assert "WarehouseLockedError" in message
    assert f"(PID {pid})" in message
    assert_unchanged(loaded)


def test_a_file_that_is_locked_for_a_moment_is_waited_for(loaded: Project, api: FakeApi) -> None:
    """A program that lets go in time costs nothing but the wait."""
    api.rows["agents_overview"] = agents(5)
    with another_program(loaded.path) as pid:
        Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()
        assert loaded.run("agents_overview").success
    assert loaded.query("SELECT count(*) FROM agents_overview") == [(5,)]


def test_an_asset_that_does_not_exist_is_named(checkout: Checkout) -> None:
    """A typing mistake in a selection is told by Dagster, and nothing is loaded."""
    module = "-m analytics_dagster.definitions"
    done = checkout.run(f"dagster asset materialize {module} --select analytics/agents_overviw")
    assert done.returncode != 0
    assert "'analytics/agents_overviw'] were selected, but no" in done.stderr
    assert not (checkout.folder / "analytics.duckdb").exists()


def test_two_fields_for_one_column_are_an_error(loaded: Project, api: FakeApi) -> None:
    """Neither is lost silently: the message names both."""
    for row in api.rows["agents_overview"]:
        row |= {"User Name": "a", "user_name": "b"}
    message = told(loaded.run("agents_overview"))
    assert "FieldCollisionError" in message
    assert "'User Name' and 'user_name'" in message
    assert_unchanged(loaded)


@pytest.mark.parametrize(
    ("alteration", "words"),
    [
        ("ALTER TABLE agents_overview ALTER total_talk_time TYPE TINYINT", "total_talk_time"),
        ("ALTER TABLE agents_overview ALTER total_talk_time TYPE SMALLINT", "Conversion"),
        ("ALTER TABLE agents_overview ALTER name TYPE UUID USING NULL", "source column name"),
        ("ALTER TABLE agents_overview ALTER name TYPE INTEGER[] USING NULL", "Conversion"),
        ("CREATE UNIQUE INDEX names ON agents_overview (name)", "Constraint Error"),
    ],
)
def test_a_value_that_the_database_refuses_is_not_shown(
    loaded: Project,
    api: FakeApi,
    capfd: pytest.CaptureFixture[str],
    alteration: str,
    words: str,
) -> None:
    """Neither in the error nor in what dlt logs of it; the kind and the column are."""
    with duckdb.connect(str(loaded.path)) as connection:
        connection.execute(f"USE analytics.analytics; {alteration}")
    api.rows["agents_overview"] = agents(4, name="q\"'Zebedee", total_talk_time=987654321)
    message = told(loaded.run("agents_overview"))
    assert "LoadError" in message
    assert words in message
    shown = message + "".join(capfd.readouterr())
    assert "Zebedee" not in shown
    assert "987654321" not in shown


def test_a_load_that_the_database_refuses_shows_no_row(loaded: Project, api: FakeApi) -> None:
    """A view where the table should be: red, in words without values, data kept."""
    with duckdb.connect(str(loaded.path)) as connection:
        connection.execute("USE analytics.analytics")
        connection.execute("ALTER TABLE agents_overview RENAME TO kept")
        connection.execute("CREATE VIEW agents_overview AS FROM kept")
    api.rows["agents_overview"] = agents(4)
    message = told(loaded.run("agents_overview"))
    assert "LoadError" in message
    assert "Agent 1" not in message
    assert loaded.query("SELECT count(*) FROM kept") == [(3,)]
