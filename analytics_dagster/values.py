"""Values as their declared types: whole columns at once, or one value and why it does not fit.

What is accepted is what loses nothing: an integer written as text or as 3.0 is that integer;
3.5 for an integer is no integer. A declared double is the exception: it is rounded to what a
double keeps, as that was asked for. Timestamps may be ISO 8601 (UTC where they name no zone) or
seconds since the epoch. JSON is kept as its text.
"""

from __future__ import annotations

import math
import re
from datetime import date, datetime, timedelta, timezone
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import simplejson

from analytics_dagster.api_spec import Column

_ARROW_TYPES = {
    "bigint": pa.int64(),
    "text": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "double": pa.float64(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "json": pa.string(),
}

_PLAIN_CASTS = {
    "bigint": {pa.null(), pa.int64()},
    "text": {pa.null(), pa.string()},
    "timestamp": {pa.null(), pa.string(), pa.int64()},
    "double": {pa.null(), pa.float64(), pa.int64()},
    "bool": {pa.null(), pa.bool_()},
    "date": {pa.null(), pa.string()},
    "json": {pa.null()},
}

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class UnfitError(ValueError):
    """A value that its column cannot hold; the message names the type and not the value."""


def arrow_type(column: Column) -> pa.DataType:
    """The type of a column's values."""
    if column.data_type == "decimal":
        return pa.decimal128(column.precision, column.scale)
    return _ARROW_TYPES[column.data_type]


def from_wire(array: pa.Array, column: Column) -> pa.Array | None:
    """The array, of the type that Arrow found in JSON, as the column's; None if unsure.

    Only casts that keep every value are made here; what is left is looked at one by one.
    """
    data_type = column.data_type
    if data_type == "decimal":
        return _decimals(array, column)
    if array.type not in _PLAIN_CASTS[data_type]:
        return None
    try:
        if data_type == "timestamp" and pa.types.is_int64(array.type):
            if pc.any(pc.less(array, 0)).as_py():
                return None
            array = array.cast(pa.timestamp("s", tz="UTC"))
        array = array.cast(arrow_type(column))
        if data_type in ("timestamp", "date"):
            pc.min_max(array).as_py()  # Arrow knows years that Python does not
    except (pa.ArrowException, ValueError, OverflowError):
        return None
    if data_type == "double" and pc.all(pc.is_finite(array)).as_py() is False:
        return None
    return array


def _decimals(array: pa.Array, column: Column) -> pa.Array | None:
    """One by one: Arrow makes another number, unnoticed, of one that does not fit."""
    try:
        return pa.array([fit(value, column) for value in array.to_pylist()], arrow_type(column))
    except UnfitError:
        return None


def fit(value: Any, column: Column) -> Any:
    """The value as the column's type, or None for None.

    Raises:
        UnfitError: the type cannot hold the value without losing some of it.
    """
    if value is None:
        return None
    try:
        if column.data_type == "decimal":
            return _decimal(value, column.precision or 0, column.scale or 0)
        return _FITTERS[column.data_type](value)
    except (ValueError, OverflowError, RecursionError, pa.ArrowException):
        raise UnfitError(f"{_kind(value)} is no {column.type_name}") from None


def _kind(value: Any) -> str:
    kinds = {
        str: "a text",
        bool: "a boolean",
        int: "an integer",
        float: "a decimal number",
        Decimal: "a decimal number of many digits",
    }
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
    if isinstance(value, float | Decimal) and value == int(value):
        value = int(value)
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise ValueError
    return value


def _double(value: Any) -> float:
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value):
            raise ValueError
        value = float(value) if re.search("[.eE]", value) else int(value)
    if type(value) not in (int, float, Decimal) or not math.isfinite(number := float(value)):
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
    if type(value) in (int, float, Decimal):
        if not value >= 0:
            raise ValueError
        return _EPOCH + timedelta(seconds=float(value))
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


def _decimal(value: Any, precision: int, scale: int) -> Decimal:
    """The digits as they were written."""
    if type(value) not in (int, float, Decimal, str) or not _NUMBER.fullmatch(str(value)):
        raise ValueError
    uncut = Context(prec=precision, traps=[Inexact, InvalidOperation])
    try:
        return Decimal(str(value)).quantize(Decimal(1).scaleb(-scale), context=uncut)
    except ArithmeticError:
        raise ValueError from None


def _json(value: Any) -> str:
    # As characters, so that half a character is refused here and not by the database.
    text: str = simplejson.dumps(value, ensure_ascii=False)
    text.encode()
    return text


_FITTERS = {
    "bigint": _bigint,
    "text": _text,
    "timestamp": _timestamp,
    "double": _double,
    "bool": _bool,
    "date": _date,
    "json": _json,
}
