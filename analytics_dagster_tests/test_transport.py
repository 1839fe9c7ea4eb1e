"""What HTTP with one API promises: retries, time limits, one host, and a key that never shows."""

from __future__ import annotations

import gzip
import json
import logging
import socket
import threading
import time
import traceback
import tracemalloc
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from email.utils import formatdate
from functools import partial
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus, urljoin, urlsplit

import pytest

from analytics_dagster.api_config import REST_API
from analytics_dagster.api_reader import read_spec
from analytics_dagster.api_spec import (
    ApiKeyAuth,
    Auth,
    BearerAuth,
    Client,
    HttpBasicAuth,
)
from analytics_dagster.connections import TimeLimits
from analytics_dagster.envelope import page_parser
from analytics_dagster.errors import (
    AnalyticsError,
    ApiError,
    MalformedBodyError,
    OversizedBodyError,
    RedirectError,
    SettingError,
    StatusError,
    TimeLimitError,
    UnauthorizedError,
    UnreachableError,
)
from analytics_dagster.retrying import JITTER
from analytics_dagster.transport import Answer, Transport
from analytics_dagster_tests.conftest import TurnedClock
from analytics_dagster_tests.fake_api import (
    HOST,
    Exchange,
    FakeApi,
    Fault,
    answer,
    change,
    close,
    cut,
    cut_chunked,
    cut_without_length,
    echo_key,
    endless,
    fault,
    gzip_garbage,
    hang,
    raw,
    redirect,
    reset,
    status,
    unused_port,
)

Said: TypeAlias = Callable[[BaseException | None], str]

RESOURCE = "account_overview"
PATH = f"/v1/{RESOURCE}"
IDS = [1, 2, 3]
PARSE = page_parser(read_spec(REST_API).resources[0])

QUERY = ApiKeyAuth(type="api_key", name="api_key", location="query")
WAYS: dict[str, tuple[Auth, dict[str, Any]]] = {
    "query": (QUERY, {}),
    "query, any name": (QUERY.model_copy(update={"name": "k€y&x"}), {"name": "k€y&x"}),
    "header": (ApiKeyAuth(type="api_key", name="X-Key"), {"auth": "header", "name": "X-Key"}),
    "bearer": (BearerAuth(type="bearer"), {"auth": "bearer"}),
    "basic": (
        HttpBasicAuth(type="http_basic", username="team"),
        {"auth": "basic", "name": "team"},
    ),
}
every_way = pytest.mark.parametrize("way", WAYS)


@fault
def verbatim(exchange: Exchange, *lines: str) -> None:
    """Send just these lines, with the key for KEY and percent-encoded for QUOTED, and close."""
    key = exchange.api.key
    text = "\r\n".join(lines).replace("KEY", key).replace("QUOTED", quote(key, safe=""))
    exchange.leave(text.encode())


@fault
def trickle(exchange: Exchange, begin: bytes, more: bytes) -> None:
    """Send the beginning, then the same bytes every few milliseconds, without an end."""
    exchange.wfile.write(begin)
    while True:
        exchange.wait(0.03)
        exchange.wfile.write(more)


@fault
def noted(exchange: Exchange, sent: list[tuple[str, str]]) -> None:
    """Answer honestly, and write down the query, repetitions included."""
    sent += parse_qsl(urlsplit(exchange.path).query)
    exchange.leave(b"".join(exchange.honest()))


@fault
def seen_off(exchange: Exchange, closed: threading.Event) -> None:
    """Answer honestly, and report when the client closes the connection."""
    exchange.wfile.write(b"".join(exchange.honest()))
    if exchange.rfile.read(1) == b"":
        closed.set()
    exchange.leave()


@fault
def mirror(exchange: Exchange) -> None:
    """Answer with what was asked, in the body and in a header."""
    asked = f"{exchange.path} {exchange.asked.headers}"
    exchange.reply(200, asked.encode(), {"x-mirror": asked})


class Case(NamedTuple):
    """A fault, and what the transport makes of it."""

    fault: Fault
    error: type[ApiError]
    says: str
    requests: int = 1


