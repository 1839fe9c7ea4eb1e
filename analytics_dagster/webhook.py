"""Short messages to an incoming webhook of Slack or its like, so that somebody hears of trouble."""

from __future__ import annotations

import json
import os
from http import HTTPStatus
from logging import Logger

import tenacity
import urllib3

from analytics_dagster.connections import Deadlines, TimeLimits, connection_pool
from analytics_dagster.errors import SettingError
from analytics_dagster.redaction import URLLIB3_LOGGERS, Redactor, redacted_logs

WEBHOOK_VARIABLE = "ANALYTICS_ALERT_WEBHOOK_URL"
UI_VARIABLE = "ANALYTICS_DAGSTER_URL"
NOBODY_IS_TOLD = f"{WEBHOOK_VARIABLE} is not set: nobody is told."
_LIMITS = TimeLimits(connect=3, read=5, total=8)


def webhook() -> str:
    """The address of the webhook; empty where none is set."""
    return os.environ.get(WEBHOOK_VARIABLE, "")


def link_to(page: str) -> str:
    """The address of a page of the Dagster UI."""
    ui = os.environ.get(UI_VARIABLE, "http://127.0.0.1:3000")
    return f"{ui.rstrip('/')}/{page}"


def tell(text: str, log: Logger) -> bool:
    """Posts the text, and returns whether it was delivered; why it was not is only logged."""
    problem = post(webhook(), text)
    if problem:
        log.error(f"The alert was not delivered: {problem}. Check {WEBHOOK_VARIABLE}.")
    return not problem


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
    with Deadlines() as deadlines, deadlines.exchange(_LIMITS.total):
        response = connection_pool(webhook, _LIMITS).request(
            "POST", webhook, body=body, headers=headers, redirect=False
        )
    return response.status
