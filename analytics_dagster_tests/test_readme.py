"""The README is true: its commands run, its names and variables are those of the code."""

from __future__ import annotations

import inspect
import re
import subprocess
from pathlib import Path

import pytest

from analytics_dagster import errors
from analytics_dagster.api_reader import read_spec
from analytics_dagster_tests.conftest import Checkout
from analytics_dagster_tests.test_definitions import with_calls

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
LINES = [
    line.partition("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]
SERVERS = [line for line in LINES if "sandbox" in line]
COMMANDS = [line for line in LINES if line not in SERVERS and not line.startswith("make")]


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("make")])
def test_a_make_target_exists(line: str) -> None:
    """`make` knows what the README names."""
    subprocess.run([*line.split(), "--dry-run"], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_works_in_a_clean_checkout(checkout: Checkout, line: str) -> None:
    """It ends well, without a warning that this project could mend."""
    done = checkout.run(line)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search(r"\banalytics_dagster/.*Warning", done.stderr)


def test_make_run_prints_what_was_loaded_and_a_second_run_merges(checkout: Checkout) -> None:
    """All rows, then what is new; loud about made-up data, with a command that shows the rows."""
    for loaded in ("300", r"\d{1,3}"):
        done = checkout.run("python -m analytics_dagster")
        assert done.returncode == 0, done.stderr
        assert "MADE-UP data from the bundled sandbox" in done.stdout
        assert re.search(rf"agents_overview +{loaded} +0 +300 +23\n", done.stdout)
        assert f"duckdb: {checkout.folder / 'analytics.duckdb'}" in done.stdout
    [look] = re.findall(r"^look: (.*)$", done.stdout, re.MULTILINE)
    assert "26 columns" in checkout.run(look).stdout


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ANALYTICS_DUCKDB_PATH": ""}, "FAILED: SettingError: ANALYTICS_DUCKDB_PATH='' names no"),
        ({"ANALYTICS_API_KEY": "any-key-1"}, "FAILED run: SettingError: There is an API key and"),
        (
            {
                "ANALYTICS_API_KEY": "any-key-1",
                "ANALYTICS_API_BASE_URL": "http://me:secret@x?k=secret",
            },
            "FAILED run: SettingError: ANAL",
        ),
    ],
    ids=["path", "key", "url"],
)
def test_make_run_tells_a_bad_setting_in_one_line(
    checkout: Checkout, settings: dict[str, str], said: str
) -> None:
    """No traceback: what is wrong and what to do, and exit status 1."""
    checkout.environment |= settings
    done = checkout.run("python -m analytics_dagster")
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stdout + done.stderr


def test_every_variable_is_documented() -> None:
    """README, `.env.example` and the code name the same variables."""

    def variables(*files: Path) -> set[str]:
        return set(re.findall(r"ANALYTICS_[A-Z_]+", "".join(f.read_text() for f in files)))

    code = variables(*(ROOT / "analytics_dagster").rglob("*.py"))
    assert variables(ROOT / "README.md") == variables(ROOT / ".env.example") == code


def test_every_error_stands_in_the_table_of_failures() -> None:
    """A user finds each kind of error that can end a run, and no other."""
    kinds = {name for name, kind in inspect.getmembers(errors, inspect.isclass)}
    raised = {name for name in kinds if not getattr(errors, name).__subclasses__()}
    table = README.partition("## How it fails")[2].partition("## Destinations")[0]
    assert set(re.findall(r"`(\w+Error)`", table)) == raised | {"StatusError"}


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    """The docstring of the module names every class under its parent."""
    stack: list[str] = []
    for line in str(errors.__doc__).splitlines():
        if found := re.match(r"    ([│├└─ ]*)(\w+Error)\b", line):
            depth = len(found[1]) // 4
            stack[depth:] = [found[2]]
            parents = [base.__name__ for base in getattr(errors, found[2]).__bases__]
            assert parents == (stack[-2:-1] or ["Exception"])
    drawn = set(re.findall(r"\w+Error\b", str(errors.__doc__).partition("A message")[0]))
    assert drawn == {name for name, _ in inspect.getmembers(errors, inspect.isclass)}


def test_the_example_of_a_new_resource_is_a_valid_entry() -> None:
    """What the README shows under "Add a resource" can be pasted."""
    [example] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    entry = eval(example)  # noqa: S307  our own README
    assert read_spec(with_calls(**entry)).resources[-1].name == "calls"
