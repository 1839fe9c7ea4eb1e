"""When the next request to an API may be sent, for all readers of it together."""

from __future__ import annotations

import time
from collections import deque
from threading import Lock
from typing import Any

MINUTE = 60.0


class Gate:
    """Lets requests through: within a budget, and not while the API asks to wait.

    Args:
        per_minute: requests within any 60 seconds; 0 for as many as there are.
        clock: the `time` module, or what stands in for it.
    """

    def __init__(self, per_minute: int = 0, clock: Any = time) -> None:
        self._clock = clock
        self._lock = Lock()
        self._opens_at = 0.0
        self._sent: deque[float] = deque(maxlen=per_minute)

    def close_for(self, seconds: float) -> None:
        """Lets nobody through for so long, from now on."""
        with self._lock:
            self._opens_at = max(self._opens_at, self._clock.monotonic() + seconds)

    def pass_through(self, give_up_at: float) -> float:
        """Waits for its turn, but not beyond a moment; returns the seconds waited."""
        began = self._clock.monotonic()
        turn = self._turn(began)
        while (now := self._clock.monotonic()) < min(max(turn, self._opens_at), give_up_at):
            self._clock.sleep(min(max(turn, self._opens_at), give_up_at) - now)
        waited: float = now - began
        return waited

    def _turn(self, now: float) -> float:
        """Takes the next place within the budget."""
        with self._lock:
            is_full = len(self._sent) == self._sent.maxlen != 0
            turn = max(now, self._sent[0] + MINUTE) if is_full else now
            self._sent.append(turn)
            return turn
