"""What holds whatever comes: any JSON as rows, any server within a model of faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any, cast, get_args

import orjson
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from analytics_dagster import read_ahead
from analytics_dagster.api_config import REST_API
from analytics_dagster.api_reader import read_spec
from analytics_dagster.api_spec import ApiSpec, DataType, PageNumberPaginator, Resource
from analytics_dagster.contract import Contract
from analytics_dagster.envelope import Page, document_of
from analytics_dagster.errors import ApiConfigError, ApiError, ContractError, FieldCollisionError
from analytics_dagster.landing import land
from analytics_dagster.pages import Reading, read_whole
from analytics_dagster.scratch import Scratch
from analytics_dagster.traffic import Traffic
from analytics_dagster.transport import Answer, Transport
from analytics_dagster.values import arrow_type

Json = Any

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.decimals(allow_nan=False, allow_infinity=False)
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
KINDS = get_args(DataType)
FIELDS = ("id", "current_timestamp", "vendor_account_id", "extra", *KINDS)
OFFSET = {"type": "offset", "limit": 4}


def resource(
    paginator: dict[str, Any], columns: dict[str, Any] | None = None, **endpoint: Any
) -> Resource:
    """A resource with a key, a time, and perhaps more columns."""
    return Resource.model_validate(
        {
            "name": "agents",
            "primary_key": "id",
            "write_disposition": "merge",
            "columns": {
                "id": {"data_type": "bigint", "nullable": False},
                "current_timestamp": {"data_type": "timestamp", "nullable": False},
                **(columns or {}),
            },
            "endpoint": {
                "path": "/v1/agents",
                "data_selector": "data",
                "paginator": paginator,
                **endpoint,
            },
        }
    )


EVERY_TYPE = resource(
    OFFSET,
    {"customer_id": {"data_type": "bigint"}, **{kind: {"data_type": kind} for kind in KINDS}},
    incremental={"cursor_path": "current_timestamp"},
)
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
    batches: list[list[Json]],
) -> None:
    """Every row is accepted, rejected or there twice; two fields for a column are an error."""
    resource = EVERY_TYPE
    contract = Contract(resource, {})
    read = accepted = 0
    for rows in batches:
        known_rejected = contract.findings.rejected
        try:
            batch = contract.batch(rows)
        except FieldCollisionError:
            return
        read, accepted = read + len(rows), accepted + batch.accepted.num_rows
        assert batch.rejected.num_rows == contract.findings.rejected - known_rejected
        assert read == accepted + contract.findings.rejected + contract.findings.duplicates
        for name, column in resource.columns.items():
            found = batch.accepted.schema.field(name)
            assert found.type == arrow_type(column)
            assert column.nullable or not batch.accepted[name].null_count


NUMBER = "-?(0|[1-9][0-9]{0,25})([.][0-9]{1,25})?([eE][+-]?[0-9]{1,2})?"


@given(
    written=st.from_regex(
        "-?(0|[1-9][0-9]{0,25})([.][0-9]{1,25})?([eE][+-]?[0-9]{1,2})?", fullmatch=True
    ),
    company=st.sampled_from(
        ["", "0.5", "1e400", "0.12345678901234567890", str(2**64), '"1.2.3.4"']
    ),
)
@settings(max_examples=1000, deadline=None)
def test_a_number_is_read_with_all_its_digits_in_any_company(written: str, company: str) -> None:
    """Whichever of the two readers of JSON takes the page; a float is one that is exact."""
    body = f"[{written}{',' if company else ''}{company}]".encode()
    found = document_of(Answer(200, {}, body))[0]
    assert Decimal(str(found)) == Decimal(written)
    is_whole = written.lstrip("-").isdigit()
    assert type(found) is int if is_whole else type(found) in (float, Decimal)
    if isinstance(found, Decimal):
        assert Decimal(repr(float(written))) != found


@given(
    pages=st.lists(ROWS.filter(bool), max_size=4),
    since=st.sampled_from([None, datetime(2026, 11, 24, 9, tzinfo=timezone.utc)]),
)
@settings(max_examples=200, deadline=None)
def test_whatever_json_is_landed_every_row_is_counted_in_one_place(
    pages: list[list[Json]], since: datetime | None
) -> None:
    """Loaded, too old, rejected or a repetition; and one row a key is in the file."""
    everything = [*pages, []]

    class Script:
        base_url, readers, traffic = "http://model", 1, Traffic()

        def get(self, _path: str, params: dict[str, int], _parse: object) -> Page:
            return Page(everything[params["page"]], None)

    resource = EVERY_TYPE.model_copy(
        update={
            "endpoint": EVERY_TYPE.endpoint.model_copy(
                update={"paginator": PageNumberPaginator(type="page_number")}
            )
        }
    )
    with TemporaryDirectory() as folder:
        try:
            landed = land(
                resource, cast(Transport, Script()), {}, Scratch(Path(folder), 384), since
            )
        except (ApiError, ContractError):
            return
        keys = pq.read_table(landed.accepted)["id"].to_pylist()
    read = landed.rows + landed.rows_before_cursor + landed.findings.rejected + landed.duplicates
    assert landed.reading.rows == read == sum(map(len, pages))
    assert len(keys) == len(set(keys)) == landed.rows


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
    faults: list[str]
    base_url: str = "http://model"
    readers: int = 1
    traffic: Traffic = field(default_factory=Traffic)
    requests: int = 0
    always_there: set[int] = field(default_factory=set)
    lock: Lock = field(default_factory=Lock)
    given: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.always_there = set(self.rows)

    def get(self, _path: str, params: dict[str, int], parse: Callable[[Answer], Page]) -> Page:
        """One page, and then the next edit."""
        with self.lock:
            return parse(Answer(200, {}, self._body(params)))

    def _body(self, params: dict[str, int]) -> bytes:
        self.requests += 1
        asked = params["offset"] if "offset" in params else params["page"] * self.limit
        offset = 0 if self.ignores_offset else asked
        cap = self.caps[self.requests % len(self.caps)]
        rows = self.rows[offset : offset + min(self.limit, cap)]
        fault = self.faults.pop(0) if self.faults else "none"
        # Nothing tells an empty first page from an empty resource; the next load reads it again.
        if fault == "empty" and offset:
            rows = []
        elif fault == "again":
            rows = self.given or rows
        self.given = rows
        totals = {
            "honest": len(self.rows),
            "absent": None,
            "page": len(rows),
            "zero": 0,
            "huge": 10**6,
            "text": str(len(self.rows)),
        }
        if fault == "no page":
            return b'{"error": "busy"}'
        body = orjson.dumps({"data": [{"id": row} for row in rows], "total": totals[self.total]})
        if self.edits:
            self._edit(*self.edits.pop(0))
        return body

    def _edit(self, kind: str, at: int) -> None:
        if kind == "insert":
            self.rows.insert(at % (len(self.rows) + 1), 1000 + self.requests)
        elif kind == "delete" and self.rows:
            self.always_there.discard(self.rows.pop(at % len(self.rows)))
        elif kind == "move" and self.rows:
            self.rows.insert(at * 7 % len(self.rows), self.rows.pop(at % len(self.rows)))
        elif kind == "change" and self.rows:
            row = self.rows.pop(at % len(self.rows))
            self.always_there.discard(row)
            self.rows.insert(at * 7 % (len(self.rows) + 1), row)
        elif kind == "reverse":
            self.rows.reverse()


@pytest.fixture(autouse=True, scope="module")
def every_page_is_waited_for() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(read_ahead, "QUICK", 0)
        yield


def servers(
    *edits: str, most: int = 6, **fields: st.SearchStrategy[Any]
) -> st.SearchStrategy[Server]:
    """Any servers whose rows change in these ways, so many times at the most."""
    return st.builds(
        Server,
        rows=st.integers(0, 14).map(lambda count: list(range(count))),
        limit=st.just(4),
        edits=st.lists(
            st.tuples(st.sampled_from([*edits, "wait"]), st.integers(0, 20)), max_size=most
        ),
        total=st.sampled_from(["honest", "absent", "page", "zero", "huge", "text"]),
        ignores_offset=st.booleans(),
        readers=st.sampled_from([1, 3]),
        **fields,
    )


CAPS = st.lists(st.integers(2, 5), min_size=1, max_size=3)
FAULTS = ["none", "none", "empty", "again", "no page"]


def is_complete_or_red(read: Resource, server: Server, since: datetime | None = None) -> None:
    """Asserts that no row is missing that was there, as it is, from the beginning to the end."""

    def take(pages: Iterator[Page]) -> list[int]:
        return [row["id"] for page in pages for row in page.rows]

    reading = Reading()
    try:
        found = read_whole(read, cast(Transport, server), take, reading, since)
    except ApiError:
        return
    assert server.always_there <= set(found)
    assert len(set(found)) == reading.distinct


@given(
    server=servers(
        *("insert", "delete", "move", "reverse"),
        caps=CAPS | st.just([1]),
        faults=st.lists(st.sampled_from(FAULTS), max_size=6),
    )
)
@example(
    # The second reading begins with the last page of the first, and ends there.
    server=Server(
        rows=[0, 1],
        limit=4,
        edits=[("reverse", 0)],
        total="page",
        caps=[2],
        ignores_offset=False,
        faults=["none", "none", "again", "empty"],
    )
)
@example(
    # Between the first page and the next one that is taken, three rows move and undo it, as it
    # seems; only answers that were not needed show that.
    server=Server(
        rows=list(range(8)),
        limit=4,
        edits=[("delete", 0), ("move", 1), ("insert", 2)],
        total="honest",
        caps=[2],
        ignores_offset=False,
        faults=[],
        readers=3,
    )
)
@settings(max_examples=3000, deadline=None)
def test_whatever_the_server_does_a_reading_is_complete_or_red(server: Server) -> None:
    """No row that was there from the beginning to the end is missing from a green reading."""
    # Pages of one row cannot overlap: where some are, and the total lies, nothing tells.
    assume(server.caps != [1] or server.total != "page")
    assume(server.caps != [1] or not {"empty", "again"} & {*server.faults})
    # Where pages differ in length, not all that were asked for ahead are needed.
    has_honest_total = server.total in ("honest", "text")
    assume(server.readers == 1 or has_honest_total or len(server.caps) == 1 or not server.edits)
    is_complete_or_red(resource(OFFSET), server)


@given(
    server=servers(
        *("insert", "delete", "change"),
        caps=CAPS,
        faults=st.lists(st.sampled_from(FAULTS), max_size=6),
    )
)
@settings(max_examples=2000, deadline=None)
def test_whatever_changes_a_reading_of_what_is_new_is_complete_or_red(server: Server) -> None:
    """Rows that join it while it is read are for the next load; no other one is missing."""
    since = datetime(2026, 11, 24, 9, tzinfo=timezone.utc)
    incremental = {"cursor_path": "current_timestamp", "start_param": "updated_since"}
    is_complete_or_red(resource(OFFSET, incremental=incremental), server, since)


@given(
    server=servers(
        *("insert", "delete", "move", "reverse"),
        # All on the first reading: what happens again on the second one looks as if it were so.
        most=2,
        # A number is a place only where all pages have one length, and the first empty one is
        # the end.
        caps=st.just([4]),
        faults=st.lists(st.sampled_from(["none", "again", "no page"]), max_size=6),
    )
)
@settings(max_examples=1000, deadline=None)
def test_whatever_the_server_does_a_reading_by_page_number_is_complete_or_red(
    server: Server,
) -> None:
    """Its pages share no row, so that two readings have to be alike."""
    is_complete_or_red(resource({"type": "page_number"}), server)


# Configuration ------------------------------------------------------------------------------

WORDS = [
    *("name", "endpoint", "path", "params", "data_selector", "paginator", "type", "limit"),
    *("columns", "data_type", "precision", "scale", "nullable", "primary_key", "client", "auth"),
    *("base_url", "resources", "resource_defaults", "write_disposition", "incremental", "lag"),
    *("cursor_path", "api_key", "offset", "cursor", "bigint", "decimal", "merge", "data"),
]
WORD = st.sampled_from(WORDS) | st.text(max_size=3)
WRITTEN = st.recursive(
    SCALARS | WORD | st.sampled_from([b"", object(), len]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(WORD | st.integers() | st.none(), inner, max_size=4)
        | st.tuples(inner)
    ),
    max_leaves=8,
)


@given(steps=st.lists(st.integers(0, 30), max_size=6), written=WRITTEN)
@settings(max_examples=2000, deadline=None)
def test_whatever_is_written_into_the_configuration_is_valid_or_told(
    steps: list[int], written: Any
) -> None:
    """Anywhere in it: a specification, or an error of ours, and never another one."""
    whole: Any = {"config": deepcopy(REST_API)}
    target: Any = whole
    last: Any = "config"
    for step in steps:
        inner = target[last]
        if not isinstance(inner, dict | list) or not inner:
            break
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        target, last = inner, keys[step % len(keys)]
    target[last] = written
    try:
        assert isinstance(read_spec(whole["config"]), ApiSpec)
    except ApiConfigError:
        return
