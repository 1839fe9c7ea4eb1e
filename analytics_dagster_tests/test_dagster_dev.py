"""`dagster dev` as a user starts it, and a launch through Dagster's GraphQL API."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import pytest
import requests

from analytics_dagster_tests.conftest import Checkout

PATIENCE = 90
OURS = re.compile(r"\banalytics_dagster/.*Warning")

LAUNCH = """
mutation (
  $selector: JobOrPipelineSelector!, $config: RunConfigData!, $tags: [ExecutionTag!]
) {
  launchRun(executionParams: {
    selector: $selector, runConfigData: $config, executionMetadata: {tags: $tags}
  }) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}"""
PLACE = {"repositoryLocationName": "analytics_dagster", "repositoryName": "__repository__"}
DEFAULT_CONFIG = """
query ($selector: PipelineSelector!) {
  runConfigSchemaOrError(selector: $selector) { ... on RunConfigSchema { rootDefaultYaml } }
}"""
CONFIG_TYPES = """
query ($selector: PipelineSelector!) {
  runConfigSchemaOrError(selector: $selector) { ... on RunConfigSchema { allConfigTypes {
    ... on CompositeConfigType { fields { name description isRequired } } } }
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

    def launch(
        self,
        job: str,
        config: Any = None,
        assets: list[Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Any:
        """The answer to a launch, with the default config of the job where none is given."""
        selector = PLACE | {"jobName": job, "assetSelection": assets}
        config = (
            config
            or self.ask(DEFAULT_CONFIG, selector=PLACE | {"pipelineName": job})[
                "runConfigSchemaOrError"
            ]["rootDefaultYaml"]
        )
        tagged = [{"key": key, "value": value} for key, value in (tags or {}).items()]
        return self.ask(LAUNCH, selector=selector, config=config, tags=tagged)["launchRun"]

    def runs(self, job: str, config: Any = None, assets: list[Any] | None = None) -> str:
        """How a launched run ends."""
        answer = self.launch(job, config, assets)
        assert answer["__typename"] == "LaunchRunSuccess", answer
        run = answer["run"]["runId"]

        def status() -> str:
            return str(self.ask(STATUS, id=run)["runOrError"]["status"])

        wait_until(lambda: status() in {"SUCCESS", "FAILURE", "CANCELED"})
        return status()

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


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ctrl-C; a process that does not end by it in time is killed, and that is an error."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


@contextmanager
def started_dev(
    checkout: Checkout, log: Path
) -> Iterator[tuple[DagsterDev, subprocess.Popen[bytes]]]:
    """`dagster dev` in the checkout, ready to be asked; what is left of it at the end is killed."""
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
            start_new_session=True,
        ) as process,
    ):
        dev = DagsterDev(f"http://127.0.0.1:{port}")
        try:
            wait_until(lambda: process.poll() is not None or dev.is_ready())
            assert process.poll() is None, log.read_text()
            yield dev, process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def running_dev(checkout: Checkout, log: Path) -> Iterator[DagsterDev]:
    """`dagster dev` in the checkout, ready to be asked; it is seen to end."""
    with started_dev(checkout, log) as (dev, process):
        try:
            yield dev
        finally:
            stop(process)
        assert not dev.is_ready(), "the web server outlived `dagster dev`"
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
    assert dagster_dev.runs("incremental_load") == "SUCCESS"
    with duckdb.connect(str(checkout.folder / "analytics.duckdb"), read_only=True) as file:
        counted = file.execute("SELECT count(*) FROM analytics.analytics.agents_overview")
        assert counted.fetchone() == (300,)
    for asset in dagster_dev.ask(ASSETS)["assetNodes"]:
        [loaded] = asset["assetMaterializations"]
        figures = {entry["label"]: entry.get("intValue") for entry in loaded["metadataEntries"]}
        assert figures["rows_loaded"] == figures["dagster/row_count"] > 0


def test_a_run_config_is_taken_and_refused_as_on_the_command_line(
    dagster_dev: DagsterDev, checkout: Checkout
) -> None:
    """A selection of one asset and a mode; a wrong mode is refused with the allowed ones."""

    def config(mode: str) -> Any:
        return {"ops": {"agents_overview": {"config": {"mode": mode}}}}

    agents = [{"path": ["analytics", "agents_overview"]}]
    answer = dagster_dev.launch("incremental_load", config("full"), agents)
    assert answer["__typename"] == "RunConfigValidationInvalid"
    assert "['incremental', 'full_refresh'] got full" in str(answer["errors"])

    def deleted() -> set[str]:
        return {
            entry["label"]
            for asset in dagster_dev.ask(ASSETS)["assetNodes"]
            for load in asset["assetMaterializations"]
            for entry in load["metadataEntries"]
        } & {"rows_deleted"}

    assert dagster_dev.runs("full_refresh", None, agents) == "SUCCESS"
    assert deleted()
    assert dagster_dev.runs("incremental_load", None, agents) == "SUCCESS"
    assert not deleted()
    assert dagster_dev.runs("incremental_load", config("full_refresh"), agents) == "SUCCESS"
    assert deleted()
    with duckdb.connect(str(checkout.folder / "analytics.duckdb"), read_only=True) as file:
        tables = file.execute("FROM (SHOW ALL TABLES) SELECT name WHERE schema = 'analytics'")
        assert [name for (name,) in tables.fetchall() if name[0] != "_"] == ["agents_overview"]


def test_the_launchpad_explains_the_run_config(dagster_dev: DagsterDev) -> None:
    """Every field of an asset's config has a description and a default."""
    types = dagster_dev.ask(CONFIG_TYPES, selector=PLACE | {"pipelineName": "full_refresh"})
    fields = {
        field["name"]: (field["isRequired"], bool(field["description"]))
        for kind in types["runConfigSchemaOrError"]["allConfigTypes"]
        for field in kind.get("fields", [])
    }
    assert fields["mode"] == fields["allow_shrink"] == (False, True)
