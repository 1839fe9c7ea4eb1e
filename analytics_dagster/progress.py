"""What a load says while it runs, through the standard library's logging: Dagster's event log
and the terminal of `make run` listen.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

LOGGER = logging.getLogger("analytics_dagster")
LOGGER.setLevel(logging.INFO)

SECONDS_BETWEEN = 5.0
"""A reading is told so often at INFO; at DEBUG, for a progress bar, with every page."""


class Progress:
    """The course of one reading of a resource."""

    def __init__(self, resource: str) -> None:
        self._resource = resource
        self._began = self._told = time.monotonic()

    def tell(self, rows: int, pages: int, total: int | None, more: str) -> None:
        """Says how far it is, if it is time to; `more` stands at the end."""
        now = time.monotonic()
        is_time = now - self._told >= SECONDS_BETWEEN
        self._told = now if is_time else self._told
        level = logging.INFO if is_time else logging.DEBUG
        if LOGGER.isEnabledFor(level):
            speed = rows / max(now - self._began, 0.001)
            said = (
                f"{self._resource}: {_of(rows, total)} rows in {pages} pages, {speed:,.0f} rows/s"
            )
            if total and total > rows and speed:
                said += f", {(total - rows) / speed:,.0f} s left"
            course = {"course": (self._resource, rows, total)}
            LOGGER.log(level, "%s%s", said, more, extra=course)


def _of(rows: int, total: int | None) -> str:
    return f"{rows:,}" if total is None else f"{rows:,} of {total:,}"


class Forward(logging.Handler):
    """Hands on to another log what loads say, at INFO and above."""

    def __init__(self, log: logging.Logger) -> None:
        super().__init__(logging.INFO)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Says in the other log what the record says."""
        self._log.log(record.levelno, record.getMessage())


@contextmanager
def heard_by(handler: logging.Handler) -> Iterator[None]:
    """Within the block the handler hears what loads say; at its end it is closed."""
    LOGGER.addHandler(handler)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        handler.close()
