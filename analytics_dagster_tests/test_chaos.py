"""Runs that are killed at any moment of their life: old rows or new ones, and no help needed.

`make test-chaos KILLS=500` kills as often as you like. A failure names its SEED: with that in the
environment the same world, modes and moments come again.
"""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import statistics
import subprocess
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeAlias

import pytest

from analytics_dagster.assets import Mode
from analytics_dagster_tests.chaos import (
    LAG,
    STAMPS,
    JobRun,
    Loaded,
    Modes,
    Row,
    Rows,
    World,
    found,
    moment,
    run_config,
)
from analytics_dagster_tests.conftest import Checkout
from analytics_dagster_tests.fake_api import FakeApi, delay

KILLS = int(os.environ.get("KILLS", "20"))
SEED = int(os.environ.get("SEED", random.SystemRandom().randrange(10**6)))
PATIENCE = 60
EVERY_COMMAND, EVERY_FIRST_LOAD = 15, 7
"""Of so many kills one is of a true `dagster job execute`, and one of a first load."""

Cursors: TypeAlias = dict[str, set[datetime | None]]
"""Where the cursor of each resource may stand."""

LOGGER = logging.getLogger(__name__)


class Run(Protocol):
    """A run of the job in a process of its own, which has begun."""

    pid: int

    def ends(self, patience: float) -> int | None:
        """The exit status, or None when it lives for longer than so many seconds."""


class CommandRun:
    """`dagster job execute`, from its first request on."""

    def __init__(self, modes: Modes, chaos: Chaos, checkout: Checkout) -> None:
        config = chaos.log.with_name("config.yaml")
        config.write_text(json.dumps(run_config(modes)))
        line = "dagster job execute -m analytics_dagster.definitions -j incremental_load -c"
        with chaos.log.open("ab") as output:
            self._process = subprocess.Popen(
                [*line.split(), str(config)],
                cwd=checkout.folder,
                env=checkout.environment | chaos.environment,
                stdout=output,
                stderr=output,
            )
        self.pid = self._process.pid
        while not chaos.api.requests:
            assert self.ends(0.01) is None, chaos.log.read_text()

    def ends(self, patience: float) -> int | None:
        """As of any run."""
        try:
            return self._process.wait(patience)
        except subprocess.TimeoutExpired:
            return None


