"""The connection pool to one API, and the deadline that ends an exchange. Nothing else.

Socket time limits count from byte to byte, so an API that drips one byte at a time passes
them for ever. A `Deadline` shuts the socket down when the time is up, which wakes the reader
wherever it hangs: in the headers, in the body, or between chunks. While a connection is made
there may be no socket to shut down: it is left to itself.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

import certifi
import urllib3
from requests.utils import (
    get_auth_from_url,
    get_environ_proxies,
    select_proxy,
)
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError
from urllib3.util import make_headers

from analytics_dagster.errors import SettingError


@dataclass(frozen=True)
class TimeLimits:
    """Seconds until a connection stands, between two bytes, for a whole exchange, and for all
    exchanges and waits of a resource together.
    """

    connect: float = 10
    read: float = 30
    total: float = 120
    resource: float = 18_000


_TICK = 0.05
_this_thread = threading.local()


class Deadline:
    """When one exchange ends, answered or not; `passed` tells whether it had to be ended."""

    def __init__(self, seconds: float) -> None:
        self.passed = False
        self._ends = time.monotonic() + seconds
        self._socket: socket.socket | None = None

    def left(self) -> float:
        """Seconds until it passes."""
        return max(self._ends - time.monotonic(), 0)

    def watch(self, sock: socket.socket | None) -> None:
        """The socket to shut down; called by the connection when it awaits an answer."""
        self._socket = sock
        if self.passed:
            self.end()

    def end(self) -> None:
        """Ends the exchange."""
        self.passed = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


class Deadlines:
    """The deadlines of all exchanges that are under way, watched by one thread.

    It looks at them every 50 ms. When the block is left, exchanges that nobody waits for any
    more end as well.
    """

    def __init__(self) -> None:
        self._running: set[Deadline] = set()
        self._over = threading.Event()

    def __enter__(self) -> Deadlines:  # noqa: PYI034  Self is in typing from 3.11 only
        threading.Thread(target=self._watch, name="deadlines", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._end(lambda _: True)

    @contextlib.contextmanager
    def exchange(self, seconds: float) -> Iterator[Deadline]:
        """Within the block, this thread's exchange ends after `seconds`."""
        deadline = _this_thread.deadline = Deadline(seconds)
        self._running.add(deadline)
        if self._over.is_set():
            deadline.end()
        try:
            yield deadline
        finally:
            self._running.discard(deadline)
            deadline.watch(None)

    def _watch(self) -> None:
        while not self._over.wait(_TICK):
            self._end(lambda deadline: not deadline.left())

    def _end(self, is_due: Callable[[Deadline], bool]) -> None:
        for deadline in self._running.copy():
            if is_due(deadline):
                deadline.end()


class _Watched:
    """A connection that ends with the deadline of the thread that uses it."""

    sock: socket.socket | None

    def connect(self) -> None:
        """Connects in a thread of its own, and leaves that alone when the deadline passes.

        Nothing wakes one that waits for a name, and each address of a host has a time limit of
        its own, as a TLS handshake has. They are short, so the thread ends soon after.
        """
        connected: Future[None] = Future()
        threading.Thread(target=self._connect, args=(connected,), daemon=True).start()
        wait([connected], _this_thread.deadline.left())
        if connected.cancel():
            _this_thread.deadline.watch(self.sock)  # there is one when a proxy drips
            _this_thread.deadline.end()
            raise ConnectTimeoutError
        connected.result()

    def _connect(self, connected: Future[None]) -> None:
        error: Exception | None = None
        try:
            super().connect()  # type: ignore[misc]
        except Exception as failure:  # noqa: BLE001  the other thread raises it
            error = failure
        if not connected.set_running_or_notify_cancel():
            self.close()  # type: ignore[attr-defined]
        elif error is None:
            connected.set_result(None)
        else:
            connected.set_exception(error)

    def getresponse(self) -> Any:
        _this_thread.deadline.watch(self.sock)
        return super().getresponse()  # type: ignore[misc]


class _WatchedHTTPConnection(_Watched, HTTPConnection):
    pass


class _WatchedHTTPSConnection(_Watched, HTTPSConnection):
    pass


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _WatchedHTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _WatchedHTTPSConnection


def connection_pool(base_url: str, limits: TimeLimits, size: int = 1) -> urllib3.PoolManager:
    """A pool with these limits, through the proxy that the environment names for the host.

    It keeps `size` connections open. Certificates are those of certifi, or of
    REQUESTS_CA_BUNDLE or SSL_CERT_FILE.

    Raises:
        SettingError: the environment names a proxy that cannot be used.
    """
    settings: dict[str, Any] = {
        "timeout": urllib3.Timeout(connect=limits.connect, read=limits.read),
        "retries": False,
        "maxsize": size,
        "ca_certs": os.environ.get("REQUESTS_CA_BUNDLE")
        or os.environ.get("SSL_CERT_FILE")
        or certifi.where(),
    }
    proxy = select_proxy(base_url, get_environ_proxies(base_url))
    manager = _through(proxy, settings) if proxy else urllib3.PoolManager(**settings)
    manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}
    return manager


def _through(proxy: str, settings: dict[str, Any]) -> urllib3.PoolManager:
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    try:
        user, password = get_auth_from_url(proxy)
        login = f"{user}:{password}" if user else None
        headers = make_headers(proxy_basic_auth=login)
        return urllib3.ProxyManager(proxy, proxy_headers=headers, **settings)
    except (urllib3.exceptions.HTTPError, ValueError):
        pass  # what urllib3 says of it quotes parts of the password
    raise SettingError(
        "The proxy in HTTP_PROXY, HTTPS_PROXY or ALL_PROXY cannot be used. Set it to a URL like "
        "http://user:password@host:3128, with the special characters of user and password "
        "percent-encoded."
    )
