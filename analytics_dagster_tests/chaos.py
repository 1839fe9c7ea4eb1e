"""A world that changes between loads, and runs of the whole job that may be killed in the middle.

Here belongs the model: what the API offers, and what tables, rejected rows and cursors must be
after a load of it. What is asserted belongs in the tests.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import orjson

from analytics_dagster.api_config import INCREMENTAL, REST_API
from analytics_dagster.api_reader import read_spec
from analytics_dagster.assets import Mode
from analytics_dagster.columns import NEUTRAL_NAMES
from analytics_dagster.database import DATASET
from analytics_dagster.definitions import defs
from analytics_dagster.jobs import INCREMENTAL_LOAD

Row: TypeAlias = dict[str, Any]
Rows: TypeAlias = dict[int, Row]  # by their id
Modes: TypeAlias = Mapping[str, Mode]  # of each resource

SPEC = read_spec(REST_API)
STAMPS = {
    "account_overview": "total_calls",
    "agents_overview": "total_calls_accepted",
    "current_queue_activity": "calls_waiting",
}
"""Each resource, and its statistic that says of which version a row is."""
COLUMNS = {resource.name: list(resource.columns) for resource in SPEC.resources}
START = datetime(2020, 1, 1, tzinfo=timezone.utc)
# Longer than the lag, so that a cursor that moved before the rows did loses some.
STEP = timedelta(minutes=15)
LAG = timedelta(seconds=INCREMENTAL["lag"] or 0)


@dataclass
class World:
    """What the API serves: each version updates, adds, deletes and spoils some rows."""

    rng: random.Random
    version: int = 0
    rows: dict[str, list[Row]] = field(default_factory=dict)
    _next_id: int = 1

    def __post_init__(self) -> None:
        sizes = dict(zip(STAMPS, (60, 230, 120), strict=True))
        self.rows = {name: [self._new(name) for _ in range(sizes[name])] for name in STAMPS}

    def move_on(self) -> None:
        """The next version."""
        self.version += 1
        for name, rows in self.rows.items():
            kept = self.rng.sample(rows, len(rows) - 2)
            changed = [self._row(name, row["id"]) for row in kept[: len(kept) // 3]]
            changed[:2] = [row | {STAMPS[name]: "many"} for row in changed[:2]]
            new = [self._new(name) for _ in range(2)]
            self.rows[name] = changed + kept[len(kept) // 3 :] + new

    def _new(self, resource: str) -> Row:
        self._next_id += 1
        return self._row(resource, self._next_id)

    def _row(self, resource: str, key: int) -> Row:
        return {
            "id": key,
            "name": f"{resource} {key}, version {self.version}",
            "current_timestamp": (START + self.version * STEP).isoformat(),
            "vendor_account_id": 7,
            STAMPS[resource]: self.version,
        }


@dataclass
class Loaded:
    """The warehouse's part of one resource: its table, its rejected rows, its cursor."""

    table: Rows = field(default_factory=dict)
    rejected: Rows = field(default_factory=dict)
    cursor: datetime | None = None

    @property
    def since(self) -> datetime | None:
        """Where an incremental load begins to read."""
        return self.cursor - LAG if self.cursor and self.table else None

    def after(self, resource: str, offered: list[Row], mode: Mode) -> Loaded:
        """What a load of the offered rows makes of it."""
        since = self.since if mode == "incremental" else None
        read = [
            row for row in offered if since is None or moment(row["current_timestamp"]) >= since
        ]
        bad = {row["id"]: row for row in read if row[STAMPS[resource]] == "many"}
        good = {row["id"]: _cells(resource, row) for row in read if row["id"] not in bad}
        newest = max((row["current_timestamp"] for row in good.values()), default=None)
        if mode == "full_refresh":
            kept = {key: row for key, row in self.table.items() if key in bad}
            return Loaded(kept | good, self.rejected | bad, newest)
        cursor = max(filter(None, (self.cursor if self.table else None, newest)), default=None)
        return Loaded(self.table | good, self.rejected | bad, cursor)


def _cells(resource: str, row: Row) -> Row:
    cells = {NEUTRAL_NAMES.get(name, name): value for name, value in row.items()}
    return (
        dict.fromkeys(COLUMNS[resource])
        | cells
        | {"current_timestamp": moment(row["current_timestamp"])}
    )


def moment(text: str) -> datetime:
    """A moment as the API and its clients write it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def found(path: Path) -> dict[str, Loaded]:
    """What the file holds, each cell of it, without the cursors; read as another program would."""
    if not path.exists():
        return {name: Loaded() for name in STAMPS}
    with duckdb.connect(str(path), read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")

        def rows(table: str) -> list[Row]:
            try:
                answer = connection.execute(f'FROM "{path.stem}".{DATASET}.{table}')
            except duckdb.CatalogException:  # it was not made yet
                return []
            names = [column[0] for column in answer.description or []]
            return [dict(zip(names, values, strict=True)) for values in answer.fetchall()]

        rejected = [(row["resource"], orjson.loads(row["raw"])) for row in rows("rejected_rows")]
        return {
            name: _by_key(rows(name), [r for of, r in rejected if of == name]) for name in STAMPS
        }


def _by_key(table: list[Row], rejected: list[Row]) -> Loaded:
    keyed = Loaded({row["id"]: row for row in table}, {row["id"]: row for row in rejected})
    assert len(keyed.table) == len(table), "a row is there twice"
    assert len(keyed.rejected) == len(rejected), "a rejected row is there twice"
    return keyed


_CONTEXT = multiprocessing.get_context("forkserver")
# A process begins with all of this imported: nearly all of its life is the load.
_CONTEXT.set_forkserver_preload([__name__])


class JobRun:
    """The job in a process of its own, which has begun it."""

    def __init__(self, modes: Modes, environment: Mapping[str, str], log: Path) -> None:
        begun, begins = _CONTEXT.Pipe(duplex=False)
        arguments = (dict(modes), dict(environment), log, begins)
        self._process: ForkServerProcess = _CONTEXT.Process(target=_run_job, args=arguments)
        self._process.start()
        begins.close()
        begun.recv()
        self.pid = int(self._process.pid or 0)

    def ends(self, patience: float) -> int | None:
        """The exit status, or None when it lives for longer than so many seconds."""
        self._process.join(patience)
        return self._process.exitcode


def _run_job(modes: Modes, environment: Mapping[str, str], log: Path, begins: Connection) -> None:
    os.environ.update(environment)
    tempfile.tempdir = None
    for stream in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    # As Dagster does in the processes of its runs.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    job = defs.resolve_job_def(INCREMENTAL_LOAD)
    begins.send(None)
    run = job.execute_in_process(run_config=run_config(modes), raise_on_error=False)
    sys.exit(not run.success)


def run_config(modes: Modes) -> dict[str, Any]:
    """The config of a run that loads each resource in its mode."""
    return {"ops": {name: {"config": {"mode": mode}} for name, mode in modes.items()}}
