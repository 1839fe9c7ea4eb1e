"""Pages that are requested before they are needed, and handed on in order.

How a resource is walked stays as it is, page by page; only the waiting is shared. A wrong guess
of the next pages costs a request, and never a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

from analytics_dagster.envelope import Page


class ReadAhead:
    """Pages by their place (an offset or a number), at most `readers` of them at a time.

    The first page comes alone; then the number of guesses doubles with each page, so that a
    short resource is not asked for much that it does not have.
    """

    def __init__(self, get: Callable[[int], Page], readers: int) -> None:
        self._get = get
        self._readers = readers
        self._width = 1
        self._guessed: dict[int, Future[Page]] = {}
        self._pool = ThreadPoolExecutor(readers, thread_name_prefix="reader")

    def __enter__(self) -> ReadAhead:  # noqa: PYI034  Self is in typing from 3.11 only
        return self

    def __exit__(self, *_: object) -> None:
        # A guess that nobody needs any more is not waited for.
        self._pool.shutdown(wait=False, cancel_futures=True)

    def page(self, place: int, begins_with: list[Any]) -> Page:
        """The page at a place; one that was guessed and begins otherwise is requested anew.

        The guess was made before the page in front of it came, and rows may have moved since.
        """
        guess = self._guessed.pop(place, None)
        if guess is not None:
            page = guess.result()
            if page.rows[: len(begins_with)] == begins_with:
                return page
        return self._get(place)

    def expect(self, places: Iterable[int]) -> None:
        """Requests the pages at the first of these places, and forgets all other guesses."""
        self._width = min(2 * self._width, self._readers)
        wanted = list(islice(places, self._width)) if self._readers > 1 else []
        for place in self._guessed.keys() - wanted:
            self._guessed.pop(place).cancel()
        for place in wanted:
            if place not in self._guessed:
                self._guessed[place] = self._pool.submit(self._get, place)
