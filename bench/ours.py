"""The project as a user runs it: its own job through Dagster in this process.

Settings come from the environment. `python -m bench.ours '{"readers": 8}' agents_overview` sets
fields of the resource `analytics_api`, and loads only the resources that are named.
"""

from __future__ import annotations

import json
import sys
import time

import dagster as dg

import analytics_dagster.loading  # noqa: F401  as with all contenders, imports do not count
from analytics_dagster.assets import key_of
from analytics_dagster.definitions import defs
from analytics_dagster.jobs import INCREMENTAL_LOAD
from analytics_dagster.resources import AnalyticsApi


def main() -> None:
    """Loads the resources and prints the seconds."""
    config, selected = json.loads(sys.argv[1]), sys.argv[2:]
    if unknown := config.keys() - AnalyticsApi.model_fields.keys():
        print(json.dumps({"flaw": f"analytics_api has no field {', '.join(unknown)}"}))
        return
    with dg.DagsterInstance.get() as instance:
        began = time.perf_counter()
        result = defs.resolve_job_def(INCREMENTAL_LOAD).execute_in_process(
            instance=instance,
            run_config={
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                "resources": {"analytics_api": {"config": config}},
            },
            asset_selection=[key_of(name) for name in selected] or None,
            raise_on_error=False,
        )
        seconds = time.perf_counter() - began
    errors = [str(event.event_specific_data) for event in result.all_events if event.is_failure]
    print(json.dumps({"seconds": seconds, "flaw": " ".join(errors)[:500]}))


if __name__ == "__main__":
    main()
