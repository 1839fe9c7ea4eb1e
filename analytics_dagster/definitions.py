"""Everything that Dagster sees of this project, each object listed once."""

import dagster as dg

from analytics_dagster.api_config import REST_API
from analytics_dagster.api_reader import read_spec
from analytics_dagster.assets import build_assets
from analytics_dagster.jobs import incremental_load
from analytics_dagster.resources import AnalyticsApi
from analytics_dagster.warehouse import Warehouse

defs = dg.Definitions(
    assets=build_assets(read_spec(REST_API)),
    jobs=[incremental_load],
    resources={"analytics_api": AnalyticsApi(), "warehouse": Warehouse()},
    # DuckDB has one writer, and a process per step costs more than the load.
    executor=dg.in_process_executor,
)
