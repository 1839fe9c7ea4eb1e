"""Whether a resource has changed at the API, found out by one small request. No Dagster here.

An API with ETags is asked with If-None-Match. One that filters by time is asked for rows newer
than the last loaded one. From any other the total and its first row are compared.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from http import HTTPStatus
from typing import Any

from analytics_dagster.api_spec import DltPaginator, OffsetPaginator, PageNumberPaginator, Resource
from analytics_dagster.envelope import Page, page_parser
from analytics_dagster.transport import Answer, Transport


@dataclass(frozen=True)
class Glance:
    """What one look at a resource showed.

    `fingerprint` changes when the resource does, and holds nothing of a row; `etag` is the
    API's, for the next look. `is_empty` says that there are no rows since the moment asked for.
    """

    fingerprint: str
    etag: str = ""
    is_empty: bool = False


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
    asked = json.dumps(filters, default=str)
    known = before.etag if before and before.fingerprint.startswith(asked) else ""
    parse = page_parser(resource)

    def look(answer: Answer) -> Glance | None:
        if answer.status == HTTPStatus.NOT_MODIFIED:
            return None
        page = parse(answer)
        etag = answer.headers.get("etag", "")
        found = etag or sha256(_told(page).encode(errors="replace")).hexdigest()
        return Glance(f"{asked} {found}", etag, is_empty=bool(filters) and not page.rows)

    headers = {"If-None-Match": known} if known else {}
    params = endpoint.params | filters | _first_row(resource)
    return transport.get(endpoint.path, params, look, headers) or before or Glance("")


def _told(page: Page) -> str:
    return repr((page.total, page.rows[:1]))


def _first_row(resource: Resource) -> dict[str, Any]:
    """The parameters of the smallest page that has the first row."""
    match resource.endpoint.paginator:
        case OffsetPaginator() as paginator:
            return {paginator.limit_param: 1, paginator.offset_param: paginator.offset}
        case PageNumberPaginator() as paginator:
            return {paginator.page_param: paginator.base_page}
        case DltPaginator():
            return {}
