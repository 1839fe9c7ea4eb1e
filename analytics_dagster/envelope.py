"""The body of one answer as a page of rows, or an error. Nothing else belongs here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from dlt.common.jsonpath import compile_path, find_values

from analytics_dagster.api_spec import OffsetPaginator, Resource
from analytics_dagster.errors import MalformedBodyError
from analytics_dagster.transport import Answer

# orjson rounds integers of more than 64 bits to floats; the standard library keeps them.
_LONG_INTEGER = re.compile(rb"\d{19}")


@dataclass(frozen=True)
class Page:
    """The rows of one answer as they came, and the total that the API claims, if it does."""

    rows: list[Any]
    total: int | None


def page_parser(resource: Resource) -> Callable[[Answer], Page]:
    """A function from an answer to its page; it raises `MalformedBodyError` on any other body."""
    selector = resource.endpoint.data_selector
    rows_path = compile_path(selector)
    paginator = resource.endpoint.paginator
    total_at = paginator.total_path if isinstance(paginator, OffsetPaginator) else None
    total_path = compile_path(total_at) if total_at else None

    def parse(answer: Answer) -> Page:
        document = _document(answer)
        match find_values(rows_path, document):
            case [list() as rows]:
                return Page(rows, _total(find_values(total_path, document)) if total_path else None)
            case found:
                raise MalformedBodyError(
                    f"no list of rows at data_selector {selector!r}: {_shape(found, document)}. "
                    "If that is how the API answers, mend data_selector in the REST API "
                    "configuration."
                )

    return parse


def _document(answer: Answer) -> Any:
    try:
        if _LONG_INTEGER.search(answer.body):
            return json.loads(answer.body)
        return orjson.loads(answer.body)
    except ValueError:
        pass
    try:
        # What orjson refuses and the API may mean: NaN, 1e400, half a surrogate pair. The rows
        # that hold them are rejected one by one, not the page.
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        kind = answer.headers.get("content-type", "no Content-Type")
    raise MalformedBodyError(f"the body is not JSON ({kind}, {len(answer.body)} bytes)")


def _total(found: list[Any]) -> int | None:
    match found:
        case [bool()]:
            return None
        case [int() as total] if total >= 0:
            return total
        case [str() as text] if re.fullmatch(r"\d{1,18}", text):
            return int(text)
    return None


def _shape(found: list[Any], document: Any) -> str:
    names = {dict: "an object", str: "a text", type(None): "null", bool: "a boolean"}
    if found:
        return f"found {names.get(type(found[0]), 'a number')}"
    if isinstance(document, dict):
        return f"found nothing; the keys are {sorted(document)[:8]}"
    return f"the body is {'a list' if isinstance(document, list) else names.get(type(document))}"
