"""Values as their declared types: whole columns at once, or one value and why it does not fit.

What is accepted is what loses nothing: an integer written as text or as 3.0 is that integer;
3.5 for an integer is no integer. Timestamps may be ISO 8601 (UTC where they name no zone) or
seconds since the epoch.
"""

from __future__ import annotations

import math
import re
from datetime import date, datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

ARROW_TYPES: dict[str, pa.DataType] = {
    "bigint": pa.int64(),
    "text": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "double": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
}

_PLAIN_CASTS = {
    "bigint": {pa.null(), pa.int64()},
    "text": {pa.null(), pa.string()},
    "timestamp": {pa.null(), pa.string(), pa.int64()},
    "double": {pa.null(), pa.float64(), pa.int64()},
    "bool": {pa.null(), pa.bool_()},
    "date": {pa.null(), pa.string()},
}

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class UnfitError(ValueError):
    """A value that its column cannot hold; the message names the type and not the value."""


def from_wire(array: pa.Array, data_type: str) -> pa.Array | None:
    """The array, of the type that Arrow found in JSON, as `data_type`; None if unsure.

    Only casts that keep every value are made here; what is left is looked at one by one.
    """
    if array.type not in _PLAIN_CASTS[data_type]:
        return None
    try:
        if data_type == "timestamp" and pa.types.is_int64(array.type):
            if pc.any(pc.less(array, 0)).as_py():
                return None
            array = array.cast(pa.timestamp("s", tz="UTC"))
        array = array.cast(ARROW_TYPES[data_type])
        if data_type in ("timestamp", "date"):
            pc.min_max(array).as_py()  # Arrow knows years that Python does not
    except (pa.ArrowException, ValueError, OverflowError):
        return None
    if data_type == "double" and pc.all(pc.is_finite(array)).as_py() is False:
        return None
    return array


def fit(value: Any, data_type: str) -> Any:
    """The value as `data_type` (a dlt data type), or None for None.

    Raises:
        UnfitError: the type cannot hold the value without losing some of it.
    """
    if value is None:
        return None
    try:
        return _FITTERS[data_type](value)
    except (ValueError, OverflowError, pa.ArrowException):
        raise UnfitError(f"{_kind(value)} is no {data_type}") from None


def _kind(value: Any) -> str:
    kinds = {str: "a text", bool: "a boolean", int: "an integer", float: "a decimal number"}
    if isinstance(value, float) and not math.isfinite(value):
        return "a number that is not finite"
    if type(value) is int and not -(2**63) <= value < 2**63:
        return "an integer of more than 64 bits"
    if isinstance(value, str) and not _is_unicode(value):
        return "a text with half a character"
    return kinds.get(type(value), "a list or an object")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _bigint(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,19}\s*", value, re.ASCII):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise ValueError
    return value


def _double(value: Any) -> float:
    if isinstance(value, str):
        if not re.fullmatch(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", value, re.ASCII):
            raise ValueError
        value = float(value) if re.search("[.eE]", value) else int(value)
    if type(value) not in (int, float) or not math.isfinite(number := float(value)):
        raise ValueError
    if isinstance(value, int) and int(number) != value:
        raise ValueError
    return number


def _text(value: Any) -> str:
    if type(value) is int:
        return str(value)
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004  one kind of failure, whatever the type
    value.encode()
    return value


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError  # noqa: TRY004  one kind of failure, whatever the type
    return value


def _timestamp(value: Any) -> datetime:
    if type(value) in (int, float):
        if not value >= 0:
            raise ValueError
        return _EPOCH + timedelta(seconds=value)
    moment = _iso(value)
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


def _iso(value: Any) -> datetime:
    """Arrow reads every form of ISO 8601 that APIs use; `fromisoformat` does from 3.11 only."""
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004  one kind of failure, whatever the type
    text = pa.scalar(re.sub(r"(\.\d{6})\d+", r"\1", value.strip()))
    zoned = re.search(r"[T ].*(Z|[+-]\d\d(:?\d\d)?)$", text.as_py())
    moment: datetime = text.cast(pa.timestamp("us", tz="UTC" if zoned else None)).as_py()
    return moment


def _date(value: Any) -> date:
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004  one kind of failure, whatever the type
    day: date = pa.scalar(value).cast(pa.date32()).as_py()
    return day


_FITTERS = {
    "bigint": _bigint,
    "text": _text,
    "timestamp": _timestamp,
    "double": _double,
    "bool": _bool,
    "date": _date,
}
