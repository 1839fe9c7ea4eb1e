"""One contender, one process: what it takes, and whether its tables are right afterwards."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from math import nan
from pathlib import Path
from typing import Any

import urllib3

from bench import KEY, PAGE_SIZE, RESOURCES

ROOT = Path(__file__).resolve().parents[1]
OURS, STOCK, PARQUET, FLOOR = "ours", "stock", "stock, parquet", "floor"
COMMANDS = {
    OURS: ["-m", "bench.ours", "{}"],
    STOCK: ["-m", "bench.stock"],
    PARQUET: ["-m", "bench.stock", "parquet"],
    FLOOR: ["-m", "bench.floor"],
}
_LIMIT = 3600.0  # seconds that one process may take


@dataclass(frozen=True)
class Offer:
    """What the server offers: `rows` of each resource; with `changed_at` the `changed` ones."""

    rows: int
    latency_ms: float = 0
    rate_limit: int = 0
    changed: int = 0
    changed_at: datetime | None = None

    def __str__(self) -> str:
        latency = f", {self.latency_ms:g} ms a page" if self.latency_ms else ""
        changed = f"{self.changed:,} changed of " if self.changed else ""
        return f"{changed}{self.rows:,} rows{latency}"


@dataclass(frozen=True)
class Run:
    """One process: seconds inside the load and in all, CPU seconds, MB at its peak.

    A run with a flaw failed, or left other rows than those offered: its figures are void.
    """

    load: float
    process: float
    cpu: float
    peak: float
    flaw: str = ""
    right: str = ""


@contextmanager
def server(offer: Offer) -> Iterator[str]:
    """The base URL of a server with this offer, which lives while the block runs."""
    arguments = [f"--rows={offer.rows}", f"--latency-ms={offer.latency_ms}"]
    arguments += [f"--rate-limit={offer.rate_limit}", f"--changed={offer.changed}"]
    arguments += [f"--changed-at={offer.changed_at.isoformat() if offer.changed_at else ''}"]
    with subprocess.Popen(
        [sys.executable, "-m", "bench.server", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    ) as process:
        try:
            yield str(process.stdout and process.stdout.readline()).strip()
        finally:
            process.communicate(timeout=10)  # it ends when its input does


class Bench:
    """A temporary folder with a Dagster instance of its own, and processes that run there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = 0
        private = ("ANALYTICS_", "DAGSTER_", "DLT_", "RUNTIME__")
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith(private)}
        self._environment |= {
            "PYTHONPATH": str(ROOT),
            "DAGSTER_HOME": str(folder),
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "NO_PROXY": "127.0.0.1",
            "ANALYTICS_API_KEY": KEY,
        }
        (folder / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")

    def new_file(self) -> Path:
        """A DuckDB file that is not there yet."""
        self._files += 1
        return self._folder / f"bench_{self._files}.duckdb"

    def load(
        self,
        command: Sequence[str],
        offer: Offer,
        base_url: str,
        file: Path | None = None,
        resources: Sequence[str] = RESOURCES,
    ) -> Run:
        """Runs a contender against the server, and looks at the tables that it left."""
        path = file or self.new_file()
        run = self.run(
            command, {"ANALYTICS_API_BASE_URL": base_url, "ANALYTICS_DUCKDB_PATH": str(path)}
        )
        if run.flaw:
            return run
        changed_at = offer.changed_at.isoformat() if offer.changed_at else ""
        found = json.loads(self._table("check", str(path), str(offer.rows), changed_at, *resources))
        if not file:
            path.unlink()
        expected = offer.changed or offer.rows
        if set(found.values()) != {expected}:
            return replace(run, flaw=f"{expected} rows were offered, and right are {found}")
        return replace(run, right=f"{len(resources)} x {expected:,}")

    def grow(self, file: Path, rows: int, resource: str) -> None:
        """Makes a loaded table larger, without an API."""
        self._table("grow", str(file), str(rows), resource)

    def run(self, arguments: Sequence[str], settings: dict[str, str] | None = None) -> Run:
        """Runs a fresh interpreter, and measures it; `load` is what it tells, if it does."""
        with tempfile.TemporaryFile("w+", dir=self._folder) as log:
            began = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, *arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=self._folder,
                env=self._environment | (settings or {}),
                text=True,
            )
            watch = threading.Timer(_LIMIT, process.kill)
            watch.start()
            with process.stdout or log as stdout:
                output = stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            watch.cancel()
            seconds = time.perf_counter() - began
            process.returncode = os.waitstatus_to_exitcode(status)
            told = _told(output)
            flaw = told.get("flaw") or (f"failed: {_end(log)}" if process.returncode else "")
        cpu = usage.ru_utime + usage.ru_stime
        return Run(told.get("seconds", nan), seconds, cpu, usage.ru_maxrss / 1024, flaw)

    def _table(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "bench.table", *arguments]
        return subprocess.check_output(command, cwd=ROOT, text=True, timeout=_LIMIT)


def _told(output: str) -> dict[str, Any]:
    """What a contender says in its last line; nothing, where it is a command of Dagster's."""
    last = output.strip().rpartition("\n")[2]
    return dict(json.loads(last)) if last.startswith("{") else {}


def _end(log: Any) -> str:
    log.seek(0)
    return " ".join(log.read()[-500:].split())


def stats(base_url: str) -> dict[str, float]:
    """What a server with a rate limit answered and refused, and in how many seconds."""
    return dict(urllib3.request("GET", f"{base_url}/stats", timeout=10).json())


def requests_per_second(requests: int = 3000) -> float:
    """What the server answers to a client that only counts bytes, on one connection."""
    with server(Offer(100_000)) as base_url:
        host, _, port = base_url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=10) as client:
            answers, began = client.makefile("rb"), time.perf_counter()
            for number in range(requests):
                path = f"/v1/{RESOURCES[number % 3]}?limit={PAGE_SIZE}&offset={number * 33}"
                client.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                *_, length = iter(answers.readline, b"\r\n")
                answers.read(int(length.rpartition(b" ")[2]))
            return requests / (time.perf_counter() - began)
