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


class RedisServer:
    """The server with a configuration; its data, and `told`, every command, are in a folder."""

    def __init__(self, folder: Path, config: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        ours = f"--port {self._port} --bind 127.0.0.1 --requirepass {PASSWORD} --dir {folder}"
        self._server = ["redis-server", str(config), *ours.split()]
        self._monitor = ["redis-cli", "-p", str(self._port), "--no-auth-warning", "-a", PASSWORD]
        self._running: list[subprocess.Popen[bytes]] = []
        self.told = folder / "told"

    @property
    def url(self) -> str:
        """Without the number of a database."""
        return f"redis://:{PASSWORD}@127.0.0.1:{self._port}"

    def start(self) -> None:
        """With the data that it had."""
        with self.told.open("ab") as told:
            server = subprocess.Popen(self._server, stdout=subprocess.DEVNULL)
            self._wait()
            monitor = subprocess.Popen([*self._monitor, "MONITOR"], stdout=told)
        self._running = [monitor, server]

    def stop(self) -> None:
        """As a restart of its machine does."""
        for process in self._running:
            process.terminate()
            process.wait(30)
        self._running.clear()

    def _wait(self) -> None:
        client = redis.Redis(port=self._port, password=PASSWORD)
        give_up_at = time.monotonic() + 30
        while time.monotonic() < give_up_at:
            with suppress(redis.ConnectionError):
                client.ping()
                return
            time.sleep(0.05)
        raise AssertionError("Redis did not start")


@contextmanager
def running_redis(folder: Path, config: Path) -> Iterator[RedisServer]:
    """A server while the block runs."""
    server = RedisServer(folder, config)
    try:
        server.start()
        yield server
    finally:
        server.stop()
