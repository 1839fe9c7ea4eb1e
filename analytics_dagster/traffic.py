"""What was sent to an API, and how long that had to wait."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any


@dataclass
class Traffic:
    """What was sent so far, and the seconds in which a reader waited to send.

    It waits before a retry, while the API asks for that, and for the budget of requests. `clock` is
    the `time` module, or what stands in for it.
    """

    requests: int = 0
    retries: int = 0
    seconds_waited: float = 0.0
    clock: Any = field(default=time, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)
    _waiting: int = 0
    _since: float = 0.0

    def add(self, *, requests: int = 0, retries: int = 0) -> None:
        """Counts more; readers count at the same time."""
        with self._lock:
            self.requests += requests
            self.retries += retries

    @contextmanager
    def wait(self) -> Iterator[None]:
        """Counts the seconds of the block, once when readers wait at the same time."""
        with self._lock:
            self._waiting += 1
            if self._waiting == 1:
                self._since = self.clock.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1
                if not self._waiting:
                    self.seconds_waited += self.clock.monotonic() - self._since

    def told(self) -> str:
        """The retries and waits in words, if there were any."""
        if not self.retries and self.seconds_waited < 1:
            return ""
        return f"; {self.retries} retries, {self.seconds_waited:.0f} s waited"
