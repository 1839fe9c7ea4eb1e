"""The body of one answer as a page of rows, or an error. Nothing else belongs here."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import orjson
from dlt.common.jsonpath import compile_path, find_values

from analytics_dagster.api_spec import OffsetPaginator, Resource
from analytics_dagster.errors import MalformedBodyError
from analytics_dagster.transport import Answer

# A double keeps 15 digits of any number. Most pages have no number with more, and `in` finds
# that out ten times faster than a regular expression.
_DIGITS_TO_0 = bytes.maketrans(b"0123456789.", b"0" * 11)
_16_DIGITS = b"0" * 16
_LONG_NUMBER = re.compile(rb"\d[\d.]{15,}(?:[eE][+-]?\d+)?")
_LONGEST_INTEGER = 4300  # digits that Python reads

# Whatever else stands in an envelope may be data: a message names only keys of this kind.
_TELLING_KEYS = {"code", "detail", "error", "errors", "message", "meta", "results", "status"}


@dataclass(frozen=True)
class Page:
    """The rows of one answer as they came, and the total that the API claims, if it does.

    The first `overlap` rows were asked for again: they should be the last ones of the page
    before. The page is `moved` when it was requested before, too, and began with another row.
    `other_total` is one that any answer so far claimed, also one that was not needed.
    """

    rows: list[Any]
    total: int | None
    overlap: int = 0
    moved: bool = False
    other_total: int | None = None


def page_reader(resource: Resource) -> Callable[[Any], Page]:
    """A function from a JSON document to its page; it raises `MalformedBodyError` on any other."""
    selector = resource.endpoint.data_selector
    rows_path = compile_path(selector)
    paginator = resource.endpoint.paginator
    total_at = paginator.total_path if isinstance(paginator, OffsetPaginator) else None
    total_path = compile_path(total_at) if total_at else None

    def read(document: Any) -> Page:
        match find_values(rows_path, document):
            case [list() as rows]:
                return Page(rows, _total(find_values(total_path, document)) if total_path else None)
            case found:
                raise MalformedBodyError(
                    f"no list of rows at data_selector {selector!r}: {_shape(found, document)}. "
                    "If that is how the API answers, mend data_selector in the REST API "
                    "configuration."
                )

    return read


def page_parser(resource: Resource) -> Callable[[Answer], Page]:
    """A function from an answer to its page; it raises `MalformedBodyError` on any other body."""
    read = page_reader(resource)
    return lambda answer: read(document_of(answer))


def document_of(answer: Answer) -> Any:
    """The body as JSON, with numbers as exact as they were written.

    A number with a fraction is a `Decimal` where a float would lose some of its digits. NaN,
    1e400 and half a surrogate pair pass, which JSON does not know: the rows that hold them are
    rejected one by one, not the page.

    Raises:
        MalformedBodyError: the body is not JSON.
    """
    try:
        if not _has_number_to_lose(answer.body):
            return orjson.loads(answer.body)
    except ValueError:
        pass
    try:
        # In UTF-8 and nothing else: a key in another encoding was not seen by the redactor.
        body = answer.body.decode("utf-8-sig", "surrogatepass")
        return json.loads(body, parse_int=_integer, parse_float=_fraction)
    except (ValueError, RecursionError):
        kind = answer.headers.get("content-type", "no Content-Type").partition(";")[0]
    raise MalformedBodyError(
        f"the body is not JSON ({kind}, {len(answer.body)} bytes). Is ANALYTICS_API_BASE_URL the "
        "API, and not a page for people?"
    )


def _has_number_to_lose(body: bytes) -> bool:
    """Whether orjson, which knows 64 bits, would round a number of the body."""
    if _16_DIGITS not in body.translate(_DIGITS_TO_0):
        return False
    return any(_is_rounded(found[0].decode()) for found in _LONG_NUMBER.finditer(body))


def _is_rounded(number: str) -> bool:
    if number.isdigit():
        return len(number) > len(str(2**63)) or int(number) >= 2**63
    try:
        return isinstance(_fraction(number), Decimal)
    except ValueError:  # a part of a text
        return False


def _fraction(digits: str) -> float | Decimal:
    """The number as a float if that keeps every digit; one beyond its range is Infinity or 0."""
    number = float(digits)
    if repr(number) == digits or not sys.float_info.min <= abs(number) < math.inf:
        return number
    exact = Decimal(digits)
    return number if exact == Decimal(repr(number)) else exact


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _LONGEST_INTEGER else float(digits)


def _total(found: list[Any]) -> int | None:
    match found:
        case [bool()]:
            return None
        case [int() as total] if total >= 0:
            return total
        case [str() as text] if re.fullmatch(r"\d{1,18}", text, re.ASCII):
            return int(text)
    return None


def _shape(found: list[Any], document: Any) -> str:
    if len(found) > 1:
        return f"found {len(found)} lists or values, and one list is meant"
    if found:
        return f"found {_kind(found[0])}"
    if not isinstance(document, dict):
        return f"the body is {_kind(document)}"
    telling = sorted(map(repr, _TELLING_KEYS & document.keys()))
    seen = f", but {' and '.join(telling)}" if telling else f" among {len(document)} keys"
    return f"found nothing{seen}"


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "a boolean"}
    return "null" if value is None else kinds.get(type(value), "a number")
