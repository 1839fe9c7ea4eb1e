"""The change sensor: incremental loads of the resources that changed, soon after they did."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field

import dagster as dg

from analytics_dagster.api_spec import ApiSpec, Resource
from analytics_dagster.assets import key_of, last_load
from analytics_dagster.changes import Glance, glance
from analytics_dagster.errors import AnalyticsError
from analytics_dagster.in_flight import in_flight, told
from analytics_dagster.jobs import INCREMENTAL_LOAD
from analytics_dagster.resources import AnalyticsApi
from analytics_dagster.transport import Transport
from analytics_dagster.warehouse import Warehouse

SECONDS_BETWEEN_TICKS = 60
LONGEST_TICK = 30
"""Seconds after which a tick begins no further look; Dagster ends the tick after 60."""
ASK_AGAIN = 900
"""Seconds after which a load that was asked for and did not succeed is asked for again."""


def build_change_sensor(
    spec: ApiSpec, api: AnalyticsApi, warehouse: Warehouse
) -> dg.SensorDefinition:
    """The sensor over all resources; it asks the API that is given."""

    @dg.sensor(
        name="change_sensor",
        job_name=INCREMENTAL_LOAD,
        minimum_interval_seconds=SECONDS_BETWEEN_TICKS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Asks the API for one row of each resource, and loads those that changed.",
    )
    def change_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        busy = in_flight(context.instance, spec, warehouse)
        tick = _Tick(context, _remembered(context.cursor), [told(busy)] if busy else [])
        try:
            with api.process_config_and_initialize_cm() as reachable:
                tick.look(spec, reachable, busy)
        except AnalyticsError as error:
            tick.reasons.append(_said(error))
        return tick.result()

    return change_sensor


@dataclass
class _Memory:
    """The last look at a resource, and when a load of it was asked for (epoch seconds)."""

    glance: Glance
    asked_at: float = 0


@dataclass
class _Tick:
    context: dg.SensorEvaluationContext
    memories: dict[str, _Memory]
    reasons: list[str]
    changed: list[str] = field(default_factory=list)

    def look(self, spec: ApiSpec, api: AnalyticsApi, busy: dict[str, str]) -> None:
        """Looks at every resource that is not busy, as long as there is time."""
        give_up = time.monotonic() + LONGEST_TICK
        for resource in spec.resources:
            if resource.name in busy:
                continue
            if time.monotonic() > give_up:
                self.reasons.append(f"{resource.name} and those after it: no time was left")
                return
            try:
                with api.connect(spec.client, in_a_hurry=True) as transport:
                    self._look_at(resource, transport)
            except AnalyticsError as error:
                self.reasons.append(f"{resource.name}: {_said(error)}")

    def _look_at(self, resource: Resource, transport: Transport) -> None:
        load = last_load(self.context.instance, resource)
        memory = self.memories.get(resource.name)
        seen = glance(resource, transport, load.cursor, memory.glance if memory else None)
        asked_at = memory.asked_at if memory else 0.0
        if asked_at > load.at:
            is_due = time.time() - asked_at > ASK_AGAIN
        else:
            known = memory.glance.fingerprint if memory else None
            is_due = not seen.is_empty and seen.fingerprint != known
        if is_due:
            self.changed.append(resource.name)
            asked_at = time.time()
        else:
            self.reasons.append(f"{resource.name}: nothing new")
        self.memories[resource.name] = _Memory(seen, asked_at)

    def result(self) -> dg.SensorResult:
        """A request for the resources that changed, or why there is none."""
        cursor = json.dumps({name: asdict(memory) for name, memory in self.memories.items()})
        if not self.changed:
            return dg.SensorResult(skip_reason="; ".join(self.reasons), cursor=cursor)
        for reason in self.reasons:
            self.context.log.info(reason)
        request = dg.RunRequest(asset_selection=[key_of(name) for name in self.changed])
        return dg.SensorResult(run_requests=[request], cursor=cursor)


def _remembered(cursor: str | None) -> dict[str, _Memory]:
    try:
        return {
            name: _Memory(Glance(**memory["glance"]), float(memory["asked_at"]))
            for name, memory in json.loads(cursor or "{}").items()
        }
    except (ValueError, TypeError, KeyError, AttributeError):
        # Anybody can edit the cursor in the UI; without it everything looks new, once.
        return {}


def _said(error: AnalyticsError) -> str:
    return f"{type(error).__name__}: {error}"
