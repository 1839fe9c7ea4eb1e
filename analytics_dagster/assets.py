"""The assets: one `@dlt_assets` definition per resource, from one factory.

One definition each, so that a resource that is down leaves the others loaded.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from tempfile import TemporaryDirectory
from typing import Any, Literal

import dagster as dg
import dlt
from dagster_dlt import DagsterDltTranslator, dlt_assets
from dagster_dlt.translator import DltResourceTranslatorData
from pydantic import Field

from analytics_dagster.api_config import DESCRIPTIONS
from analytics_dagster.api_spec import ApiSpec, Resource
from analytics_dagster.database import DATASET
from analytics_dagster.description import described_source
from analytics_dagster.errors import RunEndedError
from analytics_dagster.metadata import declared_metadata, load_metadata
from analytics_dagster.progress import Forward, heard_by
from analytics_dagster.resources import SANDBOX_NOTICE, AnalyticsApi
from analytics_dagster.timetable import timetable
from analytics_dagster.warehouse import Warehouse

GROUP = "call_centre"


Mode = Literal["incremental", "full_refresh"]


class LoadConfig(dg.Config):
    """The run config of an asset."""

    mode: Mode = Field(
        default="incremental",
        description="incremental: reads what is new since the last load, and merges it. "
        "full_refresh: reads everything, and replaces the table by it; rows that are gone at the "
        "API are gone.",
    )
    allow_shrink: bool = Field(
        default=False,
        description="Let a full refresh leave far fewer rows than there are; without it that is "
        "an error, as an API that gives too little is the likelier reason.",
    )


OWNER = "team:analytics"


def key_of(resource: str) -> dg.AssetKey:
    """The key of the asset of a resource: schema and table."""
    return dg.AssetKey([DATASET, resource])


def build_assets(spec: ApiSpec) -> list[dg.AssetsDefinition]:
    """The assets of all resources of the configuration, in its order."""
    times = timetable()
    freshness = dg.FreshnessPolicy.time_window(
        warn_window=times.warned_after, fail_window=times.late_after
    )
    # The pipeline and the sources of the decorator only describe; each run makes its own.
    with TemporaryDirectory(prefix="analytics_dagster_") as folder:
        pipeline = dlt.pipeline(
            "description", pipelines_dir=folder, destination=Warehouse().description()
        )
    return [_build_asset(spec, resource, freshness, pipeline) for resource in spec.resources]


def _build_asset(
    spec: ApiSpec, resource: Resource, freshness: dg.FreshnessPolicy, pipeline: dlt.Pipeline
) -> dg.AssetsDefinition:
    kind = pipeline.destination.destination_name

    @dlt_assets(
        dlt_source=described_source(resource),
        dlt_pipeline=pipeline,
        name=resource.name,
        dagster_dlt_translator=_Translator(resource, freshness, kind),
    )
    def materialize(
        context: dg.AssetExecutionContext,
        config: LoadConfig,
        analytics_api: AnalyticsApi,
        warehouse: Warehouse,
    ) -> Iterator[dg.MaterializeResult[Any]]:
        _check_run_goes_on(context)
        # With it come Arrow and DuckDB, which a code location need not load.
        from analytics_dagster.loading import load

        made_up = analytics_api.is_sandbox
        with heard_by(Forward(context.log)), analytics_api.connect(spec.client) as transport:
            loaded = load(
                resource,
                transport,
                warehouse,
                full_refresh=config.mode == "full_refresh",
                allow_shrink=config.allow_shrink,
                made_up=made_up,
                before_writing=lambda: _check_run_goes_on(context),
            )
        metadata = load_metadata(resource, loaded, transport.traffic)
        if made_up:
            metadata["made_up"] = SANDBOX_NOTICE
        context.log.info(f"{loaded.landed.rows} rows loaded, {loaded.table_rows} in the table")
        yield dg.MaterializeResult(asset_key=key_of(resource.name), metadata=metadata)

    return materialize


def _check_run_goes_on(context: dg.AssetExecutionContext) -> None:
    """A worker on another machine is not told that its run was cancelled, or died."""
    run = context.instance.get_run_by_id(context.run.run_id)
    if run and (run.is_finished or run.status is dg.DagsterRunStatus.CANCELING):
        raise RunEndedError(
            f"Run {run.run_id} is {run.status.value}, and this step of it was not done. "
            "Nothing was written, and there is nothing to do: other runs load it."
        )


@dataclass(frozen=True)
class LastLoad:
    """When an asset was last loaded (epoch seconds; 0 for never), and the cursor then."""

    at: float = 0
    cursor: datetime | None = None


def last_load(instance: dg.DagsterInstance, resource: Resource) -> LastLoad:
    """The last load as Dagster recorded it; the warehouse is not opened for it."""
    event = instance.get_latest_materialization_event(key_of(resource.name))
    if event is None or event.asset_materialization is None:
        return LastLoad()
    cursor = event.asset_materialization.metadata.get("cursor")
    if not isinstance(cursor, dg.TimestampMetadataValue):
        return LastLoad(event.timestamp)
    return LastLoad(event.timestamp, datetime.fromtimestamp(cursor.value, timezone.utc))


class _Translator(DagsterDltTranslator):
    def __init__(self, resource: Resource, freshness: dg.FreshnessPolicy, kind: str) -> None:
        self._resource = resource
        self._freshness = freshness
        self._kind = kind

    def get_asset_spec(self, data: DltResourceTranslatorData) -> dg.AssetSpec:  # noqa: ARG002
        resource = self._resource
        return dg.AssetSpec(
            key=key_of(resource.name),
            # dlt's default is an upstream asset that does not exist.
            deps=[],
            description=DESCRIPTIONS.get(resource.name, f"Rows of GET {resource.endpoint.path}."),
            group_name=GROUP,
            owners=[OWNER],
            kinds={"dlt", self._kind, "api"},
            tags={"source": "analytics_api"},
            metadata=declared_metadata(resource),
            freshness_policy=self._freshness,
        )
