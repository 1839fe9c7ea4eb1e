"""What a user sees of a load while it runs."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import threading
import time

import pytest

from analytics_dagster import progress
from analytics_dagster_tests.conftest import Checkout, Project, agents
from analytics_dagster_tests.fake_api import FakeApi, delay, status

AGENTS = "agents_overview"


@pytest.fixture(autouse=True)
def _slow_api(api: FakeApi, project: Project) -> None:
    """550 agents, and a third of a second for each page."""
    api.rows |= {name: [] for name in ("account_overview", "current_queue_activity")}
    api.rows[AGENTS] = agents(550)
    api.always(AGENTS, delay(0.3))
    project.points_at(api)


def said(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of Dagster's event log about the agents, as the console shows them."""
    return [line for line in capfd.readouterr().err.splitlines() if AGENTS in line]


def test_a_long_load_tells_how_far_it_is(
    project: Project,
    api: FakeApi,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Rows of total, pages, speed and the time that is left, every few seconds."""
    monkeypatch.setattr(progress, "SECONDS_BETWEEN", 0.5)
    api.rows[AGENTS] = agents(3550)
    assert project.run(AGENTS).success
    told = [line for line in said(capfd) if "rows/s" in line]
    assert 2 <= len(told) <= 4
    assert re.search(r"\b199 of 3,550 rows in 2 pages, \d+ rows/s, \d+ s left", told[0])


def test_a_short_load_says_little(project: Project, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing within the first five seconds."""
    assert project.run(AGENTS).success
    assert not [line for line in said(capfd) if "rows/s" in line]


def test_a_retry_is_told_when_it_waits(
    project: Project, api: FakeApi, capfd: pytest.CaptureFixture[str]
) -> None:
    """What happened, and for how long; without the key."""
    api.on(AGENTS, status(503), at_offset=99)
    assert project.run(AGENTS, retries=1).success
    log = "\n".join(said(capfd))
    assert re.search(r"offset=99: HTTP 503.* Trying again in 2\.\d s, for the 1\. of 1 times", log)
    assert api.key not in log
    assert "a%2Bb" not in log


def test_a_run_that_waits_for_another_one_says_so(
    project: Project, api: FakeApi, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the process that it waits for."""
    other = threading.Thread(target=project.run, args=(AGENTS,))
    other.start()
    while not api.requests:
        time.sleep(0.01)
    assert project.run(AGENTS).success
    other.join()
    assert f"is being loaded by process {os.getpid()}: waiting" in "\n".join(said(capfd))


def test_make_run_has_a_progress_bar_on_a_terminal(checkout: Checkout, project: Project) -> None:
    """And none where its output goes into a file."""
    assert project.path.parent.exists()
    checkout.takes_settings()
    assert "rows/s" not in checkout.run("python -m analytics_dagster").stderr
    project.path.unlink()
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "analytics_dagster"],
        cwd=checkout.folder,
        env=checkout.environment,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
        except OSError:  # the terminal is closed with the process
            pass
    assert process.returncode == 0
    assert re.search(rb"agents_overview: +\d+%\|.* \d+/550 ", shown)
