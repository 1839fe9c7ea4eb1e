"""What the entries of the REST API configuration are checked for, field by field.

A message never repeats a value that is not a text: a secret may be anywhere in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from dlt.common.jsonpath import compile_path
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

_SECRETS = {"api_key", "token", "password", "authorization"}


class Entry(BaseModel):
    """A dict of the configuration. A key that would not be acted on is refused, not ignored."""

    model_config = ConfigDict(frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _only_known_keys(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError("write a dict here")  # noqa: TRY004  pydantic reports ValueError
        allowed = [field.alias or name for name, field in cls.model_fields.items()]
        if cls.model_config.get("extra") != "allow":
            refuse_unknown(value, allowed)
        return value


def refuse_unknown(entry: Mapping[Any, Any], allowed: list[str]) -> None:
    """Raises ValueError for a key that is not allowed, and says which are."""
    for key in entry:
        if key not in allowed:
            _refuse_secret(key)
            raise ValueError(f"unknown key {shown(key)}; allowed: {', '.join(allowed)}")


def shown(value: Any) -> str:
    """A wrong value as a message may show it."""
    return repr(value) if isinstance(value, str) else f"of type {type(value).__name__}"


def of_kind(*kinds: str) -> BeforeValidator:
    """Checks `type` before pydantic does, whose message would repeat whatever stands there."""

    def check(value: Any) -> Any:
        kind = value.get("type") if isinstance(value, Mapping) else kinds[0]
        if not isinstance(kind, str) or kind not in kinds:
            found = shown(kind) if "type" in value else "missing"
            raise ValueError(f"type is {found}; allowed: {', '.join(map(repr, kinds))}")
        return value

    return BeforeValidator(check)


def _snake_case(name: Any) -> Any:
    if not isinstance(name, str) or not re.fullmatch("[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        raise ValueError(f"{shown(name)} is not snake_case, for example 'account_overview'")
    return name


def _json_path(path: Any) -> Any:
    if isinstance(path, str):
        try:
            compile_path(path)
        except Exception:  # noqa: BLE001  whatever the parser raises
            raise ValueError(f"{path!r} is no JSONPath, for example 'data'") from None
    return path


def _below_base_url(path: Any) -> Any:
    if isinstance(path, str) and "://" in path:
        raise ValueError("write a path below the base URL, for example '/v1/account_overview'")
    return path


def _no_secret(pairs: Any) -> Any:
    for key in pairs if isinstance(pairs, Mapping) else ():
        _refuse_secret(key)
    return pairs


def _refuse_secret(key: Any) -> None:
    if isinstance(key, str) and key.lower() in _SECRETS:
        raise ValueError(f"{key} never stands in the configuration: set ANALYTICS_API_KEY")


Identifier = Annotated[str, Field(max_length=63), BeforeValidator(_snake_case)]
JsonPath = Annotated[str, Field(min_length=1), BeforeValidator(_json_path)]
RelativePath = Annotated[str, Field(min_length=1), BeforeValidator(_below_base_url)]
Headers = Annotated[dict[str, str], BeforeValidator(_no_secret)]
Params = Annotated[dict[str, str | int | float | bool], BeforeValidator(_no_secret)]
