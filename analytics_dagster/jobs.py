"""The jobs: what is run together, by hand or by a schedule."""

import dagster as dg

from analytics_dagster.assets import GROUP

incremental_load = dg.define_asset_job(
    "incremental_load",
    selection=dg.AssetSelection.groups(GROUP),
    description="Loads all resources: new rows are inserted, known ones updated by key.",
)
