"""`dagster dev` as a user starts it, and a launch through Dagster's GraphQL API."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
import requests

from analytics_dagster_tests.conftest import Checkout

PATIENCE = 90
OURS = re.compile(r"\banalytics_dagster/.*Warning")

LAUNCH = """
mutation ($selector: JobOrPipelineSelector!) {
  launchRun(executionParams: {selector: $selector, runConfigData: {}}) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
  }
}"""
STATUS = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
ASSETS = """
{ assetNodes {
    assetKey { path } groupName description kinds owners { ... on TeamAssetOwner { team } }
    metadataEntries { __typename ... on TableSchemaMetadataEntry { schema { columns {
      name type description constraints { nullable } } } } }
    assetMaterializations(limit: 1) {
      metadataEntries { label ... on IntMetadataEntry { intValue } } }
} }"""


class DagsterDev:
    """A running `dagster dev`, asked through GraphQL."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, query: str, **variables: Any) -> Any:
        """The data of the answer to a GraphQL query."""
        body = {"query": query, "variables": variables}
        answer = requests.post(f"{self.url}/graphql", json=body, timeout=30).json()
        assert "errors" not in answer, answer
        return answer["data"]

    def is_ready(self) -> bool:
        """Whether the code location is loaded."""
        try:
            return bool(self.ask("{ assetNodes { id } }")["assetNodes"])
        except requests.RequestException:
            return False


def wait_until(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Bounded: what does not come in time is an error."""
    give_up = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < give_up, f"not within {patience} s"
        time.sleep(0.3)


@contextmanager
def running_dev(checkout: Checkout, log: Path) -> Iterator[DagsterDev]:
    """`dagster dev` in the checkout, ready to be asked; it is seen to end."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["dagster", "dev", "--host", "127.0.0.1", "--port", str(port)]
    with (
        log.open("w") as output,
        subprocess.Popen(
            command,
            cwd=checkout.folder,
            env=checkout.environment,
            stdout=output,
            stderr=output,
        ) as process,
    ):
        dev = DagsterDev(f"http://127.0.0.1:{port}")
        try:
            wait_until(lambda: process.poll() is not None or dev.is_ready())
            assert process.poll() is None, log.read_text()
            yield dev
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)
    assert not [line for line in log.read_text().splitlines() if OURS.search(line)]


@pytest.fixture
def dagster_dev(checkout: Checkout, tmp_path: Path) -> Iterator[DagsterDev]:
    with running_dev(checkout, tmp_path / "dev.log") as dev:
        yield dev


def test_assets_are_shown_before_the_first_run_and_load_by_a_launch(
    dagster_dev: DagsterDev, checkout: Checkout
) -> None:
    """GraphQL shows groups, owners, kinds and columns; a launched run fills all three tables."""
    for asset in dagster_dev.ask(ASSETS)["assetNodes"]:
        assert asset["groupName"] == "call_centre"
        assert asset["description"]
        assert asset["owners"] == [{"team": "analytics"}]
        assert set(asset["kinds"]) == {"api", "dlt", "duckdb"}
        [schema] = [entry["schema"] for entry in asset["metadataEntries"] if "schema" in entry]
        columns = {column["name"]: column for column in schema["columns"]}
        assert columns["id"]["type"] == "bigint"
        assert columns["id"]["constraints"] == {"nullable": False}
        assert all(column["description"] for column in columns.values())
    selector = {
        "repositoryLocationName": "analytics_dagster",
        "repositoryName": "__repository__",
        "jobName": "incremental_load",
    }
    launched = dagster_dev.ask(LAUNCH, selector=selector)["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run = launched["run"]["runId"]

    def status() -> str:
        return str(dagster_dev.ask(STATUS, id=run)["runOrError"]["status"])

    wait_until(lambda: status() in {"SUCCESS", "FAILURE", "CANCELED"})
    assert status() == "SUCCESS"
    with duckdb.connect(str(checkout.folder / "analytics.duckdb"), read_only=True) as file:
        counted = file.execute("SELECT count(*) FROM analytics.analytics.agents_overview")
        assert counted.fetchone() == (300,)
    for asset in dagster_dev.ask(ASSETS)["assetNodes"]:
        [loaded] = asset["assetMaterializations"]
        figures = {entry["label"]: entry.get("intValue") for entry in loaded["metadataEntries"]}
        assert figures["rows_loaded"] == figures["dagster/row_count"] > 0
