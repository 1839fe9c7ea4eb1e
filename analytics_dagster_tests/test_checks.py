"""What the checks of an asset find, each seen to pass and to fail, on real loads and tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from analytics_dagster.alerts import failure_alert
from analytics_dagster.api_reader import read_spec
from analytics_dagster.api_spec import ApiSpec
from analytics_dagster.checks import build_checks, checks_of
from analytics_dagster.definitions import defs
from analytics_dagster.warehouse import Warehouse
from analytics_dagster_tests.conftest import Checkout, Listener, Project, agents
from analytics_dagster_tests.fake_api import FakeApi
from analytics_dagster_tests.test_definitions import with_calls

AGENTS = "agents_overview"
KEY = dg.AssetKey(["analytics", AGENTS])
NAMES = {
    *("unique_key", "not_null", "expected_fields", "plausible_ranges"),
    *("rows_at_api", "counts_add_up", "rejected_rows", "schema_drift", "volume"),
}


@dataclass
class Checked:
    """A project with three agents and an instance that remembers its loads."""

    project: Project
    api: FakeApi
    instance: dg.DagsterInstance
    spec: ApiSpec

    def load(self, **config: Any) -> dg.ExecuteInProcessResult:
        """A load of the agents, with its checks."""
        return self.project.run(AGENTS, instance=self.instance, config=config).result

    def check(self, *names: str) -> dg.ExecuteInProcessResult:
        """The checks alone, or just the named ones."""
        [_, definition, _] = build_checks(self.spec)
        keys = [dg.AssetCheckKey(KEY, name) for name in names]
        selection = (
            dg.AssetSelection.checks(*keys) if keys else dg.AssetSelection.all_asset_checks()
        )
        return dg.materialize(
            [definition],
            instance=self.instance,
            selection=selection,
            resources={"warehouse": Warehouse(lock_timeout=1)},
            raise_on_error=False,
        )

    def records(self, **figures: Any) -> None:
        """Repeats what Dagster recorded of the last load, with other figures."""
        event = self.instance.get_latest_materialization_event(KEY)
        assert event
        assert event.asset_materialization
        known = event.asset_materialization.metadata
        self.instance.report_runless_asset_event(
            dg.AssetMaterialization(KEY, metadata={**known, **figures})
        )

    def edit(self, *statements: str) -> None:
        """Somebody works on the table by hand."""
        with duckdb.connect(str(self.project.path)) as connection:
            connection.execute("USE analytics.analytics")
            for statement in statements:
                connection.execute(statement)


@pytest.fixture
def checked(project: Project, api: FakeApi, spec: ApiSpec, tmp_path: Path) -> Iterator[Checked]:
    api.rows[AGENTS] = agents(3)
    project.points_at(api)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield Checked(project, api, instance, spec)


def found(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    """What the checks of a run found, by name; each was made once."""
    made = result.get_asset_check_evaluations()
    assert len({each.check_name for each in made}) == len(made)
    return {each.check_name: each for each in made}


def problem(
    result: dg.ExecuteInProcessResult, name: str, severity: str
) -> tuple[str, dict[str, Any]]:
    """What just this check says is wrong; all the others passed, or did not run."""
    failed = {name: each for name, each in found(result).items() if not each.passed}
    assert set(failed) == {name}
    assert failed[name].severity.value == severity
    # What makes the rows wrong is a red run.
    assert result.success == (severity == "WARN")
    return str(failed[name].description), {k: v.value for k, v in failed[name].metadata.items()}


def test_a_good_load_passes_every_check(checked: Checked) -> None:
    """The checks run with the load, all of them."""
    result = checked.load()
    assert result.success
    assert {name for name, each in found(result).items() if each.passed} == NAMES


def test_every_resource_has_every_check(spec: ApiSpec) -> None:
    """Made from the configuration; ranges are checked where one is declared."""
    for resource in spec.resources:
        assert set(checks_of(resource)) == NAMES
        bare = {
            name: column.model_copy(update={"minimum": None, "maximum": None})
            for name, column in resource.columns.items()
        }
        without = resource.model_copy(update={"columns": bare})
        assert set(checks_of(without)) == NAMES - {"plausible_ranges"}


def test_checks_run_alone_and_one_by_one(checked: Checked) -> None:
    """Without reading the API again."""
    checked.load()
    checked.api.requests.clear()
    assert set(found(checked.check())) == NAMES
    assert set(found(checked.check("volume"))) == {"volume"}
    assert checked.api.requests == []


def test_checks_before_the_first_load_say_so(checked: Checked) -> None:
    """As a warning with the job to run, whether the file exists or not."""
    for each in found(checked.check()).values():
        assert not each.passed
        assert each.severity == dg.AssetCheckSeverity.WARN
        assert each.description == "the table was never loaded: run incremental_load"


def test_a_key_that_is_there_twice_is_an_error(checked: Checked) -> None:
    """Told with the key and the SQL that shows the rows; the run is red."""
    checked.load()
    checked.edit("INSERT INTO agents_overview FROM agents_overview WHERE id = 2")
    told, details = problem(checked.check(), "unique_key", "ERROR")
    assert told == "rows without a key of their own: id (2)"
    assert details["keys"] == "2, 2"
    assert len(checked.project.query(details["sql"])) == 2


def test_a_load_into_a_table_with_a_key_twice_is_red(checked: Checked) -> None:
    """The load itself went well; the table is wrong all the same."""
    checked.load()
    checked.edit("INSERT INTO agents_overview FROM agents_overview WHERE id = 2")
    problem(checked.load(), "unique_key", "ERROR")


def test_a_required_value_that_is_missing_is_an_error(checked: Checked) -> None:
    """Whoever set it to null."""
    checked.load()
    checked.edit(
        "ALTER TABLE agents_overview ALTER current_timestamp DROP NOT NULL",
        'UPDATE agents_overview SET "current_timestamp" = NULL WHERE id > 1',
    )
    told, details = problem(checked.check(), "not_null", "ERROR")
    assert told == "rows without a required value: current_timestamp (2)"
    assert details["keys"] == "2, 3"
    assert len(checked.project.query(details["sql"])) == 2


def test_an_expected_value_that_is_null_is_a_warning(checked: Checked) -> None:
    """The row is loaded; base statistics should be there on every plan."""
    checked.api.rows[AGENTS][1]["total_calls_denied"] = None
    told, details = problem(checked.load(), "expected_fields", "WARN")
    assert told == "rows without a value that is expected of the API: total_calls_denied (1)"
    assert details["keys"] == "2"
    assert len(checked.project.query(details["sql"])) == 1


def test_an_implausible_value_is_a_warning(checked: Checked) -> None:
    """Less than nothing cannot be counted, and no duration is negative."""
    checked.api.rows[AGENTS][0] |= {"total_talk_time": -5, "total_calls_missed": -1}
    checked.api.rows[AGENTS][2] |= {"total_talk_time": -7}
    told, details = problem(checked.load(), "plausible_ranges", "WARN")
    assert told == "rows with an implausible value: total_calls_missed (1), total_talk_time (2)"
    assert details["keys"] == "1, 3"
    assert len(checked.project.query(details["sql"])) == 2


def test_more_rows_than_the_api_claims_are_a_warning(checked: Checked) -> None:
    """All were read to the end; the API's total is odd."""
    checked.api.total = 2
    told, _ = problem(checked.load(), "rows_at_api", "WARN")
    assert told == "the API claims 2 rows, and 3 were read"


