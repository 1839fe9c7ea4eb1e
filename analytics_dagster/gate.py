"""When the next request to an API may be sent, for all readers of it together."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Any

from analytics_dagster.progress import LOGGER, SECONDS_BETWEEN

# A request takes its time to arrive: by the clock of the API two may be closer than when sent.
MINUTE = 61.0
ANSWERS_BEFORE_MORE = 100
"""So many answers after each other before as many requests are tried again as were refused."""

_LOOK_AGAIN = 0.02


class Gate:
    """Lets requests through: within a budget, and not while the API asks to wait.

    After that a quarter of the requests may be under way at the same time. There are soon more,
    but hardly again as many as the API refused.

    Args:
        per_minute: requests within any 60 seconds; 0 for as many as there are.
        at_once: requests that may be under way at the same time.
        clock: the `time` module, or what stands in for it.
    """

    def __init__(self, per_minute: int = 0, at_once: int = 1, clock: Any = time) -> None:
        self._clock = clock
        self._opens_at = 0.0
        self._sent: deque[float] = deque(maxlen=per_minute)
        self._under_way = 0
        self._at_once = at_once
        self._allowed: float = at_once
        self._refused: float = at_once + 1
        self._lock = Lock()
        self._told = 0.0

    def enter(self, give_up_at: Callable[[], float]) -> None:
        """Waits until a request may be sent, but not beyond a moment; then `leave` has to follow.

        The moment is asked for every second: whoever waits may be told that nobody needs the
        answer any more.
        """
        while (seconds := self._seconds_to_wait()) > 0:
            until_then = give_up_at() - self._clock.monotonic()
            if until_then <= 0:
                with self._lock:
                    self._under_way += 1
                return
            self._clock.sleep(min(seconds, until_then, 1))

    def leave(self) -> None:
        """The request was answered, or not."""
        with self._lock:
            self._under_way -= 1
            if self._clock.monotonic() >= self._opens_at:
                is_known = int(self._allowed) + 1 < int(self._refused)
                more = 1 / self._allowed if is_known else 1 / ANSWERS_BEFORE_MORE
                self._allowed = min(self._allowed + more, self._at_once)

    def close_for(self, seconds: float) -> None:
        """Lets nobody through for so long, from now on, and then fewer at the same time."""
        now = self._clock.monotonic()
        with self._lock:
            # What was under way together is told to wait together: that is one reason, not many.
            if now >= self._opens_at:
                self._refused = self._allowed
                self._allowed = max(self._allowed / 4, 1)
            self._opens_at = max(self._opens_at, now + seconds)

    def _seconds_to_wait(self) -> float:
        """0 when it is the turn of this request, which then is one of those that were sent."""
        with self._lock:
            now: float = self._clock.monotonic()
            is_full = len(self._sent) == self._sent.maxlen != 0
            opens_at = max(self._opens_at, self._sent[0] + MINUTE if is_full else now)
            if opens_at > now:
                if is_full:
                    self._tell(now, opens_at)
                return opens_at - now
            if self._under_way + 1 > self._allowed:
                return _LOOK_AGAIN
            self._under_way += 1
            self._sent.append(now)
            return 0

    def _tell(self, now: float, opens_at: float) -> None:
        """Once for all that wait for about the same moment."""
        if min(opens_at - now, opens_at - self._told) >= SECONDS_BETWEEN:
            self._told = opens_at
            said = "%d requests in a minute were sent: waiting %.0f s."
            LOGGER.info(said, self._sent.maxlen, opens_at - now)