class Chaos:
    """A world, its API, a warehouse, and what is known to be in it."""

    def __init__(self, api: FakeApi, folder: Path) -> None:
        self.rng = random.Random(SEED)  # noqa: S311  it is to come again
        self.world = World(self.rng)
        self.api = api
        self.path, self.log = folder / "analytics.duckdb", folder / "runs.log"
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.known = {name: Loaded() for name in STAMPS}
        self.lives: list[float] = []  # seconds that runs took which were let live
        self.phases: Counter[int] = Counter()  # kills by the tables that were new by then
        self.environment = {
            "ANALYTICS_API_BASE_URL": api.base_url,
            "ANALYTICS_API_KEY": api.key,
            "ANALYTICS_DUCKDB_PATH": str(self.path),
            "TMPDIR": str(self.temporary),
        }
        api.filter_field = "current_timestamp"
        for name in STAMPS:
            api.always(name, delay(0.01))  # reading is a part of the life of a run, too

    def moves_on(self) -> None:
        """The API has another version of everything."""
        self.world.move_on()
        self.api.rows = dict(self.world.rows)

    def is_new(self) -> None:
        """There is no warehouse yet."""
        for left in self.path.parent.glob(f"{self.path.name}*"):
            left.unlink()
        self.known = {name: Loaded() for name in STAMPS}

    def some_modes(self) -> Modes:
        """An incremental load, a full refresh, or some of both."""
        both: list[Mode] = ["incremental", "full_refresh"]
        among = self.rng.choice([both, both[:1], both[1:]])
        return {name: self.rng.choice(among) for name in STAMPS}

    def after(self, modes: Modes) -> dict[str, Loaded]:
        """What a whole run makes of what is known."""
        return {
            name: self.known[name].after(name, self.world.rows[name], mode)
            for name, mode in modes.items()
        }

    def begins(self, modes: Modes, checkout: Checkout | None = None) -> Run:
        """A run of the whole job; of the command in a checkout, where there is one."""
        self.api.requests.clear()
        if checkout:
            return CommandRun(modes, self, checkout)
        return JobRun(modes, self.environment, self.log)

    def asked_since(self, name: str) -> set[datetime | None]:
        """The moments since which the run asked for rows of a resource."""
        asked = {r.query.get("updated_since") for r in self.api.requests if r.resource == name}
        return {moment(since) if since else None for since in asked}

    def kills_a_run(self, number: int, share: float, checkout: Checkout | None) -> bool:
        """Kills a run after a share of its life, and lets the next one repair what it left.

        False when the run ended before.
        """
        if number % EVERY_FIRST_LOAD == EVERY_FIRST_LOAD - 1:
            self.is_new()
        self.moves_on()
        modes, seconds = self.some_modes(), share * statistics.median(self.lives[-9:])
        how = signal.SIGKILL if self.rng.random() < 0.8 else signal.SIGTERM
        story = f"SEED={SEED}: {how.name} {seconds:.3f} s after the start of run {number}, {modes}"
        killed = ended_by(self.begins(modes, checkout), how, seconds)
        left, after = found(self.path), self.after(modes)
        cursors = {name: {known.cursor} for name, known in self.known.items()}
        new_tables = 0
        for name, now in left.items():
            versions = [self.known[name], after[name]]
            assert now.table in [version.table for version in versions], f"{name}: {story}"
            assert now.rejected in [version.rejected for version in versions], f"{name}: {story}"
            if now.table == after[name].table:
                cursors[name].add(after[name].cursor)
                new_tables += 1
        LOGGER.info("%s: killed: %s, new tables: %d", story, killed, new_tables)
        self.phases[new_tables] += killed
        if self.rng.random() < 0.5:
            self.moves_on()
        self.recovers(left, cursors, story)
        return killed

    def recovers(self, left: dict[str, Loaded], cursors: Cursors, story: str) -> None:
        """The next run, without help: it goes on where a load was committed, and all is right."""
        modes = self.some_modes()
        story = f"{modes} after {story}"
        run, began = self.begins(modes), time.monotonic()
        assert run.ends(PATIENCE) == 0, f"{story}: {self.log.read_text()[-5000:]}"
        self.lives.append(time.monotonic() - began)
        for name, mode in modes.items():
            [since] = self.asked_since(name)
            allowed = {replace(left[name], cursor=cursor).since for cursor in cursors[name]}
            assert since in (allowed if mode == "incremental" else {None}), f"{name}: {story}"
            self.known[name] = replace(left[name], cursor=since and since + LAG)
        self.known = self.after(modes)
        for name, now in found(self.path).items():
            assert differences(now.table, self.known[name].table) == [], f"{name}: {story}"
            assert differences(now.rejected, self.known[name].rejected) == [], f"{name}: {story}"
        # Of loads and checks; one that is killed while definitions load leaves an empty folder.
        assert [*self.temporary.glob(f"analytics_dagster_{'?' * 12}_*")] == [], story


def differences(found: Rows, expected: Rows) -> list[tuple[Row | None, Row | None]]:
    """The first rows that are not the same, with what they should be."""
    pairs = [(found.get(key), expected.get(key)) for key in sorted({*found, *expected})]
    return [pair for pair in pairs if pair[0] != pair[1]][:3]


def ended_by(run: Run, how: signal.Signals, seconds: float) -> bool:
    """Whether the run still lived after so many seconds; it does no longer."""
    if run.ends(seconds) is not None:
        return False
    with suppress(ProcessLookupError):  # it ended in this moment
        os.kill(run.pid, how)
    return run.ends(PATIENCE) != 0


@pytest.mark.timeout(300 + 30 * KILLS)
def test_a_run_that_is_killed_leaves_old_rows_or_new_ones_and_the_next_run_repairs(
    api: FakeApi, tmp_path: Path, checkout: Checkout
) -> None:
    """Loads and refreshes of all resources, killed at moments that are spread over their life.

    Each table and the rejected rows of each resource are those of before or of after, cell by
    cell; and after the next run, which nobody helps, those of the API. No folder is left.
    """
    chaos = Chaos(api, tmp_path)
    chaos.moves_on()
    chaos.recovers(chaos.known, {name: {None} for name in STAMPS}, f"SEED={SEED}: nothing")
    spread = [(at + chaos.rng.random()) / KILLS for at in range(KILLS)]
    chaos.rng.shuffle(spread)
    for number in range(3 * KILLS):
        is_command = number % EVERY_COMMAND == EVERY_COMMAND - 1
        share = spread.pop()
        if not chaos.kills_a_run(number, share, checkout if is_command else None):
            spread.append(share * 0.9)
        if not spread:
            break
    assert chaos.phases.total() == KILLS, f"SEED={SEED}"
    assert KILLS < 20 or len(chaos.phases) > 2, f"SEED={SEED}: all killed early: {chaos.phases}"