def test_an_api_without_a_total_passes(checked: Checked) -> None:
    """There is nothing to compare with."""
    checked.api.total = "absent"
    assert all(each.passed for each in found(checked.load()).values())


def test_fewer_rows_than_the_api_claims_are_an_error(checked: Checked) -> None:
    """The reader refuses such a reading; a record of one is an error all the same."""
    checked.load()
    checked.records(total_at_api=4)
    told, _ = problem(checked.check(), "rows_at_api", "ERROR")
    assert told == "the API claims 4 rows, and 3 were read"


@pytest.mark.parametrize("figure", ["rows_loaded", "rows_rejected", "duplicates"])
def test_counts_that_do_not_add_up_are_an_error(checked: Checked, figure: str) -> None:
    """A row that was read and went nowhere is a lost row."""
    checked.load()
    figures = {"rows_loaded": 1, "rows_rejected": 1, "duplicates": 1}
    checked.records(rows_read=3, **{**figures, figure: 0})
    told, _ = problem(checked.check("counts_add_up"), "counts_add_up", "ERROR")
    assert told.startswith("3 rows were read, and ")


def test_a_refreshed_table_has_just_the_rows_of_the_refresh(checked: Checked) -> None:
    """One row more or less in the table is an error."""
    checked.load(mode="full_refresh")
    checked.records(**{"dagster/row_count": 4})
    told, _ = problem(checked.check(), "counts_add_up", "ERROR")
    assert told == "the refresh put 3 rows, and the table has 4"


