"""Schedules, the change sensor and the failure alert, tick by tick on a real instance."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from analytics_dagster import sensors
from analytics_dagster.alerts import build_late_data_alert, failure_alert
from analytics_dagster.api_config import REST_API
from analytics_dagster.api_reader import read_spec
from analytics_dagster.api_spec import ApiSpec
from analytics_dagster.assets import build_assets
from analytics_dagster.definitions import analytics_api, defs
from analytics_dagster.errors import SettingError
from analytics_dagster.schedules import build_schedules
from analytics_dagster.sensors import build_change_sensor
from analytics_dagster.warehouse import Warehouse
from analytics_dagster.webhook import post
from analytics_dagster_tests.conftest import Listener, Project, agents
from analytics_dagster_tests.fake_api import Exchange, FakeApi, fault, hang, raw, status

ALL = ("account_overview", "agents_overview", "current_queue_activity")
AGENTS = "agents_overview"


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield instance


@pytest.fixture(autouse=True)
def _three_resources(api: FakeApi, project: Project) -> None:
    api.filter_field = "current_timestamp"
    api.rows |= {name: agents(3) for name in ALL}
    project.points_at(api)


def execute(instance: dg.DagsterInstance, *resources: str, job: str = "incremental_load") -> bool:
    """A run of the job over the resources, or all."""
    keys = [dg.AssetKey(["analytics", name]) for name in resources]
    result = defs.resolve_job_def(job).execute_in_process(
        instance=instance,
        asset_selection=keys or None,
        raise_on_error=False,
    )
    return result.success


@contextmanager
def in_flight(
    api: FakeApi, instance: dg.DagsterInstance, *resources: str, job: str = "incremental_load"
) -> Iterator[None]:
    """A run that hangs at the API as long as the block runs."""
    before = len(api.requests)
    api.always(resources[0] if resources else ALL[0], hang())
    run = threading.Thread(target=execute, args=(instance, *resources), kwargs={"job": job})
    run.start()
    while len(api.requests) == before:
        time.sleep(0.01)
    api.heal()
    yield
    api.stop()
    api.start()
    run.join()


# Schedules ----------------------------------------------------------------------------------


def tick(
    instance: dg.DagsterInstance, spec: ApiSpec, due: datetime, job: str = "incremental_load"
) -> Any:
    """What the schedule of the job answers to a tick."""
    schedule = next(item for item in build_schedules(spec, Warehouse()) if item.job_name == job)
    with dg.build_schedule_context(
        instance=instance, scheduled_execution_time=due, repository_def=defs.get_repository_def()
    ) as context:
        return schedule.evaluate_tick(context)


def requested(answer: Any) -> set[str]:
    """The resources for which a tick asks, in one run at most."""
    if not answer.run_requests:
        return set()
    [request] = answer.run_requests
    return {key.path[-1] for key in request.asset_selection}


@pytest.mark.parametrize("job", ["incremental_load", "full_refresh"])
def test_a_tick_asks_for_all_resources_in_the_mode_of_the_job(
    instance: dg.DagsterInstance, spec: ApiSpec, job: str
) -> None:
    """And the run that it asks for has a valid config."""
    answer = tick(instance, spec, datetime.now(timezone.utc), job)
    assert requested(answer) == set(ALL)
    [request] = answer.run_requests
    mode = "full_refresh" if job == "full_refresh" else "incremental"
    assert {op["config"]["mode"] for op in request.run_config["ops"].values()} == {mode}
    keys = list(request.asset_selection)
    ran = defs.resolve_job_def(job).execute_in_process(
        instance=instance, run_config=request.run_config, asset_selection=keys
    )
    assert ran.success


def test_a_tick_leaves_out_what_is_being_loaded(
    instance: dg.DagsterInstance, spec: ApiSpec, api: FakeApi
) -> None:
    """The other resources do not wait for a long load."""
    with in_flight(api, instance, AGENTS):
        assert requested(tick(instance, spec, datetime.now(timezone.utc))) == {*ALL} - {AGENTS}


@pytest.mark.parametrize("running", ["incremental_load", "full_refresh"])
def test_a_tick_is_skipped_while_everything_is_being_loaded(
    instance: dg.DagsterInstance, spec: ApiSpec, api: FakeApi, running: str
) -> None:
    """The reason names the resources and the run. A refresh is a load, but not the other way."""
    due = datetime.now(timezone.utc) + timedelta(seconds=30)
    with in_flight(api, instance, job=running):
        run = instance.get_runs()[0].run_id[:8]
        if running == "incremental_load":
            assert requested(tick(instance, spec, due, "full_refresh")) == set(ALL)
        for job in {"incremental_load", running}:
            answer = tick(instance, spec, due, job)
            assert not answer.run_requests
            assert all(f"{name} is covered by run {run}" in answer.skip_message for name in ALL)
    assert requested(tick(instance, spec, due)) == set(ALL)


def test_a_missed_hour_does_not_bring_four_runs(
    instance: dg.DagsterInstance, spec: ApiSpec
) -> None:
    """The first late tick asks for a run, and the others are covered by it."""
    now = datetime.now(timezone.utc)
    late = [now - timedelta(minutes=minutes) for minutes in (60, 45, 30, 15)]
    assert requested(tick(instance, spec, late[0])) == set(ALL)
    assert execute(instance)
    for due in late:
        answer = tick(instance, spec, due)
        assert not answer.run_requests
        assert f"{AGENTS} is covered by run" in answer.skip_message
    assert requested(tick(instance, spec, datetime.now(timezone.utc) + timedelta(seconds=1)))


def test_a_late_tick_asks_for_what_no_later_run_has_loaded(
    instance: dg.DagsterInstance, spec: ApiSpec
) -> None:
    """A run of one resource does not stand for the others, nor a load for a refresh."""
    due = datetime.now(timezone.utc)
    assert execute(instance, AGENTS)
    assert requested(tick(instance, spec, due)) == {*ALL} - {AGENTS}
    assert requested(tick(instance, spec, due, "full_refresh")) == set(ALL)


def test_a_run_whose_machine_was_switched_off_stops_no_tick(
    instance: dg.DagsterInstance, spec: ApiSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It claims to run for ever; after its first minute it counts only while it loads something."""
    due = datetime.now(timezone.utc) + timedelta(seconds=1)
    job = defs.resolve_job_def("incremental_load")
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTING)
    instance.report_dagster_event(
        dg.DagsterEvent(event_type_value="PIPELINE_START", job_name=run.job_name), run.run_id
    )
    assert requested(tick(instance, spec, due)) == set()
    monkeypatch.setattr("analytics_dagster.in_flight.LONGEST_START", timedelta(0))
    with Warehouse().database().one_load(AGENTS):
        assert requested(tick(instance, spec, due)) == set()
    assert requested(tick(instance, spec, due)) == set(ALL)


