"""All pages of a resource, proven complete. What counts as proof belongs here.

    walk ──► evidence ──► what was made of the pages, or a second reading, or IncompleteReadError

A reading that does not add up is thrown away as a whole: what a second reading finds is not
mixed with it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from hashlib import blake2b
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from analytics_dagster.api_spec import PageNumberPaginator, Resource
from analytics_dagster.columns import api_name
from analytics_dagster.envelope import Page
from analytics_dagster.errors import IncompleteReadError
from analytics_dagster.paginators import walk
from analytics_dagster.progress import Progress
from analytics_dagster.transport import Transport

MAX_PAGES = 1_000_000
READINGS = 2
_SLICE = 1_000_000

T = TypeVar("T")


@dataclass
class Reading:
    """What the last reading found so far; `readings` counts those before it, too.

    `distinct` are the rows, each counted once, when the reading is over; `total` is the
    number that the API claims, if it does.
    """

    pages: int = 0
    rows: int = 0
    distinct: int = 0
    readings: int = 0
    total: int | None = None

    def begin(self, number: int) -> None:
        """Forgets the reading before this one."""
        self.pages = self.rows = self.distinct = 0
        self.readings, self.total = number, None


def read_whole(
    resource: Resource,
    transport: Transport,
    take: Callable[[Iterator[Page]], T],
    reading: Reading,
    since: datetime | None = None,
) -> T:
    """What `take` makes of all pages of a reading that is proven complete.

    `take` is called anew for a second reading. With `since` the API is asked only for rows
    since then, where the configuration says how.

    Raises:
        IncompleteReadError: two readings in a row did not add up.
        ApiError: a page could not be read.
    """
    incremental = resource.endpoint.incremental
    filters = incremental.params(since) if incremental else {}
    before: _Evidence | None = None
    flaw = ""
    for number in range(1, READINGS + 1):
        reading.begin(number)
        evidence = _Evidence(resource, may_grow=bool(filters))
        pages = _read(walk(resource, transport, filters), reading, evidence)
        taken = take(_told(pages, resource, reading, transport))
        flaw = evidence.flaw(before)
        if not flaw:
            return taken
        before = evidence
    raise IncompleteReadError(
        f"{transport.base_url}{resource.endpoint.path}: {flaw}, on {READINGS} readings. Nothing "
        "was loaded and the rows in the warehouse are as they were. If the API changes while it "
        "is read, run again; otherwise ask its owner."
    )


def _read(pages: Iterator[Page], reading: Reading, evidence: _Evidence) -> Iterator[Page]:
    for page in pages:
        fresh = Page(page.rows[page.overlap :], page.total)
        reading.pages += 1
        reading.rows += len(fresh.rows)
        if fresh.rows or reading.pages == 1:
            reading.total = page.total
        yield fresh
        if not evidence.takes(page):
            break
    reading.distinct = evidence.distinct


def _told(
    pages: Iterator[Page], resource: Resource, reading: Reading, transport: Transport
) -> Iterator[Page]:
    progress = Progress(resource.name)
    for page in pages:
        yield page
        progress.tell(reading.rows, reading.pages, reading.total, transport.traffic.told())


class _Evidence:
    """What one reading showed: the rows by identity, the totals, and where it went wrong.

    What the API filters by time may grow while it is read: rows that change join it, and push
    others on. The next load asks for those again, as no cursor is later than the start of the
    reading; so this one is complete when as many rows came as its first total says.
    """

    def __init__(self, resource: Resource, *, may_grow: bool) -> None:
        self._key = [api_name(column) for column in resource.primary_key]
        # Eight bytes a row, so that ten million rows are no burden.
        self.identities = array("q")
        self._pages: set[int] = set()
        self._count = 0
        self._totals: list[int] = []
        self._moved_total: int | None = None
        # Whether a page came that the one before it could not show to be the next.
        self._has_blind = False
        self._is_numbered = isinstance(resource.endpoint.paginator, PageNumberPaginator)
        self._has_honest_total = True
        self._may_grow = may_grow
        self._pushed_on = 0
        self._has_moved = False
        self._stopped_by = ""
        self._repeats = False

    @cached_property
    def distinct(self) -> int:
        """Rows, each counted once; to be asked when the reading is over."""
        if not self.identities:
            return 0
        rows = _numbers(self.identities)
        slices = [rows[at : at + _SLICE] for at in range(0, len(rows), _SLICE)]
        # By their last bits, so that what is compared at a time is about a slice.
        last_bits = 2 ** len(slices).bit_length() - 1 if len(slices) > 1 else 0
        return sum(_distinct(slices, last_bits, bits) for bits in range(last_bits + 1))

    def takes(self, page: Page) -> bool:
        """Adds a page; False when reading on is pointless."""
        identities = _identities(page.rows, self._key)
        fingerprint = hash(frozenset(identities))
        if len(identities) > page.overlap and fingerprint in self._pages:
            self._repeats = True
            self._stopped_by = f"after {len(self.identities)} rows the API repeats a page"
        elif page.overlap and identities[:1] != self.identities[-1:]:
            if self._may_grow and self.identities[-1] in identities:
                self._pushed_on += identities.index(self.identities[-1])
            else:
                self._stopped_by = "the pages shift while they are read"
        self._has_moved |= page.moved
        self._has_blind |= self._is_numbered or (len(identities) == 1 and not page.overlap)
        self._pages.add(fingerprint)
        self.identities.extend(identities[page.overlap :])
        self._take_total(page)
        self._count += 1
        if self._count >= MAX_PAGES:
            self._stopped_by = f"there is no end after {MAX_PAGES} pages"
        return not self._stopped_by

    def _take_total(self, page: Page) -> None:
        # A page beyond the end may claim anything.
        if page.total is None or not (page.rows or self._count == 0):
            return
        self._totals = [*self._totals[:1], page.total]
        if self._moved_total is None:
            claimed = (page.total, page.other_total)
            self._moved_total = next(
                (each for each in claimed if each not in (self._totals[0], None)), None
            )
        if page.total < len(self.identities):
            self._has_honest_total = False

    def not_in(self, other: _Evidence) -> int:
        """How many rows of this reading did not come in the other one."""
        rows = _numbers(self.identities)
        is_known = pc.is_in(rows, value_set=_numbers(other.identities))
        return int(pc.count_distinct(rows.filter(pc.invert(is_known))).as_py())

    def flaw(self, before: _Evidence | None) -> str:
        """Why this reading is no proof, or nothing; `before` is the reading before it."""
        rows, totals = len(self.identities), self._totals if self._has_honest_total else []
        flaw = self._flaw_of_totals(rows, totals)
        if flaw or (before is not None and before.identities == self.identities):
            return flaw or self._stopped_by
        if self._has_blind and not self._stopped_by:
            if rows and not totals:
                return "pages that share no row, and no total, do not show whether they shift"
            if before is not None and (lost := before.not_in(self)):
                only = f"{lost} rows came on the first reading only"
                return f"{only}, and pages that share no row do not show why"
        if self._has_moved and not totals:
            return "the pages shift while they are read"
        repeated = rows - self.distinct - self._pushed_on
        if repeated and not self._stopped_by:
            return f"{repeated} of {rows} rows came twice: the pages shift"
        return self._stopped_by

    def _flaw_of_totals(self, rows: int, totals: list[int]) -> str:
        grown = self._may_grow and totals and rows - self._pushed_on >= totals[0]
        all_came = bool(grown) and rows >= totals[-1]
        if self._pushed_on and not all_came:
            return "the pages shift while they are read"
        if totals and self._moved_total is not None and not all_came:
            moved = f"from {totals[0]} to {self._moved_total}"
            return f"the API's total moved, {moved}, while it was read"
        if self._repeats:
            return self._stopped_by
        if totals and rows < totals[0]:
            return f"the API claims {totals[0]} rows and gave {rows}"
        return ""


def _numbers(identities: array[int]) -> pa.Array:
    return pa.Array.from_buffers(pa.int64(), len(identities), [None, pa.py_buffer(identities)])


def _distinct(slices: list[pa.Array], last_bits: int, bits: int) -> int:
    """The number of different rows among those whose last bits are these."""
    alike = [s.filter(pc.equal(pc.bit_wise_and(s, last_bits), bits)) for s in slices]
    return int(pc.count_distinct(pa.chunked_array(alike)).as_py())


def _identities(rows: list[Any], key: list[str]) -> array[int]:
    """64 bits a row, which tell it by its key; an integer is its own identity."""
    try:
        [name] = key
        values = [row[name] for row in rows]
        if set(map(type, values)) <= {int}:
            return array("q", values)
    except (KeyError, TypeError, ValueError, OverflowError):
        pass  # not every row is an object with an integer of that size: one by one
    return array("q", [_identity(row, key) for row in rows])


def _identity(row: Any, key: list[str]) -> int:
    """64 bits that tell a row by its key, or by all that it holds where it has none."""
    values = [row.get(name) for name in key] if isinstance(row, dict) else [None]
    if len(values) == 1 and type(values[0]) is int and -(2**63) <= values[0] < 2**63:
        return values[0]
    told_by = row if None in values else values
    return int.from_bytes(
        blake2b(repr(told_by).encode(errors="replace"), digest_size=8).digest(), "big", signed=True
    )
