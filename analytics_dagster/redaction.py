"""Secrets, replaced by their value wherever they could show. Nothing else belongs here.

By value and not by parameter name, because a name list never holds the next API's name for
it. Every spelling that HTTP gives a value is covered: as it is, and percent-encoded.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote, quote_plus

MASK = "***"


class Redactor:
    """Replaces every spelling of the given secrets in a text or a body by `***`."""

    def __init__(self, *secrets: str) -> None:
        spellings = sorted({s for secret in secrets for s in _spellings(secret)}, key=len)
        # The longest first: a spelling may begin with a shorter one.
        pattern = "|".join(re.escape(s) for s in reversed(spellings)) or r"(?!)"
        self._text = re.compile(pattern)
        self._bytes = re.compile(pattern.encode())

    def text(self, text: str) -> str:
        """The text without the secrets."""
        return self._text.sub(MASK, text)

    def body(self, body: bytes) -> bytes:
        """The body of an answer without the secrets: an API may repeat the key in a row."""
        return self._bytes.sub(MASK.encode(), body)


def _spellings(secret: str) -> set[str]:
    encoded = {quote(secret), quote(secret, safe=""), quote_plus(secret)}
    lower_case = {re.sub("%[0-9A-F]{2}", lambda hit: hit[0].lower(), text) for text in encoded}
    return {secret} | encoded | lower_case


class _RedactingFilter(logging.Filter):
    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._redactor.text(record.getMessage()), None
        return True


@contextmanager
def redacted_log(logger: str, redactor: Redactor) -> Iterator[None]:
    """Within the block, what `logger` says is redacted before any handler sees it.

    urllib3 logs the whole URL of every request at DEBUG, and Dagster can be set to keep the
    log of the root logger in its run storage.
    """
    redacting = _RedactingFilter(redactor)
    logging.getLogger(logger).addFilter(redacting)
    try:
        yield
    finally:
        logging.getLogger(logger).removeFilter(redacting)
