"""A load takes as much memory for a large table as for a small one."""

from __future__ import annotations

from pathlib import Path

import pytest

from analytics_dagster import scratch
from analytics_dagster.scratch import connect
from analytics_dagster.warehouse import Warehouse
from analytics_dagster_tests.conftest import Project, agents
from analytics_dagster_tests.fake_api import FakeApi
from bench.__main__ import load_agents
from bench.contenders import Bench, Offer

AGENTS = "agents_overview"


def test_a_load_of_many_rows_takes_no_more_memory_than_duckdb_may(tmp_path: Path) -> None:
    """Four times the rows: the peak of the whole process grows by what DuckDB may take, at most.

    The rows that are read more take a gigabyte as Python holds them.
    """
    bench = Bench(tmp_path)
    few, many = (load_agents(bench, Offer(rows)) for rows in (150_000, 600_000))
    assert not few.flaw + many.flaw
    assert many.peak - few.peak < Warehouse().memory_mb


def test_duckdb_puts_aside_what_does_not_fit(tmp_path: Path) -> None:
    """More distinct rows than its memory holds, sorted within it."""
    with connect(tmp_path, memory_mb=128) as connection:
        [[rows]] = connection.execute(
            "SELECT count(*) FROM (SELECT * FROM (SELECT i, md5(i::VARCHAR) || md5((-i)::VARCHAR) "
            "AS wide FROM range(3_000_000) r(i)) ORDER BY wide)"
        ).fetchall()
    assert rows == 3_000_000


def test_too_little_memory_is_told_with_the_setting(
    project: Project, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the rows are as they were."""
    project.points_at(api)
    api.rows[AGENTS] = agents(50)
    assert project.run(AGENTS).success
    monkeypatch.setattr(scratch, "connect", lambda folder, _: connect(folder, 2))
    api.rows[AGENTS] = agents(5000)
    error = project.run(AGENTS).error
    assert "MemoryLimitError" in error
    assert "Set memory_mb of the resource `warehouse` higher" in error
    assert project.query(f"SELECT count(*) FROM {AGENTS}") == [(50,)]
