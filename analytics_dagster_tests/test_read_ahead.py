"""What several readers of one resource change: the waiting, and nothing else."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from analytics_dagster import envelope, read_ahead
from analytics_dagster.api_spec import ApiSpec, Resource
from analytics_dagster.envelope import Page
from analytics_dagster.errors import StatusError
from analytics_dagster.gate import Gate
from analytics_dagster.pages import Reading, read_whole
from analytics_dagster.transport import Transport
from analytics_dagster_tests.conftest import TurnedClock, agents
from analytics_dagster_tests.fake_api import Exchange, FakeApi, Fault, delay, fault, status

AGENTS = "agents_overview"
READERS = 8


@pytest.fixture(autouse=True)
def every_page_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "QUICK", 0)


@pytest.fixture
def resource(spec: ApiSpec) -> Resource:
    return spec.resources[1]


@pytest.fixture
def transport(api: FakeApi, spec: ApiSpec) -> Iterator[Transport]:
    with Transport(api.base_url, spec.client, api.key, readers=READERS, retries=1).open() as opened:
        yield opened


def ids(resource: Resource, transport: Transport) -> list[int]:
    """The ids of a whole reading, in the order in which they came."""

    def take(pages: Iterator[Page]) -> list[int]:
        return [row["id"] for page in pages for row in page.rows]

    return read_whole(resource, transport, take, Reading())


class Counted:
    """A fault that answers honestly after a moment, and counts who waits at the same time."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.together: list[tuple[float, int]] = []
        self._lock = threading.Lock()

    def __call__(self, exchange: Exchange) -> None:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        exchange.wait(0.05)
        with self._lock:
            self.together.append((time.monotonic(), self.now))
            self.now -= 1
        exchange.wfile.write(b"".join(exchange.honest()))


@pytest.mark.parametrize("total", ["honest", "absent", 0, 100])
def test_rows_come_in_order_from_several_readers(
    api: FakeApi, transport: Transport, resource: Resource, total: Any
) -> None:
    """At the same time, but no more than allowed, each on a connection that it keeps."""
    api.rows[AGENTS], api.total = agents(2000), total
    counted = Counted()
    api.always(AGENTS, counted)
    assert ids(resource, transport) == list(range(1, 2001))
    assert 1 < counted.most <= READERS
    assert api.connections <= READERS + 1


@pytest.mark.parametrize("rows", [0, 1, 99, 100, 101, 198, 199, 250, 1000])
def test_with_a_total_no_request_is_in_vain(
    api: FakeApi, transport: Transport, resource: Resource, rows: int
) -> None:
    """Several readers ask for just what one would ask for."""
    api.rows[AGENTS] = agents(rows)
    ids(resource, transport)
    asked = sorted(int(request.query["offset"]) for request in api.requests)
    api.requests.clear()
    transport.readers = 1
    ids(resource, transport)
    assert asked == sorted(int(request.query["offset"]) for request in api.requests)


def test_without_a_total_few_requests_are_in_vain(
    api: FakeApi, transport: Transport, resource: Resource
) -> None:
    """As many as there are readers, at most."""
    api.rows[AGENTS], api.total = agents(1000), "absent"
    ids(resource, transport)
    needed = 13  # ten whole pages and a short one, its last row alone, and nothing
    assert len(api.requests) <= needed + READERS


def test_read_ahead_is_bounded(api: FakeApi, transport: Transport, resource: Resource) -> None:
    """While nobody takes the next page, no more pages are requested than there are readers."""
    api.rows[AGENTS] = agents(5000)

    def take(pages: Iterator[Page]) -> None:
        read = 0
        for page in pages:
            read += len(page.rows)
            time.sleep(0.01)
            assert max(int(r.query["offset"]) for r in api.requests) <= read + READERS * 99

    read_whole(resource, transport, take, Reading())


