"""deploy/kubernetes as far as it goes without a cluster: up to the Job of a run, and its command."""

from __future__ import annotations

import copy
import fnmatch
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import tomli
import yaml

from analytics_dagster.in_flight import LONGEST_RUN
from analytics_dagster.warehouse import Warehouse
from analytics_dagster_tests.conftest import agents
from analytics_dagster_tests.fake_api import FakeApi
from analytics_dagster_tests.kubernetes_cluster import (
    INSTANCE,
    OBJECTS,
    PROFILE,
    ROOT,
    TMP,
    VALUES,
    KubernetesApi,
    Pod,
    free_port,
)
from analytics_dagster_tests.postgres_server import PASSWORD, USER, PostgresServer
from analytics_dagster_tests.test_dagster_dev import wait_until

VERSIONS = ("1.30", "1.37")
DOCKERFILE = (PROFILE / "Dockerfile").read_text()
[CMD] = [json.loads(line) for line in re.findall(r"^CMD (.*)$", DOCKERFILE, re.MULTILINE)]
[CODE] = VALUES["dagster-user-deployments"]["deployments"]
EVERYWHERE = "0.0.0.0"  # noqa: S104  in a pod of its own
MODULE = CODE["dagsterApiGrpcArgs"][-1]
IMAGE = f"{CODE['image']['repository']}:{CODE['image']['tag']}"
PASSWORD_ITEM = {
    "name": "DAGSTER_PG_PASSWORD",
    "valueFrom": {
        "secretKeyRef": {
            "name": VALUES["global"]["postgresqlSecretName"],
            "key": "postgresql-password",
        }
    },
}
# What the chart makes of the environment of the daemon, and of the code server.
DAEMON_CONTAINER: dict[str, Any] = {"envFrom": [], "env": [PASSWORD_ITEM]}
CODE_CONTAINER: dict[str, Any] = {
    "envFrom": [
        *({"configMapRef": source} for source in CODE["envConfigMaps"]),
        *({"secretRef": source} for source in CODE["envSecrets"]),
    ],
    "env": [{"name": "DAGSTER_CURRENT_IMAGE", "value": IMAGE}, PASSWORD_ITEM, *CODE["env"]],
}


def instance_on(postgres: PostgresServer, database: str) -> dict[str, Any]:
    """The instance of the chart, with the address of this Postgres and nothing else changed."""
    instance: dict[str, Any] = copy.deepcopy(INSTANCE)
    for storage in ("run_storage", "event_log_storage", "schedule_storage"):
        place = {"hostname": "127.0.0.1", "port": postgres.port, "username": USER}
        instance[storage]["config"]["postgres_db"] |= place | {"db_name": database}
    return instance


class Cluster:
    """A code server, the daemon and the API of Kubernetes, up to the Job of one run."""

    def __init__(self, folder: Path, postgres: PostgresServer) -> None:
        self.folder = folder
        self.postgres = postgres
        self.credentials = postgres.new_database()
        self.warehouse = postgres.new_database()
        self.settings = {
            "ANALYTICS_API_KEY": "planted-key",
            "ANALYTICS_ALERT_WEBHOOK_URL": "",
            "DAGSTER_PG_PASSWORD": PASSWORD,
            "DESTINATION__POSTGRES__CREDENTIALS": self.warehouse,
        }
        self.api = KubernetesApi()
        self.port = free_port()
        server = {"host": "127.0.0.1", "port": self.port, "location_name": CODE["name"]}
        self.workspace = folder / "workspace.yaml"
        self.workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))
        instance = instance_on(postgres, self.credentials.rpartition("/")[2])
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(self.api.kubeconfig())
        # There is no service account here to be found by load_incluster_config.
        instance["run_launcher"]["config"] |= {
            "load_incluster_config": False,
            "kubeconfig_file": str(kubeconfig),
        }
        self.instance = yaml.safe_dump(instance)

    def pod(self, name: str, **settings: str) -> Pod:
        """A pod with the settings and secrets of this test."""
        return Pod(self.folder / name, self.settings | settings)

    def dagster_pod(self, name: str) -> Pod:
        """A pod with the instance, as the daemon and the webserver have it."""
        pod = self.pod(name)
        (pod.folder / "home" / "dagster.yaml").write_text(self.instance)
        return pod

    def takes_a_run(self) -> Any:
        """The Job that Kubernetes is given for a run."""
        places = {EVERYWHERE: "127.0.0.1", str(CODE["port"]): str(self.port)}
        serve = [places.get(word, word) for word in CMD]
        workspace = ["--workspace", str(self.workspace)]
        code, daemon = self.pod("code"), self.dagster_pod("daemon")
        with code.started(serve, CODE_CONTAINER) as server:
            wait_until(lambda: self.is_served_by(server))
            with daemon.started(["dagster-daemon", "run", *workspace], DAEMON_CONTAINER):
                launch = ["dagster", "job", "launch", "--job", "incremental_load", *workspace]
                self.dagster_pod("cli").run(launch, DAEMON_CONTAINER)
                wait_until(lambda: bool(self.api.jobs))
        [job] = self.api.jobs
        return job

    def is_served_by(self, server: subprocess.Popen[bytes]) -> bool:
        """Whether the probe of the chart finds the code server ready."""
        assert server.poll() is None
        probe = [str(Path(sys.executable).parent / "dagster"), "api", "grpc-health-check", "-p"]
        done = subprocess.run([*probe, str(self.port)], check=False, capture_output=True)
        return done.returncode == 0


