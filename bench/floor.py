"""The floor: what a program by hand takes that does nothing but read and merge.

No retries, no limits, no proof, no contract, no Dagster: no promise. Eight threads read the pages
that the total tells, and one transaction a table deletes by key and inserts.
"""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import duckdb
import orjson
import pyarrow as pa
import urllib3

from bench import KEY, PAGE_SIZE, RESOURCES

_READERS = 8
_TYPES = {"name": "VARCHAR", "current_timestamp": "TIMESTAMPTZ"}


def main() -> None:
    """Loads the three resources and prints the seconds."""
    began = time.perf_counter()
    base_url = os.environ["ANALYTICS_API_BASE_URL"]
    pool = urllib3.PoolManager(maxsize=_READERS)
    with (
        duckdb.connect(os.environ["ANALYTICS_DUCKDB_PATH"]) as connection,
        ThreadPoolExecutor(_READERS) as readers,
    ):
        connection.execute("CREATE SCHEMA IF NOT EXISTS analytics")
        for resource in RESOURCES:
            url = f"{base_url}/v1/{resource}?api_key={KEY}&limit={PAGE_SIZE}&offset="
            _merge(connection, f"analytics.{resource}", _read(pool, url, readers))
    print(json.dumps({"seconds": time.perf_counter() - began}))


def _read(pool: urllib3.PoolManager, url: str, readers: ThreadPoolExecutor) -> pa.Table:
    def page(offset: int) -> tuple[pa.RecordBatch, int]:
        document: Any = orjson.loads(pool.request("GET", f"{url}{offset}").data)
        return pa.RecordBatch.from_struct_array(pa.array(document["data"])), document["total"]

    first, total = page(0)
    others = readers.map(page, range(PAGE_SIZE, total, PAGE_SIZE))
    return pa.Table.from_batches([first, *(batch for batch, _ in others)])


def _merge(connection: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> None:
    names = ["customer_id" if name == "vendor_account_id" else name for name in rows.column_names]
    columns = ", ".join(f'"{name}" {_TYPES.get(name, "BIGINT")}' for name in names)
    connection.register("arrived", rows.rename_columns(names))
    connection.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns})")
    connection.execute("BEGIN")
    connection.execute(f"DELETE FROM {table} WHERE id IN (SELECT id FROM arrived)")
    connection.execute(f"INSERT INTO {table} BY NAME FROM arrived")
    connection.execute("COMMIT")


if __name__ == "__main__":
    main()
