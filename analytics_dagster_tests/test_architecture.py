"""The order in which a stranger reads the package is the order in which it imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import analytics_dagster

PACKAGE = Path(analytics_dagster.__file__).parent
ORDER = str(analytics_dagster.__doc__).partition("other:")[2].replace("\n", " ").rstrip(". \n")
MODULES = [name.strip() for name in ORDER.split(",")]
KNOW_DAGSTER = {
    *("resources", "warehouse", "metadata", "assets", "jobs", "definitions"),
    *("checks", "in_flight", "schedules", "sensors", "run_failures", "alerts", "executors"),
}


def imports(module: str) -> set[str]:
    """The dotted names that a module imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    return names


def test_the_reading_order_names_every_module() -> None:
    """A new module takes its place in the docstring of the package."""
    found = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert sorted(MODULES) == sorted(found), "mend the list in analytics_dagster/__init__.py"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_stands_before_it(module: str) -> None:
    """Reading from top to bottom, nothing is used before it was explained."""
    before = MODULES[: MODULES.index(module)]
    own = {name.split(".")[1] for name in imports(module) if name.startswith("analytics_dagster.")}
    late = own - set(before) - {"sandbox"}
    assert not late, f"{module} imports {late}: move that code to the left of {module}"


@pytest.mark.parametrize("module", sorted(set(MODULES) - KNOW_DAGSTER))
def test_reading_an_api_needs_no_dagster(module: str) -> None:
    """Transport, pages, contract and source can be used, and tested, without Dagster."""
    known = {name for name in imports(module) if name.split(".")[0].startswith("dagster")}
    assert not known, f"{module} imports {known}: that belongs into assets or resources"


def test_only_the_resource_starts_the_sandbox() -> None:
    """The sandbox is a demo: nothing else depends on it, and it on nothing else."""
    users = {m for m in MODULES if any("sandbox" in name for name in imports(m))}
    assert users == {"resources"}
    for path in (PACKAGE / "sandbox").glob("*.py"):
        used = imports(f"sandbox/{path.stem}")
        ours = {name for name in used if name.startswith("analytics_dagster")}
        assert all(name.startswith("analytics_dagster.sandbox") for name in ours), path.name


def test_only_public_interfaces_are_imported() -> None:
    """Dagster, dlt and DuckDB may change what they keep private."""
    roots = ("dagster", "dagster_dlt", "dlt", "duckdb")
    for module in MODULES:
        for name in imports(module):
            private = name.split(".")[0] in roots and "._" in name
            assert not private, f"{module} imports {name}"
