"""What Dagster shows before anything ran, and what loading definitions needs: nothing."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from analytics_dagster import assets
from analytics_dagster.api_config import REST_API
from analytics_dagster.api_reader import read_spec
from analytics_dagster.api_spec import ApiSpec
from analytics_dagster.assets import GROUP, build_assets
from analytics_dagster.definitions import defs
from analytics_dagster.jobs import build_jobs

ROOT = Path(__file__).resolve().parents[1]

# Ends the process on any connection and on any write that is not below the temporary folder.
GUARDED = """
import os, sys, tempfile
allowed = os.path.realpath(tempfile.gettempdir()) + os.sep
def guard(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        os.write(2, f"NETWORK {args}".encode()); os._exit(3)
    if event == "open" and isinstance(args[0], str) and args[2] & (os.O_WRONLY | os.O_RDWR):
        path = os.path.realpath(args[0])
        if not path.startswith(allowed) and path != os.devnull:
            os.write(2, f"WRITE {path}".encode()); os._exit(4)
    if event in ("os.mkdir", "os.rename", "os.remove") and args[-1] == -1:
        path = os.path.realpath(args[0])
        if not path.startswith(allowed):
            os.write(2, f"{event} {path}".encode()); os._exit(5)
sys.addaudithook(guard)
sys.dont_write_bytecode = True
import analytics_dagster.definitions as module
print(sorted(key.to_user_string() for key in module.defs.resolve_all_asset_keys()))
"""


def test_definitions_load_with_nothing(tmp_path: Path) -> None:
    """No setting, no network, no write outside a temporary folder, a read-only work folder."""
    work, temporary = tmp_path / "work", tmp_path / "tmp"
    work.mkdir(mode=0o555)
    temporary.mkdir()
    environment = {"TMPDIR": str(temporary), "PYTHONPATH": str(ROOT), "HOME": "/nonexistent"}
    done = subprocess.run(
        [sys.executable, "-c", GUARDED],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "analytics/agents_overview" in done.stdout
    assert list(work.iterdir()) == list(temporary.iterdir()) == []


@pytest.mark.parametrize("kind", ["postgres", "ducklake", "delta"])
def test_a_destination_is_named_before_it_can_be_used(tmp_path: Path, kind: str) -> None:
    """Its library, its settings and a network are needed by a load, and by nothing before it."""
    missing = ("psycopg2", "deltalake", "s3fs", "pyarrow")
    code = f"""
import sys
sys.modules |= dict.fromkeys({missing})
{GUARDED}
for key in module.defs.resolve_all_asset_keys():
    print(sorted(module.defs.resolve_asset_graph().get(key).kinds))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "HOME": "/nonexistent", "ANALYTICS_DESTINATION": kind},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(str(sorted(["api", "dlt", kind]))) == 3


def test_a_code_location_does_not_load_what_only_a_load_needs() -> None:
    """Arrow takes a tenth of the time, and comes with the first load."""
    code = "import sys, analytics_dagster.definitions; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_the_names_that_others_rely_on() -> None:
    """Asset keys, jobs, schedules and sensors change only on purpose."""
    repository = defs.get_repository_def()
    assert {key.to_user_string() for key in defs.resolve_all_asset_keys()} == {
        "analytics/account_overview",
        "analytics/agents_overview",
        "analytics/current_queue_activity",
    }
    assert {job.name for job in repository.get_all_jobs() if not job.name.startswith("__")} == {
        "incremental_load",
        "full_refresh",
        "check_tables",
    }
    assert {item.name: item.default_status.name for item in repository.schedule_defs} == {
        "incremental_load_schedule": "RUNNING",
        "full_refresh_schedule": "STOPPED",
    }
    assert {item.name: item.default_status.name for item in repository.sensor_defs} == {
        "change_sensor": "STOPPED",
        "failure_alert": "RUNNING",
        "late_data_alert": "RUNNING",
    }
    assert set(repository.get_top_level_resources()) == {"analytics_api", "warehouse"}


@pytest.mark.parametrize("name", [resource.name for resource in read_spec(REST_API).resources])
def test_an_asset_is_described_before_its_first_run(spec: ApiSpec, name: str) -> None:
    """Group, owner, kinds, tags, description, table, and each column as it is declared."""
    resource = next(r for r in spec.resources if r.name == name)
    asset = defs.resolve_asset_graph().get(dg.AssetKey(["analytics", name]))
    assert (asset.group_name, asset.owners) == (GROUP, ["team:analytics"])
    assert asset.kinds == {"dlt", "duckdb", "api"}
    assert asset.tags["source"] == "analytics_api"
    assert asset.description
    assert not asset.parent_keys
    assert asset.metadata["dagster/table_name"] == f"analytics.{name}"
    columns = asset.metadata["dagster/column_schema"].columns
    shown = {c.name: (c.type, c.constraints.nullable, bool(c.description)) for c in columns}
    assert shown == {n: (c.data_type, c.nullable, True) for n, c in resource.columns.items()}


def with_calls(**changes: Any) -> Any:
    """The project's configuration and one more entry, as a user would add it."""
    entry = {
        "name": "calls",
        "endpoint": {
            "path": "/v1/calls",
            "data_selector": "data",
            "paginator": {"type": "offset", "limit": 100},
        },
        "columns": {"id": {"data_type": "bigint", "nullable": False}},
    }
    config: Any = copy.deepcopy(REST_API)
    config["resources"].append(entry | changes)
    return config


def test_one_entry_more_is_one_asset_more_in_every_job() -> None:
    """The asset, its columns and its place in the jobs follow from the entry."""
    spec = read_spec(with_calls())
    more = dg.Definitions(
        assets=build_assets(spec), jobs=build_jobs(spec), resources=defs.resources
    )
    key = dg.AssetKey(["analytics", "calls"])
    for job in ("incremental_load", "full_refresh"):
        assert key in more.resolve_job_def(job).asset_layer.selected_asset_keys
    metadata = more.resolve_asset_graph().get(key).metadata
    assert [column.name for column in metadata["dagster/column_schema"].columns] == ["id"]


def test_a_mistake_in_an_entry_is_told_when_definitions_load(tmp_path: Path) -> None:
    """`dagster definitions validate` says which entry, which key, and what is allowed."""
    broken = tmp_path / "broken.py"
    broken.write_text(
        "from analytics_dagster_tests.test_definitions import with_calls\n"
        "from analytics_dagster.api_reader import read_spec\n"
        "from analytics_dagster.assets import build_assets\n"
        "import dagster as dg\n"
        "config = with_calls(endpoint={'pth': '/v1/calls'})\n"
        "defs = dg.Definitions(assets=build_assets(read_spec(config)))\n"
    )
    done = subprocess.run(
        [Path(sys.executable).parent / "dagster", "definitions", "validate", "-f", broken],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "DAGSTER_HOME": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "ApiConfigError" in done.stdout + done.stderr
    expected = (
        "resources[3] 'calls': endpoint: unknown key 'pth'; allowed: path, params, "
        "data_selector, paginator"
    )
    assert expected in done.stdout + done.stderr


def test_the_decorator_is_that_of_embedded_elt_where_it_is_installed() -> None:
    """On the package set of dagster-embedded-elt its `dlt_assets` makes the assets."""
    embedded_elt = pytest.importorskip("dagster_embedded_elt.dlt")
    assert vars(assets)["dlt_assets"] is embedded_elt.dlt_assets
