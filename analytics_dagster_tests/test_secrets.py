"""The key never shows, and no row of data either, whatever goes wrong and whoever listens.

Each test plants a key and a personal datum, lets everything go wrong with every log at DEBUG
and with Dagster keeping the log of the root logger, and then searches all that is left: of
processes, of Dagster's instance, of dlt, of DuckDB, of temporary files.
"""

from __future__ import annotations

import gzip
import html
import json
import os
import pickle
import re
import sqlite3
import subprocess
import time
import zipfile
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus
from uuid import uuid4

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analytics_dagster_tests.conftest import Checkout, Listener, agents
from analytics_dagster_tests.fake_api import (
    Exchange,
    FakeApi,
    Fault,
    Json,
    answer,
    change,
    close,
    cut,
    cut_chunked,
    cut_without_length,
    drip,
    echo_key,
    fault,
    gzip_garbage,
    hang,
    raw,
    redirect,
    reset,
    status,
    unused_port,
)
from analytics_dagster_tests.leaks import Leaks
from analytics_dagster_tests.test_daemon import START_SENSOR
from analytics_dagster_tests.test_dagster_dev import (
    PATIENCE,
    PLACE,
    DagsterDev,
    running_dev,
    wait_until,
)

# Made up anew each time: the search must not find them in the copy of this file.
KEY = f'a+{uuid4().hex}/b c=%&"\\z{uuid4().hex}'
NAME = f"Zebedee{uuid4().hex}"
PASSWORD = f"pa#{uuid4().hex}"
TOKEN = uuid4().hex

DEBUG = "\npython_logs:\n  python_log_level: DEBUG\n  managed_python_loggers: [root]\n"


def percent(text: str, hexes: str = "02x") -> str:
    """Every sign percent-encoded, letters too."""
    return "".join(f"%{byte:{hexes}}" for byte in text.encode())


def in_lines(text: str, end: str) -> str:
    return end.join(text[at : at + 7] for at in range(0, len(text), 7))


def in_base64(text: str, shift: int) -> str:
    return b64encode(b"x" * shift + text.encode() + b"yyy").decode()


# The search itself

SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in a query": quote_plus,
    "in a path": quote,
    "in a query in a query": lambda secret: quote(quote(secret, safe=""), safe=""),
    "percent": percent,
    "percent, upper": lambda secret: percent(secret, "02X"),
    "percent, mixed": lambda secret: percent(secret[:9]) + percent(secret[9:], "02X"),
    "percent, twice": lambda secret: quote(percent(secret)),
    "JSON": json.dumps,
    "JSON in JSON": lambda secret: json.dumps(json.dumps(secret)),
    "JSON escapes": lambda secret: "".join(f"\\u{ord(sign):04X}" for sign in secret),
    "repr": lambda secret: repr(repr(secret)),
    "HTML": html.escape,
    "hex": lambda secret: secret.encode().hex(),
    **{f"base64, {shift}": partial(in_base64, shift=shift) for shift in range(3)},
    "base64, urlsafe": lambda secret: urlsafe_b64encode(b"?>" + secret.encode()).decode(),
    "base64 in lines": lambda secret: in_lines(in_base64(secret, 1), "\n"),
    "in lines": lambda secret: in_lines(secret, "\n   "),
    "in lines of a shell": lambda secret: in_lines(secret, "\\\n"),
    "in lines in JSON": lambda secret: in_lines(secret, "\\n"),
    "in texts of Python": lambda secret: in_lines(secret, "'\n '"),
    "in UTF-16": lambda secret: secret.encode("utf-16-le").decode(),
}


