"""The query parameters that every endpoint takes, and what is wrong with bad ones."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

LARGEST_LIMIT = 1000
WHOLE_NUMBER = re.compile(r"[0-9]{1,18}")  # what fits a bigint
EPOCH_SECONDS = re.compile(r"-?[0-9]{1,18}(\.[0-9]+)?")


@dataclass(frozen=True)
class Parameters:
    """Which rows to send: those refreshed since then (epoch seconds), and what part of them."""

    since: float
    window: slice

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> "Parameters":
        """Read a query; a ValueError names the bad parameter and the allowed values."""
        limit, offset = query.get("limit", "100"), query.get("offset", "0")
        if not WHOLE_NUMBER.fullmatch(limit) or not 1 <= int(limit) <= LARGEST_LIMIT:
            raise ValueError(f"limit must be a whole number from 1 to {LARGEST_LIMIT}")
        if not WHOLE_NUMBER.fullmatch(offset):
            raise ValueError("offset must be a whole number, 0 or more")
        since = epoch_seconds(query.get("updated_since", "0"))
        return cls(since, slice(int(offset), int(offset) + int(limit)))


def epoch_seconds(text: str) -> float:
    """The value of `updated_since`: epoch seconds, or ISO 8601 with an offset."""
    if EPOCH_SECONDS.fullmatch(text):
        return float(text)
    try:
        moment = datetime.fromisoformat(re.sub("[Zz]$", "+00:00", text))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(
            "updated_since must be ISO 8601 with Z or an offset (its + written as %2B), "
            "such as 2024-05-01T08:30:00Z, or epoch seconds"
        )
    return moment.timestamp()
