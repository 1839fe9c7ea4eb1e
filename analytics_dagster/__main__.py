"""`make run`: the main job in this process, and what it loaded as a table."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import cast

import dagster as dg
from dotenv import load_dotenv
from tabulate import tabulate

from analytics_dagster.definitions import defs
from analytics_dagster.jobs import incremental_load
from analytics_dagster.resources import SANDBOX_NOTICE, AnalyticsApi
from analytics_dagster.warehouse import DATASET, PROJECT_ROOT, Warehouse

# What matters is printed below; the whole log is in the Dagster UI.
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def main() -> int:
    """Runs the job; the exit status is 0 when every resource was loaded."""
    load_dotenv(PROJECT_ROOT / ".env")
    os.environ.setdefault("DAGSTER_HOME", str(PROJECT_ROOT / ".dagster"))
    if AnalyticsApi().is_sandbox:
        print(f"\n*** {SANDBOX_NOTICE} ***\n", flush=True)
    job = defs.resolve_job_def(incremental_load.name)
    with dg.DagsterInstance.get() as instance:
        result = job.execute_in_process(instance=instance, run_config=_QUIET, raise_on_error=False)
    print(_loaded(result))
    for failure in _failures(result):
        print(f"\n{failure}", file=sys.stderr)
    return 0 if result.success else 1


def _loaded(result: dg.ExecuteInProcessResult) -> str:
    path, tables = Warehouse().path(), []
    for event in result.get_asset_materialization_events():
        name, figures = event.materialization.asset_key.path[-1], event.materialization.metadata
        columns = cast(dg.TableSchema, figures["dagster/column_schema"].value).columns
        counts = (figures[key].value for key in ("rows_loaded", "rows_rejected"))
        tables.append((name, *counts, figures["dagster/row_count"].value, len(columns)))
    if not tables:
        return "Nothing was loaded."
    catalog = path.stem if path.stem.isidentifier() else rf"\"{path.stem}\""
    query = f"FROM {catalog}.{DATASET}.{tables[0][0]}"
    headers = ("resource", "loaded", "rejected", "rows in table", "columns")
    return (
        f"{tabulate(tables, headers)}\n\nfile: {path}\n"
        f'look: {sys.executable} -c "import duckdb; '
        f"duckdb.connect('{path}').sql('{query}').show()\"\n"
        "or:   make dev, and open the assets in the Dagster UI"
    )


def _failures(result: dg.ExecuteInProcessResult) -> Iterator[str]:
    """What failed, by step, in the words of the innermost error.

    The run's own error comes only when no step failed: no resource was even begun.
    """
    failed = [event for event in result.all_events if event.is_failure]
    for event in [event for event in failed if event.is_step_failure] or failed:
        error = getattr(event.event_specific_data, "error", None)
        while error is not None and error.cause is not None:
            error = error.cause
        said = error.message.strip() if error else event.message
        yield f"FAILED {event.step_key or 'run'}: {said}"


if __name__ == "__main__":
    sys.exit(main())
