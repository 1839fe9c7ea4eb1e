"""The demo API behind a real socket on the loopback interface, in a thread of this process."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvicorn
from starlette.types import ASGIApp

from analytics_dagster.sandbox.app import Clock, create_app, utc_now
from analytics_dagster.sandbox.people import DEFAULT_SEED

HOST = "127.0.0.1"
DEMO_KEY = "sandbox-key"
PATIENCE = 10.0  # seconds to start, and again to stop
LAST_PORT = 65535


@dataclass(frozen=True)
class Sandbox:
    """A running demo API: where it answers, and to which key."""

    base_url: str
    api_key: str = field(repr=False)


@contextmanager
def serve(
    port: int = 0, *, api_key: str = DEMO_KEY, seed: int = DEFAULT_SEED, now: Clock = utc_now
) -> Iterator[Sandbox]:
    """Run the demo API on a port of 127.0.0.1 (0: any free one) until the block ends.

    Raises OSError where the port cannot be had, ValueError where it is no port.
    """
    with running(create_app(api_key, seed=seed, now=now), port) as base_url:
        yield Sandbox(base_url, api_key)


@contextmanager
def running(app: ASGIApp, port: int = 0) -> Iterator[str]:
    """Run any ASGI application in the same way; gives its base URL."""
    with _listening(port) as listener:
        port = listener.getsockname()[1]
        config = uvicorn.Config(
            app,
            lifespan="off",
            loop="asyncio",  # older versions would make uvloop the policy of the whole process
            ws="none",
            log_config=None,  # the logging of this process is not ours to set up
            log_level="warning",
            access_log=False,  # its lines would show the key
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            _wait_until_started(server, thread)
            yield f"http://{HOST}:{port}"
        finally:
            server.should_exit = True
            thread.join(PATIENCE)


@contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    """A loopback socket that already takes connections, so that nobody else can get the port."""
    if not 0 <= port <= LAST_PORT:
        raise ValueError(f"port must be 0 (any free one) to {LAST_PORT}, not {port}")
    with socket.socket() as listener:
        if os.name == "posix":  # elsewhere this option lets two programs share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            listener.listen()
        except OSError as error:
            problem = f"cannot listen on {HOST} port {port}: {error.strerror}; choose another"
            raise OSError(error.errno, problem) from None
        yield listener


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + PATIENCE
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise RuntimeError(f"the sandbox did not start within {PATIENCE:.0f} s")
        time.sleep(0.002)
