"""What may stand in an entry of the REST API configuration, and of which type it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from inspect import signature
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from analytics_dagster.api_fields import (
    Entry,
    Headers,
    Identifier,
    JsonPath,
    Params,
    RelativePath,
    of_kind,
    refuse_unknown,
)
from analytics_dagster.columns import NEUTRAL_NAMES

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.paginators import BasePaginator

REJECTED_ROWS = "rejected_rows"

DltKind = Literal["single_page", "json_link", "header_link", "cursor", "header_cursor"]
KINDS = {
    "paginator": ("offset", "page_number", *get_args(DltKind)),
    "auth": ("api_key", "bearer", "http_basic"),
}
"""Keys whose value is one of several kinds of entry, to the `type` of each kind."""


class OffsetPaginator(Entry):
    """Pages by `offset` and `limit`; see dlt's `OffsetPaginator`."""

    type: Literal["offset"]
    limit: int = Field(ge=1)
    offset: int = Field(0, ge=0)
    offset_param: str = "offset"
    limit_param: str = "limit"
    total_path: JsonPath | None = "total"


class PageNumberPaginator(Entry):
    """Pages by number; see dlt's `PageNumberPaginator`."""

    type: Literal["page_number"]
    base_page: int = Field(0, ge=0)
    page_param: str = "page"


class DltPaginator(Entry):
    """A paginator that dlt's own loop follows, with dlt's own keys beside `type`."""

    model_config = ConfigDict(extra="allow")

    type: DltKind

    def build(self) -> BasePaginator:
        """The paginator of dlt that this entry describes."""
        paginator: BasePaginator = self._constructor()(**(self.model_extra or {}))
        return paginator

    def _constructor(self) -> Any:
        from dlt.sources.helpers.rest_client import paginators

        classes = {
            "single_page": paginators.SinglePagePaginator,
            "json_link": paginators.JSONLinkPaginator,
            "header_link": paginators.HeaderLinkPaginator,
            "cursor": paginators.JSONResponseCursorPaginator,
            "header_cursor": paginators.HeaderCursorPaginator,
        }
        return classes[self.type]

    @model_validator(mode="after")
    def _dlt_accepts_it(self) -> DltPaginator:
        # A body is never sent: every page is a GET.
        parameters = signature(self._constructor()).parameters
        allowed = [name for name in parameters if not name.endswith("_body_path")]
        refuse_unknown(self.model_extra or {}, allowed)
        try:
            self.build()
        except Exception as error:  # noqa: BLE001  whatever dlt raises for a wrong value
            kind = type(error).__name__
            raise ValueError(f"dlt's paginator {self.type!r} refuses a value: {kind}") from None
        return self


Paginator = Annotated[
    Annotated[OffsetPaginator | PageNumberPaginator | DltPaginator, Field(discriminator="type")],
    of_kind(*KINDS["paginator"]),
    BeforeValidator(lambda name: {"type": name} if isinstance(name, str) else name),
]


class Incremental(Entry):
    """What an incremental load asks for, in the terms of dlt's `incremental`.

    Args:
        cursor_path: the field that says when a row was current; it becomes a column.
        start_param: the parameter by which the API filters, if it does.
        lag: seconds before the newest row that are read again, for rows that come late.
        convert: what `start_param` is written as, from ISO 8601; for example epoch seconds.
    """

    cursor_path: str
    start_param: str | None = None
    lag: float = Field(0, ge=0, allow_inf_nan=False)
    convert: Callable[[str], Any] | None = None

    @property
    def column(self) -> str:
        """The column that the cursor is kept in."""
        return NEUTRAL_NAMES.get(self.cursor_path, self.cursor_path)

    def params(self, since: datetime | None) -> dict[str, Any]:
        """The parameters that ask the API for rows since a moment; none asks for all."""
        if since is None or self.start_param is None:
            return {}
        moment = since.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")
        return {self.start_param: self.convert(moment) if self.convert else moment}


class Endpoint(Entry):
    """Where a resource is read: one GET per page, its rows in the list at `data_selector`."""

    path: RelativePath
    params: Params = Field(default_factory=dict)
    data_selector: JsonPath
    paginator: Paginator
    incremental: Incremental | None = None


DataType = Literal["bigint", "text", "timestamp", "double", "bool", "date", "decimal", "json"]


