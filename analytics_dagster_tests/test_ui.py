"""The Dagster UI in a real browser: what a user clicks, and what the pages then show."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright

from analytics_dagster.api_spec import ApiSpec
from analytics_dagster.sandbox.server import DEMO_KEY
from analytics_dagster_tests.conftest import Checkout
from analytics_dagster_tests.test_dagster_dev import running_dev

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE = 60_000  # milliseconds, for anything that a page is to show: it asks again after 30 s
IS_ON = {
    "incremental_load_schedule": True,
    "full_refresh_schedule": False,
    "change_sensor": False,
    "failure_alert": True,
    "late_data_alert": True,
}
expect.set_options(timeout=PATIENCE)


class Visitor:
    """Somebody with a browser, who keeps pictures of what was shown and all errors of the pages."""

    def __init__(self, page: Page, folders: list[Path]) -> None:
        self.page = page
        self.folders = folders
        self.errors: list[str] = []
        self.pictures = 0
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._note)

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def follow(self, name: str) -> None:
        """Clicks the first link with these words."""
        self.page.get_by_role("link", name=name).first.click()

    def keep(self, name: str) -> None:
        """A picture of the page, which does not show the key."""
        self.pictures += 1
        for folder in self.folders:
            self.page.screenshot(path=folder / f"{self.pictures:02}-{name}.png")
        assert DEMO_KEY not in self.page.content()

    def figures(self) -> dict[str, str]:
        """The tables of the page: the first cell of each row, and the last one that says much."""
        rows = [row.split("\t") for row in self.page.get_by_role("row").all_inner_texts()]
        told = [[cell.strip() for cell in row if cell.strip()] for row in rows]
        return {row[0]: row[-1] for row in told if row}


@pytest.fixture
def browser() -> Iterator[Browser]:
    assert CHROMIUM.exists(), f"{CHROMIUM} is not there: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def visitor(browser: Browser, checkout: Checkout, tmp_path: Path) -> Iterator[Visitor]:
    # The schedule is on, and does not run between the clicks.
    checkout.environment["ANALYTICS_SCHEDULE"] = "0 0 1 1 *"
    folders = [tmp_path]
    if wanted := os.environ.get("UI_SCREENSHOTS"):
        folders.append(Path(wanted))
    page = browser.new_page(
        viewport={"width": 1500, "height": 950}, locale="en-US", timezone_id="UTC"
    )
    page.set_default_timeout(PATIENCE)
    visitor = Visitor(page, folders)
    with running_dev(checkout, tmp_path / "dev.log") as dev:
        page.goto(dev.url)
        # The first page goes on to another by itself, and would take away what a click opened.
        page.wait_for_url("**/overview/activity/timeline")
        try:
            yield visitor
        finally:
            visitor.keep("left")


@pytest.mark.ui
def test_a_user_loads_refreshes_and_sees_what_was_done(
    visitor: Visitor, spec: ApiSpec, checkout: Checkout
) -> None:
    """All by clicks, from the first page on; no error of a page is about an asset."""
    load_the_graph(visitor, spec)
    refresh_from_the_launchpad(visitor)
    look_at_the_figures(visitor)
    look_at_the_checks(visitor, checkout.folder / "analytics.duckdb")
    look_at_the_automation(visitor)
    names = [resource.name for resource in spec.resources]
    assert not [error for error in visitor.errors if any(name in error for name in names)]


def load_the_graph(visitor: Visitor, spec: ApiSpec) -> None:
    """The asset graph has all assets of the group, and loads them by its one button."""
    # The link "Jobs" has an icon that is called column_lineage.
    visitor.page.get_by_text("Lineage", exact=True).click()
    expect(visitor.page.get_by_text("Never materialized")).to_have_count(len(spec.resources))
    visitor.keep("graph")
    visitor.page.get_by_role("button", name="Materialize all").click()
    # The message that names the run goes away by itself, too soon to rely on its button.
    launched = visitor.page.get_by_text(re.compile("Launched run [0-9a-f]{8}")).inner_text()
    visitor.follow("Runs")
    visitor.follow(launched.split()[-1])
    see_it_succeed(visitor, "load")


def refresh_from_the_launchpad(visitor: Visitor) -> None:
    """The launchpad of the job holds its config, which runs as it stands there."""
    visitor.follow("Jobs")
    visitor.follow("full_refresh")
    beside(visitor.page.get_by_role("button", name="Materialize all"), "button").click()
    visitor.page.get_by_text("Open launchpad").click()
    launchpad = visitor.page.get_by_role("dialog").filter(has_text="Launchpad")
    editor = launchpad.locator(".CodeMirror-code")
    expect(editor.get_by_text("mode: full_refresh")).to_have_count(3)
    expect(launchpad.get_by_text("No errors")).to_be_visible()
    visitor.keep("launchpad")
    launchpad.get_by_role("button", name="Materialize").click()
    see_it_succeed(visitor, "refresh")


def see_it_succeed(visitor: Visitor, name: str) -> None:
    """The page of the run says Success in the end."""
    visitor.page.wait_for_url("**/runs/*")
    ended = visitor.page.get_by_text(re.compile("^(Success|Failure|Canceled)$"))
    expect(ended).to_be_visible(timeout=3 * PATIENCE)
    visitor.keep(f"{name}-run")
    expect(ended).to_have_text("Success")


def look_at_the_figures(visitor: Visitor) -> None:
    """The page of an asset tells what the last load did."""
    visitor.follow("Catalog")
    visitor.follow("analytics / agents_overview")
    count = visitor.page.get_by_text("Row count", exact=True).locator("..")
    expect(count).to_contain_text("300")
    visitor.keep("asset")
    visitor.page.get_by_role("row").filter(has_text="rows_deleted").scroll_into_view_if_needed()
    visitor.keep("asset-figures")
    shown = {"rows_read": "300", "rows_loaded": "300", "rows_rejected": "0", "rows_deleted": "0"}
    assert visitor.figures().items() >= shown.items()
    visitor.page.get_by_role("tab", name="Events").click()
    expect(visitor.page.get_by_role("row").filter(has_text="cursor").last).to_be_visible()
    visitor.keep("asset-events")
    figures = visitor.figures()
    shown |= {"dagster/row_count": "300", "total_at_api": "300"}
    assert figures.items() >= shown.items()
    assert figures["cursor"].endswith("UTC")


def look_at_the_checks(visitor: Visitor, path: Path) -> None:
    """All passed with the load; run alone on a table that somebody broke, one fails."""
    visitor.page.get_by_role("tab", name="Checks").click()
    passed = visitor.page.get_by_text("Succeeded", exact=True)
    expect(passed).to_have_count(9)
    visitor.keep("checks")
    with duckdb.connect(str(path)) as connection:
        table = "analytics.analytics.agents_overview"
        connection.execute(f"INSERT INTO {table} FROM {table} ORDER BY id LIMIT 1")
    visitor.page.get_by_role("button", name="Execute all").click()
    expect(passed).to_have_count(8)
    visitor.page.get_by_text("unique_key").first.click()
    told = visitor.page.get_by_text("rows without a key of their own: id (2)").first
    expect(told).to_be_visible()
    visitor.keep("check-failed")


def look_at_the_automation(visitor: Visitor) -> None:
    """Every schedule and sensor is there, with its switch as the README says."""
    visitor.follow("Automation")
    for name, is_on in IS_ON.items():
        row = visitor.page.get_by_role("link", name=name)
        # With its description comes its state; until then it looks as if it were off.
        expect(row.get_by_role("img", name="info")).to_be_visible()
        expect(beside(row, "input[@type='checkbox']")).to_be_checked(checked=is_on)
    visitor.keep("automation")


def beside(element: Locator, kind: str) -> Locator:
    """The first element of a kind that stands after this one."""
    return element.locator(f"xpath=following::{kind}[1]")
