"""The jobs: what is run together, by hand or by a schedule."""

from typing import Any

import dagster as dg

from analytics_dagster.api_spec import ApiSpec
from analytics_dagster.assets import GROUP, LoadConfig, key_of

INCREMENTAL_LOAD = "incremental_load"
FULL_REFRESH = "full_refresh"
CHECK_TABLES = "check_tables"


def build_jobs(spec: ApiSpec) -> list[Any]:
    """The asset jobs, each over all resources."""
    refresh = LoadConfig(mode="full_refresh")
    return [
        dg.define_asset_job(
            INCREMENTAL_LOAD,
            selection=dg.AssetSelection.groups(GROUP),
            description="Loads what is new: new rows are inserted, known ones updated by key.",
        ),
        dg.define_asset_job(
            FULL_REFRESH,
            selection=dg.AssetSelection.groups(GROUP),
            config=dg.RunConfig(ops={resource.name: refresh for resource in spec.resources}),
            description="Reads everything and replaces the tables: rows that are gone at the API "
            "are gone.",
        ),
        dg.define_asset_job(
            CHECK_TABLES,
            selection=dg.AssetSelection.checks_for_assets(
                *(key_of(resource.name) for resource in spec.resources)
            ),
            description="Runs the checks alone, on the tables as they stand.",
        ),
    ]
