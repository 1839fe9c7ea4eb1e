"""The asset checks of every resource, from one factory; they run with each load, and alone.

What they judge is what Dagster recorded of the loads and the table in the warehouse, so they
find the same whenever they run. What makes the rows wrong turns the run red; what is odd is a
warning.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg

from analytics_dagster import load_checks, table_checks
from analytics_dagster.api_spec import REJECTED_ROWS, ApiSpec, Resource
from analytics_dagster.assets import key_of
from analytics_dagster.verdicts import Evidence, Figures, Verdict
from analytics_dagster.warehouse import Warehouse

if TYPE_CHECKING:
    from analytics_dagster.table import Table

LOADS_COMPARED = 20

Check = Callable[[Evidence], Verdict]

_CHECKS: list[Check] = [
    table_checks.unique_key,
    table_checks.not_null,
    table_checks.expected_fields,
    load_checks.rows_at_api,
    load_checks.counts_add_up,
    load_checks.rejected_rows,
    load_checks.schema_drift,
    load_checks.volume,
]


def build_checks(spec: ApiSpec) -> list[dg.AssetChecksDefinition]:
    """The checks of all resources of the configuration: one op for those of a resource."""
    return [_build_checks(resource) for resource in spec.resources]


def checks_of(resource: Resource) -> dict[str, Check]:
    """The checks of a resource by name; those of ranges only where it declares one."""
    has_ranges = any((c.minimum, c.maximum) != (None, None) for c in resource.columns.values())
    checks = [*_CHECKS, *([table_checks.plausible_ranges] if has_ranges else [])]
    return {check.__name__: check for check in checks}


def _build_checks(resource: Resource) -> dg.AssetChecksDefinition:
    checks = checks_of(resource)
    specs = [
        dg.AssetCheckSpec(
            name, asset=key_of(resource.name), description=str(check.__doc__), blocking=True
        )
        for name, check in checks.items()
    ]

    @dg.multi_asset_check(name=f"{resource.name}_checks", specs=specs, can_subset=True)
    def check(
        context: dg.AssetCheckExecutionContext, warehouse: Warehouse
    ) -> Iterator[dg.AssetCheckResult]:
        chosen = sorted(key.name for key in context.selected_asset_check_keys)
        with _opened(resource, warehouse) as table:
            loads = _loads(context.instance, resource)
            for name in chosen:
                verdict = _judged(checks[name], resource, warehouse, loads, table)
                if verdict.problem:
                    context.log.warning(f"{resource.name}: {name}: {verdict.told()}")
                yield _result(resource, name, verdict)

    return check


@contextmanager
def _opened(resource: Resource, warehouse: Warehouse) -> Iterator["Table | None"]:
    """The table, or None where there is none; a database that is not there is not made."""
    from analytics_dagster.table import Table

    database = warehouse.database()
    if not database.is_there():
        yield None
        return
    with (
        database.writing(alone=False) as destination,
        Table.opened(resource, database, destination) as table,
    ):
        yield table if table.exists() else None


def _judged(
    check: Check,
    resource: Resource,
    warehouse: Warehouse,
    loads: list[Figures],
    table: "Table | None",
) -> Verdict:
    if table is None and loads:
        return Verdict("the table was loaded and is gone: run full_refresh")
    if table is None:
        return Verdict("the table was never loaded: run incremental_load", odd=True)
    if not loads and check.__module__ == load_checks.__name__:
        return Verdict("no load of the table is recorded in this Dagster instance", odd=True)
    shown = map(warehouse.database().shown, (resource.name, REJECTED_ROWS))
    last, *earlier = loads or [{}]
    return check(Evidence(resource, last, earlier, table, *shown))


def _loads(instance: dg.DagsterInstance, resource: Resource) -> list[Figures]:
    """The figures of the last loads, the newest first."""
    found = instance.fetch_materializations(key_of(resource.name), limit=LOADS_COMPARED + 1)
    loads = [record.asset_materialization for record in found.records]
    return [{name: v.value for name, v in load.metadata.items()} for load in loads if load]


def _result(resource: Resource, name: str, verdict: Verdict) -> dg.AssetCheckResult:
    severity = dg.AssetCheckSeverity.WARN if verdict.odd else dg.AssetCheckSeverity.ERROR
    return dg.AssetCheckResult(
        passed=not verdict.problem,
        asset_key=key_of(resource.name),
        check_name=name,
        severity=severity,
        description=verdict.problem or None,
        metadata=dict(verdict.details),
    )
