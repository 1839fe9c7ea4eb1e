"""The failure alert: a short message to a webhook when a run fails."""

from __future__ import annotations

import json
import os
from http import HTTPStatus

import dagster as dg
import tenacity
import urllib3

from analytics_dagster.connections import Deadline, TimeLimits, connection_pool
from analytics_dagster.errors import SettingError
from analytics_dagster.redaction import URLLIB3_LOGGERS, Redactor, redacted_logs
from analytics_dagster.resources import find_api_key
from analytics_dagster.run_failures import told_failures

WEBHOOK_VARIABLE = "ANALYTICS_ALERT_WEBHOOK_URL"
UI_VARIABLE = "ANALYTICS_DAGSTER_URL"
LONGEST_REASON = 600
_LIMITS = TimeLimits(connect=3, read=5, total=8)


@dg.run_failure_sensor(
    name="failure_alert",
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=f"Posts a message to {WEBHOOK_VARIABLE}, where it is set, when a run fails.",
)
def failure_alert(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
    """Posts the alert; that it could not be posted is logged and nothing more."""
    webhook = os.environ.get(WEBHOOK_VARIABLE)
    if not webhook:
        return dg.SkipReason(f"{WEBHOOK_VARIABLE} is not set: nobody is told.")
    problem = post(webhook, message(context))
    if problem:
        context.log.error(f"The alert was not delivered: {problem}. Check {WEBHOOK_VARIABLE}.")
    return None


def message(context: dg.RunFailureSensorContext) -> str:
    """Job, run, what failed and why, and where to look; a few lines."""
    run = context.dagster_run
    redactor = Redactor(str(find_api_key() or ""))
    events = [*context.get_step_failure_events(), context.failure_event]
    reasons = [
        f"• {what}: {redactor.text(why)[:LONGEST_REASON]}" for what, why in told_failures(events)
    ]
    ui = os.environ.get(UI_VARIABLE, "http://127.0.0.1:3000").rstrip("/")
    return "\n".join(
        [f"{run.job_name} failed, run {run.run_id}", *reasons, f"{ui}/runs/{run.run_id}"]
    )


def post(webhook: str, text: str) -> str:
    """Posts the text as Slack and its like take it; returns why that failed, or nothing.

    The address of a webhook is a secret: no message and no log has it.
    """
    # Slack reads <…> as a link or a mention of everybody.
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    body = json.dumps({"text": escaped})
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_fixed(1), reraise=True
    )
    try:
        secrets = Redactor(webhook, urllib3.util.parse_url(webhook).request_uri)
        with redacted_logs(secrets, *URLLIB3_LOGGERS):
            status: int = retrying(_post_once, webhook, body)
    except (urllib3.exceptions.HTTPError, OSError, ValueError, SettingError) as error:
        return type(error).__name__
    return "" if status < HTTPStatus.MULTIPLE_CHOICES else f"HTTP {status}"


def _post_once(webhook: str, body: str) -> int:
    headers = {"Content-Type": "application/json"}
    with Deadline(_LIMITS.total):
        response = connection_pool(webhook, _LIMITS).request(
            "POST", webhook, body=body, headers=headers, redirect=False
        )
    return response.status
