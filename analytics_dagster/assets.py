"""The assets: one `@dlt_assets` definition per resource, from one factory.

One definition each, so that a resource that is down leaves the others loaded.
"""

from collections.abc import Iterator
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
from dagster_dlt import DagsterDltTranslator, dlt_assets
from dagster_dlt.translator import DltResourceTranslatorData

from analytics_dagster.api_config import DESCRIPTIONS
from analytics_dagster.api_spec import ApiSpec, Resource
from analytics_dagster.loading import load, pipeline_for
from analytics_dagster.metadata import declared_metadata, load_metadata
from analytics_dagster.resources import AnalyticsApi
from analytics_dagster.source import described_source
from analytics_dagster.warehouse import DATASET, Warehouse

GROUP = "call_centre"
OWNER = "team:analytics"


def build_assets(spec: ApiSpec) -> list[dg.AssetsDefinition]:
    """The assets of all resources of the configuration, in its order."""
    return [_build_asset(spec, resource) for resource in spec.resources]


def _build_asset(spec: ApiSpec, resource: Resource) -> dg.AssetsDefinition:
    # The source and the pipeline of the decorator only describe; each run makes its own.
    with TemporaryDirectory(prefix="analytics_dagster_") as folder:
        pipeline = pipeline_for(resource, Warehouse(), folder)

    @dlt_assets(
        dlt_source=described_source(resource),
        dlt_pipeline=pipeline,
        name=resource.name,
        dagster_dlt_translator=_Translator(resource),
    )
    def materialize(
        context: dg.AssetExecutionContext, analytics_api: AnalyticsApi, warehouse: Warehouse
    ) -> Iterator[dg.MaterializeResult[Any]]:
        made_up = analytics_api.is_sandbox
        with analytics_api.connect(spec.client) as transport:
            loaded = load(resource, transport, warehouse, made_up=made_up)
        metadata = load_metadata(resource, loaded, transport.traffic)
        context.log.info(f"{loaded.rows} rows loaded, {loaded.table_rows} in the table")
        yield dg.MaterializeResult(asset_key=[DATASET, resource.name], metadata=metadata)

    return materialize


class _Translator(DagsterDltTranslator):
    def __init__(self, resource: Resource) -> None:
        self._resource = resource

    def get_asset_spec(self, data: DltResourceTranslatorData) -> dg.AssetSpec:  # noqa: ARG002
        resource = self._resource
        return dg.AssetSpec(
            key=[DATASET, resource.name],
            # dlt's default is an upstream asset that does not exist.
            deps=[],
            description=DESCRIPTIONS.get(resource.name, f"Rows of GET {resource.endpoint.path}."),
            group_name=GROUP,
            owners=[OWNER],
            kinds={"dlt", "duckdb", "api"},
            tags={"source": "analytics_api"},
            metadata=declared_metadata(resource),
        )
