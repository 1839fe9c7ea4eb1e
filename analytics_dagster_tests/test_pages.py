"""What reading a resource promises: every row, in order and once, or an error without a row."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, TypeAlias
from unittest.mock import ANY
from urllib.parse import quote_plus, urlencode

import pytest

from analytics_dagster import pages
from analytics_dagster.api_spec import ApiSpec, Resource
from analytics_dagster.envelope import Page, document_of
from analytics_dagster.errors import (
    ApiError,
    IncompleteReadError,
    MalformedBodyError,
    RedirectError,
)
from analytics_dagster.pages import Reading, read_whole
from analytics_dagster.transport import Answer, Transport
from analytics_dagster_tests.conftest import TurnedClock
from analytics_dagster_tests.fake_api import (
    Exchange,
    FakeApi,
    Fault,
    answer,
    change,
    delay,
    fault,
    raw,
    status,
)

Rows: TypeAlias = list[Any]

PERSON = "Ada Lovelace"  # in every row, so in no message
FIRST_ID = 880_000_000_000  # its digits are in no URL, port or count
TODAY = datetime(2026, 11, 24, tzinfo=timezone.utc)
FOREVER = 40  # no test has so many pages
OFFSET = {"type": "offset", "limit": 100}

honest = delay(0)


def row(number: int) -> dict[str, Any]:
    return {"id": FIRST_ID + number, "name": f"{PERSON} {number}"}


def rows(number: int) -> Rows:
    return [row(n) for n in range(number)]


def resource(paginator: Any = OFFSET, *key: str, **endpoint: Any) -> Resource:
    declared = {"data_type": "bigint", "nullable": False}
    place = {"path": "/v1/agents", "data_selector": "data", "paginator": paginator}
    return Resource.model_validate(
        {
            "name": "agents",
            "primary_key": list(key or ["id"]),
            "write_disposition": "merge",
            "columns": {
                **dict.fromkeys(key or ["id"], declared),
                "at": {"data_type": "timestamp", "nullable": False},
            },
            "endpoint": place | endpoint,
        }
    )


def read(
    transport: Transport,
    described: Resource | None = None,
    reading: Reading | None = None,
    since: datetime | None = None,
) -> Rows:
    """All rows, in the order in which they came."""

    def take(stream: Iterator[Page]) -> Rows:
        found: Rows = []
        for number, page in enumerate(stream):
            assert number < FOREVER, "no end in sight"
            found += page.rows
        return found

    return read_whole(described or resource(), transport, take, reading or Reading(), since)


@contextmanager
def refused(api: FakeApi, kind: type[ApiError], *said: str) -> Iterator[None]:
    """The block fails with an error that says this and the host, and neither a row nor the key."""
    with pytest.raises(ApiError) as caught:
        yield
    error: BaseException | None = caught.value
    assert type(error) is kind
    assert [text for text in (api.base_url, *said) if text not in str(error)] == []
    while error is not None:
        shown = f"{error!r} {vars(error)}"
        for private in (PERSON, str(FIRST_ID)[:5], api.key, quote_plus(api.key)):
            assert private not in shown
        error = error.__cause__ or error.__context__


@pytest.fixture
def transport(api: FakeApi, clock: TurnedClock, spec: ApiSpec) -> Iterator[Transport]:
    """The way to an API that has 250 agents."""
    api.rows["agents"] = rows(250)
    with Transport(api.base_url, spec.client, api.key, clock=clock).open() as opened:
        yield opened


def misbehave(api: FakeApi, act: Fault, **settings: Any) -> None:
    """Have the API act like this, with these of its settings."""
    api.always("agents", act)
    for name, value in settings.items():
        setattr(api, name, value)


@fault
def after(exchange: Exchange, number: int, act: Fault) -> None:
    """Act like this on pages that begin after so many rows, and be honest about the others."""
    (act if int(exchange.asked.query["offset"]) >= number else honest)(exchange)


# Complete: one reading is enough ------------------------------------------------------------


def zero_beyond_the_end(offered: Rows, start: int) -> int:
    return len(offered) if start < len(offered) else 0


def rows_on_this_page(offered: Rows, start: int) -> int:
    return len(offered[start : start + 100])


@pytest.mark.parametrize(
    ("total", "claimed"),
    [
        ("honest", 250),
        ("250", 250),
        (zero_beyond_the_end, 250),
        (0, 0),
        (100, 100),
        ("100", 100),
        (249, 249),
        (rows_on_this_page, ANY),
        ("absent", None),
        (None, None),
        ("250 rows", None),
        ("", None),
        (-1, None),
        (1e400, None),
        (True, None),
        ({"rows": 250}, None),
    ],
)
def test_every_row_is_read_whatever_a_total_claims(
    api: FakeApi, transport: Transport, total: Any, claimed: int | None
) -> None:
    """No total ends a reading, and one that is missing, no number or too small does no harm."""
    api.total = total
    reading = Reading()
    assert read(transport, reading=reading) == api.rows["agents"]
    assert reading == Reading(reading.pages, 250, 250, readings=1, total=claimed)
    assert reading.pages == len(api.requests) <= 5


@pytest.mark.parametrize("total", ["honest", "absent"])
@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 200, 250])
def test_a_resource_of_any_size_is_read_to_its_end(
    api: FakeApi, transport: Transport, size: int, total: str
) -> None:
    """No rows, exactly full pages, one row more: it takes few requests more to be sure."""
    api.rows["agents"], api.total = rows(size), total
    reading = Reading()
    assert read(transport, reading=reading) == rows(size)
    assert reading.total == (size if total == "honest" else None)
    # One row, and no total, is read twice: nothing else shows that it is all.
    readings = 2 if (size, total) == (1, "absent") else 1
    assert (reading.rows, reading.distinct, reading.readings) == (size, size, readings)
    assert len(api.requests) <= size // 100 + 2 + readings


@pytest.mark.parametrize("total", ["honest", "absent"])
def test_a_server_that_gives_smaller_pages_than_asked_for_loses_no_row(
    api: FakeApi, transport: Transport, total: str
) -> None:
    """The next offset counts the rows that came, not the limit."""
    api.page_cap, api.total = 50, total
    reading = Reading()
    assert read(transport, reading=reading) == api.rows["agents"]
    assert reading.readings == 1


@pytest.mark.parametrize("total", ["honest", "absent"])
@pytest.mark.parametrize("left", [1, 60, 99])
def test_a_short_page_in_the_middle_loses_no_row(
    api: FakeApi, transport: Transport, left: int, total: str
) -> None:
    """Reading goes on right after the last row that came."""
    api.total = total
    short = change(lambda page: page | {"data": page["data"][:left]})
    api.on("agents", honest, short)
    reading = Reading()
    assert read(transport, reading=reading) == api.rows["agents"]
    assert reading.readings == 1


# Doubtful: a second reading decides ---------------------------------------------------------


@fault
def then(exchange: Exchange, edit: Callable[[Rows], object], at: int | None = None) -> None:
    """Answer honestly, and let the rows change before the next request (after this offset)."""
    reply = b"".join(exchange.honest())
    if at in (None, int(exchange.asked.query.get("offset", 0))):
        edit(exchange.api.rows["agents"])
    exchange.wfile.write(reply)


def insert(offered: Rows) -> None:
    offered.insert(0, row(1000 + len(offered)))


def delete(offered: Rows) -> None:
    offered.pop(0)


def append(offered: Rows) -> None:
    offered.append(row(2000))


def exchange_one(offered: Rows) -> None:
    delete(offered)
    append(offered)


def to_the_front(offered: Rows) -> None:
    offered.insert(0, offered.pop(150))


def to_the_end(offered: Rows) -> None:
    offered.append(offered.pop(0))


@pytest.mark.parametrize("total", ["honest", "absent"])
@pytest.mark.parametrize(
    "edits",
    [[insert], [delete], [to_the_front], [to_the_end], [exchange_one], [delete, append]],
    ids=lambda edits: " then ".join(edit.__name__ for edit in edits),
)
def test_rows_that_shift_while_they_are_read_are_read_again(
    api: FakeApi, transport: Transport, edits: list[Callable[[Rows], object]], total: str
) -> None:
    """Rows come and go between two pages: no row that stayed is lost, and the load is green."""
    api.total = total
    api.on("agents", *map(then, edits))
    reading = Reading()
    found = {row["id"] for row in read(transport, reading=reading)}
    assert [row for row in api.rows["agents"] if row["id"] not in found] == []
    assert (reading.readings, reading.distinct) == (2, len(api.rows["agents"]))


NUMBERED = {"type": "page_number", "base_page": 1}


@pytest.mark.parametrize(
    ("edits", "is_read"),
    [
        ([], True),
        ([insert], False),
        ([delete], False),
        ([delete, append], False),
        ([exchange_one], False),
        ([to_the_end], False),
        (4 * [delete], False),
    ],
    ids=lambda edits: " then ".join(e.__name__ for e in edits) if isinstance(edits, list) else "",
)
def test_pages_by_number_are_read_twice_as_nothing_else_shows_that_they_shift(
    api: FakeApi,
    transport: Transport,
    edits: list[Callable[[Rows], object]],
    is_read: bool,  # noqa: FBT001
) -> None:
    """The second reading is the same, or nothing is loaded, and the next load reads again."""
    api.on("agents", *map(then, edits))
    reading = Reading()
    if not is_read:
        with refused(api, IncompleteReadError, "shift"):
            read(transport, resource(NUMBERED))
    assert read(transport, resource(NUMBERED), reading) == api.rows["agents"]
    assert reading.readings == 2


@pytest.mark.parametrize(
    ("edits", "total", "readings"),
    [
        ([insert], "honest", 1),
        ([insert, insert], "honest", 1),
        ([append], "honest", 1),
        ([insert], "absent", 2),
        ([insert], 250, 2),
        ([delete], "honest", 2),
        ([to_the_front], "honest", 2),
    ],
)
def test_what_the_api_filters_by_time_may_grow_while_it_is_read(
    api: FakeApi,
    transport: Transport,
    edits: list[Callable[[Rows], object]],
    total: Any,
    readings: int,
) -> None:
    """Rows that change join the answer and push others on: the total proves that none is lost."""
    api.total = total
    api.on("agents", *map(then, edits))
    changing = resource(incremental={"cursor_path": "at", "start_param": "updated_since"})
    reading = Reading()
    before = {row["id"] for row in api.rows["agents"]}
    found = {row["id"] for row in read(transport, changing, reading, TODAY)}
    assert {row["id"] for row in api.rows["agents"]} & before <= found
    assert reading.readings == readings
    assert {request.query["updated_since"] for request in api.requests} == {"2026-11-24T00:00:00Z"}


@pytest.mark.parametrize("total", ["honest", "absent"])
def test_rows_that_the_api_really_serves_twice_are_accepted_and_counted(
    api: FakeApi, transport: Transport, total: str
) -> None:
    """What comes twice in the same place on both readings is the API's way, not a shift."""
    api.rows["agents"].insert(130, row(7))
    api.total = total
    reading = Reading()
    assert read(transport, reading=reading) == api.rows["agents"]
    assert (reading.readings, reading.rows, reading.distinct) == (2, 251, 250)


