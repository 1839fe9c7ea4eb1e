"""Fixtures that read as words: a fake API, a clock that can be turned, a clean environment."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from analytics_dagster.api_config import REST_API
from analytics_dagster.api_spec import ApiSpec, read_spec
from analytics_dagster_tests.fake_api import FakeApi


class TurnedClock:
    """Stands in for the `time` module: sleeping takes no time and is written down."""

    def __init__(self) -> None:
        self.sleeps: list[float] = []
        self.now = time.time()

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds

    def time(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of this machine reaches a test."""
    for name in ("API_BASE_URL", "API_KEY", "DUCKDB_PATH"):
        monkeypatch.delenv(f"ANALYTICS_{name}", raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi(key="a+b/c=%") as fake:
        yield fake


@pytest.fixture(scope="session")
def spec() -> ApiSpec:
    """The project's own REST API configuration."""
    return read_spec(REST_API)
