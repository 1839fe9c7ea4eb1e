"""One dead resource of the job: the others are loaded, and the run is red and says which it was."""

from __future__ import annotations

import json
from typing import Any

import dagster as dg
import pytest

from analytics_dagster.alerts import message
from analytics_dagster_tests.conftest import Checkout, Project, agents
from analytics_dagster_tests.fake_api import FakeApi, Fault, hang, status

DEAD, LIVING = "account_overview", {"agents_overview", "current_queue_activity"}
A_PROCESS_FOR_EACH = """
import dagster as dg
from analytics_dagster.assets import build_assets
from analytics_dagster.definitions import analytics_api, spec, warehouse
from analytics_dagster.jobs import build_jobs

defs = dg.Definitions(
    assets=build_assets(spec),
    jobs=build_jobs(spec),
    resources={"analytics_api": analytics_api, "warehouse": warehouse},
    executor=dg.multiprocess_executor,
)
"""


@pytest.fixture(autouse=True)
def _three_resources(api: FakeApi, project: Project, checkout: Checkout) -> None:
    api.rows |= {name: agents(250) for name in (DEAD, *LIVING)}
    project.points_at(api)
    checkout.takes_settings()


@pytest.mark.parametrize("executor", ["in_process", "multiprocess"])
@pytest.mark.parametrize(
    ("dies", "said"),
    [(status(500), "StatusError: {}: HTTP 500"), (hang(), "TimeLimitError: {}: no data for 1 s")],
    ids=["500", "hangs"],
)
def test_a_dead_resource_leaves_the_others_loaded_under_every_executor(
    project: Project,
    api: FakeApi,
    checkout: Checkout,
    monkeypatch: pytest.MonkeyPatch,
    executor: str,
    dies: Fault,
    said: str,
) -> None:
    """The last event of the run names the dead one, and the alert says what it died of."""
    api.always(DEAD, dies)
    (checkout.folder / "multiprocess.py").write_text(A_PROCESS_FOR_EACH)
    module = {"in_process": "analytics_dagster.definitions"}.get(executor, executor)
    hasty: Any = {"resources": {"analytics_api": {"config": {"retries": 0, "read_timeout": 1}}}}
    (checkout.folder / "hasty.yaml").write_text(json.dumps(hasty))
    done = checkout.run(f"dagster job execute -m {module} -j incremental_load -c hasty.yaml")
    assert done.returncode != 0
    for name in LIVING:
        assert project.query(f"SELECT count(*) FROM {name}") == [(250,)]

    monkeypatch.setenv("DAGSTER_HOME", checkout.environment["DAGSTER_HOME"])
    with dg.DagsterInstance.get() as instance:
        [run] = instance.get_runs()
        events = [log.dagster_event for log in instance.all_logs(run.run_id) if log.dagster_event]
        kinds = [(event.event_type, event.asset_key) for event in events]
        [failure] = [event for event in events if event.is_run_failure]
        context = dg.build_run_status_sensor_context(
            sensor_name="failure_alert",
            dagster_event=failure,
            dagster_instance=instance,
            dagster_run=run,
        ).for_run_failure()
        alert = message(context).splitlines()
    materialized = dg.DagsterEventType.ASSET_MATERIALIZATION
    assert {key.path[-1] for kind, key in kinds if kind == materialized and key} == LIVING
    assert f"Steps failed: ['{DEAD}']" in str(failure.message)
    assert len(alert) == 3
    url = f"{api.base_url}/v1/{DEAD}?limit=100&offset=0"
    assert alert[1].startswith(f"• {DEAD}: {said.format(url)}")


def test_make_run_shows_what_was_loaded_and_names_what_was_not(
    project: Project, api: FakeApi, checkout: Checkout
) -> None:
    """Exit status 1, a line for each loaded table, and a line for the dead resource."""
    api.always(DEAD, status(404))
    done = checkout.run("python -m analytics_dagster")
    assert done.returncode == 1
    assert {line.split()[0] for line in done.stdout.splitlines() if " 250 " in line} == LIVING
    failed = [line for line in done.stderr.splitlines() if line.startswith("FAILED")]
    assert len(failed) == 1
    assert failed[0].startswith(f"FAILED {DEAD}: StatusError: {api.base_url}/v1/{DEAD}?")
    for name in LIVING:
        assert project.query(f"SELECT count(*) FROM {name}") == [(250,)]
