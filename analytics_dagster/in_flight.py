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


def in_flight(instance: dg.DagsterInstance, spec: ApiSpec) -> dict[str, str]:
    """The resources that queued and running runs load, each to the beginning of a run id."""
    since = datetime.now(timezone.utc) - LONGEST_RUN
    return _covered(instance, spec, dg.RunsFilter(statuses=_STATUSES, created_after=since))


def begun_since(
    instance: dg.DagsterInstance, spec: ApiSpec, job: str, moment: datetime
) -> dict[str, str]:
    """The resources that runs of a job load or loaded, if they were asked for after a moment."""
    return _covered(instance, spec, dg.RunsFilter(job_name=job, created_after=moment))


def told(covered: dict[str, str]) -> str:
    """The resources and their runs in words."""
    return ", ".join(f"{name} is covered by run {run}" for name, run in covered.items())


def _covered(instance: dg.DagsterInstance, spec: ApiSpec, filters: dg.RunsFilter) -> dict[str, str]:
    covered: dict[str, str] = {}
    for record in instance.get_run_records(filters):
        run = record.dagster_run
        selected = {key.path[-1] for key in run.asset_selection or () if key.path[0] == DATASET}
        if not run.asset_selection and run.job_name in (INCREMENTAL_LOAD, FULL_REFRESH):
            selected = {resource.name for resource in spec.resources}
        covered |= dict.fromkeys(sorted(selected), run.run_id[:8])
    return covered
