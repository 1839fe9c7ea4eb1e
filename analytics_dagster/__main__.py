"""`make run`: the main job in this process, and what it loaded as a table."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

import dagster as dg
from dotenv import load_dotenv
from filelock import FileLock
from tabulate import tabulate
from tqdm import tqdm

from analytics_dagster.api_spec import REJECTED_ROWS
from analytics_dagster.errors import AnalyticsError
from analytics_dagster.progress import LOGGER, heard_by
from analytics_dagster.resources import SANDBOX_NOTICE, AnalyticsApi
from analytics_dagster.run_failures import told_failures
from analytics_dagster.warehouse import PROJECT_ROOT, Warehouse

# What matters is printed below; the whole log is in the Dagster UI.
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_HEADERS = ("resource", "loaded", "rejected", "rows in table", "columns")


def main() -> int:
    """Runs the job; the exit status is 0 when every resource was loaded."""
    # A key may hold a dollar sign.
    load_dotenv(PROJECT_ROOT / ".env", interpolate=False)
    os.environ.setdefault("DAGSTER_HOME", str(PROJECT_ROOT / ".dagster"))
    try:
        result = _run()
    except AnalyticsError as error:
        print(f"FAILED: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    print("\n".join(_report(result)))
    for what, why in told_failures(result.all_events):
        print(f"\nFAILED {what}: {why}", file=sys.stderr)
    return 0 if result.success else 1


def _run() -> dg.ExecuteInProcessResult:
    # Here and not above: a mistake in the REST API configuration is told as the others are.
    from analytics_dagster.definitions import defs
    from analytics_dagster.jobs import INCREMENTAL_LOAD

    api, place = AnalyticsApi(), Warehouse().database().place()
    if api.is_sandbox:
        print(f"\n*** {SANDBOX_NOTICE} ***\n")
    else:
        print(f"Loading {api.shown_location()} into {place} …\n", flush=True)
    job = defs.resolve_job_def(INCREMENTAL_LOAD)
    with _instance() as instance, _shown_progress():
        return job.execute_in_process(instance=instance, run_config=_QUIET, raise_on_error=False)


def _instance() -> dg.DagsterInstance:
    # Dagster makes its tables when they are missing, and two processes at once do not agree.
    with FileLock(Path(os.environ["DAGSTER_HOME"]) / "instance.lock", timeout=60):
        return dg.DagsterInstance.get()


class _ProgressBar(logging.Handler):
    """A bar for each resource on a terminal; in a file nothing but what is more than progress."""

    def __init__(self, terminal: TextIO) -> None:
        super().__init__()
        self._terminal = terminal
        self._bar: tqdm[Any] = tqdm(disable=True)
        self._resource = ""

    def emit(self, record: logging.LogRecord) -> None:
        course = getattr(record, "course", None)
        if course is None:
            tqdm.write(record.getMessage(), file=self._terminal)
            return
        resource, rows, total = course
        if resource != self._resource:
            self.close()
            self._resource = resource
            self._bar = tqdm(
                desc=resource,
                total=total,
                unit=" rows",
                file=self._terminal,
                leave=False,
                disable=None,  # where the output is no terminal
            )
        self._bar.total = total
        self._bar.update(rows - self._bar.n)

    def close(self) -> None:
        self._bar.close()
        super().close()


@contextmanager
def _shown_progress() -> Iterator[None]:
    # Dagster turns stderr into a file of its own while a step runs.
    with os.fdopen(os.dup(sys.stderr.fileno()), "w") as terminal:
        LOGGER.setLevel(logging.DEBUG)
        with heard_by(_ProgressBar(terminal)):
            yield


def _report(result: dg.ExecuteInProcessResult) -> Iterator[str]:
    tables: list[tuple[str, Any, Any, Any, int]] = []
    reasons: list[str] = []
    for event in result.get_asset_materialization_events():
        name, figures = event.materialization.asset_key.path[-1], event.materialization.metadata
        columns = cast(dg.TableSchema, figures["dagster/column_schema"].value).columns
        keys = ("rows_loaded", "rows_rejected", "dagster/row_count")
        loaded, rejected, rows = (figures[key].value for key in keys)
        tables.append((name, loaded, rejected, rows, len(columns)))
        if "rejected_reasons" in figures:
            counted = cast(dict[str, int], figures["rejected_reasons"].value)
            told = ", ".join(f"{reason} ({count})" for reason, count in counted.items())
            reasons.append(f"rejected from {name}: {told}")
    if not tables:
        yield "Nothing was loaded."
        return
    yield f"{tabulate(tables, _HEADERS)}\n"
    yield from reasons
    yield from _failed_checks(result)
    database = Warehouse().database()
    yield f"{database.kind}: {database.place()}"
    yield f"look: {database.look(tables[0][0])}"
    if reasons:
        yield f"      {database.look(REJECTED_ROWS)}"
    yield "or:   make dev, and open the assets in the Dagster UI"


def _failed_checks(result: dg.ExecuteInProcessResult) -> Iterator[str]:
    for found in result.get_asset_check_evaluations():
        if not found.passed:
            kind = "odd: " if found.severity is dg.AssetCheckSeverity.WARN else "WRONG:"
            resource = found.asset_key.path[-1]
            yield f"{kind} {resource}: {found.check_name}: {found.description}"
            if "sql" in found.metadata:
                yield f"      {found.metadata['sql'].value}"


if __name__ == "__main__":
    sys.exit(main())
