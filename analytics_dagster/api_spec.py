"""The REST API configuration, checked and typed. What may stand in an entry is decided here.

`read_spec` turns the dict of `api_config` into an `ApiSpec`, or raises an `ApiConfigError`
that names the entry, the key and what is allowed. A key that dlt knows and this project would
not act on is refused: an option that is silently ignored is a lie.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from analytics_dagster.errors import ApiConfigError

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.paginators import BasePaginator

REJECTED_ROWS = "rejected_rows"

_SECRET_KEYS = {"api_key", "token", "password"}


def _snake_case(name: Any) -> Any:
    if not isinstance(name, str) or not re.fullmatch("[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        raise ValueError(f"{name!r} is not snake_case, for example 'account_overview'")
    return name


Identifier = Annotated[str, Field(max_length=63), BeforeValidator(_snake_case)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _only_known_keys(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError("write a dict here")  # noqa: TRY004  pydantic reports ValueError
        allowed = [field.alias or name for name, field in cls.model_fields.items()]
        for key in value:
            if key in allowed or cls.model_config.get("extra") == "allow":
                continue
            if key in _SECRET_KEYS:
                raise ValueError(f"{key} never stands in the configuration: set ANALYTICS_API_KEY")
            raise ValueError(f"unknown key {key!r}; allowed: {', '.join(allowed)}")
        return value


class OffsetPaginator(_Entry):
    """Pages by `offset` and `limit`; see dlt's `OffsetPaginator`."""

    type: Literal["offset"]
    limit: int = Field(ge=1)
    offset: int = Field(0, ge=0)
    offset_param: str = "offset"
    limit_param: str = "limit"
    total_path: str | None = "total"


class PageNumberPaginator(_Entry):
    """Pages by number; see dlt's `PageNumberPaginator`."""

    type: Literal["page_number"]
    base_page: int = Field(0, ge=0)
    page_param: str = "page"


class DltPaginator(_Entry):
    """A paginator that dlt's own loop follows, with dlt's own keys beside `type`."""

    model_config = ConfigDict(extra="allow")

    type: Literal["single_page", "json_link", "header_link", "cursor", "header_cursor"]

    def build(self) -> BasePaginator:
        """The paginator of dlt that this entry describes."""
        from dlt.sources.helpers.rest_client import paginators

        classes = {
            "single_page": paginators.SinglePagePaginator,
            "json_link": paginators.JSONLinkPaginator,
            "header_link": paginators.HeaderLinkPaginator,
            "cursor": paginators.JSONResponseCursorPaginator,
            "header_cursor": paginators.HeaderCursorPaginator,
        }
        paginator: BasePaginator = classes[self.type](**(self.model_extra or {}))
        return paginator

    @model_validator(mode="after")
    def _dlt_accepts_it(self) -> DltPaginator:
        try:
            self.build()
        except Exception as error:  # noqa: BLE001  whatever dlt raises for a wrong key
            raise ValueError(f"dlt refuses it: {error}") from None
        return self


def _expand(paginator: Any) -> Any:
    return {"type": paginator} if isinstance(paginator, str) else paginator


class Endpoint(_Entry):
    """Where a resource is read: one GET per page, its rows in the list at `data_selector`."""

    path: str = Field(min_length=1)
    params: dict[str, str | int | float | bool] = {}
    data_selector: str = Field(min_length=1)
    paginator: Annotated[
        Annotated[
            OffsetPaginator | PageNumberPaginator | DltPaginator, Field(discriminator="type")
        ],
        BeforeValidator(_expand),
    ]


DataType = Literal["bigint", "text", "timestamp", "double", "bool", "date"]


class Column(_Entry):
    """One declared column, in dlt's terms; `x-expected` marks one that every row should have."""

    data_type: DataType
    nullable: bool = True
    description: str = ""
    expected: bool = Field(False, alias="x-expected")


class Resource(_Entry):
    """One resource of the API: one table, one asset."""

    name: Identifier
    endpoint: Endpoint
    primary_key: Annotated[
        list[str], BeforeValidator(lambda key: [key] if isinstance(key, str) else key)
    ] = Field(min_length=1)
    write_disposition: Literal["merge"]
    columns: dict[Identifier, Column]

    @model_validator(mode="after")
    def _key_is_declared(self) -> Resource:
        for key in self.primary_key:
            if key not in self.columns or self.columns[key].nullable:
                raise ValueError(
                    f"columns: declare the primary key, for example "
                    f"{{{key!r}: {{'data_type': 'bigint', 'nullable': False}}}}"
                )
        if self.name == REJECTED_ROWS:
            raise ValueError(f"name: {REJECTED_ROWS!r} is the table of rejected rows")
        return self


class ApiKeyAuth(_Entry):
    """The key as a parameter of the query or as a header of its own."""

    type: Literal["api_key"]
    name: str = "Authorization"
    location: Literal["query", "header"] = "header"


class BearerAuth(_Entry):
    """The key as a bearer token in the `Authorization` header."""

    type: Literal["bearer"]


class HttpBasicAuth(_Entry):
    """The key as the password of HTTP basic authentication."""

    type: Literal["http_basic"]
    username: str


Auth = Annotated[ApiKeyAuth | BearerAuth | HttpBasicAuth, Field(discriminator="type")]


class Client(_Entry):
    """The API as a whole; `base_url` is only a placeholder."""

    base_url: str
    auth: Auth
    headers: dict[str, str] = {}


class ApiSpec(_Entry):
    """A valid REST API configuration; the defaults are merged into the resources."""

    client: Client
    resource_defaults: dict[str, Any] = {}
    resources: list[Resource] = Field(min_length=1)


def read_spec(config: Any) -> ApiSpec:
    """The checked form of a `RESTAPIConfig`.

    Raises:
        ApiConfigError: an entry is wrong; the message names it and what is allowed.
    """
    try:
        spec = ApiSpec.model_validate(_with_defaults(config))
    except ValidationError as error:
        problems = [_problem(config, found) for found in error.errors(include_url=False)]
    else:
        names = [resource.name for resource in spec.resources]
        problems = [
            f"resources[{index}] {name!r}: the name is used twice; names must differ"
            for index, name in enumerate(names)
            if name in names[:index]
        ]
    if problems:
        raise ApiConfigError("REST API configuration: " + "\n".join(problems))
    return spec


def _with_defaults(config: Any) -> Any:
    match config:
        case {"resource_defaults": dict() as defaults, "resources": list() as entries, **rest}:
            return {**rest, "resources": [_merged(defaults, entry) for entry in entries]}
    return config


def _merged(defaults: dict[str, Any], entry: Any) -> Any:
    if not isinstance(entry, dict):
        return entry
    match defaults.get("endpoint", {}), entry.get("endpoint"):
        case dict() as shared, dict() as own:
            return {**defaults, **entry, "endpoint": {**shared, **own}}
    return {**defaults, **entry}


def _problem(config: Any, found: Any) -> str:
    loc = found["loc"]
    # After these two keys pydantic names the kind that it chose: no key of the configuration.
    path = [
        part
        for before, part in zip((None, *loc), loc, strict=False)
        if before not in ("paginator", "auth")
    ]
    where = ""
    if len(path) > 1 and path[0] == "resources":
        entry = config["resources"][path[1]]
        name = entry.get("name") if isinstance(entry, dict) else entry
        where, path = f"resources[{path[1]}] {name!r}: ", path[2:]
    keys = ".".join(str(part) for part in path)
    return f"{where}{keys}{': ' if keys else ''}{found['msg'].removeprefix('Value error, ')}"