class Column(Entry):
    """One declared column, in dlt's terms.

    A decimal has `precision` digits, `scale` of them after the point: 38 and 9, as dlt has it.
    `x-expected` marks one that every row should have, `x-minimum` and `x-maximum` the range of
    values that are plausible: a row outside of it is loaded, and a check warns.
    """

    data_type: DataType
    precision: int | None = Field(None, ge=1, le=38)
    scale: int | None = Field(None, ge=0)
    nullable: bool = True
    description: str = ""
    expected: bool = Field(False, alias="x-expected")
    minimum: float | None = Field(None, alias="x-minimum", allow_inf_nan=False)
    maximum: float | None = Field(None, alias="x-maximum", allow_inf_nan=False)

    @model_validator(mode="after")
    def _a_range_is_one_of_numbers(self) -> Column:
        low, high = self.minimum, self.maximum
        if (low, high) != (None, None) and self.data_type not in ("bigint", "decimal", "double"):
            raise ValueError("x-minimum and x-maximum: only numbers have them")
        if low is not None and high is not None and low > high:
            raise ValueError(f"x-minimum {low:g} is larger than x-maximum {high:g}")
        return self

    @property
    def type_name(self) -> str:
        """The type as a message names it."""
        is_decimal = self.data_type == "decimal"
        return f"decimal({self.precision}, {self.scale})" if is_decimal else self.data_type

    @model_validator(mode="before")
    @classmethod
    def _digits_of_a_decimal(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or value.get("data_type") != "decimal":
            return value
        written = {key: found for key, found in value.items() if found is not None}
        return {"precision": 38, "scale": 9, **written}

    @model_validator(mode="after")
    def _digits_are_possible(self) -> Column:
        if self.data_type != "decimal" and (self.precision, self.scale) != (None, None):
            raise ValueError("only a decimal has precision and scale")
        if (self.scale or 0) > (self.precision or 0):
            raise ValueError(
                f"scale {self.scale} is greater than precision {self.precision}: the digits "
                "after the point are some of all digits"
            )
        return self


class Resource(Entry):
    """One resource of the API: one table, one asset."""

    name: Identifier
    endpoint: Endpoint
    primary_key: Annotated[
        list[str], BeforeValidator(lambda key: [key] if isinstance(key, str) else key)
    ] = Field(min_length=1)
    write_disposition: Literal["merge"]
    columns: dict[Identifier, Column]

    @model_validator(mode="after")
    def _key_and_cursor_are_declared(self) -> Resource:
        for key in self.primary_key:
            if key not in self.columns or self.columns[key].nullable:
                raise ValueError(
                    "columns: declare the primary key, and not nullable, for example "
                    f"{{{key!r}: {{'data_type': 'bigint', 'nullable': False}}}}"
                )
        if incremental := self.endpoint.incremental:
            cursor = self.columns.get(incremental.column)
            if cursor is None or cursor.nullable or cursor.data_type != "timestamp":
                raise ValueError(
                    "columns: declare the cursor as a timestamp, and not nullable, for example "
                    f"{{{incremental.column!r}: {{'data_type': 'timestamp', 'nullable': False}}}}"
                )
        if self.name == REJECTED_ROWS:
            raise ValueError(f"name: {REJECTED_ROWS!r} is the table of rejected rows")
        return self


class ApiKeyAuth(Entry):
    """The key as a parameter of the query or as a header of its own."""

    type: Literal["api_key"]
    name: str = "Authorization"
    location: Literal["query", "header"] = "header"


class BearerAuth(Entry):
    """The key as a bearer token in the `Authorization` header."""

    type: Literal["bearer"]


class HttpBasicAuth(Entry):
    """The key as the password of HTTP basic authentication."""

    type: Literal["http_basic"]
    username: str


Auth = Annotated[
    Annotated[ApiKeyAuth | BearerAuth | HttpBasicAuth, Field(discriminator="type")],
    of_kind(*KINDS["auth"]),
]


class Client(Entry):
    """The API as a whole; `base_url` is only a placeholder."""

    base_url: str
    auth: Auth
    headers: Headers = Field(default_factory=dict)


class ApiSpec(Entry):
    """A valid REST API configuration; the defaults are merged into the resources."""

    client: Client
    resource_defaults: dict[str, Any] = Field(default_factory=dict)
    resources: list[Resource] = Field(min_length=1)
