"""Machines that share nothing but the network, on one machine: each has a disk and a name."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from analytics_dagster_tests.test_definitions import ROOT

# The disk of this machine stands where every machine has its own, and those of others are hidden.
_BOOT = """
hostname "$1" && mount --bind "$2/$1" "$3" && mount -t tmpfs none "$2" && shift 3 && exec "$@"
"""
_UNSHARE = ["unshare", "--mount", "--uts"] + (["--map-root-user"] if os.geteuid() else [])


@dataclass
class Machine:
    """One with the code of the project, as an image has it, and a disk with an instance file."""

    name: str
    folder: Path
    instance: Path
    settings: Mapping[str, str]
    commands: dict[str, str] = field(default_factory=dict)
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """The place where the disks stand."""
        self._place.mkdir(exist_ok=True)
        self._gets_a_disk()

    @property
    def disk(self) -> Path:
        """What the machine wrote."""
        return self.folder / "disks" / self.name

    @property
    def _place(self) -> Path:
        return self.folder / "disk"

    def start(self) -> None:
        """Begins its processes, which are left running; their output is on its disk."""
        boot = ["sh", "-c", _BOOT, "sh", self.name, str(self.folder / "disks"), str(self._place)]
        for unit, command in self.commands.items():
            with (self.disk / f"{unit}.log").open("wb") as log:
                process = subprocess.Popen(
                    [*_UNSHARE, *boot, *shlex.split(command)],
                    cwd=ROOT,
                    env=self._environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self.running.append(process)

    def logs(self) -> str:
        """The end of what its processes said."""
        files = [self.disk / f"{unit}.log" for unit in self.commands]
        return "\n".join(
            f"== {self.name} {file.stem}\n{file.read_text()[-4000:]}" for file in files
        )

    def kill(self) -> None:
        """The power is cut, and the disk is broken: no process says a word to another one."""
        for process in self.running:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.running.clear()
        self.disk.rename(self.disk.with_name(f"{self.name}.{time.monotonic_ns()}"))
        self._gets_a_disk()

    def _gets_a_disk(self) -> None:
        for name in ("home", "tmp", "dagster"):
            (self.disk / name).mkdir(parents=True)
        shutil.copy(self.instance, self.disk / "dagster" / "dagster.yaml")

    def _environment(self) -> dict[str, str]:
        return {
            "HOME": str(self._place / "home"),
            "TMPDIR": str(self._place / "tmp"),
            "DAGSTER_HOME": str(self._place / "dagster"),
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.settings,
        }


@contextmanager
def working(machines: Sequence[Machine]) -> Iterator[None]:
    """They run while the block does, as far as the block lets them."""
    try:
        for machine in machines:
            machine.start()
        yield
    finally:
        for machine in machines:
            machine.kill()
