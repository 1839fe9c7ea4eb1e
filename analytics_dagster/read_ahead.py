"""Pages that are requested before they are needed, and handed on in order.

How a resource is walked stays as it is, page by page; only the waiting is shared. A wrong guess
of the next pages costs a request, and never a row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import Any

from analytics_dagster.envelope import Page

QUICK = 0.0015
"""Seconds. What comes sooner was hardly waited for: it is this process that is at work, and
several threads would only hinder each other."""


class ReadAhead:
    """Pages by their place (an offset or a number), at most `readers` of them at a time.

    The first page comes alone; then the number of guesses doubles with each page that had to be
    waited for, so that a short resource is not asked for much that it does not have, and halves
    with each quick one.
    """

    def __init__(self, get: Callable[[int], Page], readers: int) -> None:
        self._get = get
        self._readers = readers
        self._width = 1
        self._seconds = 0.0
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
            return replace(self._timed(place), moved=True)
        return self._timed(place)

    def expect(self, places: Iterable[int], *, are_certain: bool = False) -> None:
        """Requests the pages at the first of these places, and forgets all other guesses.

        Pages that are certain to be there are no waste: they need not begin with few.
        """
        if self._seconds > QUICK:
            self._width = self._readers if are_certain else min(2 * self._width, self._readers)
        else:
            self._width = max(self._width // 2, 1)
        near = list(islice(places, self._readers))
        for place in self._guessed.keys() - near:
            self._guessed.pop(place).cancel()
        # One page ahead is none: whoever takes it can as well ask for it.
        for place in near[: self._width] if self._width > 1 else []:
            if place not in self._guessed:
                self._guessed[place] = self._pool.submit(self._timed, place)

    def _timed(self, place: int) -> Page:
        began = time.monotonic()
        page = self._get(place)
        self._seconds = time.monotonic() - began
        return page
