"""What holds whatever comes: any JSON as rows, any server within a model of faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, cast

import orjson
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from analytics_dagster.api_spec import ApiSpec, Resource
from analytics_dagster.contract import Contract
from analytics_dagster.envelope import Page
from analytics_dagster.errors import ApiError, FieldCollisionError
from analytics_dagster.pages import Reading, read_whole
from analytics_dagster.transport import Answer, Traffic, Transport
from analytics_dagster.values import arrow_type

Json = Any

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["2026-11-24T10:00:00Z", "1795428000", 1795428000, "\ud800", "\0", "3.5"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = ("id", "name", "current_timestamp", "vendor_account_id", "total_talk_time", "extra")
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.integers(0, 9) | JSON,
            "current_timestamp": st.just("2026-11-24T10:00:00Z") | JSON,
        },
        optional={name: JSON for name in FIELDS if name not in ("id", "current_timestamp")},
    )
    | JSON,
    max_size=8,
)


@given(batches=st.lists(ROWS, min_size=1, max_size=3))
@settings(max_examples=400, deadline=None)
def test_whatever_json_comes_the_counts_add_up_and_the_types_are_the_declared_ones(
    spec: ApiSpec, batches: list[list[Json]]
) -> None:
    """Every row is accepted or rejected; the only error is two fields for one column."""
    resource = spec.resources[1]
    contract = Contract(resource, {})
    for rows in batches:
        known_rejected = contract.findings.rejected
        try:
            batch = contract.batch(rows)
        except FieldCollisionError:
            return
        newly_rejected = contract.findings.rejected - known_rejected
        assert batch.rejected.num_rows == newly_rejected
        assert batch.accepted.num_rows + newly_rejected <= len(rows)
        for name, column in resource.columns.items():
            found = batch.accepted.schema.field(name)
            assert found.type == arrow_type(column)
            assert column.nullable or not batch.accepted[name].null_count


# Reading ------------------------------------------------------------------------------------


@dataclass
class Server:
    """A resource that changes and lies while it is read."""

    rows: list[int]
    limit: int
    edits: list[tuple[str, int]]
    total: str
    caps: list[int]
    ignores_offset: bool
    base_url: str = "http://model"
    readers: int = 1
    traffic: Traffic = field(default_factory=Traffic)
    requests: int = 0
    always_there: set[int] = field(default_factory=set)
    lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self.always_there = set(self.rows)

    def get(self, _path: str, params: dict[str, int], parse: Callable[[Answer], Page]) -> Page:
        """One page, and then the next edit."""
        with self.lock:
            return parse(Answer(200, {}, self._body(params)))

    def _body(self, params: dict[str, int]) -> bytes:
        self.requests += 1
        offset = 0 if self.ignores_offset else params["offset"]
        cap = self.caps[self.requests % len(self.caps)]
        rows = self.rows[offset : offset + min(params["limit"], cap)]
        totals = {
            "honest": len(self.rows),
            "absent": None,
            "page": len(rows),
            "zero": 0,
            "huge": 10**6,
            "text": str(len(self.rows)),
        }
        body = orjson.dumps({"data": [{"id": row} for row in rows], "total": totals[self.total]})
        if self.edits:
            self._edit(*self.edits.pop(0))
        return body

    def _edit(self, kind: str, at: int) -> None:
        if kind == "insert":
            self.rows.insert(at % (len(self.rows) + 1), 1000 + self.requests)
        elif kind == "delete" and self.rows:
            self.always_there.discard(self.rows.pop(at % len(self.rows)))


RESOURCE = Resource.model_validate(
    {
        "name": "agents",
        "primary_key": "id",
        "write_disposition": "merge",
        "columns": {"id": {"data_type": "bigint", "nullable": False}},
        "endpoint": {
            "path": "/v1/agents",
            "data_selector": "data",
            "paginator": {"type": "offset", "limit": 4},
        },
    }
)
SERVERS = st.builds(
    Server,
    rows=st.integers(0, 14).map(lambda count: list(range(count))),
    limit=st.just(4),
    edits=st.lists(
        st.tuples(st.sampled_from(["insert", "delete", "wait"]), st.integers(0, 20)), max_size=6
    ),
    total=st.sampled_from(["honest", "absent", "page", "zero", "huge", "text"]),
    caps=st.lists(st.integers(2, 5), min_size=1, max_size=3) | st.just([1]),
    ignores_offset=st.booleans(),
    readers=st.sampled_from([1, 3]),
)


@given(server=SERVERS)
@settings(max_examples=3000, deadline=None)
def test_whatever_the_server_does_a_reading_is_complete_or_red(server: Server) -> None:
    """No row that was there from the beginning to the end is missing from a green reading."""

    def take(pages: Iterator[Page]) -> list[int]:
        return [row["id"] for page in pages for row in page.rows]

    # Pages of one row cannot overlap: where some are, and the total lies, nothing tells.
    assume(server.caps == [1] or 1 not in server.caps)
    assume(server.caps != [1] or server.total != "page")
    reading = Reading()
    try:
        found = read_whole(RESOURCE, cast(Transport, server), take, reading)
    except ApiError:
        return
    assert server.always_there <= set(found)
    assert len(set(found)) == reading.distinct
