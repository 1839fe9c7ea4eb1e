"""What a check is shown, and what it may say. The checks themselves are in the modules after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from analytics_dagster.api_spec import Resource

if TYPE_CHECKING:
    from analytics_dagster.table import Table

KEYS_SHOWN = 10

Figures = Mapping[str, Any]
"""What Dagster recorded of a load (see `metadata.load_metadata`), as plain values."""


@dataclass(frozen=True)
class Evidence:
    """The last load of a resource, those before it from the newest on, and the table now.

    `table_name` and `rejected_name` are what the tables are called for a reader of the warehouse.
    """

    resource: Resource
    load: Figures
    earlier: Sequence[Figures]
    table: Table
    table_name: str
    rejected_name: str


@dataclass(frozen=True)
class Verdict:
    """What a check found: without a problem it passed.

    What makes the rows wrong is an error; what is only `odd` is a warning. The details are
    shown beside the problem.
    """

    problem: str = ""
    odd: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)

    def told(self) -> str:
        """The problem with its details, as a log shows it."""
        return "; ".join([self.problem, *(f"{name}: {v}" for name, v in self.details.items())])


PASSED = Verdict()


def verdict_on_rows(
    evidence: Evidence, conditions: Mapping[str, str], problem: str, *, odd: bool = False
) -> Verdict:
    """Passed when no row of the table meets any of the conditions, each about one column.

    A condition may name the table, as `{table}`.

    Otherwise it says how many do, of which columns and with which keys, and how to see them.
    """
    counts = evidence.table.counts(conditions)
    met = {column: count for column, count in counts.items() if count}
    if not met:
        return PASSED
    any_of_them = " OR ".join(conditions[column] for column in met)
    sql = f"SELECT * FROM {{table}} WHERE {any_of_them}"
    told = ", ".join(f"{column} ({count})" for column, count in met.items())
    details = {
        **evidence.table.counts({"rows": any_of_them}),
        "keys": ", ".join(map(str, evidence.table.keys(any_of_them, KEYS_SHOWN))),
        "sql": sql.replace("{table}", evidence.table_name),
    }
    return Verdict(f"{problem}: {told}", odd, details)