def test_the_schedule_is_the_one_of_the_environment(
    spec: ApiSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every 15 minutes in UTC by default."""
    schedule = build_schedules(spec, Warehouse())[0]
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("*/15 * * * *", "UTC")
    monkeypatch.setenv("ANALYTICS_SCHEDULE", "5 6 * * 1-5")
    monkeypatch.setenv("ANALYTICS_TIME_ZONE", "Europe/Berlin")
    schedule = build_schedules(spec, Warehouse())[0]
    assert schedule.cron_schedule == "5 6 * * 1-5"
    assert schedule.execution_timezone == "Europe/Berlin"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ANALYTICS_SCHEDULE", "every day"),
        ("ANALYTICS_SCHEDULE", ""),
        ("ANALYTICS_SCHEDULE", "* * * *"),
        ("ANALYTICS_SCHEDULE", "0 0 31 2 *"),
        ("ANALYTICS_TIME_ZONE", "Berlin"),
    ],
)
def test_a_schedule_that_is_none_is_told_when_definitions_load(
    spec: ApiSpec, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """With the variable, its value, and an example."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingError, match=re.escape(f"{variable}={value!r}")):
        build_schedules(spec, Warehouse())


# The change sensor --------------------------------------------------------------------------


class Sensor:
    """The change sensor and the cursor that Dagster keeps for it."""

    def __init__(self, instance: dg.DagsterInstance, spec: ApiSpec) -> None:
        self.instance = instance
        self.definition = build_change_sensor(spec, analytics_api, Warehouse())
        self.cursor: str | None = None
        self.reason = ""

    def tick(self) -> set[str]:
        """The resources that one tick asks for."""
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, repository_def=defs.get_repository_def()
        )
        answer = self.definition.evaluate_tick(context)
        self.cursor, self.reason = answer.cursor, answer.skip_message or ""
        return requested(answer)


@pytest.fixture
def sensor(instance: dg.DagsterInstance, spec: ApiSpec) -> Sensor:
    return Sensor(instance, spec)


def with_etags(api: FakeApi) -> None:
    """The API answers with the ETag of its rows, and 304 to who has them."""

    @fault
    def tagged(exchange: Exchange) -> None:
        code, payload = exchange.api.honest(exchange.asked)
        body = json.dumps(payload).encode()
        etag = f'"{hash(body)}"'
        if exchange.asked.headers.get("if-none-match") == etag:
            exchange.reply(304, b"")
        else:
            exchange.reply(code, body, {"etag": etag})

    for name in ALL:
        api.always(name, tagged())


