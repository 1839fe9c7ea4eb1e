"""Secrets, replaced by their value wherever they could show. Nothing else belongs here.

By value and not by parameter name, because a name list never holds the next API's name for
it. A secret is found however each of its signs is spelled: as it is, percent-encoded, escaped as
JSON or HTML does; the first two of them also several times over, as in a URL within a URL.
"""

import logging
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from html.entities import html5

MASK = "***"
URLLIB3_LOGGERS = ("urllib3.connection", "urllib3.connectionpool")


class Redactor:
    """Replaces every spelling of the given secrets in a text or a body by `***`."""

    def __init__(self, *secrets: str) -> None:
        # The longest first: one secret may begin with another.
        ordered = sorted(filter(None, secrets), key=len, reverse=True)
        pattern = "|".join("".join(map(_spellings, secret)) for secret in ordered) or r"(?!)"
        # urllib3 writes a host in lower case, also where a key got into its place.
        self._text = re.compile(pattern, re.IGNORECASE)
        self._bytes = re.compile(pattern.encode())
        # No spelling changes letters and digits: a body without the longest run of them, which
        # is almost every body, is passed on at the speed of a search.
        runs = [re.findall("[A-Za-z0-9]+", secret) or [""] for secret in ordered]
        self._runs = [max(found, key=len).encode() for found in runs]

    def text(self, text: str) -> str:
        """The text without the secrets."""
        return self._text.sub(MASK, text)

    def body(self, body: bytes) -> bytes:
        """The body of an answer without the secrets: an API may repeat the key in a row."""
        if not any(run in body for run in self._runs):
            return body
        return self._bytes.sub(MASK.encode(), body)


def _spellings(sign: str) -> str:
    """A pattern for one sign of a secret in any of its spellings."""
    percent = "".join(f"%(?:25)*{byte:02x}" for byte in sign.encode())
    utf16 = sign.encode("utf-16-be").hex()
    escaped = "".join(rf"\\+u{utf16[at : at + 4]}" for at in range(0, len(utf16), 4))
    named = "|".join(name for name, char in html5.items() if char == sign and name[-1] == ";")
    entity = f"&(?:{named or '(?!)'}|#0*{ord(sign)};|(?i:#x0*{ord(sign):x};))"
    spellings = [re.escape(sign), f"(?i:{percent})", f"(?i:{escaped})", entity]
    spellings += [rf"\\+{re.escape(sign)}"] if sign in '"\\/' else []
    # A blank is a plus in a query, which in a query within a query is percent-encoded.
    spellings += [r"(?i:%(?:25)*2b)", r"\+"] if sign == " " else []
    # A backslash that escapes is tried before one that stands for itself.
    return f"(?:{'|'.join(sorted(spellings, key=len, reverse=True))})"


class _RedactingFilter(logging.Filter):
    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._redactor.text(record.getMessage()), None
        if record.exc_info:
            traceback = logging.Formatter().formatException(record.exc_info)
            record.exc_text, record.exc_info = self._redactor.text(traceback), None
        return True


@contextmanager
def redacted_logs(redactor: Redactor, *loggers: str) -> Iterator[None]:
    """Within the block, what the loggers say is redacted before any handler sees it.

    urllib3 logs the whole URL of every request at DEBUG, and Dagster can be set to keep the
    log of the root logger in its run storage.
    """
    redacting = _RedactingFilter(redactor)
    with ExitStack() as stack:
        for logger in map(logging.getLogger, loggers):
            logger.addFilter(redacting)
            stack.callback(logger.removeFilter, redacting)
        yield
