"""One load, or several in a row, in a process of its own: `one_load.py RESOURCE MODE …`."""

from __future__ import annotations

import sys

from analytics_dagster.api_config import REST_API
from analytics_dagster.api_reader import read_spec
from analytics_dagster.loading import load
from analytics_dagster.resources import AnalyticsApi
from analytics_dagster.warehouse import Warehouse


def one_load(resource: str = "agents_overview", *modes: str) -> list[str]:
    """The command; it prints how many rows were loaded, and how many were as they are."""
    return [sys.executable, __file__, resource, *(modes or ("incremental",))]


def main(name: str, *modes: str) -> None:
    spec = read_spec(REST_API)
    [resource] = [each for each in spec.resources if each.name == name]
    with (
        AnalyticsApi(retries=0).process_config_and_initialize_cm() as api,
        api.connect(spec.client) as transport,
    ):
        for mode in modes:
            full = mode == "full_refresh"
            landed = load(resource, transport, Warehouse(), full_refresh=full).landed
            print(landed.rows, landed.rows_unchanged)  # noqa: T201  what the test asks for


if __name__ == "__main__":
    main(*sys.argv[1:])
