"""The dict of `api_config` as an `ApiSpec`, or an error that a user can act on.

An `ApiConfigError` names the entry, the key, and what is allowed there.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from analytics_dagster.api_fields import shown
from analytics_dagster.api_spec import KINDS, ApiSpec
from analytics_dagster.errors import ApiConfigError


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


def check_shares(spec: ApiSpec, **settings: Any) -> None:
    """Checks the settings of `api_config` that give a resource a share of its rows.

    Raises:
        ApiConfigError: one names no resource, or a share that is not between 0 and 1.
    """
    names = [resource.name for resource in spec.resources]
    for setting, shares in settings.items():
        for name, share in shares.items():
            if name not in names:
                raise ApiConfigError(f"{setting}: {shown(name)} is no resource of REST_API")
            if type(share) not in (int, float) or not 0 <= share <= 1:
                raise ApiConfigError(f"{setting}: {name}: write a number from 0 to 1")


def _with_defaults(config: Any) -> Any:
    match config:
        case {"resource_defaults": dict() as defaults, "resources": list() as entries, **rest}:
            return {**rest, "resources": [_merged(defaults, entry) for entry in entries]}
    return config


def _merged(defaults: Any, entry: Any) -> Any:
    """The entry over the defaults, as dlt does it: endpoints and their params add up, too."""
    if not isinstance(defaults, dict) or not isinstance(entry, dict):
        return entry
    both = {**defaults, **entry}
    for key in ("endpoint", "params"):
        if key in defaults and key in entry:
            both[key] = _merged(defaults[key], entry[key])
    return both


def _problem(config: Any, found: Any) -> str:
    path: list[Any] = []
    for part in found["loc"]:
        # After these two keys pydantic names the kind that it chose: no key of the configuration.
        if not path or part not in KINDS.get(str(path[-1]), ()):
            path.append(part)
    where = ""
    if len(path) > 1 and path[0] == "resources":
        entry = config["resources"][path[1]]
        name = entry.get("name") if isinstance(entry, dict) else entry
        where, path = f"resources[{path[1]}] {shown(name)}: ", path[2:]
    keys = ".".join(str(part) for part in path)
    return f"{where}{keys}{': ' if keys else ''}{found['msg'].removeprefix('Value error, ')}"