RETRIED = 4
CHECK_HOST = "Check the host in ANALYTICS_API_BASE_URL"
CASES = {
    "400": Case(status(400), StatusError, "HTTP 400"),
    "401": Case(status(401), UnauthorizedError, "Check ANALYTICS_API_KEY"),
    "403": Case(status(403), UnauthorizedError, "Check ANALYTICS_API_KEY"),
    "404": Case(status(404), StatusError, "Check ANALYTICS_API_BASE_URL and the path"),
    "204": Case(status(204), StatusError, "HTTP 204"),
    "206": Case(status(206), StatusError, "HTTP 206"),
    **{
        f"{code}": Case(status(code), StatusError, f"HTTP {code}", RETRIED)
        for code in (408, 425, 429, 500, 501, 502, 503, 504, 520, 599)
    },
    "endless error": Case(
        trickle(b"HTTP/1.1 503 Busy\r\n\r\n", b" "), StatusError, "HTTP 503", RETRIED
    ),
    "reset": Case(reset(), UnreachableError, "Run again", RETRIED),
    "close": Case(close(), UnreachableError, "Run again", RETRIED),
    "cut": Case(cut(), UnreachableError, "Run again", RETRIED),
    "cut chunked": Case(cut_chunked(), UnreachableError, "Run again", RETRIED),
    "cut without length": Case(cut_without_length(), MalformedBodyError, "not JSON", RETRIED),
    "gzip garbage": Case(gzip_garbage(), MalformedBodyError, "Content-Encoding", RETRIED),
    "not JSON": Case(raw(b"<p>", "text/html"), MalformedBodyError, "text/html", RETRIED),
    "empty body": Case(raw(b""), MalformedBodyError, "0 bytes", RETRIED),
    "no rows": Case(answer({"error": "busy"}), MalformedBodyError, "data_selector", RETRIED),
    "endless": Case(endless(megabytes=8), OversizedBodyError, "lower the paginator's limit"),
    "redirect away": Case(
        redirect("http://nosuch.invalid/", keep_query=True),
        RedirectError,
        "Set ANALYTICS_API_BASE_URL",
    ),
    "redirect in a circle": Case(
        redirect(PATH, keep_query=True), RedirectError, "more than 5 redirects", 6
    ),
    "key in an error": Case(echo_key(), StatusError, "HTTP 500", RETRIED),
    "key in the path": Case(
        verbatim("HTTP/1.1 302 Found", "location: /v1/KEY", "", ""), StatusError, "404", 2
    ),
    "key as user": Case(
        verbatim("HTTP/1.1 302 Found", "location: http://QUOTED@nosuch.invalid/", "", ""),
        RedirectError,
        "leads to",
    ),
    "key in no host": Case(
        verbatim("HTTP/1.1 302 Found", "location: http://[QUOTED]/", "", ""),
        RedirectError,
        "leads to",
    ),
    "key in a header": Case(
        verbatim("HTTP/1.1 200 OK", "content-type: KEY", "", ""),
        MalformedBodyError,
        "not JSON",
        RETRIED,
    ),
    "key in a field": Case(
        verbatim("HTTP/1.1 200 OK", "", '{"KEY": 1}'), MalformedBodyError, "keys", RETRIED
    ),
    "key escaped in a field": Case(
        raw(b'{"a\\u002bb\\/c=%": 1}'), MalformedBodyError, "keys", RETRIED
    ),
    "key in a broken head": Case(
        verbatim("HTTP/1.1 200 OK", "no header", "x: KEY", "", "{}"),
        MalformedBodyError,
        "data_selector",
        RETRIED,
    ),
    "key for a status": Case(verbatim("KEY", "", ""), UnreachableError, "Run again", RETRIED),
    "key for a chunk": Case(
        verbatim("HTTP/1.1 200 OK", "transfer-encoding: chunked", "", "KEY", ""),
        UnreachableError,
        "Run again",
        RETRIED,
    ),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@pytest.fixture
def api(api: FakeApi) -> FakeApi:
    api.rows = {RESOURCE: [{"id": number} for number in IDS]}
    return api


@pytest.fixture
def transport(api: FakeApi, clock: TurnedClock) -> Iterator[Transport]:
    with connect(api, clock=clock) as transport:
        yield transport


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Said:
    """All that any logger says at DEBUG, and all that an error and its whole chain say."""
    caplog.set_level(logging.DEBUG)

    def text(error: BaseException | None) -> str:
        logged = [logging.Formatter().format(record) for record in caplog.records]
        return "\n".join([*logged, *_told(error)])

    return text


def _told(error: BaseException | None) -> Iterator[str]:
    if error is not None:
        yield from (str(error), repr(error), *traceback.format_exception(error))
        yield from _told(error.__cause__)
        yield from _told(error.__context__)


def shows(text: str, key: str) -> bool:
    """Whether the key stands in the text, raw or percent-encoded, whatever the case of the hex."""
    return any(key in decoded for decoded in (text, unquote(text), unquote_plus(text)))


def connect(
    api: FakeApi, base_url: str = "", auth: Auth = QUERY, **settings: Any
) -> AbstractContextManager[Transport]:
    client = Client(base_url="", auth=auth, headers={"x-team": "blue"})
    return Transport(base_url or api.base_url, client, api.key, **settings).open()


def ids(transport: Transport, url: str = PATH) -> list[int]:
    return [row["id"] for row in transport.get(url, {}, PARSE).rows]


@contextmanager
def deaf_port() -> Iterator[int]:
    """A port whose queue is full: no connection comes about, and none is refused."""
    with socket.create_server((HOST, 0), backlog=0) as server, socket.socket() as first:
        first.connect(server.getsockname())
        yield server.getsockname()[1]


# How the key is sent


@every_way
def test_the_key_is_sent_the_way_the_api_wants_it(way: str) -> None:
    """As a query parameter or header of any name, as a bearer token, or as a basic password."""
    auth, wanted = WAYS[way]
    with FakeApi(key="a+b/c=%d", rows={RESOURCE: [{"id": 1}]}, **wanted) as api:
        with connect(api, auth=auth) as transport:
            assert ids(transport) == [1]
        assert api.requests[0].headers["x-team"] == "blue"


def test_parameters_reach_the_api_as_they_are(api: FakeApi, transport: Transport) -> None:
    """Values with signs of their own are encoded, and those in the URL stay."""
    transport.get(f"{PATH}?a=b%20c", {"since": "2024-05-15T10:00:00+02:00", "limit": 2}, PARSE)
    asked = {"a": "b c", "since": "2024-05-15T10:00:00+02:00", "limit": "2", "api_key": api.key}
    assert api.requests[0].query == asked


def test_requests_share_one_connection(api: FakeApi, transport: Transport) -> None:
    """A connection is kept alive from page to page."""
    for _ in range(5):
        ids(transport)
    assert (len(api.requests), api.connections) == (5, 1)


def test_connections_are_closed_in_the_end(api: FakeApi) -> None:
    """A run leaves no connection behind."""
    closed = threading.Event()
    api.on(RESOURCE, seen_off(closed))
    with connect(api) as transport:
        assert ids(transport) == IDS
        assert not closed.is_set()
    assert closed.wait(20)


# Faults


@pytest.mark.parametrize("in_parts", [False, True], ids=["one part", "many parts"])
def test_a_small_body_that_inflates_to_a_large_one_is_given_up(
    api: FakeApi,
    transport: Transport,
    monkeypatch: pytest.MonkeyPatch,
    in_parts: bool,  # noqa: FBT001
) -> None:
    """Two gigabytes of blanks in two megabytes: at the limit for bodies, not of memory."""
    monkeypatch.setattr("analytics_dagster.transport.MAX_BODY_BYTES", 2**22)
    part = gzip.compress(b" " * 2**26, 1)
    packed = part * 32 if in_parts else part
    api.always(RESOURCE, raw(packed, headers={"content-encoding": "gzip"}))
    tracemalloc.start()
    try:
        with pytest.raises(OversizedBodyError, match="lower the paginator's limit"):
            ids(transport)
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()
    assert len(api.requests) == 1


@every_case
def test_every_fault_is_told_as_what_it_is(
    case: Case, api: FakeApi, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has the right class, says what to do, and only what may pass is retried."""
    monkeypatch.setattr("analytics_dagster.transport.MAX_BODY_BYTES", 2**20)
    api.always(RESOURCE, case.fault)
    with pytest.raises(case.error) as caught:
        ids(transport)
    assert type(caught.value) is case.error
    assert api.base_url in str(caught.value)
    assert case.says in str(caught.value)
    assert len(api.requests) == transport.traffic.requests == case.requests


@every_case
def test_no_fault_shows_the_key(
    case: Case,
    api: FakeApi,
    transport: Transport,
    monkeypatch: pytest.MonkeyPatch,
    said: Said,
) -> None:
    """Not in the error, its whole chain or its traceback, and not in any log at DEBUG."""
    monkeypatch.setattr("analytics_dagster.transport.MAX_BODY_BYTES", 2**20)
    api.always(RESOURCE, case.fault)
    with pytest.raises(Exception) as caught:  # noqa: PT011  whatever it is, it shows no key
        ids(transport)
    assert not shows(said(caught.value), api.key)


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=name) for name, case in CASES.items() if case.requests == RETRIED],
)
def test_a_fault_that_passes_costs_a_retry_and_no_row(
    case: Case, api: FakeApi, clock: TurnedClock, transport: Transport
) -> None:
    """Twice the fault and then an answer: the rows are there, after waits of 2 and 4 s."""
    api.on(RESOURCE, case.fault, case.fault)
    assert ids(transport) == IDS
    assert [int(seconds) for seconds in clock.sleeps] == [2, 4]
    assert (transport.traffic.requests, transport.traffic.retries) == (3, 2)
    assert transport.traffic.seconds_waited == pytest.approx(sum(clock.sleeps))


@pytest.mark.parametrize(
    "lines",
    [
        ['{"id": 1, "name": "Ada"}'],
        ["HTTP/1.1 200 OK", "transfer-encoding: chunked", "", '{"id": 1, "name": "Ada"}', ""],
        ["HTTP/1.1 200 OK", "", '{"data": [{"id": 1, "name": "Ada"}'],
        ["HTTP/1.1 200 OK", "", '{"data": {"Ada": "Lovelace"}}'],
        ["HTTP/1.1 500 Oops", "", '{"name": "Ada"}'],
    ],
    ids=["for a status", "for a chunk", "cut", "as an object", "in an error"],
)
def test_a_row_never_shows_in_an_error(
    lines: list[str],
    api: FakeApi,
    transport: Transport,
    said: Said,
) -> None:
    """Wherever in a broken answer the row stands."""
    api.always(RESOURCE, verbatim(*lines))
    with pytest.raises(ApiError) as caught:
        ids(transport)
    assert "Ada" not in said(caught.value)


# Retries


def test_retries_wait_2_4_and_8_seconds(
    api: FakeApi, clock: TurnedClock, transport: Transport
) -> None:
    """Three retries, with a jitter of some percent, and the API's last word is the error."""
    api.on(RESOURCE, status(500), status(502), reset(), status(503))
    with pytest.raises(StatusError, match="HTTP 503"):
        ids(transport)
    assert len(clock.sleeps) == 3
    for seconds, nominal in zip(clock.sleeps, (2, 4, 8), strict=True):
        assert nominal < seconds <= nominal * (1 + JITTER)


def test_retries_can_be_turned_off(api: FakeApi, clock: TurnedClock) -> None:
    """With none, the first fault is the last."""
    api.on(RESOURCE, status(500))
    with connect(api, clock=clock, retries=0) as transport, pytest.raises(StatusError):
        ids(transport)
    assert (len(api.requests), clock.sleeps) == (1, [])


def test_a_retry_really_waits(api: FakeApi) -> None:
    """By the clock on the wall, not only by the turned one."""
    api.on(RESOURCE, status(500))
    with connect(api, retries=1) as transport:
        assert ids(transport) == IDS
    first, second = api.requests
    assert second.at - first.at >= 2


@pytest.mark.parametrize("asked", ["7", "0.5", "300", " 20 "])
def test_retry_after_in_seconds_is_obeyed(
    asked: str, api: FakeApi, clock: TurnedClock, transport: Transport
) -> None:
    """The wait is what the API asks for, up to the limit."""
    api.on(RESOURCE, status(429, retry_after=asked))
    assert ids(transport) == IDS
    assert clock.sleeps == [pytest.approx(float(asked))]


@pytest.mark.parametrize(
    "form", ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"]
)
@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_retry_after_as_a_date_is_obeyed(
    form: str,
    zone: str,
    api: FakeApi,
    clock: TurnedClock,
    transport: Transport,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In each of the three forms that HTTP knows, wherever this machine stands."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        date = time.strftime(form, time.gmtime(clock.now + 90))
        api.on(RESOURCE, status(503, retry_after=date))
        assert ids(transport) == IDS
    finally:
        monkeypatch.undo()
        time.tzset()
    assert clock.sleeps == [pytest.approx(90, abs=1)]


@pytest.mark.parametrize(
    "asked",
    [
        *("0", "-3", "nan", "", "soon", "1;2;3"),
        "Sun, 06 Nov 1994 08:49:37 GMT",
        f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT",
        "Mon, 01 Jan 0001 00:00:00 +2300",
    ],
)
def test_a_retry_after_that_says_nothing_is_passed_over(
    asked: str, api: FakeApi, clock: TurnedClock, transport: Transport
) -> None:
    """Zero, the past and garbage: the wait is the usual one."""
    api.on(RESOURCE, status(429, retry_after=asked))
    assert ids(transport) == IDS
    assert 2 <= clock.sleeps[0] <= 2 * (1 + JITTER)


@pytest.mark.parametrize("asked", ["301", "1e9", "inf", "tomorrow"])
@pytest.mark.parametrize("code", [429, 503])
def test_a_retry_after_beyond_300_seconds_fails_at_once(
    code: int, asked: str, api: FakeApi, clock: TurnedClock, transport: Transport
) -> None:
    """A run does not sit and wait for an hour; the error says what the API asks for."""
    value = formatdate(clock.now + 86400, usegmt=True) if asked == "tomorrow" else asked
    api.on(RESOURCE, status(code, retry_after=value))
    with pytest.raises(StatusError, match=r"Retry-After asks for .* Run again after that time"):
        ids(transport)
    assert (len(api.requests), clock.sleeps) == (1, [])


# Time limits


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        pytest.param(b"", b"", id="no answer"),
        pytest.param(b"HTTP/1.1 ", b"2", id="status line"),
        pytest.param(b"HTTP/1.1 200 OK\r\nx: ", b"x", id="header"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n", b" ", id="length"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n", id="chunked"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", b" ", id="until it closes"),
        pytest.param(b'HTTP/1.1 200 OK\r\n\r\n{"data": []}', b" ", id="as if it were whole"),
    ],
)
def test_the_total_limit_ends_an_api_that_drips(
    begin: bytes, more: bytes, api: FakeApi, clock: TurnedClock
) -> None:
    """Byte by byte, wherever in the answer; and what came until then is no answer."""
    api.always(RESOURCE, trickle(begin, more))
    limits = TimeLimits(connect=20, read=20, total=0.3)
    started = time.monotonic()
    with (
        connect(api, clock=clock, retries=0, limits=limits) as transport,
        pytest.raises(TimeLimitError, match=r"no whole answer within 0\.3 s"),
    ):
        ids(transport)
    assert time.monotonic() - started < limits.read


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"])
def test_the_read_limit_ends_an_api_that_falls_silent(
    begin: bytes, api: FakeApi, clock: TurnedClock
) -> None:
    """Before or within an answer; a retry may find it awake again."""
    api.on(RESOURCE, trickle(begin, b""))
    limits = TimeLimits(connect=20, read=0.2, total=20)
    with connect(api, clock=clock, retries=1, limits=limits) as transport:
        assert ids(transport) == IDS
        api.always(RESOURCE, hang())
        with pytest.raises(TimeLimitError, match=r"no data for 0\.2 s"):
            ids(transport)


def test_a_resource_has_a_limit_for_all_its_requests_and_waits(
    api: FakeApi, clock: TurnedClock
) -> None:
    """A wait that would pass it is not begun: 2 and 4 s fit into 10 s, and 8 s more do not."""
    api.always(RESOURCE, status(503))
    limits = TimeLimits(resource=10)
    with (
        connect(api, clock=clock, limits=limits) as transport,
        pytest.raises(TimeLimitError, match=r"longer than 10 s, .* Set resource_timeout"),
    ):
        ids(transport)
    assert len(api.requests) == 3
    assert sum(clock.sleeps) < 10


@pytest.mark.parametrize(
    "act", [hang(), trickle(b"HTTP/1.1 200 OK\r\n\r\n", b" ")], ids=["hang", "drip"]
)
def test_the_limit_of_a_resource_ends_a_request(api: FakeApi, act: Fault) -> None:
    """Also in the middle of an answer, long before the limits of the request."""
    api.on(RESOURCE, status(503), act)
    limits = TimeLimits(connect=20, read=20, total=20, resource=3)
    started = time.monotonic()
    with (
        connect(api, clock=time, limits=limits) as transport,
        pytest.raises(TimeLimitError, match="longer than 3 s"),
    ):
        ids(transport)
    assert 2 < time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (TimeLimits(connect=0.2, read=3, total=3), r"no connection within 0\.2 s"),
        (TimeLimits(connect=3, read=3, total=0.2), r"no whole answer within 0\.2 s"),
    ],
    ids=["connect", "total"],
)
def test_a_host_that_never_answers_meets_a_limit(
    limits: TimeLimits, says: str, api: FakeApi, clock: TurnedClock
) -> None:
    """A connection that does not come about is given up."""
    started = time.monotonic()
    with (
        deaf_port() as port,
        connect(api, f"http://{HOST}:{port}", clock=clock, retries=0, limits=limits) as transport,
        pytest.raises(TimeLimitError, match=says),
    ):
        ids(transport)
    assert time.monotonic() - started < limits.read


