"""The config resource for the API: where it is, and the key. Resolved when a run starts.

The key is no field on purpose: Dagster keeps run config, and shows it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import dagster as dg
import dlt
from pydantic import Field, PrivateAttr

from analytics_dagster.api_spec import Client
from analytics_dagster.connections import TimeLimits
from analytics_dagster.errors import MissingApiKeyError, SettingError
from analytics_dagster.gate import Gate
from analytics_dagster.redaction import Redactor
from analytics_dagster.transport import Transport

BASE_URL_VARIABLE = "ANALYTICS_API_BASE_URL"
KEY_VARIABLE = "ANALYTICS_API_KEY"
BUDGET_VARIABLE = "ANALYTICS_REQUESTS_PER_MINUTE"
SHORTEST_KEY = 8
"""A shorter key may stand in a URL or a row by chance."""

SANDBOX_NOTICE = (
    f"{BASE_URL_VARIABLE} is not set: loading MADE-UP data from the bundled sandbox API. "
    f"Set {BASE_URL_VARIABLE} and {KEY_VARIABLE} to load your own."
)


class AnalyticsApi(dg.ConfigurableResource["AnalyticsApi"]):
    """The API to load. Without a base URL it is the bundled sandbox, and the run says so."""

    base_url: str = Field(
        default="",
        description=f"Where the API is. Empty: {BASE_URL_VARIABLE}, and when that is unset the "
        "bundled sandbox.",
    )
    readers: int = Field(
        default=8,
        ge=1,
        le=64,
        description="Requests at the same time, at most; fewer after the API asked to wait.",
    )
    requests_per_minute: int = Field(
        default=0,
        ge=0,
        description="Requests of a run within any 60 seconds, at most. 0: "
        f"{BUDGET_VARIABLE}, and when that is unset no limit.",
    )
    retries: int = Field(
        default=3, ge=0, le=10, description="Retries of a request, after waits of 2, 4, 8, … s."
    )
    connect_timeout: float = Field(
        default=10, gt=0, description="Seconds until a connection to the API must stand."
    )
    read_timeout: float = Field(
        default=30, gt=0, description="Seconds that the API may send nothing."
    )
    total_timeout: float = Field(
        default=120, gt=0, description="Seconds that one request may take as a whole."
    )

    resource_timeout: float = Field(
        default=18_000,
        gt=0,
        description="Seconds that reading one resource may take, retries and waits included.",
    )

    _location: str = PrivateAttr(default="")
    _key: str = PrivateAttr(default="")
    _gate: Gate = PrivateAttr(default_factory=Gate)

    @property
    def is_sandbox(self) -> bool:
        """Whether the rows are made up: neither a base URL nor a key is set."""
        return self.location() is None and find_api_key() is None

    def location(self) -> str | None:
        """The base URL as it is set, or None."""
        return self.base_url or os.environ.get(BASE_URL_VARIABLE)

    def shown_location(self) -> str:
        """The base URL as a message may show it, also when there is a key in the wrong place."""
        location = self.location() or ""
        return _shown(location) if "://" in location else "…"

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[AnalyticsApi]:
        """Finds the API and the key, or starts the sandbox for the time of the run.

        Raises:
            SettingError: the base URL is no URL, there is a key and no base URL, or the budget is
                no number.
            MissingApiKeyError: there is a base URL and no key, or the two are mixed up.
        """
        self._gate = Gate(self.requests_per_minute or _budget(), self.readers)
        if self.is_sandbox:
            from analytics_dagster.sandbox.server import serve

            if context.log:
                context.log.warning(SANDBOX_NOTICE)
            with serve() as sandbox:
                self._location, self._key = sandbox.base_url, sandbox.api_key
                yield self
            return
        self._key = _checked_key(find_api_key())
        _check_places(self.location(), self._key)
        self._location = _checked_url(self.location())
        yield self

    @contextmanager
    def connect(self, client: Client, *, in_a_hurry: bool = False) -> Iterator[Transport]:
        """The way to the API, open while the block runs; in a hurry nothing is tried again."""
        limits = TimeLimits(
            self.connect_timeout, self.read_timeout, self.total_timeout, self.resource_timeout
        )
        retries = self.retries
        if in_a_hurry:
            limits, retries = TimeLimits(connect=3, read=5, total=8, resource=8), 0
        transport = Transport(
            self._location,
            client,
            self._key,
            retries=retries,
            limits=limits,
            readers=self.readers,
            gate=self._gate,
        )
        with transport.open():
            yield transport


def find_api_key() -> str | None:
    """The key from the environment, else from dlt's secrets; None when neither has one."""
    key = os.environ.get(KEY_VARIABLE)
    return key if key is not None else dlt.secrets.get("api_key")


