"""The README's table of destinations and promises is held to the tests that show them."""

from __future__ import annotations

import ast
import re

import pytest

from analytics_dagster.warehouse import Warehouse
from analytics_dagster_tests.test_definitions import ROOT

TABLE = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (ROOT / "README.md").read_text().partition("| promise |")[2].splitlines()[2:]
    if line.startswith("|")
]
KINDS = ("duckdb", "postgres", "ducklake", "delta")
# The tests of test_warehouses.py run on each destination; the others are named as file.test.
SUITE = "warehouses"
SHOWN_BY = {
    "merge on the primary key, without duplicates": {
        SUITE: "every_row_arrives_once_however_often_it_is_loaded",
    },
    "types and NOT NULL of the declared columns": {
        SUITE: "columns_have_their_declared_types_and_are_not_null "
        "every_value_survives_and_is_known_again",
        "postgres": "the_character_nul_stops_no_load",
        "delta": "columns_stay_not_null",
    },
    "incremental state, rejected rows, checks, guard of a refresh, made-up rows kept apart": {
        SUITE: "another_machine_goes_on_where_the_last_load_ended "
        "rejected_rows_are_kept_with_the_reason checks_find_what_is_wrong_with_a_table "
        "a_refresh_that_would_shrink_the_table_is_refused made_up_rows_never_mix_with_real_ones",
        "delta": "a_load_whose_state_was_not_kept_is_repeated",
    },
    "a refresh replaces the table in one transaction": {
        SUITE: "a_reader_sees_the_old_rows_or_the_new_ones "
        "a_statement_that_fails_in_the_middle_takes_the_others_back",
    },
    "readers during a load": {
        SUITE: "a_reader_sees_the_old_rows_or_the_new_ones",
        "overlap": "an_open_connection_is_waited_for_and_named",
        "postgres": "a_transaction_that_reads_sees_one_version_through_a_refresh",
        "ducklake": "a_transaction_that_reads_sees_one_version_through_a_refresh",
    },
    "loads at the same time": {
        SUITE: "first_loads_at_the_same_moment_all_succeed",
        "overlap": "eight_runs_at_the_same_moment_all_succeed",
        "postgres": "different_resources_are_written_at_the_same_time "
        "rejected_rows_of_loads_at_the_same_time_are_all_kept",
        "ducklake": "loads_of_different_resources_at_the_same_time_all_succeed "
        "commits_at_the_same_time_follow_each_other",
        "delta": "first_loads_of_hosts_at_the_same_moment_all_succeed",
    },
    "one load of a resource at a time": {
        SUITE: "a_run_does_not_wait_for_ever_for_another_one "
        "a_load_that_lost_its_lock_writes_nothing",
        "delta": "a_load_that_another_host_overtook_writes_nothing",
    },
    "a run that is killed": {
        SUITE: "a_run_that_is_killed_while_it_writes_harms_no_row",
        "chaos": "a_run_that_is_killed_leaves_old_rows_or_new_ones_and_the_next_run_repairs",
    },
    "rows on their way": {SUITE: "every_value_survives_and_is_known_again"},
    "space": {"ducklake": "old_versions_stay_readable_until_they_are_cleaned_up"},
    "several programs at once": {SUITE: "a_reader_sees_the_old_rows_or_the_new_ones"},
}


def names_in(file: str) -> set[str]:
    """The names of the tests of a file, without `test_`."""
    tree = ast.parse((ROOT / "analytics_dagster_tests" / f"test_{file}.py").read_text())
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {name.removeprefix("test_") for name in functions if name.startswith("test_")}


def test_every_destination_has_a_column() -> None:
    """In the order in which an error names them."""
    header = re.search(r"^\| promise \|(.*)\|$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert header
    assert tuple(cell.strip(" `") for cell in header[1].split("|")) == KINDS
    named = str(Warehouse.model_fields["destination"].description)
    assert named.startswith(f"One of {', '.join(KINDS)},")


def test_every_promise_is_shown_by_tests() -> None:
    """A row of the table has a word for each destination, and tests that would fail without it."""
    promises = [row[0] for row in TABLE if len(row) == len(KINDS) + 1]
    assert promises == list(SHOWN_BY)


@pytest.mark.parametrize("promise", SHOWN_BY)
def test_the_tests_of_a_promise_are_there(promise: str) -> None:
    """One that is renamed or goes away takes its promise with it."""
    for file, names in SHOWN_BY[promise].items():
        assert set(names.split()) <= names_in(file)
