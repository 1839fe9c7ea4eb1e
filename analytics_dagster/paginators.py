"""How the pages of a resource are walked: one function per kind of paginator.

Each yields pages in order, lazily, and ends where the API proves that there is no more: with
an empty page, or, for the paginators of dlt, where the API names no next page. A total is no
end: the APIs that get it wrong are the ones that lose rows.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any

import requests

from analytics_dagster.api_spec import DltPaginator, OffsetPaginator, PageNumberPaginator, Resource
from analytics_dagster.envelope import Page, page_parser
from analytics_dagster.transport import Answer, Transport

GetPage = Callable[[dict[str, Any]], Page]


def walk(resource: Resource, transport: Transport) -> Iterator[Page]:
    """The pages of a resource, the empty one at the end included."""
    endpoint = resource.endpoint
    parse = page_parser(resource)

    def get(params: dict[str, Any]) -> Page:
        return transport.get(endpoint.path, endpoint.params | params, parse)

    match endpoint.paginator:
        case OffsetPaginator() as paginator:
            return _by_offset(paginator, get)
        case PageNumberPaginator() as paginator:
            return _by_number(paginator, get)
        case DltPaginator() as paginator:
            return _by_dlt(resource, paginator, transport)


def _by_offset(paginator: OffsetPaginator, get: GetPage) -> Iterator[Page]:
    offset, limit = paginator.offset, paginator.limit
    while True:
        page = get({paginator.limit_param: limit, paginator.offset_param: offset})
        yield page
        if not page.rows:
            return
        # By rows received: a server may give fewer than the limit on any page.
        offset += len(page.rows)


def _by_number(paginator: PageNumberPaginator, get: GetPage) -> Iterator[Page]:
    for number in count(paginator.base_page):
        page = get({paginator.page_param: number})
        yield page
        if not page.rows:
            return


def _by_dlt(resource: Resource, paginator: DltPaginator, transport: Transport) -> Iterator[Page]:
    from dlt.sources.helpers.rest_client.client import RESTClient

    client = RESTClient(transport.base_url, session=_Session(transport, page_parser(resource)))
    pages = client.paginate(
        resource.endpoint.path,
        params=dict(resource.endpoint.params),
        paginator=paginator.build(),
        data_selector=resource.endpoint.data_selector,
    )
    for rows in pages:
        yield Page(list(rows), None)


class _Session(requests.Session):
    """Lets dlt's own paging loop send its requests through the transport."""

    def __init__(self, transport: Transport, parse: Callable[[Answer], Page]) -> None:
        super().__init__()
        self.trust_env = False
        self._get = partial(transport.get, params={}, parse=partial(_checked, parse=parse))

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        answer = self._get(str(request.url))
        response = requests.Response()
        response.status_code = answer.status
        response.headers.update(answer.headers)
        response.raw = io.BytesIO(answer.body)
        response.url = str(request.url)
        response.request = request
        return response


def _checked(answer: Answer, parse: Callable[[Answer], Page]) -> Answer:
    parse(answer)
    return answer
