"""One API over HTTP: redirects, time limits, and a key that never shows.

Every request of this package goes through `Transport.get`. What belongs here is what HTTP
knows; what a page of rows looks like is decided in `pages`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import urllib3

from analytics_dagster.api_spec import Client
from analytics_dagster.authentication import Authentication
from analytics_dagster.connections import Deadlines, TimeLimits, connection_pool
from analytics_dagster.errors import (
    ApiError,
    MalformedBodyError,
    OversizedBodyError,
    RedirectError,
)
from analytics_dagster.failures import bad_status, broken_exchange
from analytics_dagster.gate import Gate
from analytics_dagster.origin import Origin
from analytics_dagster.redaction import URLLIB3_LOGGERS, redacted_logs
from analytics_dagster.retrying import Retrying, TimeLeft
from analytics_dagster.traffic import Traffic

MAX_BODY_BYTES = 256 * 1024 * 1024
MAX_REDIRECTS = 5

T = TypeVar("T")


@dataclass(frozen=True)
class Answer:
    """A whole answer; its body is decoded, and redacted before `parse` sees it."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """The way to one API.

    The key is added to a request last of all, so no URL in a message can hold it.

    Args:
        base_url: where the API is; every path is below it.
        client: how the key is sent, and headers for every request.
        api_key: the secret.
        retries: attempts after the first; they wait 2, 4, 8, … seconds and some jitter.
        limits: the time limits; that for a resource counts from now.
        readers: so many requests may be under way at the same time.
        gate: when a request may be sent; shared by all transports to the API.
        clock: the `time` module, or what stands in for it.
    """

    def __init__(  # noqa: PLR0913  four of them have defaults
        self,
        base_url: str,
        client: Client,
        api_key: str,
        *,
        retries: int = 3,
        limits: TimeLimits | None = None,
        readers: int = 1,
        gate: Gate | None = None,
        clock: Any = time,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.traffic = Traffic(clock=clock)
        self._authentication = Authentication(client, api_key)
        self.redactor = self._authentication.redactor
        self._headers = client.headers
        self._limits = limits or TimeLimits()
        self._clock = clock
        self._time_left = TimeLeft(self._limits.resource, clock)
        self.readers = readers
        self._origin = Origin(self.base_url, self._authentication)
        self._pool = connection_pool(self.base_url, self._limits, readers)
        self._deadlines = Deadlines()
        self._gate = gate or Gate(at_once=readers, clock=clock)
        self._retrying = Retrying(
            retries,
            time_left=self._time_left,
            traffic=self.traffic,
            gate=self._gate,
            redactor=self.redactor,
        )

    @contextmanager
    def open(self) -> Iterator[Transport]:
        """Within the block urllib3's log is redacted; at its end the connections are closed."""
        with redacted_logs(self.redactor, *URLLIB3_LOGGERS):
            with self._deadlines:
                try:
                    yield self
                finally:
                    # Readers whose page nobody waits for any more try and wait for nothing.
                    self._time_left.end()
            self._pool.clear()

    def get(
        self,
        url: str,
        params: Mapping[str, Any],
        parse: Callable[[Answer], T],
        headers: Mapping[str, str] | None = None,
    ) -> T:
        """What `parse` makes of the answer to a GET: a 200, or a 304 where `headers` ask for it.

        `url` is absolute or a path below the base URL. When `parse` raises
        `MalformedBodyError` the request is sent again, as after a broken connection.

        Raises:
            ApiError: after the last retry, or at once where a retry cannot help.
        """
        query = urlencode(params)
        try:
            target = self._origin.url(self.base_url, self._absolute(url), shown=self.base_url)
            # A link of the API may hold a row: in messages only our own parameters are shown.
            shown = _with_query(target.partition("?")[0], query)
            target = _with_query(target, query)
            return self._retrying(lambda: self._attempt(target, shown, parse, headers or {}))
        except ApiError as error:
            error.args = (self.redactor.text(str(error)),)
            raise

    def _absolute(self, url: str) -> str:
        return url if urlsplit(url).scheme else f"{self.base_url}/{url.lstrip('/')}"

    def _attempt(
        self, url: str, shown: str, parse: Callable[[Answer], T], headers: Mapping[str, str]
    ) -> T:
        asked = shown
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._exchange(url, shown, headers)
            if answer.status not in (301, 302, 303, 307, 308):
                break
            url = self._origin.url(url, answer.headers.get("location", ""), shown)
            shown = f"{asked}, redirected"
        else:
            raise RedirectError(f"{asked}: more than {MAX_REDIRECTS} redirects, one after another")
        is_unchanged = answer.status == HTTPStatus.NOT_MODIFIED and "If-None-Match" in headers
        if answer.status != HTTPStatus.OK and not is_unchanged:
            raise bad_status(shown, answer.status, answer.headers, self._clock.time())
        try:
            return parse(self._redacted(answer))
        except MalformedBodyError as error:
            problem = str(error)
        raise MalformedBodyError(f"{shown}: {problem}")

    def _exchange(self, url: str, shown: str, headers: Mapping[str, str]) -> Answer:
        with self.traffic.wait():
            self._gate.enter(lambda: self._time_left.ends_at)
        try:
            self._time_left.check(f"{shown}: its turn did not come")
            self.traffic.add(requests=1)
            return self._answered(url, shown, headers)
        finally:
            self._gate.leave()

    def _answered(self, url: str, shown: str, headers: Mapping[str, str]) -> Answer:
        failure: Exception | None = None
        answer = None
        seconds = min(self._limits.total, self._time_left.seconds())
        with self._deadlines.exchange(seconds) as deadline:
            try:
                answer = self._request(url, shown, headers)
            except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                failure = error
        # An answer without a length ends where the deadline cut it: it looks whole, and is not.
        if answer is None or deadline.passed:
            self._time_left.check(f"{shown}: no whole answer")
            raise broken_exchange(shown, failure, self._limits, deadline_passed=deadline.passed)
        return answer

    def _request(self, url: str, shown: str, headers: Mapping[str, str]) -> Answer:
        response = self._pool.request(
            "GET",
            _with_query(url, self._authentication.query),
            headers={**self._headers, **headers, **self._authentication.headers},
            preload_content=False,
            redirect=False,
        )
        try:
            body = _read(response, shown) if response.status == HTTPStatus.OK else b""
            return Answer(response.status, response.headers, body)
        finally:
            response.close()

    def _redacted(self, answer: Answer) -> Answer:
        text = self.redactor.text
        headers = {name.lower(): text(value) for name, value in answer.headers.items()}
        return Answer(answer.status, headers, self.redactor.body(answer.body))


def _with_query(url: str, query: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{query}" if query else url


def _read(response: urllib3.BaseHTTPResponse, url: str) -> bytes:
    body = response.read(MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        raise OversizedBodyError(
            f"{url}: the body is larger than {MAX_BODY_BYTES} bytes. Ask for smaller pages: "
            "lower the paginator's limit in the REST API configuration."
        )
    return body
