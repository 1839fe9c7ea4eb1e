"""Whether a resource has changed at the API, found out by one small request. No Dagster here.

An API with ETags is asked with If-None-Match. One that filters by time is asked for rows newer
than the last loaded one. From any other the total and its first row are compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from http import HTTPStatus
from typing import Any

from analytics_dagster.api_spec import DltPaginator, OffsetPaginator, PageNumberPaginator, Resource
from analytics_dagster.envelope import page_parser
from analytics_dagster.transport import Answer, Transport


@dataclass(frozen=True)
class Glance:
    """What one look at a resource showed.

    `fingerprint` changes when the resource does, and holds nothing of a row. `etag` is the
    API's, for the next look that asks for the same. `is_empty` says that there are no rows since
    the moment asked for.
    """

    asked: str
    fingerprint: str
    etag: str
    is_empty: bool


def glance(
    resource: Resource, transport: Transport, newest: datetime | None, before: Glance | None
) -> Glance:
    """Asks for one row at most, newer than the newest that was loaded where the API can filter.

    Raises:
        ApiError: the API gave no page of rows.
    """
    endpoint = resource.endpoint
    filters: dict[str, Any] = {}
    if newest and endpoint.incremental:
        filters = endpoint.incremental.params(newest + timedelta(microseconds=1))
    asked = repr(filters)
    parse = page_parser(resource)

    def look(answer: Answer) -> Glance:
        if before and answer.status == HTTPStatus.NOT_MODIFIED:
            return before
        page = parse(answer)
        etag = answer.headers.get("etag", "")
        told = repr((page.total, page.rows[:1])).encode(errors="replace")
        is_empty = bool(filters) and not page.rows
        return Glance(asked, etag or sha256(told).hexdigest(), etag, is_empty)

    is_known = before and before.etag and before.asked == asked
    headers = {"If-None-Match": before.etag} if before and is_known else {}
    params = endpoint.params | filters | _first_row(resource)
    return transport.get(endpoint.path, params, look, headers)


def _first_row(resource: Resource) -> dict[str, Any]:
    """The parameters of the smallest page that has the first row."""
    match resource.endpoint.paginator:
        case OffsetPaginator() as paginator:
            return {paginator.limit_param: 1, paginator.offset_param: paginator.offset}
        case PageNumberPaginator() as paginator:
            return {paginator.page_param: paginator.base_page}
        case DltPaginator():
            return {}
