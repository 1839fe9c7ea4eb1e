"""Requests that failed are made again, after a wait, within the time that a resource has."""

from __future__ import annotations

import random
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar

import tenacity

from analytics_dagster.errors import ApiError, StatusError, TimeLimitError
from analytics_dagster.gate import Gate
from analytics_dagster.progress import LOGGER
from analytics_dagster.redaction import Redactor
from analytics_dagster.traffic import Traffic

BACKOFF_FACTOR = 2
JITTER = 0.1

T = TypeVar("T")


class TimeLeft:
    """The time that reading a resource may still take; times are in seconds.

    Args:
        limit: so long it may take from now, waits included.
        clock: the `time` module, or what stands in for it.
    """

    def __init__(self, limit: float, clock: Any) -> None:
        self._limit = limit
        self._clock = clock
        self.ends_at: float = clock.monotonic() + limit

    def end(self) -> None:
        """From now on nobody waits for anything."""
        self.ends_at = 0

    def seconds(self) -> float:
        """How much is left; less than 0 when it is over."""
        return self.ends_at - float(self._clock.monotonic())

    def sleep(self, seconds: float) -> None:
        """Waits, but not longer than there is time."""
        until = self._clock.monotonic() + seconds
        while (left := min(until, self.ends_at) - self._clock.monotonic()) > 0:
            self._clock.sleep(min(left, 1))

    def check(self, problem: str, needed: float = 0) -> None:
        """Looks whether there is time for what takes the seconds `needed`.

        Raises:
            TimeLimitError: there is not; it begins with the `problem` that takes the time.
        """
        if needed >= self.seconds():
            wait = f", and another attempt may be made in {needed:.0f} s" if needed else ""
            error = TimeLimitError(
                f"{problem}{wait}: reading the resource takes longer than "
                f"{self._limit:g} s, waits included. Set resource_timeout of "
                "analytics_api higher, or ask the API's owner why it is slow."
            )
            error.transient = False
            raise error


class Retrying:
    """Makes a request up to `retries` times again, where its error is transient.

    It waits 2, 4, 8, … seconds and some jitter, or as long as the API asks, and then holds the
    `gate` closed for all requests.
    """

    def __init__(
        self,
        retries: int,
        *,
        time_left: TimeLeft,
        traffic: Traffic,
        gate: Gate,
        redactor: Redactor,
    ) -> None:
        self._retries = retries
        self._time_left = time_left
        self._traffic = traffic
        self._gate = gate
        self._redactor = redactor
        self._attempts = tenacity.Retrying(
            stop=lambda state: state.attempt_number > self._retries,
            wait=_wait,
            retry=tenacity.retry_if_exception(lambda error: getattr(error, "transient", False)),
            before_sleep=self._before_sleep,
            sleep=self._sleep,
            reraise=True,
        )

    def __call__(self, request: Callable[[], T]) -> T:
        """The request's answer.

        Raises:
            ApiError: that of the last attempt.
        """
        try:
            return self._attempts(request)
        except ApiError as error:
            if error.transient and self._retries > 0:
                error.args = (f"{error} It was tried {self._retries + 1} times.",)
            raise

    def _before_sleep(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        problem = str(error).partition(". ")[0].rstrip(".")
        self._time_left.check(problem, state.upcoming_sleep)
        self._traffic.add(retries=1)
        if isinstance(error, StatusError) and _asks_to_wait(error):
            self._gate.close_for(state.upcoming_sleep)
        LOGGER.warning(
            "%s. Trying again in %.1f s, for the %d. of %d times.",
            self._redactor.text(problem),
            state.upcoming_sleep,
            state.attempt_number,
            self._retries,
        )

    def _sleep(self, seconds: float) -> None:
        with self._traffic.wait():
            self._time_left.sleep(seconds)


def _asks_to_wait(error: StatusError) -> bool:
    """Whether the API wants no request for a while, from any reader."""
    too_many = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
    return error.retry_after is not None or error.status in too_many


def _wait(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked: float | None = getattr(error, "retry_after", None)
    backoff = BACKOFF_FACTOR**state.attempt_number * random.uniform(1, 1 + JITTER)  # noqa: S311
    return backoff if asked is None else asked
