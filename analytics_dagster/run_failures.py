"""Why a run failed, in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import dagster as dg

_OF_DAGSTER_OR_OURS = re.compile(r"^(analytics_dagster|dagster)\.(\w+\.)+(?=\w)")


def told_failures(events: Sequence[dg.DagsterEvent]) -> Iterator[tuple[str, str]]:
    """What failed, and the kind and message of its innermost error.

    The run's own failure is told only when no step failed: no resource was even begun.
    """
    failed = [event for event in events if event.is_failure]
    for event in [event for event in failed if event.is_step_failure] or failed:
        error = getattr(event.event_specific_data, "error", None)
        while error is not None and error.cause is not None:
            error = error.cause
        said = error.message.strip() if error else str(event.message)
        if "DagsterExecutionInterruptedError" in said:
            said = "interrupted; the rows are as they were, here and in what was not begun."
        yield event.step_key or "run", _OF_DAGSTER_OR_OURS.sub("", said)
