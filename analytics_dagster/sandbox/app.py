"""The demo API as a Starlette application: who may ask, and every answer as JSON."""

import hmac
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from analytics_dagster.sandbox.endpoints import Endpoint, endpoints
from analytics_dagster.sandbox.parameters import Parameters
from analytics_dagster.sandbox.people import DEFAULT_SEED

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The present, with its time zone."""
    return datetime.now(timezone.utc)


def create_app(api_key: str, *, seed: int = DEFAULT_SEED, now: Clock = utc_now) -> Starlette:
    """The demo API as it answers at `now()` to those who know the key (not empty)."""
    if not api_key.strip():
        raise ValueError("api_key must not be empty: everybody would know it")
    paths = endpoints(seed)

    async def unknown_path(_request: Request, _error: Exception) -> Response:
        return JSONResponse({"error": "no such path", "endpoints": list(paths)}, 404)

    app = Starlette(
        routes=[Route(path, _answers(paths[path], api_key, now)) for path in paths],
        exception_handlers={404: unknown_path, HTTPException: _refusal},
    )
    # Otherwise a path with a slash too many is redirected, and the key travels twice.
    app.router.redirect_slashes = False
    return app


def _answers(
    endpoint: Endpoint[Any], api_key: str, now: Clock
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        query = request.query_params
        if not hmac.compare_digest(query.get("api_key", "").encode(), api_key.encode()):
            raise HTTPException(401, "api_key is missing or wrong")
        try:
            asked = Parameters.parse(query)
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        rows, total = endpoint.page(int(now().timestamp()), asked.since, asked.window)
        return JSONResponse({"data": rows, "total": total})

    return answer


async def _refusal(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):  # only ever registered for these
        raise error
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