@pytest.mark.parametrize(
    "keys",
    [
        [{"id": -1}, {"id": -2}],
        [{"id": 0}, {"id": 2**61 - 1}],
        [{"id": None, "name": "a"}, {"id": None, "name": "b"}, {"name": "b"}, {}],
        [{"id": [1]}, {"id": {"no": 1}}, {"id": "1"}],
        ["a text", 5, None, [1], [2]],
    ],
    ids=str,
)
def test_rows_with_different_keys_are_never_taken_for_the_same(
    api: FakeApi, transport: Transport, keys: Rows
) -> None:
    """A row is told by its key, or, where it has none that can be used, by all that it holds."""
    api.rows["agents"] = keys
    reading = Reading()
    assert read(transport, reading=reading) == keys
    assert (reading.readings, reading.distinct) == (1, len(keys))


@pytest.mark.parametrize("other", ["team", "customer_id"])
def test_a_key_of_several_columns_tells_rows_apart_by_all_of_them(
    api: FakeApi, transport: Transport, other: str
) -> None:
    """And by nothing else; also where a column has another name at the API."""
    field = {"customer_id": "vendor_account_id"}.get(other, other)
    api.rows["agents"] = [{"id": n // 2 % 50, field: n % 2, "calls": n} for n in range(150)]
    api.total = "absent"
    reading = Reading()
    read(transport, resource(OFFSET, "id", other), reading)
    assert reading.distinct == 100


# Never complete: two readings and a clear failure -------------------------------------------


@fault
def shuffled(exchange: Exchange) -> None:
    """The first page whatever the offset, each time in another order."""
    turn = len(exchange.api.requests)
    answer({"data": [row((n + turn) % 100) for n in range(100)]})(exchange)


def with_rows(rows: Rows) -> Fault:
    return change(lambda page: page | {"data": rows})


NEVER_WHOLE: dict[str, tuple[dict[str, Any], Fault, str]] = {
    "total too large": ({"total": 251}, honest, "claims 251 rows and gave 250"),
    "total too large, as text": ({"total": "9999"}, honest, "claims 9999 rows"),
    "a total and no rows": ({"rows": {"agents": []}, "total": 3}, honest, "claims 3 rows"),
    "an empty page in the middle": ({}, after(1, with_rows([])), "claims 250 rows and gave 100"),
    "a page again": ({}, after(150, with_rows(rows(100))), "repeats a page"),
    "offset ignored": ({"ignore_offset": True}, honest, "repeats a page"),
    "offset ignored, no total": (
        {"ignore_offset": True, "total": "absent"},
        honest,
        "repeats a page",
    ),
    "offset ignored, in any order": ({}, shuffled(), "repeats a page"),
    "shifted on both readings": ({}, then(insert, at=0), "total moved"),
    "shifted on both readings, no total": (
        {"total": "absent"},
        then(insert, at=0),
        "shift",
    ),
}


@pytest.mark.parametrize(("settings", "act", "said"), NEVER_WHOLE.values(), ids=NEVER_WHOLE)
def test_pages_that_do_not_add_up_are_refused_after_two_readings(
    api: FakeApi, transport: Transport, settings: dict[str, Any], act: Fault, said: str
) -> None:
    """The error says what does not add up, and the API is not asked for ever."""
    misbehave(api, act, **settings)
    reading = Reading()
    with refused(api, IncompleteReadError, "/v1/agents", said):
        read(transport, reading=reading)
    assert reading.readings == 2
    assert len(api.requests) <= 10


@fault
def fresh_rows(exchange: Exchange) -> None:
    """A full page of rows that were never seen, and the last one that was, if it is asked for."""
    first = int(exchange.asked.query.get("offset", 100 * len(exchange.api.requests)))
    link = f"{exchange.api.base_url}/v1/agents?page={first}"
    answer({"data": rows(first + 100)[first:], "next": link})(exchange)


@fault
def nothing_and_a_link(exchange: Exchange) -> None:
    """A page without rows that names itself as the next one."""
    answer({"data": [], "next": f"{exchange.api.base_url}/v1/agents"})(exchange)


@pytest.mark.parametrize(
    ("paginator", "act"),
    [
        (OFFSET, fresh_rows()),
        ({"type": "page_number"}, fresh_rows()),
        ("json_link", fresh_rows()),
        ("json_link", nothing_and_a_link()),
    ],
    ids=["offset", "page_number", "json_link", "json_link without rows"],
)
def test_an_api_without_an_end_is_given_up(
    api: FakeApi,
    transport: Transport,
    monkeypatch: pytest.MonkeyPatch,
    paginator: Any,
    act: Fault,
) -> None:
    """After `MAX_PAGES` pages; here it is patched, as a million requests take too long."""
    monkeypatch.setattr(pages, "MAX_PAGES", 10)
    api.always("agents", act)
    with refused(api, IncompleteReadError, "/v1/agents", "no end after 10 pages"):
        read(transport, resource(paginator))


# Malformed: a 200 that is no page -----------------------------------------------------------

NO_JSON = "not JSON"
SELECTOR = "data_selector 'data': "
MALFORMED = {
    "an error body": ({"error": PERSON}, f"{SELECTOR}found nothing"),
    "a row": (row(1), f"{SELECTOR}found nothing"),
    "rows by name": ({PERSON: row(1)}, f"{SELECTOR}found nothing"),
    "no object": ({}, f"{SELECTOR}found nothing"),
    "null": ({"data": None}, f"{SELECTOR}found null"),
    "one row": ({"data": row(1)}, f"{SELECTOR}found an object"),
    "an id-map": ({"data": {row(1)["id"]: row(1)}}, f"{SELECTOR}found an object"),
    "a text": ({"data": PERSON}, f"{SELECTOR}found a text"),
    "a number": ({"data": FIRST_ID}, f"{SELECTOR}found a number"),
    "a boolean": ({"data": False}, f"{SELECTOR}found a boolean"),
    "a list at the top": (rows(2), f"{SELECTOR}the body is a list"),
    "a text at the top": (PERSON, f"{SELECTOR}the body is a text"),
    "a number at the top": (FIRST_ID, f"{SELECTOR}the body is a number"),
    "null at the top": (None, f"{SELECTOR}the body is null"),
    "HTML": (f"<html>{PERSON}</html>".encode(), NO_JSON),
    "nothing": (b"", NO_JSON),
    "half a body": (json.dumps({"data": rows(2)}).encode()[:-9], NO_JSON),
    "two bodies": (2 * json.dumps({"data": rows(2)}).encode(), NO_JSON),
    "bytes that are no text": (b'{"data": [{"name": "\xe9"}]}', NO_JSON),
    "endless brackets": (b"[" * 100_000, NO_JSON),
    "endless brackets and an id": (b"[1234567890123456789," + b"[" * 100_000, NO_JSON),
}


def body(payload: Any) -> Fault:
    return raw(payload) if isinstance(payload, bytes) else answer(payload)


@pytest.mark.parametrize("page", [1, 2])
@pytest.mark.parametrize(("payload", "said"), MALFORMED.values(), ids=MALFORMED)
def test_a_200_that_is_no_page_of_rows_is_refused_after_three_retries(
    api: FakeApi, transport: Transport, page: int, payload: Any, said: str
) -> None:
    """It never counts as the end; the message says where, what was found, and no row."""
    api.on("agents", *(page - 1) * [honest])
    api.always("agents", body(payload))
    reading = Reading()
    with refused(api, MalformedBodyError, "/v1/agents?", said):
        read(transport, reading=reading)
    assert (reading.pages, reading.readings) == (page - 1, 1)
    assert (transport.traffic.retries, len(api.requests)) == (3, page - 1 + 4)


@pytest.mark.parametrize("page", [1, 2])
@pytest.mark.parametrize("payload", [{"error": PERSON}, {"data": None}, b"", b"<html>"], ids=str)
def test_a_200_that_is_no_page_is_forgotten_when_a_retry_is_one(
    api: FakeApi, transport: Transport, page: int, payload: Any
) -> None:
    """Three bad answers and a good one are a complete reading."""
    api.on("agents", *(page - 1) * [honest], *3 * [body(payload)])
    reading = Reading()
    assert read(transport, reading=reading) == api.rows["agents"]
    assert (reading.readings, transport.traffic.retries) == (1, 3)


@pytest.mark.parametrize(
    ("selector", "wrap"),
    [
        ("$", lambda found: found),
        ("result.agents", lambda found: {"result": {"agents": found}}),
        ("$.'agent rows'", lambda found: {"agent rows": found}),
    ],
    ids=["the body", "nested", "a name with a blank"],
)
def test_rows_are_found_wherever_the_data_selector_points(
    api: FakeApi, transport: Transport, selector: str, wrap: Callable[[Any], Any]
) -> None:
    """Any JSONPath to one list will do."""
    api.always("agents", change(lambda page: wrap(page["data"])))
    assert read(transport, resource(data_selector=selector)) == api.rows["agents"]


def test_a_selector_of_more_than_one_list_is_refused(api: FakeApi, transport: Transport) -> None:
    """Which list is meant is not guessed, and the message does not call them numbers."""
    api.always("agents", answer({"old": {"data": rows(1)}, "new": {"data": rows(1)}}))
    with refused(api, MalformedBodyError, "found 2 lists"):
        read(transport, resource(data_selector="$..data"))


@pytest.mark.parametrize("paginator", [OFFSET, "json_link"], ids=["offset", "json_link"])
@pytest.mark.parametrize(
    ("written", "value"),
    [
        *((str(number), number) for number in (2**63, 2**64, -(2**63) - 1, 10**300)),
        ("1.5", 1.5),
        ("19.990000000000000000000", 19.99),
        ("0.30000000000000004", 0.30000000000000004),
        ("33.333333333333333333333", Decimal("33.333333333333333333333")),
        ("-12345678901234567.89", Decimal("-12345678901234567.89")),
        ("9007199254740993e0", Decimal(9007199254740993)),
        ("1e-400", 0.0),
        ("1.23456789012345678901e-400", 0.0),
        (f"1e-{'9' * 20}", 0.0),
        (f"1.23456789012345678901e-{'9' * 20}", 0.0),
        ('"10.20.30.40.50.60.70"', "10.20.30.40.50.60.70"),
        ("NaN", float("nan")),
        ("-Infinity", float("-inf")),
        ("1e400", float("inf")),
        (r'"\ud800"', "\ud800"),
        (r'"\u0000"', "\0"),
        (r'"\ud83d\ude00"', "\N{GRINNING FACE}"),
    ],
    ids=lambda text: text[:25] if isinstance(text, str) else "",
)
def test_a_value_is_read_as_it_is_written(
    api: FakeApi, transport: Transport, paginator: Any, written: str, value: Any
) -> None:
    """Long integers are not rounded, and what JSON should not hold does not break the page."""
    api.rows["agents"] = [{"id": 1}, {"id": 2}]
    api.on(
        "agents",
        raw(b'{"data": [{"id": 1, "calls": %s}, {"id": 2}], "total": 2}' % written.encode()),
    )
    assert repr(read(transport, resource(paginator))) == repr(
        [{"id": 1, "calls": value}, {"id": 2}]
    )


def test_the_quick_reader_of_json_takes_every_page_that_it_reads_exactly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Long keys and averages with all digits of a double are no reason for the slow one."""
    monkeypatch.setattr("analytics_dagster.envelope.json", None)
    exact = [
        {"id": 2**63 - 1, "average": 100 / 3, "sum": 0.1 + 0.2, "version": "1.2.3.4.5.6.7.8.9"}
    ]
    assert document_of(Answer(200, {}, json.dumps(exact).encode())) == exact


def test_an_integer_too_long_for_python_does_not_break_the_page(
    api: FakeApi, transport: Transport
) -> None:
    """Python reads integers of up to 4300 digits; the rows beside a longer one are good."""
    api.rows["agents"] = [{"id": 1}, {"id": 2}]
    page = b'{"data": [{"id": 1, "calls": %s}, {"id": 2}], "total": 2}'
    api.on("agents", raw(page % (b"9" * 5000)))
    assert [row["id"] for row in read(transport)] == [1, 2]


# Paginators ---------------------------------------------------------------------------------


@fault
def skip_and_take(exchange: Exchange) -> None:
    """The offset is called `skip` and the limit `take`."""
    query = exchange.asked.query
    named = {"offset": query["skip"], "limit": query["take"]}
    exchange.asked = replace(exchange.asked, query=query | named)
    honest(exchange)


@fault
def numbered_from_zero(exchange: Exchange) -> None:
    """The first page is called `p=0`."""
    query = exchange.asked.query
    exchange.asked = replace(exchange.asked, query=query | {"page": str(int(query["p"]) + 1)})
    honest(exchange)


@fault
def in_a_header(exchange: Exchange, field: str, header: str, form: str) -> None:
    """What names the next page is not in the body but in a header."""
    code, payload = exchange.api.honest(exchange.asked)
    onward = payload.pop(field)
    headers = {header: form.format(onward)} if onward else {}
    exchange.reply(code, json.dumps(payload).encode(), headers)


@dataclass(frozen=True)
class Kind:
    """A kind of paginator, the API that it is made for, and the readings that are a proof."""

    paginator: Any
    settings: dict[str, Any]
    fault: Fault = honest
    readings: int = 1

    def prepare(self, api: FakeApi) -> None:
        misbehave(api, self.fault, **self.settings)


KINDS = {
    "offset": Kind(OFFSET, {}),
    "offset with names of its own": Kind(
        OFFSET | {"offset_param": "skip", "limit_param": "take"}, {}, skip_and_take()
    ),
    "page_number from 1": Kind({"type": "page_number", "base_page": 1}, {}, readings=2),
    "page_number from 0": Kind(
        {"type": "page_number", "page_param": "p"}, {}, numbered_from_zero(), readings=2
    ),
    "json_link": Kind("json_link", {"links": True}),
    "json_link at a path": Kind(
        {"type": "json_link", "next_url_path": "paging.next"},
        {"links": True},
        change(lambda page: page | {"paging": {"next": page.pop("next")}}),
    ),
    "relative json_link": Kind(
        "json_link",
        {"links": True},
        change(lambda page: page | {"next": page["next"] and "?" + page["next"].split("?")[1]}),
    ),
    "header_link": Kind(
        "header_link", {"links": True}, in_a_header("next", "link", '<{}>; rel="next"')
    ),
    "cursor": Kind({"type": "cursor", "cursor_path": "next_cursor"}, {"cursors": True}),
    "header_cursor": Kind(
        {"type": "header_cursor", "cursor_key": "Next-Page"},
        {"cursors": True},
        in_a_header("next_cursor", "next-page", "{}"),
    ),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@every_kind
def test_pages_come_in_order_and_only_when_they_are_asked_for(
    api: FakeApi, transport: Transport, kind: Kind
) -> None:
    """A page is handed on before the next one is requested."""
    kind.prepare(api)

    def take(stream: Iterator[Page]) -> None:
        found: Rows = []
        before = len(api.requests)
        for requests in range(3):
            assert len(api.requests) == before + requests
            found += next(stream).rows
            assert found == api.rows["agents"][: len(found)]
        list(stream)

    read_whole(resource(kind.paginator), transport, take, Reading())


@every_kind
def test_no_more_than_one_page_is_held(api: FakeApi, transport: Transport, kind: Kind) -> None:
    """When a page is handed on, nothing refers to a row of an earlier one."""
    kind.prepare(api)
    kept: Rows = []
    alone = [object()]

    def take(stream: Iterator[Page]) -> None:
        kept.clear()
        for page in stream:
            counts = {sys.getrefcount(kept[n]) for n in range(len(kept))}
            assert counts <= {sys.getrefcount(alone[0])}
            kept.extend(page.rows)

    read_whole(resource(kind.paginator), transport, take, Reading())
    assert len(kept) == 250


@every_kind
def test_faults_in_the_middle_are_retried_by_every_paginator(
    api: FakeApi, transport: Transport, clock: TurnedClock, kind: Kind
) -> None:
    """A 500 and a body that is no page cost two waits and no row."""
    kind.prepare(api)
    api.on("agents", kind.fault, status(500), raw(b"<html>"))
    reading = Reading()
    assert read(transport, resource(kind.paginator), reading) == api.rows["agents"]
    assert (reading.distinct, reading.readings, len(clock.sleeps)) == (250, kind.readings, 2)


@every_kind
def test_a_200_in_the_middle_that_is_no_page_ends_no_paginator(
    api: FakeApi, transport: Transport, kind: Kind
) -> None:
    """Dlt alone would take it for the last page."""
    kind.prepare(api)
    api.on("agents", kind.fault, *4 * [answer({"error": PERSON})])
    with refused(api, MalformedBodyError, SELECTOR):
        read(transport, resource(kind.paginator))


@every_kind
def test_fixed_parameters_are_sent_with_every_page(
    api: FakeApi, transport: Transport, kind: Kind
) -> None:
    """The endpoint's `params` stand beside those of the paginator."""
    kind.prepare(api)
    fixed = {"team": "north & south", "depth": 2}
    assert read(transport, resource(kind.paginator, params=fixed)) == api.rows["agents"]
    sent = [(asked.query["team"], asked.query["depth"]) for asked in api.requests]
    assert sent == len(sent) * [("north & south", "2")]


def test_a_single_page_is_one_request(api: FakeApi, transport: Transport) -> None:
    """Also after a retry, and with `params` that ask for a large page."""
    api.on("agents", status(500))
    described = resource("single_page", params={"limit": 1000})
    reading = Reading()
    assert read(transport, described, reading) == api.rows["agents"]
    assert (reading, len(api.requests)) == (Reading(1, 250, 250, 1, None), 2)


@pytest.mark.parametrize("total", ["absent", "honest"])
def test_reading_starts_at_the_offset_of_the_configuration(
    api: FakeApi, transport: Transport, total: str
) -> None:
    """The rows before it are not missed, though the API's total counts them."""
    api.total = total
    assert read(transport, resource(OFFSET | {"offset": 30})) == api.rows["agents"][30:]


# Links --------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["body", "header"])
def test_a_link_to_another_host_is_never_followed(
    api: FakeApi, transport: Transport, clock: TurnedClock, where: str
) -> None:
    """The other host gets no request, so no key, and its rows are not loaded."""
    with FakeApi(rows={"agents": rows(10)}) as other:
        link = f"{other.base_url}/v1/agents?offset=0"
        elsewhere = {"next": link} if where == "body" else {}
        headers = {} if where == "body" else {"link": f'<{link}>; rel="next"'}
        page = json.dumps({"data": rows(100), **elsewhere}).encode()
        api.always("agents", raw(page, headers=headers))
        with refused(api, RedirectError, "another host"):
            read(transport, resource("json_link" if where == "body" else "header_link"))
        assert (other.connections, len(api.requests), clock.sleeps) == (0, 1, [])


@fault
def link_with_the_key(exchange: Exchange, asked: list[str]) -> None:
    """Write down what was asked, and name the next page as it has to be asked, key and all."""
    asked.append(exchange.path)
    code, payload = exchange.api.honest(exchange.asked)
    if payload["next"]:
        payload["next"] += "&" + urlencode({"api_key": exchange.api.key})
    exchange.reply(code, json.dumps(payload).encode())


def test_a_link_that_repeats_the_key_is_asked_with_the_key_once(
    api: FakeApi, transport: Transport
) -> None:
    """An API may take the first of two keys, so none is added to one that is masked."""
    api.links = True
    asked: list[str] = []
    api.always("agents", link_with_the_key(asked))
    assert read(transport, resource("json_link")) == api.rows["agents"]
    assert [path.count("api_key=") for path in asked] == [1, 1, 1]


@pytest.mark.parametrize("link", ["", 5, [PERSON], "http://["], ids=str)
def test_a_link_that_leads_nowhere_is_an_error_of_the_api(
    api: FakeApi, transport: Transport, link: Any
) -> None:
    """It is no end, as there may be more rows, and no failure of the database."""
    api.always("agents", change(lambda page: page | {"next": link}))
    with refused(api, MalformedBodyError, "/v1/agents"):
        read(transport, resource("json_link"))


@pytest.mark.parametrize("more", [{}, {"more": PERSON}], ids=str)
def test_what_dlt_says_about_a_page_does_not_reach_the_error(
    api: FakeApi, transport: Transport, more: dict[str, Any]
) -> None:
    """Dlt quotes the whole page when the flag for more pages is missing."""
    api.cursors = True
    api.always("agents", change(lambda page: page | more))
    paginator = {"type": "cursor", "cursor_path": "next_cursor", "has_more_path": "more"}
    with refused(api, MalformedBodyError, "/v1/agents"):
        read(transport, resource(paginator))