def test_rejected_rows_are_a_warning(checked: Checked) -> None:
    """With the reasons and the SQL that shows them."""
    del checked.api.rows[AGENTS][1]["current_timestamp"]
    told, details = problem(checked.load(), "rejected_rows", "WARN")
    assert told == "1 of 3 rows break the contract"
    assert details["reasons"] == {"current_timestamp: missing or null": 1}
    assert len(checked.project.query(details["sql"])) == 1


def test_new_and_vanished_fields_are_a_warning_until_they_are_declared(checked: Checked) -> None:
    """Also when nothing else is new, and for fields of the larger plan."""
    checked.api.rows[AGENTS] = agents(3, average_hold_time=4)
    checked.load()
    changed = agents(3, current_timestamp="2026-11-23T10:05:00Z", ai_agent_calls=1)
    for row in changed:
        del row["total_calls_denied"]
    checked.api.rows[AGENTS] = changed
    for vanished in (["average_hold_time", "total_calls_denied"], ["total_calls_denied"]):
        drift = found(checked.load())["schema_drift"]
        assert (drift.passed, drift.severity.value) == (False, "WARN")
        assert drift.metadata["new"].value == ["ai_agent_calls"]
        assert drift.metadata["vanished"].value == vanished


def test_a_field_of_the_larger_plan_that_vanishes_is_told(checked: Checked) -> None:
    """A smaller plan that never had it is no drift."""
    checked.api.rows[AGENTS] = agents(3, average_hold_time=4)
    assert all(each.passed for each in found(checked.load()).values())
    checked.api.rows[AGENTS] = agents(2, current_timestamp="2026-11-23T10:05:00Z")
    told, details = problem(checked.load(), "schema_drift", "WARN")
    assert details == {"vanished": ["average_hold_time"]}
    assert told.startswith("vanished: average_hold_time. Declare in the REST API configuration")


def test_rows_of_two_plans_are_no_drift(checked: Checked) -> None:
    """Some accounts have the fields of the larger plan, and others do not."""
    checked.api.rows[AGENTS] = [*agents(2, average_hold_time=4), *agents(4)[2:]]
    checked.load()
    for row in checked.api.rows[AGENTS]:
        row["current_timestamp"] = "2026-11-23T10:05:00Z"
    assert all(each.passed for each in found(checked.load()).values())


def test_a_field_that_changes_its_type_is_told(checked: Checked) -> None:
    """Its rows are rejected, and the drift names the field and both types."""
    checked.api.rows[AGENTS] = [*agents(20), *agents(21, total_talk_time="long")[20:]]
    drift = found(checked.load())["schema_drift"]
    assert drift.metadata["changed"].value == ["total_talk_time: a text is no bigint"]


def test_a_volume_far_from_the_recent_past_is_a_warning(checked: Checked) -> None:
    """After five loads of the same kind it is known what is usual."""
    checked.api.rows[AGENTS] = agents(100)
    for _ in range(6):
        assert found(checked.load(mode="full_refresh"))["volume"].passed
    checked.api.rows[AGENTS] = agents(250)
    told, details = problem(checked.load(mode="full_refresh"), "volume", "WARN")
    assert told == "250 rows were read; 100 to 100 in 6 loads before"
    assert details["usual"] == [100] * 6


def test_the_first_loads_say_nothing_about_their_volume(checked: Checked) -> None:
    """Nothing is usual yet."""
    for count in (1, 500, 20, 900):
        checked.api.rows[AGENTS] = agents(count)
        refreshed = checked.load(mode="full_refresh", allow_shrink=True)
        assert found(refreshed)["volume"].passed


def test_no_check_shows_a_row(checked: Checked) -> None:
    """A check names keys and columns; what else is in a row stays in the warehouse."""
    checked.api.rows[AGENTS] = agents(20, name="Zebedee")
    checked.api.rows[AGENTS][0] |= {"total_talk_time": -5}
    checked.api.rows[AGENTS][1]["current_timestamp"] = "yesterday"
    checked.api.rows[AGENTS][2]["total_calls_denied"] = None
    told = str(found(checked.load()))
    assert "Zebedee" not in told
    assert "yesterday" not in told