def test_a_page_that_fails_is_told_in_its_turn(
    api: FakeApi, transport: Transport, resource: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pages before it are handed on, and the error is that of one reader."""
    monkeypatch.setattr("analytics_dagster.retrying.BACKOFF_FACTOR", 0.01)
    api.rows[AGENTS] = agents(1000)
    api.always(AGENTS, status(500), at_offset=495)
    found: list[int] = []

    def take(pages: Iterator[Page]) -> None:
        found.extend(row["id"] for page in pages for row in page.rows)

    with pytest.raises(StatusError, match="offset=495: HTTP 500"):
        read_whole(resource, transport, take, Reading())


def test_rows_that_move_while_pages_are_read_ahead_are_read_again(
    api: FakeApi, transport: Transport, resource: Resource
) -> None:
    """A page that was requested too early is requested anew; no row is missing."""
    api.rows[AGENTS] = agents(1000)
    gone = threading.Event()

    @fault
    def delete(exchange: Exchange) -> None:
        answer = b"".join(exchange.honest())
        if not gone.is_set():
            gone.set()
            del api.rows[AGENTS][0]
        exchange.wfile.write(answer)

    api.on(AGENTS, delete(), at_offset=396)
    assert set(ids(resource, transport)) >= set(range(2, 1001))


def test_retry_after_holds_every_reader(
    api: FakeApi, transport: Transport, resource: Resource
) -> None:
    """Who was asked to wait asks for the others, too."""
    api.rows[AGENTS] = agents(3000)
    told_at: list[float] = []

    @fault
    def busy(exchange: Exchange) -> None:
        told_at.append(time.monotonic())
        exchange.reply(429, b"", {"retry-after": "1"})

    api.on(AGENTS, busy(), at_offset=990)
    assert len(ids(resource, transport)) == 3000
    [told] = told_at
    # What was under way when the answer was given may still arrive.
    assert not [r for r in api.requests if told + 0.5 < r.at < told + 1]
    assert transport.traffic.seconds_waited > 1


def test_fewer_read_at_the_same_time_after_a_429_and_then_more_again(
    api: FakeApi, transport: Transport, resource: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of them at first; all of them when the API goes on to answer for long enough."""
    monkeypatch.setattr("analytics_dagster.retrying.BACKOFF_FACTOR", 0.1)
    monkeypatch.setattr("analytics_dagster.gate.ANSWERS_BEFORE_MORE", 10)
    api.rows[AGENTS] = agents(9000)
    counted = Counted()
    api.always(AGENTS, counted)
    api.on(AGENTS, status(429), at_offset=1980)
    assert len(ids(resource, transport)) == 9000
    refused, _ = [r.at for r in api.requests if r.query["offset"] == "1980"]
    # Nothing is sent for a tenth of a second, in which what was under way is answered.
    after = [together for at, together in counted.together if at > refused + 0.1]
    assert max(after[:2]) <= READERS // 4
    assert max(after) == READERS


def test_who_answers_at_once_is_read_by_one(
    api: FakeApi, transport: Transport, resource: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one connection: threads that need not wait only hinder each other."""
    monkeypatch.setattr(read_ahead, "QUICK", 60)
    api.rows[AGENTS] = agents(2000)
    counted = Counted()
    api.always(AGENTS, counted)
    ids(resource, transport)
    assert (counted.most, api.connections) == (1, 1)


def test_a_body_is_parsed_once(
    api: FakeApi, transport: Transport, resource: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many bytes as came, whatever is looked for in them."""
    api.rows[AGENTS] = agents(1000)
    parsed: list[int] = []

    class Counting:
        @staticmethod
        def loads(body: bytes) -> Any:
            parsed.append(len(body))
            return json.loads(body)

    monkeypatch.setattr(envelope, "orjson", Counting)
    sent: list[int] = []

    @fault
    def measured(exchange: Exchange) -> None:
        answer = exchange.honest()
        sent.append(len(answer[1]))
        exchange.wfile.write(b"".join(answer))

    api.always(AGENTS, measured())
    ids(resource, transport)
    assert sorted(parsed) == sorted(sent)


@fault
def refused_after(exchange: Exchange, seconds: float) -> None:
    exchange.wait(seconds)
    exchange.reply(400, b"")


@pytest.mark.parametrize("hindrance", [delay(60), status(503, retry_after=60)])
def test_readers_that_nobody_waits_for_end_with_the_reading(
    api: FakeApi, spec: ApiSpec, resource: Resource, hindrance: Fault
) -> None:
    """A load that fails does not hang on answers, or waits, that are still to come."""
    api.rows[AGENTS] = agents(3000)
    for offset in (0, 99):
        api.on(AGENTS, delay(0), at_offset=offset)
    api.on(AGENTS, refused_after(0.5), at_offset=198)
    api.always(AGENTS, hindrance)
    began = time.monotonic()
    with (
        pytest.raises(StatusError, match="offset=198: HTTP 400"),
        Transport(api.base_url, spec.client, api.key, readers=READERS).open() as transport,
    ):
        ids(resource, transport)
    readers = [thread for thread in threading.enumerate() if thread.name.startswith("reader")]
    for reader in readers:
        reader.join(10)
    assert time.monotonic() - began < 10


def test_a_budget_is_kept_within_any_minute(
    clock: TurnedClock, caplog: pytest.LogCaptureFixture
) -> None:
    """And used up: no more waiting than it takes, and told when it is long."""
    gate, sent = Gate(10, clock=clock), []
    began = clock.monotonic()
    for _ in range(35):
        gate.enter(lambda: began + 10_000)
        gate.leave()
        sent.append(clock.monotonic())
    assert all(late - early >= 61 for early, late in zip(sent, sent[10:], strict=False))
    assert sent[-1] - began == pytest.approx(183)
    assert caplog.messages == ["10 requests in a minute were sent: waiting 61 s."] * 3


def test_a_gate_waits_no_longer_than_the_resource_may_take(clock: TurnedClock) -> None:
    """The time limit of a resource counts for its waits, too."""
    gate, began = Gate(clock=clock), clock.monotonic()
    gate.close_for(500)
    gate.enter(lambda: began + 20)
    assert clock.monotonic() - began == pytest.approx(20)
    gate.leave()
    gate.enter(lambda: began + 1000)
    assert clock.monotonic() - began == pytest.approx(500)


def test_a_budget_is_kept_after_the_api_asked_to_wait(clock: TurnedClock) -> None:
    """What counts is when a request was sent, not when its turn would have been."""
    gate, began = Gate(3, clock=clock), clock.monotonic()
    sent = []
    for number in range(7):
        if number == 2:
            gate.close_for(45)
        gate.enter(lambda: began + 10_000)
        sent.append(clock.monotonic() - began)
        gate.leave()
    assert all(late - early >= 60 for early, late in zip(sent, sent[3:], strict=False))


def test_an_api_that_takes_one_request_at_a_time_is_read(
    api: FakeApi, spec: ApiSpec, resource: Resource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And hardly ever asked for more again."""
    monkeypatch.setattr("analytics_dagster.retrying._wait", lambda _: 0.2)
    api.rows[AGENTS] = agents(6000)
    lock = threading.Lock()

    @fault
    def one_at_a_time(exchange: Exchange) -> None:
        if not lock.acquire(blocking=False):
            exchange.reply(429, b"")
            return
        answer = b"".join(exchange.honest())
        exchange.wait(0.01)
        lock.release()
        exchange.wfile.write(answer)

    api.always(AGENTS, one_at_a_time())
    with Transport(api.base_url, spec.client, api.key, readers=READERS).open() as transport:
        assert len(ids(resource, transport)) == 6000
    assert transport.traffic.retries < 25


def test_pages_of_any_length_are_hardly_asked_for_in_vain(
    api: FakeApi, transport: Transport, resource: Resource
) -> None:
    """Where each page has another length, the next offset cannot be guessed."""
    api.rows[AGENTS] = agents(5000)

    @fault
    def shorter(exchange: Exchange) -> None:
        exchange.asked.query["limit"] = str(90 + int(exchange.asked.query["offset"]) * 7 % 11)
        exchange.wfile.write(b"".join(exchange.honest()))

    api.always(AGENTS, shorter())
    assert len(ids(resource, transport)) == 5000
    needed = 55
    assert len(api.requests) <= needed + 2 * READERS
