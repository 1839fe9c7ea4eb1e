"""deploy/kubernetes as far as it goes without a cluster: up to the Job of a run and its command."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from analytics_dagster.in_flight import LONGEST_RUN
from analytics_dagster.warehouse import Warehouse
from analytics_dagster_tests.conftest import agents
from analytics_dagster_tests.fake_api import FakeApi
from analytics_dagster_tests.kubernetes_cluster import (
    CMD,
    CODE,
    DAEMON_CONTAINER,
    DOCKERFILE,
    EVERYWHERE,
    IMAGE,
    INSTANCE,
    OBJECTS,
    PROFILE,
    ROOT,
    TMP,
    VALUES,
    Cluster,
)
from analytics_dagster_tests.postgres_server import PASSWORD, PostgresServer

OLD_AND_NEW = ("1.30", "1.37")
MODULE = CODE["dagsterApiGrpcArgs"][-1]
LAUNCHER = VALUES["runLauncher"]["config"]["k8sRunLauncher"]


@pytest.fixture
def cluster(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Cluster]:
    started = Cluster(tmp_path, postgres_server)
    yield started
    started.api.server.shutdown()
    started.api.server.server_close()


def test_a_run_becomes_a_job_that_kubernetes_takes_and_that_loads(
    cluster: Cluster, api: FakeApi, postgres_server: PostgresServer
) -> None:
    """Launched in the UI; its command has what Kubernetes would give it, and can write to /tmp."""
    api.rows |= {name: agents(3) for name in ("account_overview", "current_queue_activity")}
    api.rows["agents_overview"] = agents(250)
    job = cluster.takes_a_run()
    is_valid(job)
    gets_secrets_by_reference_alone(job, cluster.settings.values())
    is_kept_within_bounds(job)

    settings = {"ANALYTICS_API_BASE_URL": api.base_url, "ANALYTICS_API_KEY": api.key}
    [run] = job["spec"]["template"]["spec"]["containers"]
    cluster.pod("run", **settings).run(run["args"], run)
    rows = postgres_server.query(cluster.warehouse, "SELECT count(*) FROM agents_overview")
    assert rows == [(250,)]
    runs = postgres_server.query(cluster.storage, "SELECT status FROM public.runs")
    assert runs == [("SUCCESS",)]


def is_valid(job: Any) -> None:
    """To the last field, for an old and a new version of Kubernetes; with the project's image."""
    for version in OLD_AND_NEW:
        kubernetes_validate.validate(job, version, strict=True)
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGE


def gets_secrets_by_reference_alone(job: Any, secrets: Iterable[str]) -> None:
    """Whoever may read Jobs, and no Secrets, sees neither the key nor a password."""
    [run] = job["spec"]["template"]["spec"]["containers"]
    assert {"secretRef": {"name": "analytics-secrets"}} in run["envFrom"]
    assert {"configMapRef": {"name": "analytics-settings"}} in run["envFrom"]
    [password] = [item for item in run["env"] if item["name"] == "DAGSTER_PG_PASSWORD"]
    assert set(password) == {"name", "valueFrom"}
    for secret in secrets:
        assert secret not in json.dumps(job)


def is_kept_within_bounds(job: Any) -> None:
    """Not root, only /tmp to write to, the memory of a load, time to roll back, and then gone."""
    spec = job["spec"]["template"]["spec"]
    [run] = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert run["securityContext"]["readOnlyRootFilesystem"] is True
    assert run["securityContext"]["allowPrivilegeEscalation"] is False
    assert run["volumeMounts"] == [{"name": "tmp", "mountPath": TMP}]
    assert megabytes(run["resources"]["requests"]["memory"]) >= 300 + Warehouse().memory_mb
    assert set(run["resources"]["limits"]) == {"memory"}
    assert spec["terminationGracePeriodSeconds"] == 60
    assert job["spec"]["ttlSecondsAfterFinished"] == 86400
    assert job["spec"]["backoffLimit"] == 0  # Dagster begins a run again, not Kubernetes


def megabytes(quantity: str) -> int:
    return int(quantity[:-2]) * {"Mi": 1, "Gi": 1024}[quantity[-2:]]


@pytest.mark.parametrize("command", ["instance info", f"definitions validate -m {MODULE}"])
def test_a_command_works_on_the_instance_of_the_chart(cluster: Cluster, command: str) -> None:
    """It opens the storage by the password from the environment, and does not show it."""
    pod = cluster.pod_with_instance(command.partition(" ")[0])
    assert PASSWORD not in pod.run(["dagster", *command.split()], DAEMON_CONTAINER)


def snake(value: Any) -> Any:
    """Values as the chart writes them into an instance."""
    if isinstance(value, dict):
        return {re.sub("([A-Z])", r"_\1", k).lower(): snake(v) for k, v in value.items()}
    return value


def names(sources: list[dict[str, str]]) -> list[str]:
    return [source["name"] for source in sources]


