"""Where an API is, and that no link or redirect leads the key elsewhere. Nothing else here."""

from __future__ import annotations

from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from analytics_dagster.authentication import Authentication
from analytics_dagster.errors import RedirectError


class Origin:
    """The scheme, host and port of the base URL: the only ones that the key is sent to."""

    def __init__(self, base_url: str, authentication: Authentication) -> None:
        self._base = urlsplit(base_url)
        self._authentication = authentication

    def url(self, base: str, location: str, shown: str) -> str:
        """The absolute location, without the key that the API may have put into it.

        Raises:
            RedirectError: the location is on another host, port or scheme, or no URL.
        """
        led = "what is no URL"
        try:
            target = urlsplit(urljoin(base, location))
            # Redacted as a whole: a key with a slash in it would be cut in two.
            told = urlsplit(urljoin(base, self._authentication.redactor.text(location)))
            led = f"{told.scheme}://{told.netloc.rpartition('@')[2]}"
            is_same = _parts(target) == _parts(self._base)
        except ValueError:
            is_same = False
        if not is_same:
            raise RedirectError(
                f"{shown}: the API leads to {led}; the key is not sent to "
                "another host. Set ANALYTICS_API_BASE_URL to the host that is meant."
            )
        query = self._authentication.stripped(target.query)
        return urlunsplit((target.scheme, self._base.netloc, target.path, query, ""))


def _parts(url: SplitResult) -> tuple[str, str | None, int | None]:
    return url.scheme, url.hostname, url.port or {"http": 80, "https": 443}.get(url.scheme)
