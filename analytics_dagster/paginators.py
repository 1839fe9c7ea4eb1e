"""How the pages of a resource are walked: one function per kind of paginator.

Each yields pages in order, lazily, and ends where the API proves that there is no more: with
an empty page, or, for the paginators of dlt, where the API names no next page. A total is no
end: the APIs that get it wrong are the ones that lose rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain, count
from typing import Any

import requests

from analytics_dagster.api_spec import DltPaginator, OffsetPaginator, PageNumberPaginator, Resource
from analytics_dagster.envelope import Page, document_of, page_parser, page_reader
from analytics_dagster.errors import ApiError, MalformedBodyError
from analytics_dagster.read_ahead import ReadAhead
from analytics_dagster.transport import Answer, Transport

GetPage = Callable[[dict[str, Any]], Page]


def walk(resource: Resource, transport: Transport, filters: dict[str, Any]) -> Iterator[Page]:
    """The pages of a resource, the empty one at the end included."""
    endpoint = resource.endpoint
    parse = page_parser(resource)
    asked = endpoint.params | filters

    def get(params: dict[str, Any]) -> Page:
        return transport.get(endpoint.path, asked | params, parse)

    match endpoint.paginator:
        case OffsetPaginator() as paginator:
            return _by_offset(paginator, get, transport.readers)
        case PageNumberPaginator() as paginator:
            return _by_number(paginator, get, transport.readers)
        case DltPaginator() as paginator:
            return _by_dlt(resource, paginator, transport, asked)


def _by_offset(paginator: OffsetPaginator, get: GetPage, readers: int) -> Iterator[Page]:
    totals: set[int] = set()

    def page_at(offset: int) -> Page:
        page = get({paginator.limit_param: paginator.limit, paginator.offset_param: offset})
        if page.rows and page.total is not None:
            totals.add(page.total)
        return page

    def relative(total: int | None) -> int | None:
        return None if total is None else max(total - paginator.offset, 0)

    offset, overlap, longest, alike = paginator.offset, 0, 0, 0
    last: list[Any] = []
    with ReadAhead(page_at, readers) as ahead:
        while True:
            page = ahead.page(offset, last)
            end = offset + len(page.rows)
            is_end = not page.rows or (len(page.rows) == overlap and end == page.total)
            others = totals - {page.total} if page.rows else ()
            found = replace(
                page,
                total=relative(page.total),
                overlap=overlap,
                other_total=relative(min(others, default=None)),
            )
            # By rows received: a server may give fewer than the limit on any page. The last row
            # is asked for again: a row that went or came before it has moved it, and no total
            # needs to tell. Not when it would be no step.
            overlap = int(len(page.rows) > 1)
            offset, last = end - overlap, page.rows[len(page.rows) - overlap :]
            # A page that is shorter than others is likely to be the last one; and where lengths
            # differ from page to page, guesses are in vain.
            is_first, is_like_others = not longest, len(page.rows) == longest
            alike = alike + 1 if is_like_others else int(len(page.rows) > longest)
            longest = max(longest, len(page.rows))
            if not is_end:
                is_steady = is_first or alike > 1
                step = len(page.rows) - overlap
                places = _offsets(offset, step, page.total) if is_steady else [offset]
                ahead.expect(places, are_certain=page.total is not None)
            yield found
            if is_end:
                return


def _offsets(offset: int, step: int, total: int | None) -> Iterable[int]:
    """The offsets that come next, if all pages are as long as the last; the end is among them."""
    if total is None or total < offset:
        return count(offset, step)
    return chain(range(offset, total, step), [max(offset, total - 1)])


def _by_number(paginator: PageNumberPaginator, get: GetPage, readers: int) -> Iterator[Page]:
    with ReadAhead(lambda number: get({paginator.page_param: number}), readers) as ahead:
        for number in count(paginator.base_page):
            page = ahead.page(number, [])
            if page.rows:
                ahead.expect(count(number + 1))
            yield page
            if not page.rows:
                return


def _by_dlt(
    resource: Resource, paginator: DltPaginator, transport: Transport, params: dict[str, Any]
) -> Iterator[Page]:
    from dlt.sources.helpers.rest_client.client import RESTClient

    endpoint = resource.endpoint
    pages = RESTClient(transport.base_url, session=_Session(transport, resource)).paginate(
        endpoint.path,
        params=params,
        paginator=paginator.build(),
        data_selector=endpoint.data_selector,
    )
    while True:
        try:
            rows = next(pages)
        except StopIteration:
            return
        except ApiError:
            raise
        except Exception as error:  # noqa: BLE001  whatever dlt raises quotes the page
            kind = type(error).__name__
            break
        yield Page(list(rows), None)
    raise MalformedBodyError(
        f"{transport.base_url}{endpoint.path}: the paginator {paginator.type!r} finds no way from "
        f"a page to the next one ({kind}). Compare the paginator in the REST API configuration "
        "with what the API answers."
    )


class _Session(requests.Session):
    """Lets dlt's own paging loop send its requests through the transport."""

    def __init__(self, transport: Transport, resource: Resource) -> None:
        super().__init__()
        self.trust_env = False
        self._transport = transport
        self._read = page_reader(resource)

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        response = self._transport.get(str(request.url), {}, self._response)
        response.url = str(request.url)
        response.request = request
        return response

    def _response(self, answer: Answer) -> requests.Response:
        document = document_of(answer)
        self._read(document)
        return _Response(answer, document)


class _Response(requests.Response):
    """An answer that was decoded already, and more exactly than requests would."""

    def __init__(self, answer: Answer, document: Any) -> None:
        super().__init__()
        self.status_code = answer.status
        self.headers.update(answer.headers)
        self._document = document

    def json(self, **_: Any) -> Any:
        return self._document