def in_sqlite(path: Path, text: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (long TEXT)")
        connection.execute("INSERT INTO t VALUES (?)", ("-" * 4000 + text + "-" * 9000,))
    connection.close()


def in_duckdb(path: Path, text: str) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE t AS SELECT i, ? AS name FROM range(9) AS r(i)", [text])


def in_zip(path: Path, text: str) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.txt", text * 9)


PLACES: dict[str, Callable[[Path, str], Any]] = {
    "text": lambda path, text: path.write_text(text),
    "binary": lambda path, text: path.write_bytes(b"\xff\x00" + text.encode() + b"\xfe"),
    "pickle": lambda path, text: path.write_bytes(pickle.dumps({"a": [text]})),
    "gzip": lambda path, text: path.write_bytes(gzip.compress(text.encode() * 9)),
    "zip": in_zip,
    "parquet": lambda path, text: pq.write_table(pa.table({"a": [text] * 9}), path),
    "sqlite": in_sqlite,
    "duckdb": in_duckdb,
}


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("secret", [KEY, NAME, PASSWORD], ids=["key", "name", "password"])
def test_the_search_finds_every_spelling(spell: Callable[[str], str], secret: str) -> None:
    """Without that, finding nothing would mean nothing."""
    assert Leaks(secret).among(f"before {spell(secret)} behind")
    assert not Leaks(secret).among(f"before {spell('z' + secret[::-1])} behind")


@pytest.mark.parametrize("place", PLACES)
def test_the_search_looks_into_every_kind_of_file(place: str, tmp_path: Path) -> None:
    """At any depth of a folder, packed or not; it names the file."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    PLACES[place](tmp_path / "a" / "b" / "file", KEY)
    PLACES[place](tmp_path / "other", "nothing")
    assert Leaks(KEY).among(tmp_path) == [str(tmp_path / "a" / "b" / "file")]


# What is left behind


@dataclass
class Scene:
    """A checkout in which everything is logged and nothing of which is thrown away."""

    checkout: Checkout
    folder: Path

    @property
    def warehouse(self) -> Path:
        return self.folder / "data" / "analytics.duckdb"

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    def points_at(self, api: FakeApi) -> None:
        self.checkout.environment |= {
            "ANALYTICS_API_BASE_URL": api.base_url,
            "ANALYTICS_API_KEY": KEY,
        }

    def begin(self, *command: str) -> subprocess.Popen[str]:
        """A process in the checkout; what it says goes into the folder."""
        with (self.folder / "out.txt").open("a") as out, (self.folder / "err.txt").open("a") as err:
            return subprocess.Popen(
                command,
                cwd=self.checkout.folder,
                env=self.checkout.environment,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                text=True,
            )

    def run(self, *command: str, told: str = "") -> int:
        """The exit status of a process that is told this."""
        with self.begin(*command) as process:
            try:
                process.communicate(told, timeout=PATIENCE * 4)
            finally:
                process.kill()
        return process.returncode

    def events_say(self, words: str) -> bool:
        """Whether Dagster's event log has the words."""
        storage = self.checkout.folder / ".dagster" / "history" / "runs"
        return any(words.encode() in path.read_bytes() for path in storage.iterdir())

    def said(self) -> str:
        return (self.folder / "out.txt").read_text() + (self.folder / "err.txt").read_text()

    def assert_hidden(self, *texts: str) -> None:
        """No file and none of the texts has the key; a row is in the warehouse only."""
        for secret in (KEY, PASSWORD, TOKEN):
            assert Leaks(secret).among(self.folder, *texts) == []
        places = [path for path in self.folder.iterdir() if path != self.warehouse.parent]
        for datum in (NAME, str(NUMBER)):
            assert Leaks(datum).among(*places, *texts) == []
        assert Leaks(NAME).among(self.warehouse) == [str(self.warehouse)]


@pytest.fixture
def scene(checkout: Checkout, tmp_path: Path) -> Scene:
    scene = Scene(checkout, tmp_path)
    scene.warehouse.parent.mkdir()
    scene.temporary.mkdir()
    with (checkout.folder / ".dagster" / "dagster.yaml").open("a") as settings:
        settings.write(DEBUG)
    checkout.environment |= {
        "ANALYTICS_DUCKDB_PATH": str(scene.warehouse),
        "RUNTIME__LOG_LEVEL": "DEBUG",
        "TMPDIR": str(scene.temporary),
        "NO_PROXY": "127.0.0.1,localhost",
    }
    return scene


# All faults, in one process


def told_in_rows(payload: Json) -> Json:
    """The key in the values of rows, as servers write it that log what they were asked."""
    asked = f"/v1/x?api_key={quote_plus(KEY)}"
    notes = (KEY, asked, quote(asked, safe=""), html.escape(KEY), json.dumps({"was": KEY}))
    for row in payload["data"]:
        row["note"] = " ".join(notes)
    return payload


def told_in_names(payload: Json) -> Json:
    """The key as the name of a field, and where the total should be."""
    return {"data": [row | {KEY: 1} for row in payload["data"]], "total": KEY, KEY: KEY}


def broken_rows(count: int, calls: str = KEY) -> Callable[[Json], Json]:
    """So many rows of each page break the contract by their calls."""

    def edit(payload: Json) -> Json:
        rows = payload["data"]
        return payload | {"data": [r | {"calls": calls} for r in rows[:count]] + rows[count:]}

    return edit


@fault
def mirror(exchange: Exchange) -> None:
    """Answer with the whole request in each row, and in headers."""
    _, payload = exchange.api.honest(exchange.asked)
    asked = f"{exchange.path} {exchange.asked.headers}"
    for row in payload["data"]:
        row["note"] = asked
    exchange.reply(200, json.dumps(payload).encode(), {"etag": asked, "link": f"<{asked}>"})


@fault
def asks_to_log_in(exchange: Exchange) -> None:
    """Redirect to a page of the same host, which is told where to come back to."""
    location = f"/login?next={quote(exchange.path, safe='')}"
    exchange.reply(302, b"", {"location": location})


@fault
def broken_head(exchange: Exchange) -> None:
    """Answer with lines that are no headers, with the key and a row in them."""
    lines = ["HTTP/1.1 200 OK", KEY, f"x: {KEY}", "", json.dumps({KEY: NAME})]
    exchange.leave("\r\n".join(lines).encode())


AGAIN, AWAY = "0.01", "http://localhost:9/"
BROKEN = json.dumps({"error": f"{KEY} may not see {NAME}", "data": None}).encode()
STATUSES: dict[str, tuple[Fault, str]] = {
    **{f"status_{code}": (status(code, body=BROKEN), "StatusError") for code in (400, 404, 410)},
    **{f"status_{code}": (status(code, body=BROKEN), "UnauthorizedError") for code in (401, 403)},
    **{
        f"status_{code}": (status(code, AGAIN, BROKEN), "StatusError")
        for code in (408, 425, 429, 500, 502, 503)
    },
    "wait_too_long": (status(429, 4000, headers={"x-key": KEY}), "StatusError"),
    "wait_for_key": (status(404, KEY, BROKEN), "StatusError"),
    "redirect_away": (redirect(AWAY, keep_query=True), "RedirectError"),
    "redirect_to_key": (redirect(f"http://localhost:9/{quote(KEY)}#{NAME}"), "RedirectError"),
    "redirect_in_a_circle": (
        redirect("/v1/redirect_in_a_circle", keep_query=True),
        "RedirectError",
    ),
    "asks_to_log_in": (asks_to_log_in(), "StatusError"),
}
SLOW: dict[str, tuple[Fault, str]] = {
    "hung": (hang(), "TimeLimitError"),
    "dripped": (drip(), "TimeLimitError"),
    "dripped_headers": (drip(headers=True), "TimeLimitError"),
}
EXCHANGES: dict[str, tuple[Fault, str]] = {
    "key_echoed": (echo_key(), "StatusError"),
    "reset": (reset(), "UnreachableError"),
    "closed": (close(), "UnreachableError"),
    "cut": (cut(60), "UnreachableError"),
    "cut_chunked": (cut_chunked(), "UnreachableError"),
    "cut_without_length": (cut_without_length(), "MalformedBodyError"),
    "gzip_garbage": (gzip_garbage(), "MalformedBodyError"),
    "broken_head": (broken_head(), "MalformedBodyError"),
    "no_json": (raw(f"<p>{NAME} {KEY}".encode(), f"text/html; x={NAME}"), "MalformedBodyError"),
    "key_for_a_type": (raw(b"<p>", quote(KEY)), "MalformedBodyError"),
    "utf_16": (raw(json.dumps({"data": [{"id": KEY}]}).encode("utf-16")), "MalformedBodyError"),
    "empty_body": (raw(b""), "MalformedBodyError"),
    "error_for_rows": (raw(BROKEN), "MalformedBodyError"),
    "key_for_rows": (answer({"data": f"{KEY} {NAME}"}), "MalformedBodyError"),
    "object_for_rows": (answer({"data": {KEY: NAME}}), "MalformedBodyError"),
    "list_of_rows": (answer([KEY, {"name": NAME}]), "MalformedBodyError"),
    "rows_missing": (change(lambda page: page | {"total": 99}), "IncompleteReadError"),
    "fields_collide": (
        change(lambda page: {"data": [r | {"A b": KEY, "a_b": NAME} for r in page["data"]]}),
        "FieldCollisionError",
    ),
    "all_rejected": (change(broken_rows(40)), "TooManyRejectedError"),
    "one_rejected": (change(broken_rows(1)), "loaded"),
    "key_in_rows": (change(told_in_rows), "loaded"),
    "key_in_names": (change(told_in_names), "loaded"),
    "request_in_rows": (mirror(), "loaded"),
}
# What the database refuses, to how the table was changed after its first load.
REFUSALS = {
    "number_too_large": "ALTER TABLE number_too_large ALTER calls TYPE TINYINT",
    "number_too_long": "ALTER TABLE number_too_long ALTER calls TYPE SMALLINT",
    "text_no_uuid": "ALTER TABLE text_no_uuid ALTER name TYPE UUID USING NULL",
    "text_no_list": "ALTER TABLE text_no_list ALTER name TYPE INTEGER[] USING NULL",
    "not_unique": "CREATE UNIQUE INDEX names ON not_unique (name)",
}
NUMBER = int(uuid4().hex[:15], 16) | 1 << 62
QUOTES = f"q\"'{NAME}"


def rest_api(resources: list[str], auth: Json) -> Json:
    """A REST API configuration with these resources, each with a name and a number."""
    columns = {
        "id": {"data_type": "bigint", "nullable": False},
        "name": {"data_type": "text"},
        "calls": {"data_type": "bigint"},
    }
    paginator = {"type": "offset", "limit": 100}
    return {
        "client": {"base_url": "https://api.example.com", "auth": auth},
        "resource_defaults": {"primary_key": "id", "write_disposition": "merge"},
        "resources": [
            {
                "name": name,
                "endpoint": {
                    "path": f"/v1/{name}",
                    "data_selector": "data",
                    "paginator": paginator,
                },
                "columns": columns,
            }
            for name in resources
        ],
    }


def step(
    api: FakeApi, resources: list[str], mode: str = "incremental", **analytics_api: Any
) -> Json:
    """A run of `faulty_runs` on this API, with little patience."""
    auth: Json = {
        "query": {"type": "api_key", "name": api.name, "location": "query"},
        "header": {"type": "api_key", "name": api.name, "location": "header"},
        "bearer": {"type": "bearer"},
        "basic": {"type": "http_basic", "username": api.name},
    }[api.auth]
    return {
        "rest_api": rest_api(resources, auth),
        "analytics_api": {"retries": 0, **analytics_api},
        "config": {"mode": mode},
        "set": {"ANALYTICS_API_BASE_URL": api.base_url},
    }


def serve(api: FakeApi, faults: dict[str, tuple[Fault, str]]) -> list[str]:
    """Lets the API commit the faults, each on a resource of its own with thirty rows."""
    for name, (act, _) in faults.items():
        api.rows[name] = people()
        api.always(name, act)
    return list(faults)


def people(**more: Any) -> list[Json]:
    return [{"id": number, "name": NAME, "calls": 3} | more for number in range(30)]


def refusals(api: FakeApi) -> list[Json]:
    """Two loads, between which somebody changes the tables so that new rows do not fit."""
    harmless = change(
        lambda page: page | {"data": [r | {"calls": 1, "name": str(r["id"])} for r in page["data"]]}
    )
    for name in REFUSALS:
        api.rows[name] = [{"id": 0, "name": QUOTES, "calls": NUMBER}, *people(name=QUOTES)[1:]]
        api.on(name, harmless, harmless)
    api.rows["half_a_character"] = people()
    api.on("half_a_character", *[change(lambda page: page)] * 2)
    api.always("half_a_character", change(broken_rows(1, "\ud800")))
    return [
        step(api, [*REFUSALS, "half_a_character"]),
        {"sql": "; ".join(["USE analytics.analytics", *REFUSALS.values()])},
        step(api, list(REFUSALS)),
        step(api, ["half_a_character"], mode="full_refresh"),
    ]


ECHOES = ("key_echoed", "reset", "no_json", "key_in_rows", "key_in_names", "request_in_rows")
WAYS: dict[str, Any] = {
    "param": {"auth": "query", "name": "apiToken"},
    "header": {"auth": "header", "name": "X-Access"},
    "bearer": {"auth": "bearer"},
    "basic": {"auth": "basic", "name": "team"},
}


def out_of_reach(api: FakeApi) -> dict[str, tuple[str, dict[str, str], str]]:
    """Base URLs, with proxies of the environment, and the error that they lead to."""
    dead = f"127.0.0.1:{unused_port()}"
    through = {"NO_PROXY": "", "no_proxy": ""}
    nowhere, encoded = "http://nosuch.invalid", quote(PASSWORD, safe="")
    return {
        "refused": (f"http://{dead}", {}, "UnreachableError"),
        "unknown_host": (nowhere, {}, "UnreachableError"),
        "no_tls": (api.base_url.replace("http:", "https:"), {}, "UnreachableError"),
        "key_as_user": (f"https://me:{KEY}@127.0.0.1", {}, "SettingError"),
        "key_as_fragment": (f"http://{dead}/#{quote(KEY)}", {}, "SettingError"),
        "proxy_refused": (
            nowhere,
            through | {"http_proxy": f"http://team:{encoded}@{dead}"},
            "UnreachableError",
        ),
        "proxy_no_url": (
            nowhere,
            through | {"http_proxy": f"http://team:{PASSWORD}@{dead}"},
            "SettingError",
        ),
    }


@pytest.mark.timeout(600)
def test_no_fault_shows_the_key_or_a_row(scene: Scene) -> None:
    """Of the API, the connection, the contract or the database, however the key is sent."""
    expected = {name: outcome for name, (_, outcome) in (STATUSES | EXCHANGES | SLOW).items()}
    with ExitStack() as stack:
        api = stack.enter_context(FakeApi(KEY))
        plan = [
            step(api, serve(api, STATUSES), retries=1),
            step(api, serve(api, EXCHANGES)),
            step(api, serve(api, SLOW), read_timeout=0.5, total_timeout=1),
            *refusals(api),
        ]
        expected |= dict.fromkeys(REFUSALS, "LoadError") | {"half_a_character": "loaded"}
        for way, settings in WAYS.items():
            other = stack.enter_context(FakeApi(KEY, **settings))
            known = {f"{way}_{name}": EXCHANGES[name] for name in ECHOES}
            plan.append(step(other, serve(other, known)))
            expected |= {name: outcome for name, (_, outcome) in known.items()}
        for name, (base_url, proxies, outcome) in out_of_reach(api).items():
            settings = {"ANALYTICS_API_BASE_URL": base_url, **proxies}
            plan.append(step(api, [name]) | {"set": settings})
            expected[name] = outcome
        scene.points_at(api)
        scene.run("python", "-m", "analytics_dagster_tests.faulty_runs", told=json.dumps(plan))
    outcomes = re.findall(r"^outcome (\w+) (.+)$", scene.said(), re.MULTILINE)
    assert dict(outcomes) == expected
    assert "api_key=***" in scene.said(), "the log of urllib3 was not heard"
    assert scene.events_say("api_key=***"), "the log of urllib3 was not kept"
    scene.assert_hidden()


# A daemon, a web server, and everything that they answer

ERROR = "{ message className stack errorChain { error { message stack } } }"
METADATA = """{ __typename label description
  ... on TextMetadataEntry { text } ... on JsonMetadataEntry { jsonString }
  ... on IntMetadataEntry { intRepr } ... on TimestampMetadataEntry { timestamp }
  ... on TableSchemaMetadataEntry { schema { columns { name description } } } }"""
EVERYTHING = f"""
query ($repository: RepositorySelector!) {{
  runsOrError(limit: 100) {{ ... on Runs {{ results {{
    runId status runConfigYaml tags {{ key value }}
    eventConnection(limit: 1000) {{ events {{ __typename
      ... on MessageEvent {{ message stepKey }}
      ... on ErrorEvent {{ error {ERROR} }}
      ... on LogsCapturedEvent {{ fileKey }}
      ... on MaterializationEvent {{ metadataEntries {METADATA} }}
      ... on EngineEvent {{ metadataEntries {METADATA} }}
    }} }} }} }} }}
  assetNodes {{ id description metadataEntries {METADATA}
    assetMaterializations {{ metadataEntries {METADATA} }} }}
  allTopLevelResourceDetailsOrError(repositorySelector: $repository) {{
    ... on ResourceDetailsList {{ results {{ name configuredValues {{ key value }} }} }} }}
  instance {{ info
    daemonHealth {{ allDaemonStatuses {{ daemonType lastHeartbeatErrors {ERROR} }} }} }}
  workspaceOrError {{ ... on Workspace {{ locationEntries {{
    displayMetadata {{ key value }} locationOrLoadError {{ ... on PythonError {ERROR} }} }} }} }}
}}"""
COMPUTE_LOGS = "query ($key: [String!]!) { capturedLogs(logKey: $key) { stdout stderr } }"
TICKS = f"""
query ($selector: InstigationSelector!) {{
  instigationStateOrError(instigationSelector: $selector) {{ ... on InstigationState {{
    ticks(limit: 50) {{
      status skipReason cursor error {ERROR} logEvents {{ events {{ message }} }} }}
  }} }}
}}"""
SENSORS = ("change_sensor", "failure_alert")


def answers(dev: DagsterDev) -> dict[str, Any]:
    """What GraphQL tells: of runs and all their events, of their output, of assets and ticks."""
    told = {"everything": dev.ask(EVERYTHING, repository=PLACE)}
    for run in told["everything"]["runsOrError"]["results"]:
        for event in run["eventConnection"]["events"]:
            if "fileKey" in event:
                key = [run["runId"], "compute_logs", event["fileKey"]]
                told["/".join(key)] = dev.ask(COMPUTE_LOGS, key=key)
    for name in SENSORS:
        told[name] = dev.ask(TICKS, selector={**PLACE, "name": name})
    return told


@pytest.mark.timeout(600)
def test_the_ui_and_the_daemon_show_neither(scene: Scene, listener: Listener) -> None:
    """In runs, events, output, metadata, ticks, alerts and exports, while half of it fails."""
    with FakeApi(KEY) as api:
        for name in ("account_overview", "agents_overview", "current_queue_activity"):
            api.rows[name] = agents(30, name=NAME)
        api.always("account_overview", change(told_in_rows))
        api.always("agents_overview", echo_key())
        api.always("current_queue_activity", redirect(AWAY, keep_query=True))
        scene.points_at(api)
        scene.checkout.environment["ANALYTICS_ALERT_WEBHOOK_URL"] = f"{listener.url}?token={TOKEN}"
        with running_dev(scene.checkout, scene.folder / "dev.txt") as dev:
            config = {"resources": {"analytics_api": {"config": {"retries": 1}}}}
            assert dev.runs("incremental_load", config) == "FAILURE"
            dev.ask(START_SENSOR, selector={**PLACE, "sensorName": "change_sensor"})
            wait_until(lambda: "HTTP 500" in str(answers(dev)["change_sensor"]))
            wait_until(lambda: bool(listener.alerts))
            told = answers(dev)
    texts = [json.dumps(told), json.dumps(listener.alerts)]
    assert "api_key=***" in texts[0], "the log of urllib3 was not told"
    assert "StatusError" in texts[1]
    runs = told["everything"]["runsOrError"]["results"]
    assert not scene.run("dagster", "debug", "export", runs[-1]["runId"], f"{scene.folder}/run.gz")
    scene.assert_hidden(*texts)


@pytest.mark.timeout(600)
def test_a_killed_run_leaves_neither_behind(scene: Scene) -> None:
    """With the key from the secrets of dlt, and with dlt's working folder and its trace left."""
    secrets = scene.checkout.folder / ".dlt" / "secrets.toml"
    secrets.write_text(f"api_key = '{KEY}'")
    with FakeApi(KEY) as api:
        for name in ("account_overview", "agents_overview", "current_queue_activity"):
            api.rows[name] = agents(30, name=NAME)
        scene.points_at(api)
        del scene.checkout.environment["ANALYTICS_API_KEY"]
        assert scene.run("python", "-m", "analytics_dagster") == 0
        for hour in range(11, 16):
            for rows in api.rows.values():
                rows[:] = agents(30, name=NAME, current_timestamp=f"2026-11-23T{hour}:00:00Z")
            killed_while_loading(scene)
            if left := traces(scene.temporary):
                break
    secrets.unlink()
    assert left
    assert Leaks(KEY).among(scene.folder) == []
    # Rows on their way into the warehouse are data; whatever else is left must not quote them.
    for rows_left in scene.temporary.rglob("*.parquet"):
        rows_left.unlink()
    scene.assert_hidden()


def traces(folder: Path) -> list[str]:
    """Where dlt has written a trace; a folder may go while it is looked into."""
    return [path for path, _, names in os.walk(folder) if "trace.pickle" in names]


def killed_while_loading(scene: Scene) -> None:
    """A run that is killed as soon as dlt has written its trace, or ends before that."""
    command = ("dagster", "job", "execute", "-m", "analytics_dagster.definitions")
    with scene.begin(*command, "-j", "incremental_load") as process:
        give_up = time.monotonic() + PATIENCE
        while process.poll() is None and not traces(scene.temporary):
            assert time.monotonic() < give_up
            time.sleep(0.002)
        process.kill()
