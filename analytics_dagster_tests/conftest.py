"""Fixtures that read as words: a fake API, a clock that can be turned, a clean environment."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from analytics_dagster.api_config import REST_API
from analytics_dagster.api_reader import read_spec
from analytics_dagster.api_spec import ApiSpec
from analytics_dagster.assets import build_assets
from analytics_dagster.checks import build_checks
from analytics_dagster.database import DATASET
from analytics_dagster.resources import AnalyticsApi
from analytics_dagster.warehouse import Warehouse
from analytics_dagster_tests.fake_api import FakeApi
from analytics_dagster_tests.postgres_server import PostgresServer, running_postgres
from analytics_dagster_tests.s3_server import S3Server, running_s3


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The one test that mostly waits begins first; the others run beside it."""
    items.sort(key=lambda item: item.get_closest_marker("daemon") is None)


class TurnedClock:
    """Stands in for the `time` module: sleeping takes no time and is written down.

    A whole second is a part of what follows: whoever sleeps looks up in between.
    """

    def __init__(self) -> None:
        self.sleeps: list[float] = []
        self.now = time.time()
        self._goes_on = False

    def sleep(self, seconds: float) -> None:
        slept = self.sleeps.pop() if self._goes_on else 0
        self.sleeps.append(slept + seconds)
        self.now += seconds
        self._goes_on = seconds == 1

    def time(self) -> float:
        return self.now

    monotonic = time


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of this machine reaches a test."""
    for name in [name for name in os.environ if name.startswith("ANALYTICS_")]:
        monkeypatch.delenv(name)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi(key="a+b/c=%d") as fake:
        yield fake


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with running_postgres() as running:
        yield running


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with running_s3() as running:
        yield running


@pytest.fixture(scope="session")
def spec() -> ApiSpec:
    """The project's own REST API configuration."""
    return read_spec(REST_API)


@dataclass(frozen=True)
class Run:
    """A finished run of the assets, in the words that tests ask for."""

    result: dg.ExecuteInProcessResult

    @property
    def success(self) -> bool:
        """Whether every selected asset was loaded."""
        return self.result.success

    def metadata(self, resource: str) -> dict[str, Any]:
        """The figures that Dagster shows of a loaded asset, as plain values."""
        for event in self.result.get_asset_materialization_events():
            if event.materialization.asset_key.path[-1] == resource:
                return {k: v.value for k, v in event.materialization.metadata.items()}
        raise AssertionError(f"{resource} was not materialized")

    @property
    def materialized(self) -> set[str]:
        """The resources that were loaded."""
        events = self.result.get_asset_materialization_events()
        return {event.materialization.asset_key.path[-1] for event in events}

    @property
    def error(self) -> str:
        """Kind and message of the innermost error of the first failure."""
        failed = [event for event in self.result.all_events if event.is_failure]
        error = getattr(failed[0].event_specific_data, "error", None) if failed else None
        while error is not None and error.cause is not None:
            error = error.cause
        return error.message if error else ""


class Project:
    """The project as a user runs it: settings from the environment, one DuckDB file."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self._set = monkeypatch.setenv
        self._set("ANALYTICS_DUCKDB_PATH", str(path))

    def points_at(self, api: FakeApi) -> None:
        """The settings of this API."""
        self._set("ANALYTICS_API_BASE_URL", api.base_url)
        self._set("ANALYTICS_API_KEY", api.key)

    def refresh(self, *resources: str, **config: Any) -> Run:
        """As `run`, as a full refresh."""
        return self.run(*resources, config={"mode": "full_refresh", **config})

    def run(
        self,
        *resources: str,
        spec: ApiSpec | None = None,
        config: Mapping[str, Any] | None = None,
        retries: int = 0,
        overlap_timeout: float = 60,
        instance: dg.DagsterInstance | None = None,
    ) -> Run:
        """Materializes the named resources, or all, in this process, with this config of each.

        With an instance of its own the run is recorded there, and the checks run as well.
        """
        spec = spec or read_spec(REST_API)
        selected = resources or tuple(resource.name for resource in spec.resources)
        checks = build_checks(spec) if instance else []
        result = dg.materialize(
            [*build_assets(spec), *checks],
            instance=instance,
            selection=[dg.AssetKey([DATASET, name]) for name in selected],
            resources={
                "analytics_api": AnalyticsApi(retries=retries),
                "warehouse": Warehouse(lock_timeout=1, overlap_timeout=overlap_timeout),
            },
            run_config={"ops": {name: {"config": config or {}} for name in selected}},
            raise_on_error=False,
        )
        return Run(result)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """The answer of the DuckDB file, read as another program would; dataset in scope."""
        with duckdb.connect(str(self.path), read_only=True) as connection:
            connection.execute(f'USE "{self.path.stem}".{DATASET}')
            return connection.execute(sql).fetchall()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path / "analytics.duckdb", monkeypatch)


class Listener:
    """A webhook on loopback: what it was sent, and what it answers."""

    def __init__(self) -> None:
        self.alerts: list[Any] = []
        self.answer = 200
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                listener.alerts.append(json.loads(body))
                self.send_response(listener.answer)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/services/T0/B0/hook-secret"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def listener() -> Iterator[Listener]:
    listening = Listener()
    yield listening
    listening.server.shutdown()
    listening.server.server_close()


class Versions(dict[str, Any]):
    """The rows of an API of which one resource is another version each time it is looked at."""

    def __init__(
        self, rows: dict[str, Any], resource: str, version_of: Callable[[int], list[Any]]
    ) -> None:
        super().__init__(rows)
        self._resource = resource
        self._version_of = version_of
        self._looks = itertools.count(1)

    def __getitem__(self, key: str) -> Any:
        if key == self._resource:
            return self._version_of(next(self._looks))
        return super().__getitem__(key)


class Checkout:
    """A copy of the project's files, and its commands run there as in a fresh clone."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        private = ("ANALYTICS_", "DAGSTER_", "PYTEST_")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(private)}
        self.environment |= {
            "DAGSTER_HOME": str(folder / ".dagster"),
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder),
            "VIRTUAL_ENV": sys.prefix,
        }

    def takes_settings(self) -> None:
        """Its commands run with the settings of this test."""
        self.environment |= {k: v for k, v in os.environ.items() if k.startswith("ANALYTICS_")}

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        """A command line, split as a shell does."""
        return subprocess.run(
            shlex.split(line),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    folder = tmp_path / "checkout"
    root = Path(__file__).resolve().parents[1]
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, folder / name)
    (tmp_path / "home").mkdir()
    return Checkout(folder, tmp_path / "home")


def agents(count: int, **changes: Any) -> list[dict[str, Any]]:
    """Rows of `agents_overview` as the API sends them."""
    base = {
        "current_timestamp": "2026-11-23T10:00:00Z",
        "vendor_account_id": 7,
        "average_wrap_up_time": 5,
        "total_calls_accepted": 3,
        "total_calls_denied": 0,
        "total_calls_missed": 1,
        "total_talk_time": 90,
        "total_wrap_up_time": 15,
    }
    return [{"id": i, "name": f"Agent {i}", **base, **changes} for i in range(1, count + 1)]
