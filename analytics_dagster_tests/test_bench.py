"""The benchmark works. How fast anything is, is no matter of a test."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from bench import contenders
from bench.contenders import Bench, Offer

ROOT = Path(__file__).resolve().parents[1]


def test_all_contenders_load_every_row_that_is_offered() -> None:
    """Stock, stock with parquet, ours and the floor, in processes of their own."""
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--smoke"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    right = r"^\| ([\w, ]+?) +\| 3 x 250 rows .* 3 x 250 +\|$"
    loaded = re.findall(right, done.stdout, re.MULTILINE)
    assert sorted(loaded) == ["floor", "ours", "stock", "stock, parquet"]


def test_a_run_that_leaves_other_rows_is_void(tmp_path: Path) -> None:
    """A figure is worth nothing when a row is missing, however fast it was."""
    bench = Bench(tmp_path)
    with contenders.server(Offer(249)) as base_url:
        run = bench.load(contenders.COMMANDS[contenders.FLOOR], Offer(250), base_url)
    assert "250 rows were offered, and right are {'account_overview': 249" in run.flaw
