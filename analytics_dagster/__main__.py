"""`make run`: the main job in this process, and what it loaded as a table."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import dagster as dg
from dotenv import load_dotenv
from filelock import FileLock
from tabulate import tabulate

from analytics_dagster.api_spec import REJECTED_ROWS
from analytics_dagster.errors import AnalyticsError
from analytics_dagster.resources import SANDBOX_NOTICE, AnalyticsApi
from analytics_dagster.run_failures import told_failures
from analytics_dagster.warehouse import DATASET, PROJECT_ROOT, Warehouse

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

    api, path = AnalyticsApi(), Warehouse().path()
    if api.is_sandbox:
        print(f"\n*** {SANDBOX_NOTICE} ***\n")
    else:
        print(f"Loading {api.location()} into {path} …\n", flush=True)
    job = defs.resolve_job_def(INCREMENTAL_LOAD)
    with _instance() as instance:
        return job.execute_in_process(instance=instance, run_config=_QUIET, raise_on_error=False)


def _instance() -> dg.DagsterInstance:
    # Dagster makes its tables when they are missing, and two processes at once do not agree.
    with FileLock(Path(os.environ["DAGSTER_HOME"]) / "instance.lock", timeout=60):
        return dg.DagsterInstance.get()


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
    yield f"file: {Warehouse().path()}"
    yield f"look: {_look(tables[0][0])}"
    if reasons:
        yield f"      {_look(REJECTED_ROWS)}"
    yield "or:   make dev, and open the assets in the Dagster UI"


def _look(table: str) -> str:
    """A command line that shows the rows of a table."""
    path = Warehouse().path()
    query = rf"FROM \"{path.stem}\".{DATASET}.{table}"
    return f"{sys.executable} -c \"import duckdb; duckdb.connect('{path}').sql('{query}').show()\""


if __name__ == "__main__":
    sys.exit(main())