@pytest.fixture(scope="module")
def cluster(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    started = Cluster(tmp_path_factory.mktemp("cluster"), postgres_server)
    yield started
    started.api.server.shutdown()
    started.api.server.server_close()


@pytest.fixture(scope="module")
def job(cluster: Cluster) -> Any:
    return cluster.takes_a_run()


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_the_job_of_a_run(job: Any, version: str) -> None:
    """It is valid to the last field, for an old and a new version."""
    kubernetes_validate.validate(job, version, strict=True)
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGE


def test_a_run_gets_the_key_by_reference_alone(cluster: Cluster, job: Any) -> None:
    """Whoever may read Jobs, and no Secrets, sees neither the key nor a password."""
    [run] = job["spec"]["template"]["spec"]["containers"]
    assert {"secretRef": {"name": "analytics-secrets"}} in run["envFrom"]
    assert {"configMapRef": {"name": "analytics-settings"}} in run["envFrom"]
    [password] = [item for item in run["env"] if item["name"] == "DAGSTER_PG_PASSWORD"]
    assert set(password) == {"name", "valueFrom"}
    for secret in filter(None, cluster.settings.values()):
        assert secret not in json.dumps(job)


def test_a_run_is_kept_within_bounds(job: Any) -> None:
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
    assert spec["terminationGracePeriodSeconds"] > 30
    assert (job["spec"]["backoffLimit"], job["spec"]["ttlSecondsAfterFinished"]) == (0, 86400)


def megabytes(quantity: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * {"Mi": 1, "Gi": 1024}[unit]


def test_the_command_of_the_job_loads(cluster: Cluster, job: Any, api: FakeApi) -> None:
    """With the environment that Kubernetes would make, where only /tmp can be written to."""
    api.rows |= {name: agents(3) for name in ("account_overview", "current_queue_activity")}
    api.rows["agents_overview"] = agents(250)
    settings = {"ANALYTICS_API_BASE_URL": api.base_url, "ANALYTICS_API_KEY": api.key}
    [run] = job["spec"]["template"]["spec"]["containers"]
    cluster.pod("run", **settings).run(run["args"], run)
    loaded = cluster.postgres.query(cluster.warehouse, "SELECT count(*) FROM agents_overview")
    assert loaded == [(250,)]
    runs = cluster.postgres.query(cluster.credentials, "SELECT status FROM public.runs")
    assert runs == [("SUCCESS",)]


@pytest.mark.parametrize(
    "command", ["dagster instance info", f"dagster definitions validate -m {MODULE}"]
)
def test_a_command_works_on_the_instance_of_the_chart(
    postgres_server: PostgresServer, tmp_path: Path, command: str
) -> None:
    """As it is in the cluster, service account included; only Postgres is somewhere else."""
    database = postgres_server.new_database().rpartition("/")[2]
    pod = Pod(tmp_path, {"DAGSTER_PG_PASSWORD": PASSWORD})
    instance = yaml.safe_dump(instance_on(postgres_server, database))
    (pod.folder / "home" / "dagster.yaml").write_text(instance)
    said = pod.run(command.split(), CODE_CONTAINER)
    assert PASSWORD not in said


def snake(value: Any) -> Any:
    """Values as the chart writes them into an instance."""
    if isinstance(value, dict):
        return {re.sub("([A-Z])", r"_\1", k).lower(): snake(v) for k, v in value.items()}
    return value


def test_the_instance_is_that_of_the_values() -> None:
    """What is tested here is what the values say: limits, times, names and bounds."""
    daemon = snake(VALUES["dagsterDaemon"])
    for name in ("run_monitoring", "run_retries"):
        assert daemon[name].items() <= INSTANCE[name].items()
    queue = daemon["run_coordinator"]["config"]["queued_run_coordinator"]
    assert queue.items() <= INSTANCE["run_coordinator"]["config"].items()
    for name, kept in snake(VALUES["retention"]).items():
        if name != "enabled":
            days = INSTANCE["retention"][name]["purge_after_days"]
            wanted = kept["purge_after_days"]
            assert wanted == days or wanted.items() <= days.items()
    assert VALUES["additionalInstanceConfig"].items() <= INSTANCE.items()
    database = VALUES["postgresql"]
    storage = INSTANCE["run_storage"]["config"]["postgres_db"]
    assert storage["hostname"] == database["postgresqlHost"]
    assert storage["scheme"] == database["postgresqlScheme"]
    values = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
    launcher = INSTANCE["run_launcher"]["config"]
    for name in ("resources", "security_context", "volumes", "volume_mounts"):
        camel = re.sub(r"_(\w)", lambda found: found[1].upper(), name)
        assert launcher[name] == values[camel]
    for name, key in (("env_secrets", "envSecrets"), ("env_config_maps", "envConfigMaps")):
        assert launcher[name] == [source["name"] for source in values[key]]
    assert launcher["postgres_password_secret"] == VALUES["global"]["postgresqlSecretName"]
    specs = values["runK8sConfig"]
    assert launcher["run_k8s_config"]["pod_spec_config"] == specs["podSpecConfig"]
    assert launcher["run_k8s_config"]["job_spec_config"] == specs["jobSpecConfig"]


def test_the_daemon_ends_a_run_when_the_project_gives_it_up() -> None:
    """No schedule takes a run for dead that is still waited for."""
    monitoring = VALUES["dagsterDaemon"]["runMonitoring"]
    assert monitoring["maxRuntimeSeconds"] == LONGEST_RUN.total_seconds()


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_the_objects_of_the_profile(version: str) -> None:
    """The settings and the shape of the secrets, which holds placeholders alone."""
    for document in OBJECTS:
        kubernetes_validate.validate(document, version, strict=True)
        if document["kind"] == "Secret":
            assert all("PLACEHOLDER" in value for value in document["stringData"].values())


def test_the_values_hold_no_secret() -> None:
    """They name secrets, and no value of one: they can be committed."""
    text = (PROFILE / "values.yaml").read_text()
    for document in OBJECTS:
        for name in document.get("stringData", ()):
            assert name not in text
    assert "postgresqlPassword:" not in text
    assert VALUES["generatePostgresqlPasswordSecret"] is False


def test_the_chart_starts_the_code_server_as_the_image_does() -> None:
    """One command, and no ENTRYPOINT before it."""
    address = ["-h", EVERYWHERE, "-p", str(CODE["port"])]
    assert ["dagster", "api", "grpc", *address, *CODE["dagsterApiGrpcArgs"]] == CMD
    assert not re.search("^ENTRYPOINT", DOCKERFILE, re.MULTILINE)


def test_the_image_is_built_from_what_git_has() -> None:
    """Each file that is copied is in git, and passes `.dockerignore`; a secret does not."""
    ignored, *kept = [
        line
        for line in (PROFILE / "Dockerfile.dockerignore").read_text().splitlines()
        if not line.startswith("#")
    ]
    assert ignored == "*"
    kept = [line.removeprefix("!") for line in kept if line.startswith("!")]
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    assert sources == set(kept)
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    for source in sources:
        assert any(name == source or name.startswith(f"{source}/") for name in listed), source
    assert not fnmatch.filter(kept, "*secret*")


def test_the_image_finds_all_that_it_installs_among_the_pins() -> None:
    """The lock is made with the extra `dev`, which has what the image has."""
    extras = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras["kubernetes"]) <= set(extras["dev"])
    [installed] = re.findall(r'"\.\[(.*)\]"', DOCKERFILE)
    assert installed == "kubernetes,postgres"
