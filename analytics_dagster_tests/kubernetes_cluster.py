"""What can be had of a Kubernetes cluster without one: its API, and processes with a pod's bounds.

The API is a real server on loopback that takes Jobs and starts nothing. A pod is a process that has
the environment of a container and no other, and may write below its folder /tmp alone.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
PROFILE = ROOT / "deploy" / "kubernetes"
VALUES = yaml.safe_load((PROFILE / "values.yaml").read_text())
INSTANCE = yaml.safe_load((Path(__file__).parent / "kubernetes_instance.yaml").read_text())
TMP = "/tmp"  # noqa: S108  of a pod
OBJECTS = [
    document
    for name in ("settings.yaml", "secret.example.yaml")
    for document in yaml.safe_load_all((PROFILE / name).read_text())
]

# What Python writes outside of the temporary folder fails as on a read-only file system.
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
    """The part of the API that a run launcher needs: it takes Jobs, and forgets no one."""

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
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def kubeconfig(self) -> str:
        """A configuration that leads a client here."""
        place = {"name": "test", "cluster": {"server": self.url}}
        context = {"name": "test", "context": {"cluster": "test", "user": "test"}}
        user = {"name": "test", "user": {}}
        config = {"clusters": [place], "contexts": [context], "users": [user]}
        return str(yaml.safe_dump(config | {"current-context": "test"}))


@dataclass
class Pod:
    """The files of a pod: all that it may write is below `tmp`."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """As the image has them: the settings of dlt, and an empty DAGSTER_HOME."""
        for name in ("tmp", "guard", "home", "app"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "guard" / "sitecustomize.py").write_text(READ_ONLY)
        shutil.copytree(
            ROOT / ".dlt", self.folder / "app" / ".dlt", ignore=lambda *_: ["secrets.toml"]
        )

    def environment(self, container: Mapping[str, Any]) -> dict[str, str]:
        """What Kubernetes makes of `env` and `envFrom`, by the objects of the profile.

        A value of the profile gives way to the one of the test with its name; a name that the
        profile does not have reaches no process.
        """
        values = {document["metadata"]["name"]: _data(document) for document in OBJECTS}
        found: dict[str, str] = {}
        for source in container["envFrom"]:
            found |= values[next(iter(source.values()))["name"]]
        for item in container["env"]:
            reference = item.get("valueFrom", {}).get("secretKeyRef")
            known = values[reference["name"]][reference["key"]] if reference else item["value"]
            found[item["name"]] = known
        found |= {name: self.settings[name] for name in found if name in self.settings}
        return {name: value for name, value in found.items() if value}

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

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def run(self, command: Sequence[str], container: Mapping[str, Any]) -> str:
        """What a command says that has to end well."""
        with self.started(command, container) as process:
            assert process.wait(60) == 0, self.log()
        return self.log()


def _data(document: Any) -> dict[str, str]:
    return dict(document.get("data") or document["stringData"])


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
