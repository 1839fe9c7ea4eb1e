"""A real Redis server on loopback, from Debian's package, and all that it was ever told."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis

PASSWORD = "broker-pass-9431"


@contextmanager
def running_redis(folder: Path, config: Path) -> Iterator[tuple[str, Path]]:
    """The URL without a database, and a file with every command; with a configuration."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    told = folder / "told"
    ours = [f"--port {port}", "--bind 127.0.0.1", f"--requirepass {PASSWORD}", f"--dir {folder}"]
    server = ["redis-server", str(config), *" ".join(ours).split()]
    ask = ["redis-cli", "-p", str(port), "--no-auth-warning", "-a", PASSWORD]
    with (
        (folder / "redis.log").open("wb") as log,
        subprocess.Popen(server, stdout=log, stderr=log) as process,
    ):
        try:
            _wait_for(redis.Redis(port=port, password=PASSWORD))
            with (
                told.open("wb") as file,
                subprocess.Popen([*ask, "MONITOR"], stdout=file) as monitor,
            ):
                try:
                    yield f"redis://:{PASSWORD}@127.0.0.1:{port}", told
                finally:
                    monitor.terminate()
        finally:
            process.terminate()


def _wait_for(client: redis.Redis) -> None:
    give_up_at = time.monotonic() + 30
    while time.monotonic() < give_up_at:
        with suppress(redis.ConnectionError):
            client.ping()
            return
        time.sleep(0.05)
    raise AssertionError("Redis did not start")
