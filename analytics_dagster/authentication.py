"""How the key is sent to the API, and what of it must never show. Nothing else belongs here."""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import parse_qsl, urlencode

from analytics_dagster.api_spec import ApiKeyAuth, BearerAuth, Client
from analytics_dagster.redaction import MASK, Redactor


class Authentication:
    """The key in the place where the API wants it.

    Attributes:
        params: what is added to the query of a request, last of all.
        query: the same, encoded.
        headers: what is added to its headers.
        redactor: masks the key in every spelling, encoded credentials included.
    """

    def __init__(self, client: Client, api_key: str) -> None:
        auth, credentials = client.auth, ""
        self.params: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        if isinstance(auth, ApiKeyAuth):
            place = self.params if auth.location == "query" else self.headers
            place[auth.name] = api_key
        elif isinstance(auth, BearerAuth):
            self.headers["Authorization"] = f"Bearer {api_key}"
        else:
            credentials = b64encode(f"{auth.username}:{api_key}".encode()).decode()
            self.headers["Authorization"] = f"Basic {credentials}"
        self.query = urlencode(self.params)
        self.redactor = Redactor(api_key, credentials)
        self._hidden = (api_key, MASK)

    def stripped(self, query: str) -> str:
        """The query without the key: an API may repeat it in a link to the next page."""
        pairs = parse_qsl(query, keep_blank_values=True)
        return urlencode([p for p in pairs if p[0] not in self.params and p[1] not in self._hidden])
