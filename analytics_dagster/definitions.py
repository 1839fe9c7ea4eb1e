"""Everything that Dagster sees of this project, each object listed once."""

import dagster as dg

from analytics_dagster.alerts import build_late_data_alert, failure_alert
from analytics_dagster.api_config import MOST_REJECTED, REST_API, SMALLEST_REFRESH
from analytics_dagster.api_reader import check_shares, read_spec
from analytics_dagster.assets import build_assets
from analytics_dagster.checks import build_checks
from analytics_dagster.executors import build_executor
from analytics_dagster.jobs import build_jobs
from analytics_dagster.resources import AnalyticsApi
from analytics_dagster.schedules import build_schedules
from analytics_dagster.sensors import build_change_sensor
from analytics_dagster.warehouse import Warehouse

spec = read_spec(REST_API)
check_shares(spec, MOST_REJECTED=MOST_REJECTED, SMALLEST_REFRESH=SMALLEST_REFRESH)
analytics_api = AnalyticsApi()
warehouse = Warehouse()

defs = dg.Definitions(
    assets=build_assets(spec),
    asset_checks=build_checks(spec),
    jobs=build_jobs(spec),
    schedules=build_schedules(spec, warehouse),
    sensors=[
        build_change_sensor(spec, analytics_api, warehouse),
        failure_alert,
        build_late_data_alert(spec),
    ],
    resources={"analytics_api": analytics_api, "warehouse": warehouse},
    executor=build_executor(warehouse),
)
