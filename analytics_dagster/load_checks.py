"""The checks of the last load: whether its figures add up, and whether they are as they were."""

from __future__ import annotations

from analytics_dagster.sql import literal
from analytics_dagster.verdicts import PASSED, Evidence, Verdict

LOADS_TO_LEARN_FROM = 5
"""So many earlier loads of the same kind show what is usual; with fewer nothing is odd."""
_SLACK = 10
PLACES = ("rows_loaded", "rows_unchanged", "rows_before_cursor", "rows_rejected", "duplicates")
"""The figures of where the rows of a load went."""


def rows_at_api(evidence: Evidence) -> Verdict:
    """As many rows were read as the API claims to have, if it claims any."""
    total, read = evidence.load.get("total_at_api"), evidence.load["rows_read"]
    if total is None or total == read:
        return PASSED
    details = {"total_at_api": total, "rows_read": read}
    problem = f"the API claims {total} rows, and {read} were read"
    # More than it claims is all that there is: it was read to its end.
    return Verdict(problem, odd=read > total, details=details)


def counts_add_up(evidence: Evidence) -> Verdict:
    """Every row that was read went somewhere, and no row of the table is gone since."""
    load = evidence.load
    parts = {place: load[place] for place in PLACES}
    if sum(parts.values()) != load["rows_read"]:
        told = " + ".join(f"{count} {name}" for name, count in parts.items())
        details = {**parts, "rows_read": load["rows_read"]}
        return Verdict(f"{load['rows_read']} rows were read, and {told}", details=details)
    refreshed, rows = "rows_deleted" in load, load["dagster/row_count"]
    put = load["rows_loaded"] + load.get("rows_kept", 0)
    if refreshed and rows != put:
        details = {"rows_put": put, "rows_in_table": rows}
        return Verdict(f"the refresh put {put} rows, and the table has {rows}", details=details)
    found = evidence.table.rows() or 0
    if found < rows:
        details = {"rows_after_load": rows, "rows_in_table": found}
        # A refresh may have taken some away that is not recorded yet; it never leaves none.
        problem = f"the last load left {rows} rows in the table, and it has {found}"
        return Verdict(problem, odd=found > 0, details=details)
    return PASSED


def rejected_rows(evidence: Evidence) -> Verdict:
    """No row broke the contract; more than the allowed share of them is no load at all."""
    rejected, read = evidence.load["rows_rejected"], evidence.load["rows_read"]
    if not rejected:
        return PASSED
    details = {
        "rows": rejected,
        "reasons": evidence.load.get("rejected_reasons", {}),
        "sql": f"SELECT * FROM {evidence.rejected_name} "
        f"WHERE resource = {literal(evidence.resource.name)} ORDER BY rejected_at DESC",
    }
    return Verdict(f"{rejected} of {read} rows break the contract", odd=True, details=details)


def schema_drift(evidence: Evidence) -> Verdict:
    """The API sends the declared fields, of the declared types, and no others."""
    load, declared = evidence.load, evidence.resource.columns
    new = [
        column.name
        for column in load["dagster/column_schema"].columns
        if column.name not in declared
    ]
    new += [name for name in load.get("new_fields", {}) if name not in new]
    # Rows of a smaller plan lack fields beside rows of a larger one; gone is what no row has.
    every = load["rows_read"] - load["rows_rejected"]
    vanished = [name for name, rows in load.get("missing_fields", {}).items() if rows >= every]
    reasons = load.get("rejected_reasons", {})
    changed = [said for said in reasons if " is no " in said and said.split(":")[0] in declared]
    found = {"new": new, "vanished": vanished, "changed": changed}
    drifts = {kind: names for kind, names in found.items() if names}
    if not drifts:
        return PASSED
    told = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in drifts.items())
    problem = f"{told}. Declare in the REST API configuration what the API sends now"
    return Verdict(problem, odd=True, details=drifts)


def volume(evidence: Evidence) -> Verdict:
    """The load and the table are about as large as those of the recent past.

    That is between half of the smallest and twice the largest of them, give or take ten rows.
    """
    load = evidence.load
    is_incremental = "read_since" in load
    alike = [figures for figures in evidence.earlier if ("read_since" in figures) == is_incremental]
    for figure, words, loads in (
        ("rows_read", "rows were read", alike),
        ("dagster/row_count", "rows are in the table", evidence.earlier),
    ):
        usual = [figures[figure] for figures in loads if figure in figures]
        if len(usual) < LOADS_TO_LEARN_FROM:
            continue
        low, high = min(usual) // 2 - _SLACK, max(usual) * 2 + _SLACK
        if not low <= load[figure] <= high:
            band = f"{min(usual)} to {max(usual)} in {len(usual)} loads before"
            details = {figure: load[figure], "usual": usual}
            return Verdict(f"{load[figure]} {words}; {band}", odd=True, details=details)
    return PASSED
