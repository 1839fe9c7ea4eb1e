"""All pages of a resource, proven complete. What counts as proof belongs here.

    walk ──► evidence ──► the same pages, or a second reading, or IncompleteReadError

Pages are handed on while they are read, so a second reading hands on the rows again: merging
on the primary key makes them one. Nothing is written before the last page is proven.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from analytics_dagster.api_spec import Resource
from analytics_dagster.columns import api_name
from analytics_dagster.envelope import Page
from analytics_dagster.errors import IncompleteReadError
from analytics_dagster.paginators import walk
from analytics_dagster.transport import Transport

MAX_PAGES = 1_000_000
READINGS = 2


@dataclass
class Reading:
    """What was read so far, second readings included.

    `distinct` are the rows of the last whole reading, each counted once; `total` is the
    number that the API claims, if it does.
    """

    pages: int = 0
    rows: int = 0
    distinct: int = 0
    readings: int = 0
    total: int | None = None


def read_pages(resource: Resource, transport: Transport, reading: Reading) -> Iterator[Page]:
    """The pages in order, lazily; the last one is handed on before the proof is complete.

    Raises:
        IncompleteReadError: two readings in a row did not add up.
        ApiError: a page could not be read.
    """
    before: _Evidence | None = None
    flaw = ""
    for _ in range(READINGS):
        reading.readings += 1
        evidence = _Evidence(resource)
        for page in walk(resource, transport):
            reading.pages += 1
            reading.rows += len(page.rows)
            reading.total = page.total if page.rows else reading.total
            yield page
            if not evidence.takes(page):
                break
        reading.distinct = evidence.distinct
        flaw = evidence.flaw(before)
        if not flaw:
            return
        before = evidence
    raise IncompleteReadError(
        f"{transport.base_url}{resource.endpoint.path}: {flaw}, on {READINGS} readings. Nothing "
        "was loaded and the rows in the warehouse are as they were. If the API changes while it "
        "is read, run again; otherwise ask its owner."
    )


class _Evidence:
    """What one reading showed: the rows by identity, the totals, and a page seen twice."""

    def __init__(self, resource: Resource) -> None:
        self._key = [api_name(column) for column in resource.primary_key]
        # Eight bytes a row, so that ten million rows are no burden.
        self.identities = array("q")
        self._pages: set[int] = set()
        self._totals: list[int] = []
        self._repeated_at: int | None = None

    def takes(self, page: Page) -> bool:
        """Adds a page; False when reading on is pointless."""
        # A page beyond the end may claim anything; so may one without a total.
        if page.total is not None and (page.rows or not self._pages):
            self._totals = [*self._totals[:1], page.total]
        identities = [_identity(row, self._key) for row in page.rows]
        fingerprint = hash(tuple(identities))
        if identities and fingerprint in self._pages:
            self._repeated_at = len(self.identities)
            return False
        self._pages.add(fingerprint)
        self.identities.extend(identities)
        if len(self._pages) >= MAX_PAGES:
            raise IncompleteReadError(f"no end after {MAX_PAGES} pages; raise the page size")
        return True

    @property
    def distinct(self) -> int:
        """Rows, each counted once."""
        return len(set(self.identities))

    def flaw(self, before: _Evidence | None) -> str:
        """Why this reading is no proof, or nothing; `before` is the reading before it."""
        rows, distinct = len(self.identities), self.distinct
        if self._repeated_at is not None:
            return f"after {self._repeated_at} rows the API repeats a page it gave before"
        if len(set(self._totals)) > 1:
            return "the API's total moved from {} to {} while it was read".format(*self._totals)
        if self._totals and distinct < self._totals[0]:
            return f"the API claims {self._totals[0]} rows and gave {distinct}"
        if distinct < rows and (before is None or before.identities != self.identities):
            return f"{rows - distinct} of {rows} rows came twice: the pages shift while read"
        return ""


def _identity(row: Any, key: list[str]) -> int:
    values = tuple(row.get(name) for name in key) if isinstance(row, dict) else (None,)
    try:
        return hash(repr(row)) if None in values else hash(values)
    except TypeError:
        return hash(repr(row))