def test_the_tested_instance_is_that_of_the_values() -> None:
    """Storage, queue, times, retries and retention are those that the values say."""
    database = VALUES["postgresql"]
    for storage in ("run_storage", "event_log_storage", "schedule_storage"):
        assert INSTANCE[storage]["config"]["postgres_db"] == {
            "hostname": database["postgresqlHost"],
            "port": database["service"]["port"],
            "username": database["postgresqlUsername"],
            "password": {"env": "DAGSTER_PG_PASSWORD"},
            "db_name": database["postgresqlDatabase"],
            "scheme": database["postgresqlScheme"],
            "params": {},
        }
    daemon = snake(VALUES["dagsterDaemon"])
    assert daemon["run_monitoring"].items() <= INSTANCE["run_monitoring"].items()
    assert daemon["run_retries"] == INSTANCE["run_retries"]
    queue = daemon["run_coordinator"]["config"]["queued_run_coordinator"]
    assert queue.items() <= INSTANCE["run_coordinator"]["config"].items()
    retention = snake(VALUES["retention"])
    assert retention["schedule"] == INSTANCE["retention"]["schedule"]
    kept = INSTANCE["retention"]["sensor"]["purge_after_days"]
    assert retention["sensor"]["purge_after_days"].items() <= kept.items()
    assert VALUES["telemetry"] == INSTANCE["telemetry"]
    assert VALUES["additionalInstanceConfig"].items() <= INSTANCE.items()


def test_the_tested_launcher_is_that_of_the_values() -> None:
    """Secrets, settings, bounds and volumes of a run are those that the values say."""
    launcher = INSTANCE["run_launcher"]["config"]
    assert launcher["env_secrets"] == names(LAUNCHER["envSecrets"])
    assert launcher["env_config_maps"] == names(LAUNCHER["envConfigMaps"])
    assert launcher["postgres_password_secret"] == VALUES["global"]["postgresqlSecretName"]
    assert launcher["resources"] == LAUNCHER["resources"]
    assert launcher["security_context"] == LAUNCHER["securityContext"]
    assert launcher["volumes"] == LAUNCHER["volumes"]
    assert launcher["volume_mounts"] == LAUNCHER["volumeMounts"]
    assert launcher["fail_pod_on_run_failure"] == LAUNCHER["failPodOnRunFailure"]
    assert launcher["run_k8s_config"] == {
        "pod_spec_config": LAUNCHER["runK8sConfig"]["podSpecConfig"],
        "job_spec_config": LAUNCHER["runK8sConfig"]["jobSpecConfig"],
    }


def test_the_daemon_ends_a_run_when_the_project_gives_it_up() -> None:
    """No schedule takes a run for dead that is still waited for."""
    monitoring = VALUES["dagsterDaemon"]["runMonitoring"]
    assert monitoring["maxRuntimeSeconds"] == LONGEST_RUN.total_seconds()


def test_every_pod_is_kept_within_bounds() -> None:
    """The webserver, the daemon and the code server are not root, and write to /tmp alone."""
    run = LAUNCHER["runK8sConfig"]["podSpecConfig"]["securityContext"]
    for pod in (VALUES["dagsterWebserver"], VALUES["dagsterDaemon"], CODE):
        assert pod["podSecurityContext"] == run
        assert pod["securityContext"] == LAUNCHER["securityContext"]
        assert pod["volumeMounts"] == LAUNCHER["volumeMounts"]
        assert pod["resources"]["limits"]


def test_kubernetes_takes_the_objects_of_the_profile() -> None:
    """The settings, and the shape of the secrets, for an old and a new version."""
    for document in OBJECTS:
        for version in OLD_AND_NEW:
            kubernetes_validate.validate(document, version, strict=True)


def test_the_profile_holds_no_secret() -> None:
    """The example has placeholders alone, and the values name secrets and no value of one."""
    secrets = [document for document in OBJECTS if document["kind"] == "Secret"]
    assert names([secret["metadata"] for secret in secrets]) == [
        *names(CODE["envSecrets"]),
        VALUES["global"]["postgresqlSecretName"],
    ]
    values = (PROFILE / "values.yaml").read_text()
    for secret in secrets:
        for name, value in secret["stringData"].items():
            assert "PLACEHOLDER" in value
            assert name not in values
    assert "postgresqlPassword" not in VALUES["postgresql"]
    assert VALUES["generatePostgresqlPasswordSecret"] is False


def test_the_chart_starts_the_code_server_as_the_image_does() -> None:
    """With the same command, and nothing of the image before it."""
    address = ["-h", EVERYWHERE, "-p", str(CODE["port"])]
    assert ["dagster", "api", "grpc", *address, *CODE["dagsterApiGrpcArgs"]] == CMD
    assert not re.search("^ENTRYPOINT", DOCKERFILE, re.MULTILINE)


def test_the_image_is_built_from_what_git_has() -> None:
    """What is copied is in git and passes `.dockerignore`, and nothing else does."""
    ignore = (PROFILE / "Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in ignore
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    assert sources == {line[1:] for line in ignore if line.startswith("!")}
    for source in sources:
        listed = subprocess.run(
            ["git", "ls-files", "--", source], cwd=ROOT, capture_output=True, check=True
        )
        assert listed.stdout, source


def pins(lock: str) -> dict[str, set[str]]:
    """The versions of each package; more than one where they depend on Python's."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^(\S+)==(\S+)", (ROOT / lock).read_text(), re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


def test_the_image_has_the_pins_that_are_tested() -> None:
    """All that it needs, in the versions of the tests' own environment, and no tools of theirs."""
    assert "--no-deps --require-hashes --requirement requirements-kubernetes.lock" in DOCKERFILE
    image, tested = pins("requirements-kubernetes.lock"), pins("requirements.lock")
    assert image.items() <= tested.items()
    assert {"dagster-k8s", "dagster-postgres", "psycopg2-binary", "setuptools"} <= image.keys()
    assert not {"mypy", "pytest", "moto"} & image.keys()


def test_the_chart_is_that_of_the_pinned_dagster() -> None:
    """The README installs the version of the chart that belongs to the image."""
    chart = re.findall(r"--version (\S+)", (PROFILE / "README.md").read_text())
    assert chart == re.findall(
        r"^dagster==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE
    )
