"""Runs of the assets in one process on a Dagster instance, as a plan says.

The plan comes as JSON on stdin, so that it is in no file.
A step is `sql` for the warehouse, or a run: `rest_api` with its `resources`, the fields of
`analytics_api`, the `config` of the assets, and what to `set` in the environment. Each resource is
told on a line: its name, and `loaded` or the kind of its error.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import dagster as dg
import duckdb

from analytics_dagster.api_reader import read_spec
from analytics_dagster.assets import build_assets
from analytics_dagster.resources import AnalyticsApi
from analytics_dagster.run_failures import told_failures
from analytics_dagster.warehouse import Warehouse


def main(plan: Any) -> None:
    """Takes every step, whatever comes of it."""
    with dg.DagsterInstance.get() as instance:
        for step in plan:
            if "sql" in step:
                with duckdb.connect(str(Warehouse().path())) as connection:
                    connection.execute(step["sql"])
            else:
                _run(step, instance)


def _run(step: Any, instance: dg.DagsterInstance) -> None:
    os.environ.update(step["set"])
    spec = read_spec(step["rest_api"])
    names = [resource.name for resource in spec.resources]
    result = dg.materialize(
        build_assets(spec),
        instance=instance,
        resources={
            "analytics_api": AnalyticsApi(**step["analytics_api"]),
            "warehouse": Warehouse(lock_timeout=1),
        },
        run_config={"ops": {name: {"config": step["config"]} for name in names}},
        raise_on_error=False,
    )
    outcomes = dict.fromkeys(names, "loaded")
    failures = dict(told_failures(result.all_events))
    outcomes |= dict.fromkeys(names, failures["run"]) if "run" in failures else failures
    for name, told in outcomes.items():
        print(f"outcome {name} {told.partition(':')[0]}")  # noqa: T201  the test reads it


if __name__ == "__main__":
    main(json.load(sys.stdin))
