"""The analytics API as a test double: a real HTTP server on 127.0.0.1 that misbehaves on request.

Here belongs what can happen on the wire: honest pages, the ways to lie about them and the ways to
break a connection. What the project makes of it belongs in the tests. A fault is a callable that
is handed the `Exchange`; the usual ones are at the end, and `@fault` makes more of them.
"""

import base64
import functools
import json
import socket
import socketserver
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime, timezone
from http import HTTPStatus
from http.client import responses
from http.server import BaseHTTPRequestHandler
from typing import Any, Concatenate, Literal, ParamSpec, TypeAlias, final
from urllib.parse import parse_qsl, urlencode, urlsplit

HOST, PREFIX, PAGE_SIZE = "127.0.0.1", "/v1/", 100
POLL, FAREWELL = 0.02, 0.5  # seconds: between looks at the stop flag, and for handlers to leave

Json: TypeAlias = Any
Fault: TypeAlias = Callable[["Exchange"], None]
P = ParamSpec("P")


@dataclass(frozen=True)
class Request:
    """What a client asked; header names are in lower case, `at` is on the monotonic clock."""

    resource: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    at: float


@final
@dataclass(eq=False, repr=False)
class FakeApi:
    """The server and its script; `name` is the query parameter, the header or the basic user."""

    key: str = "test-key"
    _: KW_ONLY
    auth: Literal["query", "header", "bearer", "basic"] = "query"
    name: str = "api_key"
    port: int = 0
    rows: dict[str, list[Json]] = field(default_factory=dict)
    total: Json = "honest"
    page_cap: int | None = None
    filter_field: str | None = None
    ignore_offset: bool = False
    links: bool = False
    cursors: bool = False

    def __post_init__(self) -> None:
        """Begin with nothing asked and nothing scripted."""
        self.requests: list[Request] = []
        self.connections = 0
        self.errors: list[BaseException] = []  # a fault's own mistakes, raised on leaving `with`
        self._once: list[tuple[str, int | None, Fault]] = []
        self._always: list[tuple[str, int | None, Fault]] = []
        self._lock, self._switch = threading.Lock(), threading.Lock()
        self._server: _Server | None = None

    def __enter__(self) -> "FakeApi":
        """Start."""
        self.start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Stop for good."""
        self.stop()
        _release(self.port)
        if error is None and self.errors:
            raise self.errors[0]

    @property
    def base_url(self) -> str:
        """Scheme, host and port, without a slash at the end."""
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        with self._switch:
            if self._server is None:
                _release(self.port)
                self._server = server = _Server(self, self.port)
                self.port = server.server_address[1]
                threading.Thread(target=server.serve_forever, args=(POLL,), daemon=True).start()

    def stop(self) -> None:
        """Drop all connections and refuse new ones, keeping the port for `start`."""
        with self._switch:
            if self._server is not None:
                self._server.stop()
                self._server = None
                with suppress(OSError):
                    _hold(self.port)

    def on(self, resource: str, *faults: Fault, at_offset: int | None = None) -> None:
        """Act out each fault once, in this order, one per request (that asks for this offset)."""
        with self._lock:
            self._once += [(resource, at_offset, fault) for fault in faults]

    def always(self, resource: str, fault: Fault, *, at_offset: int | None = None) -> None:
        """Act out the fault on every request (that asks for this offset) until `heal`."""
        with self._lock:
            self._always.insert(0, (resource, at_offset, fault))

    def heal(self) -> None:
        """Forget all faults, also those not acted out yet."""
        with self._lock:
            self._once.clear()
            self._always.clear()

    def next_fault(self, asked: Request) -> Fault | None:
        """Take the fault that is due for this request."""
        offset = None
        with suppress(ValueError):
            offset, _ = self._place(asked.query)
        with self._lock:
            for entry in (*self._once, *self._always):
                resource, at_offset, act = entry
                if resource == asked.resource and at_offset in (None, offset):
                    if entry in self._once:
                        self._once.remove(entry)
                    return act
        return None

    def honest(self, asked: Request) -> tuple[int, Json]:
        """Status and payload that this request deserves."""
        if not self._admits(asked):
            return 401, {"error": "invalid key"}
        if not asked.path.startswith(PREFIX) or asked.resource not in self.rows:
            return 404, {"error": "unknown resource"}
        try:
            (start, size), rows = self._place(asked.query), self._offered(asked)
        except ValueError:
            return 400, {"error": "invalid parameter"}
        start = 0 if self.ignore_offset else start
        payload: dict[str, Json] = {"data": rows[start : start + size]}
        if callable(self.total):
            payload["total"] = self.total(rows, start)
        elif self.total != "absent":
            payload["total"] = len(rows) if self.total == "honest" else self.total
        return 200, payload | self._onward(asked, start + size, len(rows))

    def _admits(self, asked: Request) -> bool:
        if self.auth == "query":
            return asked.query.get(self.name) == self.key
        if self.auth == "header":
            return asked.headers.get(self.name.lower()) == self.key
        basic = base64.b64encode(f"{self.name}:{self.key}".encode()).decode()
        expected = f"Bearer {self.key}" if self.auth == "bearer" else f"Basic {basic}"
        return asked.headers.get("authorization") == expected

    def _place(self, query: Mapping[str, str]) -> tuple[int, int]:
        size = int(query.get("page_size", query.get("limit", PAGE_SIZE)))
        size = min(size, self.page_cap or size)
        if self.cursors and "cursor" in query:
            start = int(base64.urlsafe_b64decode(query["cursor"]).removeprefix(b"at:"))
        elif "page" in query:
            start = (int(query["page"]) - 1) * size
        else:
            start = int(query.get("offset", 0))
        if start < 0 or size < 1:
            raise ValueError(query)
        return start, size

    def _offered(self, asked: Request) -> list[Json]:
        rows, since = list(self.rows[asked.resource]), asked.query.get("updated_since")
        if self.filter_field is None or since is None:
            return rows
        bound = _moment(since)
        return [row for row in rows if _reaches(row.get(self.filter_field), bound)]

    def _onward(self, asked: Request, end: int, count: int) -> dict[str, str | None]:
        query = {k: v for k, v in asked.query.items() if (self.auth, self.name) != ("query", k)}
        cursor = base64.urlsafe_b64encode(b"at:%d" % end).decode()
        if self.cursors:
            query["cursor"] = cursor
        elif "page" in query:
            query["page"] = str(int(query["page"]) + 1)
        else:
            query["offset"] = str(end)
        link = f"{self.base_url}{asked.path}?{urlencode(query)}"
        offered = {"next_cursor": (self.cursors, cursor), "next": (self.links, link)}
        return {k: v if end < count else None for k, (wanted, v) in offered.items() if wanted}


def _moment(value: Json) -> float:
    with suppress(ValueError):
        return float(value)
    moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def _reaches(value: Json, bound: float) -> bool:
    try:
        return _moment(value) >= bound
    except (TypeError, ValueError):
        return True  # in doubt the row is offered


_held: dict[int, int] = {}  # port: descriptor bound but not listening, so refused and ours alone


def unused_port() -> int:
    """Find a port that refuses connections and that nobody else gets while this process lives."""
    return _hold()


def _hold(port: int = 0) -> int:
    with socket.socket() as sock:
        if port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST, port))
        port = sock.getsockname()[1]
        _held[port] = sock.detach()
    return port


def _release(port: int) -> None:
    if port in _held:
        socket.close(_held.pop(port))


class _Server(socketserver.ThreadingTCPServer):
    request_queue_size = 128

    def __init__(self, api: FakeApi, port: int) -> None:
        self.api, self.closing = api, threading.Event()
        self.open: dict[socket.socket, threading.Thread] = {}
        self.allow_reuse_address = port != 0
        super().__init__((HOST, port), Exchange)

    def server_bind(self) -> None:
        super().server_bind()
        # once bound, so that connections left behind do not keep the port from `start`
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.api.connections += 1
        work = (request, client_address)
        thread = threading.Thread(target=self.process_request_thread, args=work, daemon=True)
        self.open[request] = thread
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self.open.pop(request, None)

    def handle_error(self, *_: object) -> None:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError):
            self.api.errors.append(error)

    def stop(self) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()
        left, deadline = self.open.copy(), time.monotonic() + FAREWELL
        for sock in left:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in left.values():
            if thread is not threading.current_thread():
                thread.join(max(0, deadline - time.monotonic()))


class Exchange(BaseHTTPRequestHandler):
    """One request and the ways to answer it."""

    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Record the request, then act out the fault that is due or answer honestly."""
        url, self.api = urlsplit(self.path), self.server.api
        self.asked = Request(
            resource=url.path.removeprefix(PREFIX),
            path=url.path,
            query=dict(parse_qsl(url.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in self.headers.items()},
            at=time.monotonic(),
        )
        self.api.requests.append(self.asked)
        act = self.api.next_fault(self.asked) or delay(0)
        act(self)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def wait(self, seconds: float) -> None:
        """Sleep, but give the exchange up as soon as the server closes."""
        if self.server.closing.wait(seconds):
            raise ConnectionAbortedError

    def head(self, code: int, fields: Mapping[str, object]) -> bytes:
        """Build status line and headers; about JSON unless they say otherwise."""
        fields = {"date": self.date_time_string(), "content-type": "application/json", **fields}
        lines = [f"HTTP/1.1 {code} {responses.get(code, '')}"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def honest(self, framing: Mapping[str, str] | None = None) -> tuple[bytes, bytes]:
        """Head and body of the answer that this request deserves, framed by length or like this."""
        code, payload = self.api.honest(self.asked)
        body = _encode(payload)
        return self.head(code, framing or {"content-length": len(body)}), body

    def reply(self, code: int, body: bytes, fields: Mapping[str, str] | None = None) -> None:
        """Send a well-formed answer."""
        body = b"" if code in (204, 304) else body
        self.wfile.write(self.head(code, {"content-length": len(body), **(fields or {})}) + body)

    def leave(self, sent: bytes = b"") -> None:
        """Send just this and close in good order."""
        self.wfile.write(sent)
        self.close_connection = True


def _encode(payload: Json) -> bytes:
    return json.dumps(payload, default=str).encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def fault(act: Callable[Concatenate[Exchange, P], None]) -> Callable[P, Fault]:
    """Make a factory of faults out of a function that acts on an exchange."""

    @functools.wraps(act)
    def make(*args: P.args, **kwargs: P.kwargs) -> Fault:
        return lambda exchange: act(exchange, *args, **kwargs)

    return make


@fault
def status(
    exchange: Exchange,
    code: int,
    retry_after: str | float | None = None,
    body: bytes = b'{"error": "refused by the script"}',
    headers: Mapping[str, str] | None = None,
) -> None:
    """Answer with this status."""
    extra = {} if retry_after is None else {"retry-after": str(retry_after)}
    exchange.reply(code, body, {**extra, **(headers or {})})


@fault
def raw(
    exchange: Exchange,
    body: bytes,
    content_type: str = "application/json",
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Answer with exactly these bytes as the body."""
    exchange.reply(status, body, {"content-type": content_type, **(headers or {})})


@fault
def answer(exchange: Exchange, payload: Json) -> None:
    """Answer 200 with this payload instead of the honest one."""
    exchange.reply(200, _encode(payload))


@fault
def change(exchange: Exchange, edit: Callable[[Json], Json]) -> None:
    """Answer with the honest payload after this edit; an honest error stays as it is."""
    code, payload = exchange.api.honest(exchange.asked)
    exchange.reply(code, _encode(edit(payload) if code == HTTPStatus.OK else payload))


@fault
def redirect(
    exchange: Exchange, location: str, status: int = 302, *, keep_query: bool = False
) -> None:
    """Send the client elsewhere, with the query and the key in it if that is to be kept."""
    query = f"?{urlsplit(exchange.path).query}" if keep_query else ""
    exchange.reply(status, b"", {"location": location + query})


@fault
def echo_key(exchange: Exchange) -> None:
    """Answer 500 with the full URL as it was asked, and with the key in plain text."""
    api = exchange.api
    error = f"cannot serve {api.base_url}{exchange.path} for {api.key}"
    exchange.reply(500, _encode({"error": error}))


@fault
def gzip_garbage(exchange: Exchange) -> None:
    """Claim that the body is compressed, and send something else."""
    exchange.reply(200, b"this was never compressed", {"content-encoding": "gzip"})


@fault
def delay(exchange: Exchange, seconds: float) -> None:
    """Wait, then answer honestly."""
    exchange.wait(seconds)
    exchange.wfile.write(b"".join(exchange.honest()))


@fault
def answer_after(exchange: Exchange, act: Callable[[], object]) -> None:
    """Let something happen, then answer honestly."""
    act()
    exchange.wfile.write(b"".join(exchange.honest()))


@fault
def hang(exchange: Exchange, seconds: float = 60) -> None:
    """Never answer, and close after so many seconds."""
    exchange.wait(seconds)
    exchange.leave()


@fault
def close(exchange: Exchange) -> None:
    """Close the connection in good order before any answer."""
    exchange.leave()


@fault
def reset(exchange: Exchange) -> None:
    """Reset the connection before any answer."""
    no_linger = struct.pack("ii", 1, 0)
    exchange.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
    socket.close(exchange.connection.detach())  # the server's own way would say FIN first
    exchange.close_connection = True


@fault
def cut(exchange: Exchange, after: int = 10) -> None:
    """Promise the full body, close after so many bytes of it."""
    head, body = exchange.honest()
    exchange.leave(head + body[:-1][:after])


@fault
def cut_chunked(exchange: Exchange) -> None:
    """Send the body as one chunk, close without the final chunk."""
    head, body = exchange.honest({"transfer-encoding": "chunked"})
    exchange.leave(head + _chunk(body))


@fault
def cut_without_length(exchange: Exchange) -> None:
    """Promise no length, close in the middle of the JSON."""
    head, body = exchange.honest({"connection": "close"})
    exchange.leave(head + body[: len(body) // 2])


@fault
def drip(exchange: Exchange, interval: float = 0.2, *, headers: bool = False) -> None:
    """Answer honestly, but with one byte of the body (or of the header block) per interval."""
    head, body = exchange.honest()
    at_once, slowly, rest = (b"", head, body) if headers else (head, body, b"")
    exchange.wfile.write(at_once)
    for byte in slowly:
        exchange.wait(interval)
        exchange.wfile.write(bytes([byte]))
    exchange.wfile.write(rest)


@fault
def endless(exchange: Exchange, chunk: int = 65536, megabytes: int = 2048) -> None:
    """Answer honestly, but after so many megabytes of blanks, which JSON allows."""
    head, body = exchange.honest({"transfer-encoding": "chunked"})
    exchange.wfile.write(head)
    for _ in range(megabytes * 2**20 // chunk):
        exchange.wfile.write(_chunk(b" " * chunk))
    exchange.wfile.write(_chunk(body) + b"0\r\n\r\n")
