"""Which resources are being loaded already, so that no schedule or sensor asks for them again.

Two loads of one resource do no harm: the second one waits. Asking for it is only in vain.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import dagster as dg

from analytics_dagster.api_spec import ApiSpec
from analytics_dagster.jobs import FULL_REFRESH, INCREMENTAL_LOAD
from analytics_dagster.warehouse import DATASET

LONGEST_RUN = timedelta(hours=6)
"""After this a run counts as dead. The `max_runtime_seconds` of the instance is the same."""

_STATUSES = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def resources_in_flight(instance: dg.DagsterInstance, spec: ApiSpec) -> dict[str, str]:
    """The resources that a queued or running run covers, each to the beginning of its run id."""
    since = datetime.now(timezone.utc) - LONGEST_RUN
    filters = dg.RunsFilter(statuses=_STATUSES, created_after=since)
    covered: dict[str, str] = {}
    for record in instance.get_run_records(filters):
        run = record.dagster_run
        selected = {key.path[-1] for key in run.asset_selection or () if key.path[0] == DATASET}
        is_ours = run.job_name in (INCREMENTAL_LOAD, FULL_REFRESH)
        for resource in spec.resources:
            if resource.name in selected or (is_ours and not run.asset_selection):
                covered[resource.name] = run.run_id[:8]
    return covered


def told(in_flight: dict[str, str]) -> str:
    """The resources and their runs in words."""
    return ", ".join(f"{name} is being loaded by run {run}" for name, run in in_flight.items())
