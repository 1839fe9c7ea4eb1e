"""The schedules: when the jobs run by themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import dagster as dg

from analytics_dagster.api_spec import ApiSpec
from analytics_dagster.assets import LoadConfig, Mode, key_of
from analytics_dagster.in_flight import begun_since, in_flight, told
from analytics_dagster.jobs import FULL_REFRESH, INCREMENTAL_LOAD
from analytics_dagster.timetable import Timetable, timetable
from analytics_dagster.warehouse import Warehouse

SUNDAY_NIGHT = "30 2 * * 0"


def build_schedules(spec: ApiSpec, warehouse: Warehouse) -> list[dg.ScheduleDefinition]:
    """The schedules of both jobs: incremental loads are on by default, full refreshes are off.

    Raises:
        SettingError: the cron string or the time zone in the environment is none.
    """
    times = timetable()
    load = _ticker(spec, warehouse, INCREMENTAL_LOAD, "incremental")
    refresh = _ticker(spec, warehouse, FULL_REFRESH, "full_refresh")
    return [
        _schedule(INCREMENTAL_LOAD, times, dg.DefaultScheduleStatus.RUNNING, load),
        _schedule(
            FULL_REFRESH,
            replace(times, cron=SUNDAY_NIGHT),
            dg.DefaultScheduleStatus.STOPPED,
            refresh,
        ),
    ]


Tick = dg.RunRequest | dg.SkipReason


def _schedule(
    job: str,
    times: Timetable,
    status: dg.DefaultScheduleStatus,
    tick: Callable[[dg.ScheduleEvaluationContext], Tick],
) -> dg.ScheduleDefinition:
    return dg.ScheduleDefinition(
        name=f"{job}_schedule",
        job_name=job,
        cron_schedule=times.cron,
        execution_timezone=times.time_zone,
        execution_fn=tick,
        default_status=status,
        description=f"Runs {job}, for the resources that are not being loaded already.",
    )


def _ticker(
    spec: ApiSpec, warehouse: Warehouse, job: str, mode: Mode
) -> Callable[[dg.ScheduleEvaluationContext], Tick]:
    def tick(context: dg.ScheduleEvaluationContext) -> Tick:
        # After a pause all missed ticks come at once: a run that was asked for since they were
        # due has loaded what each of them would load.
        due = context.scheduled_execution_time
        busy = begun_since(context.instance, spec, job, due)
        # A load is no refresh, but a refresh is a load.
        only = FULL_REFRESH if job == FULL_REFRESH else None
        busy |= in_flight(context.instance, spec, warehouse, only)
        free = [resource.name for resource in spec.resources if resource.name not in busy]
        if not free:
            return dg.SkipReason(f"There is nothing left to load: {told(busy)}.")
        return dg.RunRequest(
            asset_selection=[key_of(name) for name in free],
            run_config=dg.RunConfig(ops={name: LoadConfig(mode=mode) for name in free}),
        )

    return tick
