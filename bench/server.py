"""The API that all contenders read: much faster than they are, with settable slowness.

    python -m bench.server --rows 20000 --latency-ms 50 --rate-limit 1200 --no-total

It prints its base URL and lives until its standard input is closed. Rows have every field that
the API has, with ids from 1 on; the rest of a row is one of some hundred that were rendered
before, so that ten million rows need no memory. Asked with `updated_since` it offers the
`--changed` rows only, spread over all ids and current since `--changed-at`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import sys
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import cast
from urllib.parse import parse_qsl, urlsplit

from analytics_dagster.api_config import REST_API
from analytics_dagster.columns import api_name
from bench import PAGE_SIZE

_TEMPLATES = 997
_MINUTE = 60.0
_FIRST = (
    "Amara",
    "Björn",
    "Chiara",
    "Dmitri",
    "Elif",
    "Farah",
    "Grace",
    "Hiroshi",
    "Inês",
    "Jonas",
)
_LAST = (
    "Abbott",
    "Bauer",
    "Castillo",
    "Dubois",
    "Eriksson",
    "Fischer",
    "Hassan",
    "Ito",
    "Kowalski",
)


class Api:
    """What is offered, and what was asked: `page` and `answer` are all that a connection needs."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._rows: int = options.rows
        self._changed: int = options.changed
        self._has_total: bool = options.total
        self._rate_limit: int = options.rate_limit
        self.latency: float = options.latency_ms / 1000
        self._tails = {name: list(_tails(fields, "")) for name, fields in _resources()}
        self._changed_tails = {
            name: list(_tails(fields, options.changed_at)) for name, fields in _resources()
        }
        self._answered_at: list[float] = []
        self._recent: deque[float] = deque()
        self._refused = 0

    def answer(self, target: str) -> bytes:
        """The whole answer, headers included, to a GET of this path and query."""
        url = urlsplit(target)
        resource, query = url.path.rpartition("/")[2], dict(parse_qsl(url.query))
        if resource == "stats":
            return _response("200 OK", self._stats())
        if resource not in self._tails:
            return _response("404 Not Found", b"{}")
        if wait := self._seconds_to_wait():
            self._refused += 1
            return _response("429 Too Many Requests", b"{}", f"Retry-After: {math.ceil(wait)}\r\n")
        offset, limit = int(query.get("offset", 0)), int(query.get("limit", PAGE_SIZE))
        return _response("200 OK", self.page(resource, offset, limit, query))

    def page(self, resource: str, offset: int, limit: int, query: dict[str, str]) -> bytes:
        """The envelope with the rows of a page."""
        is_filtered = "updated_since" in query
        offered = self._changed if is_filtered else self._rows
        step = self._rows // self._changed if is_filtered and self._changed else 1
        tails = self._changed_tails[resource] if is_filtered else self._tails[resource]
        rows = b",".join(
            b'{"id":%d,%b' % (at * step + 1, tails[at % _TEMPLATES])
            for at in range(offset, min(offset + limit, offered))
        )
        total = b',"total":%d' % offered if self._has_total else b""
        return b'{"data":[%b]%b}' % (rows, total)

    def _seconds_to_wait(self) -> float:
        """Until the moving minute has room for this request; 0 when it is taken."""
        now = time.monotonic()
        while self._recent and self._recent[0] <= now - _MINUTE:
            self._recent.popleft()
        if self._rate_limit and len(self._recent) >= self._rate_limit:
            return self._recent[0] + _MINUTE - now
        if self._rate_limit:
            self._recent.append(now)
            self._answered_at.append(now)
        return 0

    def _stats(self) -> bytes:
        times = self._answered_at or [0]
        seconds = times[-1] - times[0]
        stats = {"answered": len(times), "refused": self._refused, "seconds": seconds}
        return json.dumps(stats).encode()


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, as far as GET needs it."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps where the answers go."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answers each whole request, after the latency; others are answered meanwhile."""
        *requests, self._received = (self._received + data).split(b"\r\n\r\n")
        for request in requests:
            answer = self._api.answer(request.split(b" ", 2)[1].decode())
            if self._api.latency:
                asyncio.get_running_loop().call_later(self._api.latency, self._send, answer)
            else:
                self._send(answer)

    def _send(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)


def _resources() -> Iterator[tuple[str, list[str]]]:
    for resource in cast(list[dict[str, dict[str, str]]], REST_API["resources"]):
        yield str(resource["name"]), [api_name(column) for column in resource["columns"]]


def _tails(fields: list[str], changed_at: str) -> Iterator[bytes]:
    """Rows as JSON without their beginning, the id; their timestamps are those of last month."""
    chance = random.Random(changed_at)  # noqa: S311  the same rows in each run
    last = datetime(2026, 1, 31, tzinfo=timezone.utc)
    for number in range(_TEMPLATES):
        current = (last - timedelta(minutes=43 * number)).isoformat().replace("+00:00", "Z")
        row = {field: chance.randrange(20_000) for field in fields if field != "id"}
        told = {
            "name": f"{chance.choice(_FIRST)} {chance.choice(_LAST)}",
            "current_timestamp": changed_at or current,
        }
        yield json.dumps(row | told, separators=(",", ":"), ensure_ascii=False).encode()[1:]


def _response(status: str, body: bytes, header: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{header}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def _serve(options: argparse.Namespace) -> None:
    api, loop = Api(options), asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(api), "127.0.0.1", 0, backlog=128)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


def main() -> None:
    """Serves until standard input is closed."""
    parser = argparse.ArgumentParser(description="A fast local API with settable slowness.")
    parser.add_argument("--rows", type=int, default=20_000, help="rows of each resource")
    parser.add_argument("--latency-ms", type=float, default=0, help="milliseconds a page")
    parser.add_argument("--total", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--rate-limit", type=int, default=0, help="requests a minute; 0: no limit")
    parser.add_argument("--changed", type=int, default=0, help="rows for updated_since")
    parser.add_argument("--changed-at", default="", help="their timestamp, ISO 8601")
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
