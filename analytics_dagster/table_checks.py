"""The checks of a table as it stands: its key, its required, expected and plausible values."""

from __future__ import annotations

from collections.abc import Mapping

from analytics_dagster.api_spec import Column
from analytics_dagster.sql import names, quoted
from analytics_dagster.verdicts import Evidence, Verdict, verdict_on_rows


def unique_key(evidence: Evidence) -> Verdict:
    """No two rows have the same primary key, and no row has none."""
    key = evidence.resource.primary_key
    repeated = (
        f"({names(key)}) IN (SELECT {names(key)} FROM {{table}} "
        f"GROUP BY {names(key)} HAVING count(*) > 1)"
    )
    missing = [f"{quoted(column)} IS NULL" for column in key]
    conditions = {", ".join(key): " OR ".join([*missing, repeated])}
    return verdict_on_rows(evidence, conditions, "rows without a key of their own")


def not_null(evidence: Evidence) -> Verdict:
    """Every row has every column that is declared as not nullable."""
    required = {n: c for n, c in evidence.resource.columns.items() if not c.nullable}
    return verdict_on_rows(evidence, _nulls(required), "rows without a required value")


def expected_fields(evidence: Evidence) -> Verdict:
    """Every row has the columns that every plan of the API gives."""
    expected = {n: c for n, c in evidence.resource.columns.items() if c.expected}
    problem = "rows without a value that is expected of the API"
    return verdict_on_rows(evidence, _nulls(expected), problem, odd=True)


def plausible_ranges(evidence: Evidence) -> Verdict:
    """Every value is within the range that its column declares."""
    conditions = {
        name: condition
        for name, column in evidence.resource.columns.items()
        if (condition := _out_of_range(name, column))
    }
    return verdict_on_rows(evidence, conditions, "rows with an implausible value", odd=True)


def _nulls(columns: Mapping[str, Column]) -> dict[str, str]:
    return {name: f"{quoted(name)} IS NULL" for name in columns}


def _out_of_range(name: str, column: Column) -> str:
    bounds = [("<", column.minimum), (">", column.maximum)]
    value = f"CAST({quoted(name)} AS DOUBLE PRECISION)"
    return " OR ".join(f"{value} {sign} {bound!r}" for sign, bound in bounds if bound is not None)