def _budget() -> int:
    budget = os.environ.get(BUDGET_VARIABLE, "0")
    if not re.fullmatch(r"\d{1,6}", budget, re.ASCII):
        raise SettingError(
            f"{BUDGET_VARIABLE}={budget!r} is no number of requests. Set it to one like 600, or "
            "unset it for no limit."
        )
    return int(budget)


def _checked_key(key: str | None) -> str:
    if key is None:
        raise MissingApiKeyError(
            f"No API key: set {KEY_VARIABLE}, or api_key in .dlt/secrets.toml of the folder where "
            f"the run starts, to the key of the API in {BASE_URL_VARIABLE}."
        )
    if not isinstance(key, str):
        raise MissingApiKeyError(
            f"api_key in .dlt/secrets.toml is of type {type(key).__name__}: put it in quotes."
        )
    if not key.strip() or key != key.strip() or not key.isprintable():
        raise MissingApiKeyError(
            f"{KEY_VARIABLE} is blank, or has blanks or control characters around or in it. Set "
            "it to the key as the API's owner gave it; or unset it, to use api_key in "
            ".dlt/secrets.toml."
        )
    if len(key) < SHORTEST_KEY:
        raise MissingApiKeyError(
            f"{KEY_VARIABLE}, or api_key in .dlt/secrets.toml, has {len(key)} characters. So short "
            "a key is in rows by chance, and to hide it would change them. Set it to the key as "
            f"the API's owner gave it, or have the owner make one of {SHORTEST_KEY} at least."
        )
    return key


def _check_places(location: str | None, key: str) -> None:
    """A key in the place of the URL, or in it, would be shown as a bad URL or a host."""
    if location and Redactor(key).text(location) != location:
        raise SettingError(
            f"{BASE_URL_VARIABLE} holds the key. Set it to the URL of the API alone, for example "
            f"https://api.example.com, and {KEY_VARIABLE} to the key."
        )
    if "://" not in (location or "") and key.startswith(("http://", "https://")):
        raise MissingApiKeyError(
            f"{KEY_VARIABLE} holds a URL, and {BASE_URL_VARIABLE} none: they are mixed up. Set "
            f"{BASE_URL_VARIABLE} to the URL of the API, and {KEY_VARIABLE} to the key."
        )


def _checked_url(location: str | None) -> str:
    if location is None:
        raise SettingError(
            f"There is an API key and no {BASE_URL_VARIABLE}. Set it to where the API is, for "
            "example https://api.example.com; or unset the key to load the sandbox."
        )
    try:
        url = urlsplit(location)
        usable = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:
        usable = False
    if not usable or url.query or url.fragment or url.username or " " in location:
        raise SettingError(
            f"{BASE_URL_VARIABLE}={_shown(location)!r} is no base URL. Set it to scheme, host "
            "and perhaps a path, without user, blanks or query: https://api.example.com."
        )
    return location


def _shown(location: str) -> str:
    """A URL that is wrong may hold a key in the wrong place: only its beginning is shown."""
    key = find_api_key()
    location = Redactor(key if isinstance(key, str) else "").text(location)
    return "…" if "@" in location else re.split("[?#]", location)[0][:100]