@pytest.mark.parametrize("kind", ["filters", "etags", "neither"])
def test_only_what_changed_is_asked_for(
    sensor: Sensor, api: FakeApi, instance: dg.DagsterInstance, kind: str
) -> None:
    """By one request of one row a resource, whether the API filters, has ETags, or neither."""
    api.filter_field = "current_timestamp" if kind == "filters" else None
    if kind == "etags":
        with_etags(api)
    assert execute(instance)
    sensor.tick()
    assert execute(instance)
    api.requests.clear()
    assert sensor.tick() == sensor.tick() == set()
    assert f"{AGENTS}: nothing new" in sensor.reason
    assert len(api.requests) == 6
    assert {request.query["limit"] for request in api.requests} == {"1"}
    if kind == "etags":
        assert all("if-none-match" in request.headers for request in api.requests)
    api.rows[AGENTS][0] |= {"current_timestamp": "2026-11-23T10:30:00Z", "total_talk_time": 5}
    assert sensor.tick() == {AGENTS}
    assert execute(instance, AGENTS)
    assert sensor.tick() == set()


def test_a_change_anywhere_is_seen_where_the_api_filters(
    sensor: Sensor, api: FakeApi, instance: dg.DagsterInstance
) -> None:
    """Not only of the first row, which is all that is sent."""
    assert execute(instance)
    assert sensor.tick() == set()
    for minute in (1, 2, 3):
        api.rows[AGENTS][2]["current_timestamp"] = f"2026-11-23T10:0{minute}:00Z"
        assert sensor.tick() == {AGENTS}
        assert execute(instance, AGENTS)
        assert sensor.tick() == set()


def test_what_was_never_loaded_is_asked_for(sensor: Sensor) -> None:
    """The first tick of a new project loads everything."""
    assert sensor.tick() == set(ALL)