@contextmanager
def dripping(begin: bytes, more: bytes) -> Iterator[int]:
    """A port that is no HTTP: it sends the beginning, and then the same bytes without an end."""

    def drip(taken: socket.socket) -> None:
        with taken:
            try:
                taken.sendall(begin)
                while not over.wait(0.03):
                    taken.sendall(more)
            except OSError:
                left.set()

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=drip, args=(server.accept()[0],), daemon=True).start()

    over, left = threading.Event(), threading.Event()
    with socket.create_server((HOST, 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        assert left.wait(20), "the client never closed the connection"
        over.set()
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("through_proxy", [False, True], ids=["handshake", "tunnel"])
@pytest.mark.parametrize(
    "limits",
    [
        TimeLimits(connect=2, read=20, total=0.3),
        TimeLimits(connect=2, read=20, total=20, resource=0.3),
    ],
    ids=["total", "resource"],
)
def test_the_total_limit_ends_a_connection_that_drips(
    limits: TimeLimits,
    through_proxy: bool,  # noqa: FBT001
    api: FakeApi,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A TLS handshake, or a proxy that opens a tunnel, byte by byte; the connection is closed."""
    hello = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03"
    begin, more = (b"HTTP/1.1 200 OK\r\nx: ", b"x") if through_proxy else (hello, b"\0")
    with dripping(begin, more) as port:
        host = f"{HOST}:{port}"
        if through_proxy:
            monkeypatch.setenv("https_proxy", f"http://{host}")
            host = "nosuch.invalid"
        started = time.monotonic()
        with (
            connect(api, f"https://{host}", retries=0, limits=limits) as transport,
            pytest.raises(TimeLimitError, match=r"0\.3 s"),
        ):
            ids(transport)
        assert time.monotonic() - started < limits.connect


def test_the_total_limit_ends_a_search_for_the_host(
    api: FakeApi, clock: TurnedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that never answers holds no run up."""
    found = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found.wait(20) and [])
    limits = TimeLimits(connect=20, read=20, total=0.3)
    started = time.monotonic()
    with (
        connect(api, "http://nosuch.invalid", clock=clock, retries=0, limits=limits) as transport,
        pytest.raises(TimeLimitError, match=r"no whole answer within 0\.3 s"),
    ):
        ids(transport)
    found.set()
    assert time.monotonic() - started < limits.read


def test_the_total_limit_holds_for_all_addresses_of_a_host(
    api: FakeApi, clock: TurnedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten that do not answer take no ten times the limit of one connection."""
    limits = TimeLimits(connect=0.4, read=20, total=0.6)
    with deaf_port() as port:
        address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", (HOST, port))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: 10 * [address])
        started = time.monotonic()
        with (
            connect(api, "http://many.invalid", clock=clock, retries=0, limits=limits) as transport,
            pytest.raises(TimeLimitError, match=r"no whole answer within 0\.6 s"),
        ):
            ids(transport)
        assert time.monotonic() - started < 10 * limits.connect


# Out of reach


@pytest.mark.parametrize(
    ("base_url", "proxy"),
    [
        pytest.param("http://{dead}", "", id="refused"),
        pytest.param("http://nosuch.invalid", "", id="unknown host"),
        pytest.param("https://{live}", "", id="no TLS"),
        pytest.param("http://nosuch.invalid", "http://team:pa55@{dead}", id="proxy refused"),
        pytest.param("https://nosuch.invalid", "http://team:pa55@{dead}", id="proxy refused, TLS"),
        pytest.param("https://nosuch.invalid", "http://team:pa55@{live}", id="no tunnel"),
    ],
)
def test_a_connection_that_fails_never_shows_the_key(
    base_url: str,
    proxy: str,
    api: FakeApi,
    clock: TurnedClock,
    said: Said,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor the password of a proxy; the error names the host and what to check."""
    places = {"dead": f"{HOST}:{unused_port()}", "live": f"{HOST}:{api.port}"}
    base_url = base_url.format(**places)
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", proxy.format(**places))
    with (
        connect(api, base_url, clock=clock) as transport,
        pytest.raises(UnreachableError) as caught,
    ):
        ids(transport)
    assert str(caught.value).startswith(f"{base_url}{PATH}: ")
    assert CHECK_HOST in str(caught.value)
    assert transport.traffic.requests == RETRIED
    assert not shows(said(caught.value), api.key)
    assert "pa55" not in said(caught.value)


@pytest.mark.parametrize(
    "proxy",
    [
        "http://me:hid#den@p:1",
        "http://me:hid[den@p:1",
        "me:hid/den@p",
        "http://hid@p:x",
        "ftp://hid@p",
    ],
)
def test_a_proxy_that_cannot_be_used_is_not_quoted(
    proxy: str, api: FakeApi, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password with special characters makes another URL of it; the error says what to set."""
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(SettingError, match="Set it to a URL like") as caught:
        connect(api, "http://nosuch.invalid")
    assert "hid" not in said(caught.value)


@pytest.mark.parametrize("proxy", ["http://{}", "{}", "http://team:pa55@{}"])
def test_the_proxy_of_the_environment_is_used(
    proxy: str, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With or without a scheme or a password, as curl takes it."""
    monkeypatch.setenv("http_proxy", proxy.format(f"{HOST}:{api.port}"))
    with connect(api, "http://nosuch.invalid") as transport:
        assert ids(transport) == IDS
    headers = api.requests[0].headers
    assert headers["host"] == "nosuch.invalid"
    assert ("proxy-authorization" in headers) == ("@" in proxy)


@pytest.mark.parametrize("no_proxy", ["127.0.0.1", "*"])
def test_no_proxy_is_respected(
    no_proxy: str, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that is excepted is reached directly."""
    monkeypatch.setenv("http_proxy", f"http://{HOST}:{unused_port()}")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    with connect(api, retries=0) as transport:
        assert ids(transport) == IDS


@pytest.mark.parametrize("way", ["header", "bearer", "basic"])
def test_a_key_that_no_header_can_hold_never_shows(
    way: str, api: FakeApi, clock: TurnedClock, said: Said
) -> None:
    """The exception that Python raises for it quotes the key."""
    api.key = "ключ"
    with pytest.raises(AnalyticsError) as caught:  # noqa: SIM117  opening may fail as well
        with connect(api, auth=WAYS[way][0], clock=clock) as transport:
            ids(transport)
    assert not shows(said(caught.value), api.key)


# Redirects and links


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_on_the_same_host_is_followed(
    code: int, api: FakeApi, transport: Transport
) -> None:
    """Of every kind that HTTP knows; it is no retry."""
    api.on("moved", redirect(PATH, code))
    assert ids(transport, "/v1/moved") == IDS
    assert (transport.traffic.requests, transport.traffic.retries) == (2, 0)


@every_way
def test_a_redirect_takes_the_key_along(way: str) -> None:
    """The key is sent again, whichever way it is sent."""
    auth, wanted = WAYS[way]
    with FakeApi(key="a+b/c=%d", rows={RESOURCE: [{"id": 1}]}, **wanted) as api:
        api.on("moved", redirect(PATH))
        with connect(api, auth=auth) as transport:
            assert ids(transport, "/v1/moved") == [1]


@pytest.mark.parametrize("base_url", ["http://NoSuch.invalid", "http://nosuch.invalid:80"])
def test_a_redirect_may_spell_the_same_host_its_own_way(
    base_url: str, api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Capitals and the usual port make no other host of it."""
    monkeypatch.setenv("http_proxy", api.base_url)
    api.on(RESOURCE, redirect(f"http://nosuch.invalid{PATH}"))
    with connect(api, base_url) as transport:
        assert ids(transport) == IDS


@pytest.mark.parametrize(
    "location",
    [
        "http://{host}:{other}{path}",
        "//{host}:{other}{path}",
        "http://{host}:{own}@{host}:{other}{path}",
        "https://{host}:{other}{path}",
        "ftp://{host}:{own}{path}",
    ],
)
@pytest.mark.parametrize("way", ["query", "header"])
def test_another_host_gets_no_request(way: str, location: str, clock: TurnedClock) -> None:
    """Neither by a redirect nor by a link; the error says what to set if that host is meant."""
    auth, wanted = WAYS[way]
    with FakeApi("a+b/c=%d", rows={RESOURCE: [{"id": 1}]}, **wanted) as api, FakeApi() as other:
        away = location.format(host=HOST, own=api.port, other=other.port, path=PATH)
        api.always(RESOURCE, redirect(away, keep_query=True))
        with connect(api, auth=auth, clock=clock) as transport:
            for url in (PATH, urljoin(api.base_url, away)):
                with pytest.raises(RedirectError, match="Set ANALYTICS_API_BASE_URL") as caught:
                    ids(transport, url)
                assert not shows(str(caught.value), api.key)
        assert (len(api.requests), other.connections) == (1, 0)


@pytest.mark.parametrize("where", ["https://{}.login.invalid/x", "http://u:{}@login.invalid/"])
@pytest.mark.parametrize("key", ["abcDEF123456/ghiJKL7890==", "abcDEF123456?x#y"])
def test_no_part_of_the_key_shows_in_a_redirect(where: str, key: str) -> None:
    """A key with signs that end a host is masked before the host is looked for."""
    with FakeApi(key, rows={RESOURCE: [{"id": 1}]}) as api:
        api.always(RESOURCE, redirect(where.format(key)))
        with connect(api) as transport, pytest.raises(RedirectError) as caught:
            ids(transport)
    assert "abcDEF" not in str(caught.value)


@pytest.mark.parametrize(
    ("location", "leads_to"),
    [
        ("/v1/Zebedee?after=Zebedee", "redirected: HTTP 404"),
        ("http://nosuch.invalid/Zebedee?after=Zebedee#Zebedee", "leads to http://nosuch.invalid;"),
    ],
)
def test_where_a_redirect_leads_is_told_without_what_it_carries(
    location: str, leads_to: str, api: FakeApi, transport: Transport
) -> None:
    """The API may put a row or a token into it."""
    api.on(RESOURCE, redirect(location))
    with pytest.raises(ApiError, match=leads_to) as caught:
        ids(transport)
    assert "Zebedee" not in str(caught.value)


def test_a_link_of_the_api_is_told_without_its_query(api: FakeApi, transport: Transport) -> None:
    """A cursor is often the name in the last row."""
    with pytest.raises(StatusError, match=f"^{api.base_url}/v1/next: HTTP 404") as caught:
        ids(transport, f"{api.base_url}/v1/next?after=Zebedee")
    assert "Zebedee" not in str(caught.value)


def test_a_body_in_utf_16_is_no_json(api: FakeApi, transport: Transport) -> None:
    """A key in it would pass every search for the key."""
    api.always(RESOURCE, raw(json.dumps({"data": [{"id": api.key}]}).encode("utf-16")))
    with pytest.raises(MalformedBodyError, match="not JSON"):
        ids(transport)


def test_a_redirect_that_repeats_the_key_sends_it_once(api: FakeApi, transport: Transport) -> None:
    """The API is not asked with two keys."""
    sent: list[tuple[str, str]] = []
    api.on(RESOURCE, redirect(PATH, keep_query=True), noted(sent))
    assert ids(transport) == IDS
    assert sent == [("api_key", api.key)]


@pytest.mark.parametrize(
    "link", ["?api_key=old&limit=2", "?limit=2&token={}", "?token=***&limit=2"]
)
def test_a_link_adds_no_key_to_the_one_that_is_sent(
    link: str, api: FakeApi, transport: Transport
) -> None:
    """Neither an old one, nor a copy under another name, nor its mask."""
    sent: list[tuple[str, str]] = []
    api.on(RESOURCE, noted(sent))
    assert ids(transport, PATH + link.format(quote(api.key, safe=""))) == IDS[:2]
    assert sent == [("limit", "2"), ("api_key", api.key)]


@pytest.mark.parametrize("spelling", [quote, quote_plus, partial(quote, safe="")])
def test_a_next_link_that_repeats_the_key_works(
    spelling: Callable[[str], str], api: FakeApi, transport: Transport
) -> None:
    """The key is masked in the answer and still sent, once, when the link is followed."""
    sent: list[tuple[str, str]] = []
    link = f"{api.base_url}{PATH}?api_key={spelling(api.key)}&offset=1"
    api.on(RESOURCE, change(lambda page: page | {"next": link}), noted(sent))
    following = transport.get(PATH, {}, lambda answer: str(json.loads(answer.body)["next"]))
    assert not shows(following, api.key)
    assert ids(transport, following) == IDS[1:]
    assert sent == [("offset", "1"), ("api_key", api.key)]


@pytest.mark.parametrize("code", [404, 200])
@pytest.mark.parametrize("link", ["?api_key={}", "?other={}", "?{}", "?a=1&{}=2", "/{}", ";k={}"])
def test_a_link_that_holds_the_key_never_shows_it(
    link: str, code: int, api: FakeApi, transport: Transport, said: Said
) -> None:
    """Wherever in the URL, and whatever the API answers."""
    link = PATH + link.format(quote(api.key, safe=""))
    for resource in (RESOURCE, link.partition("?")[0].removeprefix("/v1/")):
        api.always(resource, status(code))
    with pytest.raises(ApiError) as caught:
        ids(transport, api.base_url + link)
    assert not shows(said(caught.value), api.key)


# What the API repeats


@every_way
@pytest.mark.parametrize("where", ["body", "header"])
def test_a_key_that_the_api_repeats_is_masked(where: str, way: str) -> None:
    """An answer that mirrors the request holds `***` where the credential stood."""
    auth, wanted = WAYS[way]
    with FakeApi(key="a+b/c=%d", **wanted) as api, connect(api, auth=auth) as transport:
        api.always(RESOURCE, mirror())
        got: Answer = transport.get(PATH, {}, lambda answer: answer)
        text = got.body.decode() if where == "body" else got.headers["x-mirror"]
        credential = b64encode(f"{api.name}:{api.key}".encode()).decode()
    assert "***" in text
    assert not shows(text, api.key)
    assert credential not in text


@every_way
def test_a_part_of_the_key_is_no_secret(way: str) -> None:
    """Rows keep a word that the key holds too."""
    auth, wanted = WAYS[way]
    with (
        FakeApi(key="my id", rows={RESOURCE: [{"id": 1}]}, **wanted) as api,
        connect(api, auth=auth) as transport,
    ):
        assert ids(transport) == [1]


def test_a_key_in_a_compressed_body_is_masked(api: FakeApi, transport: Transport) -> None:
    """What counts is the body as it is read."""
    packed = gzip.compress(f'{{"data": [{{"id": "{api.key}"}}]}}'.encode())
    api.always(RESOURCE, raw(packed, headers={"content-encoding": "gzip"}))
    assert transport.get(PATH, {}, PARSE).rows == [{"id": "***"}]


def test_a_log_at_debug_shows_the_url_without_the_key(
    api: FakeApi, transport: Transport, said: Said
) -> None:
    """A good request is logged by urllib3, with the key masked."""
    api.on(RESOURCE, redirect(PATH, keep_query=True))
    assert ids(transport) == IDS
    assert said(None).count(f"{PATH}?api_key=***") == 2
    assert not shows(said(None), api.key)
