"""The tables after a run: a process of its own, so that looking costs no contender memory.

    python -m bench.table check PATH ROWS [CHANGED_AT] RESOURCE…
    python -m bench.table grow PATH ROWS RESOURCE

`check` prints for each resource how many rows of those offered are there, each once and whole;
with CHANGED_AT it counts the rows that are current since then.
`grow` copies the rows of a loaded table under new ids, in time for a benchmark.
"""

from __future__ import annotations

import json
import sys

import duckdb


def check(path: str, rows: int, changed_at: str, resources: list[str]) -> dict[str, int]:
    """Resource to the rows that are right, and -1 where others are there, too."""
    right = {}
    with duckdb.connect(path, read_only=True) as connection:
        for resource in resources:
            [[found, ids, changed]] = connection.execute(
                "SELECT count(*), count(DISTINCT id) FILTER (id BETWEEN 1 AND $rows AND name "
                'IS NOT NULL AND "current_timestamp" IS NOT NULL), '
                'count(*) FILTER ("current_timestamp" >= TRY_CAST($at AS TIMESTAMPTZ)) '
                f"FROM analytics.{resource}",
                {"rows": rows, "at": changed_at or None},
            ).fetchall()
            is_clean = found == ids == (rows if changed_at else ids)
            right[resource] = (changed if changed_at else ids) if is_clean else -1
    return right


def grow(path: str, rows: int, resource: str) -> None:
    """Copies the rows of a table, each copy a second older, until there are so many."""
    with duckdb.connect(path) as connection:
        [[found]] = connection.execute(f"SELECT count(*) FROM analytics.{resource}").fetchall()
        connection.execute(
            f"INSERT INTO analytics.{resource} SELECT t.* REPLACE (id + copy * $found AS id, "
            '"current_timestamp" - to_seconds(copy) AS "current_timestamp") '
            f"FROM analytics.{resource} AS t, range(1, $copies) AS copies(copy)",
            {"found": found, "copies": rows // found},
        )


if __name__ == "__main__":
    verb, file, number, *rest = sys.argv[1:]
    if verb == "grow":
        grow(file, int(number), rest[0])
    else:
        print(json.dumps(check(file, int(number), rest[0], rest[1:])))
