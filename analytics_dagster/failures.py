"""Which error an HTTP failure is, and what to do about it. Nothing else belongs here.

The functions return errors instead of raising them, so that the caller can raise outside of
its `except` block: the exceptions of urllib3 quote the URL with the key, and whoever stores a
chain of exceptions walks to them even after `from None`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timezone
from email.utils import parsedate_to_datetime

import urllib3

from analytics_dagster.connections import TimeLimits
from analytics_dagster.errors import (
    ApiError,
    MalformedBodyError,
    StatusError,
    TimeLimitError,
    UnauthorizedError,
    UnreachableError,
)

LONGEST_RETRY_AFTER = 300.0
"""Seconds that a run waits when the API asks for it; beyond that it fails at once."""

_TRANSIENT = frozenset({408, 425, 429, *range(500, 600)})


# Their messages name hosts and certificates; those of the others quote what the API sent.
_TELLING = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ProxyError,
    urllib3.exceptions.SSLError,
)


def broken_exchange(
    url: str, error: Exception | None, limits: TimeLimits, *, deadline_passed: bool
) -> ApiError:
    """The error for an exchange that ended without a whole answer."""
    # A refused connection is a kind of timeout to urllib3.
    refused = isinstance(error, urllib3.exceptions.NewConnectionError)
    connecting = isinstance(error, urllib3.exceptions.ConnectTimeoutError) and not refused
    if deadline_passed:
        return TimeLimitError(f"{url}: no whole answer within {limits.total:g} s.")
    if connecting:
        return TimeLimitError(f"{url}: no connection within {limits.connect:g} s.")
    if isinstance(error, urllib3.exceptions.TimeoutError) and not refused:
        return TimeLimitError(f"{url}: no data for {limits.read:g} s.")
    if isinstance(error, urllib3.exceptions.DecodeError):
        return MalformedBodyError(f"{url}: the body is not what its Content-Encoding says")
    if not isinstance(error, _TELLING):
        return UnreachableError(
            f"{url}: the connection broke ({_kinds(error)}). Run again; if it stays, ask the "
            "API's owner."
        )
    # Without the connection that urllib3 puts before its words.
    said = re.sub(r"\w*Connection\(.*?\): ", "", f"{type(error).__name__}: {error}")
    return UnreachableError(
        f"{url}: {said}. Check the host in ANALYTICS_API_BASE_URL, and that this machine can "
        "reach it."
    )


def _kinds(error: Exception | None) -> str:
    """The class of an error and of the one that it carries."""
    carried = error.args[-1] if error and error.args else None
    return " of ".join(type(e).__name__ for e in (error, carried) if isinstance(e, Exception))


def bad_status(url: str, status: int, headers: Mapping[str, str], now: float) -> StatusError:
    """The error for an answer other than 200; `now` is the time in seconds since the epoch."""
    if status in (401, 403):
        return UnauthorizedError(
            f"{url}: HTTP {status}: the API refuses the key. Check ANALYTICS_API_KEY, and that "
            "this key may read this resource.",
            status=status,
            transient=False,
        )
    wait = retry_after(headers.get("retry-after", ""), now)
    if wait is not None and wait > LONGEST_RETRY_AFTER:
        message = (
            f"{url}: HTTP {status}, and Retry-After asks for {wait:.0f} s, more than the "
            f"{LONGEST_RETRY_AFTER:.0f} s that a run waits. Run again after that time."
        )
        return StatusError(message, status=status, transient=False)
    if status in _TRANSIENT:
        message = f"{url}: HTTP {status}: the API is busy or broken. Run again later."
        return StatusError(message, status=status, transient=True, retry_after=wait)
    message = (
        f"{url}: HTTP {status}. Check ANALYTICS_API_BASE_URL and the path in the REST API "
        "configuration."
    )
    return StatusError(message, status=status, transient=False)


def retry_after(value: str, now: float) -> float | None:
    """Seconds to wait by a `Retry-After` header (RFC 9110, 10.2.3), or None if it says none."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            date = parsedate_to_datetime(value)
            seconds = date.replace(tzinfo=date.tzinfo or timezone.utc).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return seconds if seconds > 0 else None
