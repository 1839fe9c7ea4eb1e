"""What can be had of a Kubernetes cluster without one: its API, and processes with a pod's bounds.

The API is a real server on loopback that takes Jobs and starts nothing. A pod is a process with the
environment of a container and no other, which may write below its own folder `tmp` alone. What they
are given comes from deploy/kubernetes; what Dagster's chart would make of it is said beside it.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import yaml

from analytics_dagster_tests.postgres_server import PASSWORD, USER, PostgresServer
from analytics_dagster_tests.test_dagster_dev import LAUNCH, PLACE, DagsterDev, wait_until

ROOT = Path(__file__).resolve().parents[1]
PROFILE = ROOT / "deploy" / "kubernetes"
VALUES = yaml.safe_load((PROFILE / "values.yaml").read_text())
INSTANCE = yaml.safe_load((Path(__file__).parent / "kubernetes_instance.yaml").read_text())
OBJECTS = [
    document
    for name in ("settings.yaml", "secret.example.yaml")
    for document in yaml.safe_load_all((PROFILE / name).read_text())
]
DOCKERFILE = (PROFILE / "Dockerfile").read_text()
[CMD] = [json.loads(line) for line in re.findall(r"^CMD (.*)$", DOCKERFILE, re.MULTILINE)]

[CODE] = VALUES["dagster-user-deployments"]["deployments"]
IMAGE = f"{CODE['image']['repository']}:{CODE['image']['tag']}"
EVERYWHERE, TMP = "0.0.0.0", "/tmp"  # noqa: S104, S108  in a pod of its own

_SECRET = {"name": VALUES["global"]["postgresqlSecretName"], "key": "postgresql-password"}
_PASSWORD = {"name": "DAGSTER_PG_PASSWORD", "valueFrom": {"secretKeyRef": _SECRET}}
# What the chart makes of the environment of the daemon and the webserver, and of the code server.
DAEMON_CONTAINER: dict[str, Any] = {"envFrom": [], "env": [_PASSWORD]}
CODE_CONTAINER: dict[str, Any] = {
    "envFrom": [
        *({"configMapRef": source} for source in CODE["envConfigMaps"]),
        *({"secretRef": source} for source in CODE["envSecrets"]),
    ],
    "env": [{"name": "DAGSTER_CURRENT_IMAGE", "value": IMAGE}, _PASSWORD, *CODE["env"]],
}

# What Python writes elsewhere fails as on a read-only file system.
READ_ONLY = """
import errno, os, sys
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_ALLOWED = (os.path.realpath(os.environ["TMPDIR"]) + os.sep, "/dev/")
def _guard(event, args):
    writes = event == "open" and isinstance(args[0], str) and args[2] & _WRITES
    if writes or event in ("os.mkdir", "os.rename", "os.remove") and args[-1] == -1:
        path = os.path.realpath(args[0])
        is_there = event == "os.mkdir" and os.path.isdir(path)
        if not is_there and not path.startswith(_ALLOWED):
            raise OSError(errno.EROFS, "Read-only file system", path)
sys.addaudithook(_guard)
sys.dont_write_bytecode = True
"""


class KubernetesApi:
    """The part of the API that a run launcher needs."""

    def __init__(self) -> None:
        self.jobs: list[Any] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                assert self.path == "/apis/batch/v1/namespaces/analytics/jobs"
                api.jobs.append(json.loads(body))
                self.send_response(201)
                self.send_header("content-type", "application/json")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def kubeconfig(self) -> str:
        """A configuration that leads a client here."""
        url = f"http://127.0.0.1:{self.server.server_address[1]}"
        config = {
            "clusters": [{"name": "test", "cluster": {"server": url}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }
        return str(yaml.safe_dump(config))


@dataclass
class Pod:
    """The files of a pod, and its settings and secrets by the names of their variables.

    They stand in for what settings.yaml and secret.example.yaml have under the same name. A name
    that is in neither reaches no process.
    """

    folder: Path
    settings: Mapping[str, str]

    def __post_init__(self) -> None:
        """As the image has them: the settings of dlt, and an empty DAGSTER_HOME."""
        for name in ("tmp", "guard", "home", "app/.dlt"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "guard" / "sitecustomize.py").write_text(READ_ONLY)
        shutil.copy(ROOT / ".dlt" / "config.toml", self.folder / "app" / ".dlt")

    def environment(self, container: Mapping[str, Any]) -> dict[str, str]:
        """What Kubernetes makes of `env` and `envFrom`."""
        objects = {
            document["metadata"]["name"]: document.get("data") or document["stringData"]
            for document in OBJECTS
        }
        found: dict[str, str] = {}
        for source in container["envFrom"]:
            found |= objects[next(iter(source.values()))["name"]]
        for item in container["env"]:
            secret = item.get("valueFrom", {}).get("secretKeyRef")
            found[item["name"]] = (
                objects[secret["name"]][secret["key"]] if secret else item["value"]
            )
        return found | {name: value for name, value in self.settings.items() if name in found}

    @contextmanager
    def started(
        self, command: Sequence[str], container: Mapping[str, Any]
    ) -> Iterator[subprocess.Popen[bytes]]:
        """The command of a container of the project's image; it is ended after the block."""
        environment = self.environment(container)
        home = "tmp" if environment.get("DAGSTER_HOME") == TMP else "home"
        environment |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder / "guard"),
            "HOME": str(self.folder / "tmp"),
            "TMPDIR": str(self.folder / "tmp"),
            "DAGSTER_HOME": str(self.folder / home),
        }
        with (
            (self.folder / "log").open("wb") as log,
            subprocess.Popen(
                command, cwd=self.folder / "app", env=environment, stdout=log, stderr=log
            ) as process,
        ):
            try:
                yield process
            finally:
                process.terminate()

    def run(self, command: Sequence[str], container: Mapping[str, Any]) -> str:
        """What a command says that has to end well."""
        log = self.folder / "log"
        with self.started(command, container) as process:
            assert process.wait(60) == 0, log.read_text()
        return log.read_text()


