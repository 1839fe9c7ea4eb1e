"""The alerts: somebody is told when a run fails, and when the rows of a resource grow old."""

from __future__ import annotations

import json
import time
from datetime import datetime, timezone

import dagster as dg

from analytics_dagster.api_spec import ApiSpec
from analytics_dagster.assets import last_load
from analytics_dagster.redaction import Redactor
from analytics_dagster.resources import find_api_key
from analytics_dagster.run_failures import told_failures
from analytics_dagster.timetable import timetable
from analytics_dagster.webhook import NOBODY_IS_TOLD, WEBHOOK_VARIABLE, link_to, tell, webhook

LONGEST_REASON = 600
SECONDS_BETWEEN_LOOKS = 60


@dg.run_failure_sensor(
    name="failure_alert",
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=f"Posts a message to {WEBHOOK_VARIABLE}, where it is set, when a run fails.",
)
def failure_alert(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
    """Tells that and why the run failed."""
    if not webhook():
        return dg.SkipReason(NOBODY_IS_TOLD)
    tell(message(context), context.log)
    return None


def message(context: dg.RunFailureSensorContext) -> str:
    """Job, run, what failed and why, and where to look; a few lines."""
    run = context.dagster_run
    redactor = Redactor(str(find_api_key() or ""))
    events = [*context.get_step_failure_events(), context.failure_event]
    reasons = [
        f"• {what}: {redactor.text(why)[:LONGEST_REASON]}" for what, why in told_failures(events)
    ]
    told = f"{run.job_name} failed, run {run.run_id}"
    return "\n".join([told, *reasons, link_to(f"runs/{run.run_id}")])


def build_late_data_alert(spec: ApiSpec) -> dg.SensorDefinition:
    """The sensor that tells once of each resource that is late by its freshness policy."""
    late_after = timetable().late_after

    @dg.sensor(
        name="late_data_alert",
        minimum_interval_seconds=SECONDS_BETWEEN_LOOKS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Posts a message to {WEBHOOK_VARIABLE}, where it is set, when an asset is "
        "older than its freshness policy allows.",
    )
    def late_data_alert(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        if not webhook():
            return dg.SensorResult(skip_reason=NOBODY_IS_TOLD)
        loaded_at = {r.name: last_load(context.instance, r).at for r in spec.resources}
        bound = time.time() - late_after.total_seconds()
        late = {name: at for name, at in loaded_at.items() if 0 < at < bound}
        told = _told_before(context.cursor)
        new = {name: at for name, at in late.items() if told.get(name) != at}
        message = "\n".join([*map(_said, new, new.values()), link_to("assets")])
        if not new or tell(message, context.log):
            told = late
        reason = f"Late: {', '.join(late)}." if late else "No resource is late."
        return dg.SensorResult(skip_reason=reason, cursor=json.dumps(told))

    return late_data_alert


def _told_before(cursor: str | None) -> dict[str, float]:
    """The late resources that were told already, each with the load that was its last then."""
    try:
        return dict(json.loads(cursor or "{}"))
    except (ValueError, TypeError):
        # Anybody can edit the cursor in the UI; without it what is late is told once more.
        return {}


def _said(resource: str, loaded_at: float) -> str:
    moment = datetime.fromtimestamp(loaded_at, timezone.utc)
    return f"{resource} is late: it was last loaded at {moment:%Y-%m-%d %H:%M} UTC"