def test_a_failed_check_reaches_the_webhook(
    checked: Checked, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that ends with wrong rows is red, and its alert names asset and check."""
    monkeypatch.setenv("ANALYTICS_ALERT_WEBHOOK_URL", listener.url)
    checked.load()
    checked.edit("INSERT INTO agents_overview FROM agents_overview WHERE id = 2")
    job = defs.resolve_job_def("check_tables")
    result = job.execute_in_process(instance=checked.instance, raise_on_error=False)
    failed = [event for event in result.all_events if event.is_run_failure]
    failure_alert(
        dg.build_run_status_sensor_context(
            sensor_name="failure_alert",
            dagster_event=failed[0],
            dagster_instance=checked.instance,
            dagster_run=result.dagster_run,
        ).for_run_failure()
    )
    [sent] = listener.alerts
    assert "analytics/agents_overview: unique_key" in sent["text"]


def test_make_run_prints_what_is_odd(checkout: Checkout, project: Project, api: FakeApi) -> None:
    """With resource, check and problem, behind the table of what was loaded."""
    api.rows |= {name: agents(3) for name in ("account_overview", "current_queue_activity")}
    api.rows[AGENTS] = agents(3, total_talk_time=-5)
    project.points_at(api)
    checkout.takes_settings()
    done = checkout.run("python -m analytics_dagster")
    assert done.returncode == 0
    odd = f"odd:  {AGENTS}: plausible_ranges: rows with an implausible value: total_talk_time (3)"
    assert odd in done.stdout


# What somebody does by hand -----------------------------------------------------------------


def test_checks_make_no_file(checked: Checked) -> None:
    """A mistyped path is no second warehouse."""
    checked.check()
    assert not checked.project.path.exists()


def test_a_table_that_was_emptied_is_an_error(checked: Checked) -> None:
    """No load leaves nothing of what it loaded."""
    checked.load()
    checked.edit("DELETE FROM agents_overview")
    told, details = problem(checked.check(), "counts_add_up", "ERROR")
    assert told == "the last load left 3 rows in the table, and it has 0"
    assert details == {"rows_after_load": 3, "rows_in_table": 0}


def test_rows_that_are_gone_are_a_warning(checked: Checked) -> None:
    """Another Dagster instance may have refreshed the table."""
    checked.load()
    checked.edit("DELETE FROM agents_overview WHERE id = 2")
    told, _ = problem(checked.check(), "counts_add_up", "WARN")
    assert told == "the last load left 3 rows in the table, and it has 2"


def test_a_table_that_was_dropped_is_an_error(checked: Checked) -> None:
    """It was there after the last load."""
    checked.load()
    checked.edit("DROP TABLE agents_overview")
    result = checked.check()
    assert not result.success
    for each in found(result).values():
        assert each.description == "the table was loaded and is gone: run full_refresh"


def test_a_table_is_checked_also_where_no_load_is_recorded(
    checked: Checked, tmp_path: Path
) -> None:
    """A new Dagster instance knows nothing of it; its key is there twice all the same."""
    checked.load()
    checked.edit("INSERT INTO agents_overview FROM agents_overview WHERE id = 2")
    (tmp_path / "new").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "new")) as instance:
        checked.instance = instance
        result = checked.check()
    made = found(result)
    assert not result.success
    assert made["unique_key"].metadata["keys"].value == "2, 2"
    assert made["not_null"].passed
    assert made["volume"].description == "no load of the table is recorded in this Dagster instance"


def test_a_field_without_a_value_so_far_is_told(checked: Checked) -> None:
    """It becomes a column with its first value; that it is sent is drift already."""
    checked.api.rows[AGENTS] = agents(3, ai_agent_calls=None)
    told, _ = problem(checked.load(), "schema_drift", "WARN")
    assert told.startswith("new: ai_agent_calls.")


def test_a_range_may_be_wider_than_the_digits_of_a_decimal(
    project: Project, api: FakeApi, tmp_path: Path
) -> None:
    """What no value can reach is no error of the database."""
    spec = read_spec(
        with_calls(
            columns={
                "id": {"data_type": "bigint", "nullable": False},
                "rate": {
                    "data_type": "decimal",
                    "precision": 38,
                    "scale": 38,
                    "x-minimum": 0.5,
                    "x-maximum": 5,
                },
            }
        )
    )
    api.rows["calls"] = [{"id": 1, "rate": "0.25"}, {"id": 2, "rate": "0.75"}]
    project.points_at(api)
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        result = project.run("calls", spec=spec, instance=instance).result
    told, details = problem(result, "plausible_ranges", "WARN")
    assert told == "rows with an implausible value: rate (1)"
    assert details["keys"] == "1"