class Cluster:
    """The code server, the webserver and the daemon, and an API of Kubernetes that takes Jobs."""

    def __init__(self, folder: Path, postgres: PostgresServer) -> None:
        self.folder = folder
        self.storage, self.warehouse = postgres.new_database(), postgres.new_database()
        self.settings = {
            "ANALYTICS_API_KEY": "planted-key",
            "ANALYTICS_ALERT_WEBHOOK_URL": "http://127.0.0.1:9/planted-hook",
            "ANALYTICS_SCHEDULE": "0 0 29 2 *",  # no run but the one of the test
            "DAGSTER_PG_PASSWORD": PASSWORD,
            "DESTINATION__POSTGRES__CREDENTIALS": self.warehouse,
        }
        self.api = KubernetesApi()
        self.port = free_port()
        self.instance: dict[str, Any] = copy.deepcopy(INSTANCE)
        place = {"hostname": "127.0.0.1", "port": postgres.port, "username": USER}
        for storage in ("run_storage", "event_log_storage", "schedule_storage"):
            database = self.instance[storage]["config"]["postgres_db"]
            database |= place | {"db_name": self.storage.rpartition("/")[2]}
        # There is no service account here that could be found.
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(self.api.kubeconfig())
        access = {"load_incluster_config": False, "kubeconfig_file": str(kubeconfig)}
        self.instance["run_launcher"]["config"] |= access

    def pod(self, name: str, **settings: str) -> Pod:
        """A pod with the settings and secrets of this test."""
        return Pod(self.folder / name, self.settings | settings)

    def pod_with_instance(self, name: str) -> Pod:
        """A pod as the chart makes those of the daemon and the webserver."""
        pod = self.pod(name)
        (pod.folder / "home" / "dagster.yaml").write_text(yaml.safe_dump(self.instance))
        server = {"host": "127.0.0.1", "port": self.port, "location_name": CODE["name"]}
        workspace = {"load_from": [{"grpc_server": server}]}
        (pod.folder / "app" / "workspace.yaml").write_text(yaml.safe_dump(workspace))
        return pod

    def takes_a_run(self) -> Any:
        """The Job that Kubernetes is given for a run that somebody launches in the UI."""
        places = {EVERYWHERE: "127.0.0.1", str(CODE["port"]): str(self.port)}
        serve = [places.get(word, word) for word in CMD]
        ui = DagsterDev(f"http://127.0.0.1:{free_port()}")
        webserver = ["dagster-webserver", "-h", "127.0.0.1", "-p", ui.url.rpartition(":")[2]]
        with (
            self.pod("code").started(serve, CODE_CONTAINER) as code,
            self.pod_with_instance("webserver").started(webserver, DAEMON_CONTAINER),
            self.pod_with_instance("daemon").started(["dagster-daemon", "run"], DAEMON_CONTAINER),
        ):
            wait_until(lambda: self._is_ready(code))
            wait_until(ui.is_ready)
            job = PLACE | {"repositoryLocationName": CODE["name"], "jobName": "incremental_load"}
            ui.ask(LAUNCH, selector=job, config={})
            wait_until(lambda: bool(self.api.jobs))
        [taken] = self.api.jobs
        return taken

    def _is_ready(self, code: subprocess.Popen[bytes]) -> bool:
        """Whether the probe of the chart finds the code server ready."""
        assert code.poll() is None, (self.folder / "code" / "log").read_text()
        probe = [str(Path(sys.executable).parent / "dagster"), "api", "grpc-health-check", "-p"]
        done = subprocess.run([*probe, str(self.port)], check=False, capture_output=True)
        return done.returncode == 0


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
