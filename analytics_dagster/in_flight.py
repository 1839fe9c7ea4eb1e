"""Which resources are being loaded already, so that no schedule or sensor asks for them again.

Two loads of one resource do no harm: the second one waits. Asking for it is only in vain.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import dagster as dg

from analytics_dagster.api_spec import ApiSpec
from analytics_dagster.database import DATASET
from analytics_dagster.jobs import FULL_REFRESH, INCREMENTAL_LOAD
from analytics_dagster.warehouse import Warehouse

LONGEST_RUN = timedelta(hours=6)
"""After this a run counts as dead. The `max_runtime_seconds` of the instance is the same."""
LONGEST_START = timedelta(minutes=1)
"""After this a run that began and loads nothing counts as dead: its machine was switched off."""

_STATUSES = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def in_flight(
    instance: dg.DagsterInstance, spec: ApiSpec, warehouse: Warehouse, job: str | None = None
) -> dict[str, str]:
    """The resources that queued and living runs load, each to the beginning of a run id.

    With `job` only its runs count.
    """
    now = datetime.now(timezone.utc)
    filters = dg.RunsFilter(statuses=_STATUSES, created_after=now - LONGEST_RUN, job_name=job)
    covered: dict[str, str] = {}
    for record in instance.get_run_records(filters):
        resources = _resources(record.dagster_run, spec)
        began = datetime.fromtimestamp(record.start_time or now.timestamp(), timezone.utc)
        is_new = now - began < LONGEST_START
        if is_new or any(map(warehouse.database().is_being_loaded, resources)):
            covered |= dict.fromkeys(resources, record.dagster_run.run_id[:8])
    return covered


def begun_since(
    instance: dg.DagsterInstance, spec: ApiSpec, job: str, moment: datetime
) -> dict[str, str]:
    """The resources that runs of a job load or loaded, if they were asked for after a moment."""
    covered: dict[str, str] = {}
    for record in instance.get_run_records(dg.RunsFilter(job_name=job, created_after=moment)):
        run = record.dagster_run
        covered |= dict.fromkeys(_resources(run, spec), run.run_id[:8])
    return covered


def told(covered: dict[str, str]) -> str:
    """The resources and their runs in words."""
    return ", ".join(f"{name} is covered by run {run}" for name, run in covered.items())


def _resources(run: dg.DagsterRun, spec: ApiSpec) -> list[str]:
    if not run.asset_selection and run.job_name in (INCREMENTAL_LOAD, FULL_REFRESH):
        return [resource.name for resource in spec.resources]
    return sorted(key.path[-1] for key in run.asset_selection or () if key.path[0] == DATASET)
