"""When the next request to an API may be sent, for all readers of it together."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition
from typing import Any

from analytics_dagster.progress import LOGGER, SECONDS_BETWEEN

# A request takes its time to arrive: by the clock of the API two may be closer than when sent.
MINUTE = 61.0


class Gate:
    """Lets requests through: within a budget, and not while the API asks to wait.

    After that, half as many requests as before may be under way at the same time; and one more
    whenever as many as that were answered, until all are allowed again.

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
        self._changed = Condition()
        self._told = 0.0

    @contextmanager
    def request(self, give_up_at: Callable[[], float]) -> Iterator[float]:
        """Waits for its turn, but not beyond a moment, and gives the seconds waited.

        The request is sent and answered within the block. The moment is asked for every second:
        whoever waits may be told that nobody needs the answer any more.
        """
        began = self._clock.monotonic()
        self._wait_for_place(give_up_at)
        try:
            self._wait_for_turn(self._turn(self._clock.monotonic()), give_up_at)
            yield self._clock.monotonic() - began
        finally:
            with self._changed:
                self._under_way -= 1
                if self._clock.monotonic() >= self._opens_at:
                    self._allowed = min(self._allowed + 1 / self._allowed, self._at_once)
                self._changed.notify_all()

    def close_for(self, seconds: float) -> None:
        """Lets nobody through for so long, from now on, and then fewer at the same time."""
        now = self._clock.monotonic()
        with self._changed:
            # What was under way together is told to wait together: that is one reason, not many.
            if now >= self._opens_at:
                self._allowed = max(self._allowed / 2, 1)
            self._opens_at = max(self._opens_at, now + seconds)

    def _wait_for_place(self, give_up_at: Callable[[], float]) -> None:
        with self._changed:
            while self._under_way + 1 > self._allowed and self._clock.monotonic() < give_up_at():
                self._changed.wait(1)
            self._under_way += 1

    def _wait_for_turn(self, turn: float, give_up_at: Callable[[], float]) -> None:
        while (left := self._seconds_until(min(max(turn, self._opens_at), give_up_at()))) > 0:
            self._clock.sleep(min(left, 1))

    def _seconds_until(self, moment: float) -> float:
        seconds: float = moment - self._clock.monotonic()
        return seconds

    def _turn(self, now: float) -> float:
        """Takes the next place within the budget."""
        with self._changed:
            is_full = len(self._sent) == self._sent.maxlen != 0
            turn = max(now, self._sent[0] + MINUTE) if is_full else now
            self._sent.append(turn)
            self._tell(turn - now)
            return turn

    def _tell(self, seconds: float) -> None:
        """Once a while, for all that wait."""
        now = self._clock.monotonic()
        if seconds >= SECONDS_BETWEEN and now >= self._told + SECONDS_BETWEEN:
            self._told = now
            budget = self._sent.maxlen
            LOGGER.info("%d requests in a minute were sent: waiting %.0f s.", budget, seconds)