def test_a_load_that_fails_is_asked_for_again_later_and_not_every_minute(
    sensor: Sensor, api: FakeApi, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken resource brings a run every 15 minutes, however much it changes meanwhile."""
    assert execute(instance)
    api.rows[AGENTS][0]["current_timestamp"] = "2026-11-23T10:30:00Z"
    assert sensor.tick() == {AGENTS}
    for minute in (31, 32):
        api.rows[AGENTS][0]["current_timestamp"] = f"2026-11-23T10:{minute}:00Z"
        assert sensor.tick() == set()
    monkeypatch.setattr(sensors, "ASK_AGAIN", 0)
    assert sensor.tick() == {AGENTS}
    assert execute(instance, AGENTS)
    assert sensor.tick() == set()


def test_nothing_is_asked_for_while_it_is_being_loaded(
    sensor: Sensor, api: FakeApi, instance: dg.DagsterInstance
) -> None:
    """Neither the API nor Dagster is bothered; the tick says which run it is."""
    with in_flight(api, instance):
        before = len(api.requests)
        assert sensor.tick() == set()
        assert f"{AGENTS} is covered by run" in sensor.reason
        assert len(api.requests) == before


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (status(500), "StatusError"),
        (status(429, retry_after="200"), "StatusError"),
        (status(401), "UnauthorizedError"),
        (raw(b"<html>Agent 1</html>"), "MalformedBodyError"),
        (hang(), "TimeLimitError"),
    ],
    ids=["500", "429", "401", "html", "hang"],
)
def test_an_api_that_is_down_makes_a_skipped_tick_with_the_reason(
    sensor: Sensor, api: FakeApi, act: Any, said: str
) -> None:
    """At once, without a retry, and without the key or a row; the other resources are asked."""
    api.always(AGENTS, act)
    started = time.monotonic()
    assert sensor.tick() == {*ALL} - {AGENTS}
    assert time.monotonic() - started < 20
    assert [request.resource for request in api.requests].count(AGENTS) == 1
    for name in ALL:
        api.always(name, status(500) if name != AGENTS else act)
    assert sensor.tick() == set()
    assert f"{AGENTS}: {said}" in sensor.reason
    for private in (api.key, "a%2Bb", "Agent 1"):
        assert private not in sensor.reason + str(sensor.cursor)


def test_an_api_that_cannot_be_reached_or_is_not_set_makes_a_skipped_tick(
    sensor: Sensor, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped server, and a missing key, are reasons and no failures."""
    api.stop()
    assert sensor.tick() == set()
    assert sensor.reason.count("UnreachableError") == 3
    monkeypatch.delenv("ANALYTICS_API_KEY")
    assert sensor.tick() == set()
    assert "MissingApiKeyError" in sensor.reason


def test_a_tick_ends_in_time_however_many_resources_are_slow(
    sensor: Sensor, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What there is no time for is left to the next tick, and said."""
    monkeypatch.setattr(sensors, "LONGEST_TICK", -1)
    assert sensor.tick() == set()
    assert "no time was left" in sensor.reason
    assert api.requests == []


@pytest.mark.parametrize(
    "cursor", ["", "{", "[]", '{"agents_overview": 5}', '{"x": {"glance": {}}}']
)
def test_a_cursor_that_somebody_edited_does_no_harm(sensor: Sensor, cursor: str) -> None:
    """It is as if nothing had been seen yet."""
    sensor.cursor = cursor
    assert sensor.tick() == set(ALL)


# The failure alert --------------------------------------------------------------------------


def alert(instance: dg.DagsterInstance, resource: str = AGENTS) -> Any:
    """The answer of the alert to a failed load of the resource, and the id of that run."""
    job = defs.resolve_job_def("incremental_load")
    result = job.execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(["analytics", resource])],
        raise_on_error=False,
        run_config={"resources": {"warehouse": {"config": {"lock_timeout": 0.1}}}},
    )
    assert not result.success
    failed = [event for event in result.all_events if event.is_run_failure]
    context = dg.build_run_status_sensor_context(
        sensor_name="failure_alert",
        dagster_event=failed[0],
        dagster_instance=instance,
        dagster_run=result.dagster_run,
    ).for_run_failure()
    return failure_alert(context), result.run_id


def test_a_failed_run_is_told_to_the_webhook(
    instance: dg.DagsterInstance,
    api: FakeApi,
    listener: Listener,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Job, run, resource, kind and message of the error, and a link; neither key nor row."""
    monkeypatch.setenv("ANALYTICS_ALERT_WEBHOOK_URL", listener.url)
    monkeypatch.setenv("ANALYTICS_DAGSTER_URL", "https://dagster.example.com/")
    api.always(AGENTS, raw(b"<html>Agent 1, a+b/c=%d</html>", "text/html"))
    monkeypatch.setattr("analytics_dagster.retrying.BACKOFF_FACTOR", 0.01)
    _, run = alert(instance)
    [sent] = listener.alerts
    assert list(sent) == ["text"]
    first, reason, link = sent["text"].splitlines()
    assert first == f"incremental_load failed, run {run}"
    assert reason.startswith(f"• {AGENTS}: MalformedBodyError: {api.base_url}/v1/{AGENTS}?")
    assert "limit=100&amp;offset=0" in reason
    assert link == f"https://dagster.example.com/runs/{run}"
    for private in (api.key, "a%2Bb", "Agent 1"):
        assert private not in sent["text"]


@pytest.mark.parametrize("answer", [404, 500, None], ids=["404", "500", "nobody listens"])
def test_an_alert_that_is_not_delivered_is_logged_and_nothing_more(
    instance: dg.DagsterInstance,
    api: FakeApi,
    listener: Listener,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    answer: int | None,
) -> None:
    """Without the address of the webhook, which is a secret of its own."""
    monkeypatch.setenv("ANALYTICS_ALERT_WEBHOOK_URL", listener.url)
    listener.answer = answer or 200
    if answer is None:
        listener.server.server_close()
    api.always(AGENTS, status(404))
    assert alert(instance)[0] is None
    said = capfd.readouterr()
    assert "The alert was not delivered" in said.err + said.out
    assert "hook-secret" not in said.err + said.out


def test_the_log_does_not_show_the_address_of_the_webhook(
    listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    """Some have their token in the path, others in the query."""
    caplog.set_level(logging.DEBUG)
    assert post(f"{listener.url}?token=hook%2btoken", "text") == ""
    assert "POST ***" in caplog.text
    assert "hook" not in caplog.text


@pytest.mark.parametrize("webhook", ["http://[hook", "http://hook:port/"])
def test_a_webhook_that_is_no_url_is_not_shown(webhook: str) -> None:
    """Nor is it the end of the tick."""
    problem = post(webhook, "text")
    assert problem
    assert "hook" not in problem


def test_an_alert_mentions_nobody(listener: Listener) -> None:
    """What looks like a link or a mention to Slack is sent as plain text."""
    assert post(listener.url, "<!channel> & <https://example.com>") == ""
    assert listener.alerts == [{"text": "&lt;!channel&gt; &amp; &lt;https://example.com&gt;"}]


def test_without_a_webhook_nobody_is_told(instance: dg.DagsterInstance, api: FakeApi) -> None:
    """And the tick says so."""
    api.always(AGENTS, status(404))
    skipped, _ = alert(instance)
    assert "ANALYTICS_ALERT_WEBHOOK_URL is not set" in skipped.skip_message


def test_a_run_that_began_nothing_is_told_too(
    instance: dg.DagsterInstance, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing key fails the run before any resource."""
    monkeypatch.setenv("ANALYTICS_ALERT_WEBHOOK_URL", listener.url)
    monkeypatch.delenv("ANALYTICS_API_KEY")
    alert(instance)
    assert "• run: MissingApiKeyError: No API key" in listener.alerts[0]["text"]


# The alert of late data ---------------------------------------------------------------------


class LateDataAlert:
    """The sensor and the cursor that Dagster keeps for it."""

    def __init__(self, instance: dg.DagsterInstance, spec: ApiSpec) -> None:
        self.instance = instance
        self.definition = build_late_data_alert(spec)
        self.cursor: str | None = None

    def tick(self) -> str:
        """The reason that one tick gives."""
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
        answer = self.definition.evaluate_tick(context)
        self.cursor = answer.cursor
        return answer.skip_message or ""


@pytest.fixture
def late(
    instance: dg.DagsterInstance,
    spec: ApiSpec,
    listener: Listener,
    monkeypatch: pytest.MonkeyPatch,
) -> LateDataAlert:
    """The alert, an hour after a load that should be repeated every 15 minutes."""
    monkeypatch.setenv("ANALYTICS_ALERT_WEBHOOK_URL", listener.url)
    instance.report_runless_asset_event(dg.AssetMaterialization(dg.AssetKey(["analytics", AGENTS])))
    now = time.time()
    monkeypatch.setattr("analytics_dagster.alerts.time.time", lambda: now + 3600)
    return LateDataAlert(instance, spec)


def test_late_data_is_told_once_to_the_same_webhook(
    late: LateDataAlert, listener: Listener
) -> None:
    """With the time of the last load; what was never loaded is not late."""
    assert [late.tick(), late.tick()] == [f"Late: {AGENTS}."] * 2
    [sent] = listener.alerts
    said, link = sent["text"].splitlines()
    assert said.startswith(f"{AGENTS} is late: it was last loaded at 20")
    assert link == "http://127.0.0.1:3000/assets"


def test_data_that_is_late_again_is_told_again(
    late: LateDataAlert, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load in between ended the first delay."""
    late.tick()
    late.instance.report_runless_asset_event(
        dg.AssetMaterialization(dg.AssetKey(["analytics", AGENTS]))
    )
    assert late.tick() == "No resource is late."
    now = time.time()
    monkeypatch.setattr("analytics_dagster.alerts.time.time", lambda: now + 3600)
    late.tick()
    assert len(listener.alerts) == 2


def test_what_was_not_delivered_is_told_at_the_next_tick(
    late: LateDataAlert, listener: Listener
) -> None:
    """A webhook that is down for a moment swallows nothing."""
    listener.answer = 500
    late.tick()
    listener.answer = 200
    late.tick()
    assert len(listener.alerts) == 2


def test_data_within_its_freshness_policy_is_not_late(
    late: LateDataAlert, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is data of a daily schedule that is an hour old."""
    monkeypatch.setenv("ANALYTICS_SCHEDULE", "@daily")
    daily = LateDataAlert(late.instance, read_spec(REST_API))
    assert daily.tick() == "No resource is late."
    assert listener.alerts == []


def test_a_cursor_of_the_alert_that_somebody_edited_does_no_harm(late: LateDataAlert) -> None:
    """What is late is told once more."""
    for cursor in ("{", "[1]", '"x"', "null"):
        late.cursor = cursor
        assert late.tick() == f"Late: {AGENTS}."


@pytest.mark.parametrize(
    ("cron", "pause"),
    [
        ("*/15 * * * *", timedelta(minutes=15)),
        ("5 6 * * 1-5", timedelta(days=3)),
        ("0 8-18 * * *", timedelta(hours=14)),
        ("@daily", timedelta(days=1)),
    ],
)
def test_freshness_follows_the_schedule(
    monkeypatch: pytest.MonkeyPatch, cron: str, pause: timedelta
) -> None:
    """Nights and weekends without a tick make nothing late; two missed ticks do."""
    monkeypatch.setenv("ANALYTICS_SCHEDULE", cron)
    [asset, *_] = build_assets(read_spec(REST_API))
    [found] = asset.specs
    assert found.freshness_policy == dg.FreshnessPolicy.time_window(
        warn_window=2 * pause, fail_window=3 * pause
    )
