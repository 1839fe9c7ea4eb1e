"""What the configuration promises: dlt understands it, and a mistake in it is told where it is."""

import json
import random
from collections.abc import Iterator
from copy import deepcopy
from typing import Any, TypeAlias, get_args

import pytest
from dlt.sources.helpers.rest_client.auth import BearerTokenAuth
from dlt.sources.rest_api import rest_api_source
from dlt.sources.rest_api.config_setup import PAGINATOR_MAP

from analytics_dagster.api_config import DESCRIPTIONS, REST_API
from analytics_dagster.api_reader import check_shares, read_spec
from analytics_dagster.api_spec import (
    ApiKeyAuth,
    ApiSpec,
    DltPaginator,
    OffsetPaginator,
    PageNumberPaginator,
)
from analytics_dagster.errors import ApiConfigError
from analytics_dagster_tests.fake_api import FakeApi

Json: TypeAlias = Any
Path: TypeAlias = tuple[str | int, ...]

IDENTITY = {
    "id": ("bigint", False),
    "name": ("text", True),
    "current_timestamp": ("timestamp", False),
    "customer_id": ("bigint", True),
}
STATISTICS = {
    "account_overview": (
        """average_call_duration average_queue_wait_time average_wrap_up_time max_calls_waiting
        max_queue_wait_time total_call_duration total_calls total_voicemails
        total_wrap_up_time""",
        """average_callback_wait_time average_hold_time average_time_to_answer
        total_callback_calls total_calls_abandoned_in_queue total_calls_outside_business_hours
        total_calls_over_max_wait total_voicemail_requests total_hold_time total_inbound_calls
        total_outbound_calls total_text_replies_requested total_web_callback_calls""",
    ),
    "agents_overview": (
        """average_wrap_up_time total_calls_accepted total_calls_denied total_calls_missed
        total_talk_time total_wrap_up_time""",
        """average_accepted_transfers average_available_time average_away_time
        average_calls_put_on_hold average_hold_time average_online_time
        average_started_transfers average_talk_time average_transfers_only_time
        total_accepted_transfers total_calls_put_on_hold total_hold_time
        total_started_transfers""",
    ),
    "current_queue_activity": (
        """agents_online average_wait_time callbacks_waiting calls_waiting
        web_callbacks_waiting longest_wait_time""",
        "",
    ),
}
EXPECTED = {name: base.split() for name, (base, _) in STATISTICS.items()}
LARGER_PLAN = {name: larger.split() for name, (_, larger) in STATISTICS.items()}

SECRET = "S3CR3T"
GONE = object()

by_resource = pytest.mark.parametrize(("index", "name"), list(enumerate(STATISTICS)))


def plain() -> dict[str, Json]:
    """The project's configuration, as a copy that shares nothing with it or within itself."""
    copy: dict[str, Json] = json.loads(json.dumps(REST_API))
    return copy


def changed(path: Path, value: Json) -> dict[str, Json]:
    """The project's configuration with another value, or none, in one place."""
    config = plain()
    *way, last = path
    target: Json = config
    for step in way:
        target = target[step]
    if value is GONE:
        del target[last]
    else:
        target[last] = value
    return config


def for_dlt(base_url: str, key: str) -> Json:
    """The configuration as dlt wants it: the key and the real URL are filled in."""
    config = plain()
    config["client"]["base_url"] = base_url
    config["client"]["auth"]["api_key"] = key
    return config


def refusal(config: Json) -> str:
    with pytest.raises(ApiConfigError) as refused:
        read_spec(config)
    # What pydantic raised quotes the configuration, and whoever logs an error logs its context.
    assert refused.value.__context__ is None
    return str(refused.value)


def test_dlt_takes_the_configuration_as_its_own() -> None:
    """With a key it is a `RESTAPIConfig`: dlt's documentation explains every word of it."""
    source = rest_api_source(for_dlt("https://api.example.com", "key"))
    assert list(source.resources) == list(STATISTICS)


def test_dlt_itself_reads_the_api_with_it(api: FakeApi) -> None:
    """Key, paths, pages and selector are right: all rows of all resources arrive."""
    moment = "2026-11-23T10:00:00Z"
    api.rows = {
        name: [{"id": f"{name} {n}", "current_timestamp": moment} for n in range(250)]
        for name in STATISTICS
    }
    source = rest_api_source(for_dlt(api.base_url, api.key))
    assert sorted(row["id"] for row in source) == sorted(
        row["id"] for rows in api.rows.values() for row in rows
    )
    assert {request.query["api_key"] for request in api.requests} == {api.key}


def test_the_api_is_read_as_its_owner_described() -> None:
    """The key is a query parameter; pages of 100 by offset; rows merge by id."""
    spec = read_spec(REST_API)
    assert spec.client.auth == ApiKeyAuth(type="api_key", name="api_key", location="query")
    for resource in spec.resources:
        assert resource.endpoint.path == f"/v1/{resource.name}"
        assert resource.endpoint.data_selector == "data"
        assert resource.endpoint.paginator == OffsetPaginator(type="offset", limit=100)
        assert resource.primary_key == ["id"]
        assert resource.write_disposition == "merge"


def test_the_configuration_holds_no_key() -> None:
    """Whoever prints it shows nothing."""
    assert list(REST_API["client"]["auth"]) == ["type", "name", "location"]  # type: ignore[arg-type]


@by_resource
def test_the_columns_are_those_of_the_api(spec: ApiSpec, index: int, name: str) -> None:
    """Identity first, then integers; only the key and the cursor are NOT NULL."""
    resource = spec.resources[index]
    assert resource.name == name
    statistics = dict.fromkeys(EXPECTED[name] + LARGER_PLAN[name], ("bigint", True))
    assert [(n, (c.data_type, c.nullable)) for n, c in resource.columns.items()] == list(
        (IDENTITY | statistics).items()
    )
    assert "current_timestamp" in resource.columns


@by_resource
def test_a_statistic_of_every_plan_is_expected(spec: ApiSpec, index: int, name: str) -> None:
    """Those of the larger plan may be absent, so nobody is warned about them."""
    columns = spec.resources[index].columns
    assert [name for name, column in columns.items() if column.expected] == EXPECTED[name]


@by_resource
def test_everything_is_described(spec: ApiSpec, index: int, name: str) -> None:
    """The resource and each column: a reader of the warehouse need not guess."""
    columns = spec.resources[index].columns
    assert [name for name, column in columns.items() if len(column.description) < 5] == []
    assert DESCRIPTIONS[name].startswith("One row per ")


NEW_ENTRY: dict[str, Json] = {
    "name": "call_history",
    "endpoint": {"path": "/v2/calls", "data_selector": "items", "paginator": "header_link"},
    "columns": {"id": {"data_type": "text", "nullable": False}},
}


def test_one_more_entry_is_one_more_resource() -> None:
    """The defaults hold for it, and the others stay as they are."""
    before = read_spec(REST_API)
    after = read_spec(plain() | {"resources": [*REST_API["resources"], NEW_ENTRY]})
    assert after.resources[:-1] == before.resources
    added = after.resources[-1]
    assert (added.name, added.endpoint.path) == ("call_history", "/v2/calls")
    assert (added.primary_key, added.write_disposition) == (["id"], "merge")
    assert added.endpoint.paginator == DltPaginator(type="header_link")


def test_defaults_are_merged_as_dlt_merges_them() -> None:
    """An entry's own value wins; parameters of the request add up."""
    endpoint = {"path": "/v0", "data_selector": "data", "paginator": "single_page"}
    shared = {"params": {"plan": "large", "lang": "en"}}
    own = deepcopy(NEW_ENTRY) | {"primary_key": ["id"]}
    bare = {"name": "bare", "primary_key": ["id"], "columns": NEW_ENTRY["columns"]}
    own["endpoint"] |= {"params": {"lang": "de"}}
    config = plain() | {"resources": [own, bare]}
    config["resource_defaults"] |= {"endpoint": endpoint | shared, "primary_key": "nope"}
    first, second = read_spec(config).resources
    assert (first.primary_key, first.write_disposition) == (["id"], "merge")
    assert (first.endpoint.path, first.endpoint.data_selector) == ("/v2/calls", "items")
    assert first.endpoint.paginator == DltPaginator(type="header_link")
    assert second.endpoint.path == "/v0"
    assert first.endpoint.params == {"plan": "large", "lang": "de"}


def test_every_paginator_of_dlt_can_be_used() -> None:
    """When dlt adds one, add it to `api_spec`; `auto` guesses and `json_response` is deprecated."""
    dlt_loop = get_args(DltPaginator.model_fields["type"].annotation)
    assert {"offset", "page_number", *dlt_loop} == PAGINATOR_MAP.keys() - {"auto", "json_response"}
    for kind in dlt_loop:
        assert type(DltPaginator(type=kind).build()) is PAGINATOR_MAP[kind]


@pytest.mark.parametrize(
    "paginator",
    [
        "single_page",
        {"type": "json_link", "next_url_path": "links.next"},
        {"type": "header_link", "links_next_key": "following"},
        {"type": "cursor", "cursor_path": "next", "cursor_param": "after"},
        {"type": "header_cursor", "cursor_key": "X-Next", "cursor_param": "after"},
    ],
)
def test_a_paginator_of_dlt_keeps_its_own_keys(paginator: Json) -> None:
    """They reach dlt as they were written, by name alone too."""
    spec = read_spec(changed((*AGENTS, "endpoint", "paginator"), paginator))
    read = spec.resources[1].endpoint.paginator
    assert isinstance(read, DltPaginator)
    written = {"type": paginator} if isinstance(paginator, str) else paginator
    assert read.model_dump() == written
    keys = {key: value for key, value in written.items() if key != "type"}
    assert vars(read.build()) == vars(PAGINATOR_MAP[written["type"]](**keys))


def test_pages_may_be_numbered() -> None:
    """`page_number` goes through the project's own reader."""
    paginator = {"type": "page_number", "base_page": 1, "page_param": "p"}
    spec = read_spec(changed((*AGENTS, "endpoint", "paginator"), paginator))
    assert spec.resources[1].endpoint.paginator == PageNumberPaginator(
        type="page_number", base_page=1, page_param="p"
    )


AGENTS: Path = ("resources", 1)
ENTRY = "resources[1] 'agents_overview': "
PAGINATOR: Path = (*AGENTS, "endpoint", "paginator")
ENTRY_KEYS = "name, endpoint, primary_key, write_disposition, columns"
COLUMN_KEYS = "data_type, precision, scale, nullable, description, x-expected"
PAGINATORS = ["offset", "page_number", "single_page", "json_link", "header_link", "cursor"]

# Where, what is written there, and what the message says: the entry, the key, what is allowed.
MISTAKES: list[tuple[Path, Json, list[str]]] = [
    # A key that means nothing, at every level.
    (("wrong",), 1, ["'wrong'", "client, resource_defaults, resources"]),
    (("client", "wrong"), 1, ["client: ", "'wrong'", "base_url, auth, headers"]),
    (("client", "auth", "wrong"), 1, ["client.auth: ", "'wrong'", "type, name, location"]),
    (("resource_defaults", "wrong"), 1, ["resources[0] 'account_", "'wrong'", ENTRY_KEYS]),
    ((*AGENTS, "wrong"), 1, [ENTRY, "'wrong'", ENTRY_KEYS]),
    ((*AGENTS, "endpoint", "wrong"), 1, [ENTRY, "endpoint: ", "'wrong'", "path, params, data"]),
    ((*PAGINATOR, "wrong"), 1, [ENTRY, "endpoint.paginator: ", "'wrong'", "limit, offset"]),
    ((*AGENTS, "columns", "id", "wrong"), 1, [ENTRY, "columns.id: ", "'wrong'", COLUMN_KEYS]),
    # Paginators.
    ((*PAGINATOR, "type"), "ofset", [ENTRY, "endpoint.paginator: ", "'ofset'", *PAGINATORS]),
    (PAGINATOR, "ofset", [ENTRY, "endpoint.paginator: ", "'ofset'", *PAGINATORS]),
    ((*PAGINATOR, "type"), GONE, [ENTRY, "endpoint.paginator", "type", *PAGINATORS]),
    (PAGINATOR, GONE, [ENTRY, "endpoint.paginator: Field required"]),
    (PAGINATOR, "offset", [ENTRY, "endpoint.paginator.limit: Field required"]),
    ((*PAGINATOR, "limit"), GONE, [ENTRY, "endpoint.paginator.limit: Field required"]),
    ((*PAGINATOR, "limit"), 0, [ENTRY, "endpoint.paginator.limit: ", "greater than or equal to 1"]),
    ((*PAGINATOR, "limit"), "100", [ENTRY, "endpoint.paginator.limit: ", "integer"]),
    ((*PAGINATOR, "limit"), True, [ENTRY, "endpoint.paginator.limit: ", "integer"]),
    (
        PAGINATOR,
        {"type": "cursor", "cursor_paht": "next"},
        [ENTRY, "endpoint.paginator: ", "'cursor_paht'", "cursor_path", "cursor_param"],
    ),
    # Names.
    ((*AGENTS, "name"), "account_overview", ["resources[1] 'account_overview': ", "used twice"]),
    ((*AGENTS, "name"), "rejected_rows", ["resources[1] 'rejected_rows': name: ", "rejected rows"]),
    (
        (*AGENTS, "name"),
        "Agents Overview",
        ["resources[1] 'Agents Overview': name: ", "snake_case"],
    ),
    ((*AGENTS, "name"), "agents__overview", ["name: ", "snake_case"]),
    ((*AGENTS, "name"), "_dlt_loads", ["name: ", "snake_case"]),
    ((*AGENTS, "name"), "agents\n", ["name: ", "snake_case"]),
    ((*AGENTS, "name"), "", ["resources[1] '': name: ", "snake_case"]),
    ((*AGENTS, "name"), 5, ["resources[1]", ": name: ", "snake_case"]),
    ((*AGENTS, "name"), GONE, ["resources[1]", ": name: Field required"]),
    ((*AGENTS, "name"), "a" * 64, [f"resources[1] '{'a' * 64}': name: ", "at most 63"]),
    (
        (*AGENTS, "columns", "Talk Time"),
        {"data_type": "bigint"},
        [ENTRY, "Talk Time", "snake_case"],
    ),
    # Keys and columns.
    ((*AGENTS, "columns"), GONE, [ENTRY, "columns: Field required"]),
    ((*AGENTS, "columns"), [], [ENTRY, "columns: ", "dictionary"]),
    ((*AGENTS, "columns", "id"), GONE, [ENTRY, "columns: ", "primary key", "{'id': {'data_type'"]),
    (
        (*AGENTS, "columns", "id", "nullable"),
        True,
        [ENTRY, "columns: ", "primary key", "'nullable': False"],
    ),
    ((*AGENTS, "primary_key"), "uuid", [ENTRY, "columns: ", "primary key", "'uuid'"]),
    ((*AGENTS, "primary_key"), [], [ENTRY, "primary_key: ", "at least 1"]),
    (("resource_defaults", "primary_key"), GONE, [ENTRY, "primary_key: Field required"]),
    (
        (*AGENTS, "columns", "name", "data_type"),
        "integer",
        [ENTRY, "columns.name.data_type: ", "'bigint'", "'timestamp'"],
    ),
    (
        (*AGENTS, "columns", "name", "precision"),
        10,
        [ENTRY, "columns.name: ", "only a decimal has precision and scale"],
    ),
    (
        (*AGENTS, "columns", "name"),
        {"data_type": "decimal", "precision": 5},
        [ENTRY, "columns.name: ", "scale 9 is greater than precision 5"],
    ),
    (
        (*AGENTS, "columns", "name"),
        {"data_type": "decimal", "precision": 39},
        [ENTRY, "columns.name.precision: ", "less than or equal to 38"],
    ),
    (
        (*AGENTS, "columns", "name"),
        {"data_type": "decimal", "scale": -1},
        [ENTRY, "columns.name.scale: ", "greater than or equal to 0"],
    ),
    ((*AGENTS, "columns", "auth"), {"data_type": "int"}, [ENTRY, "columns.auth.data_type: "]),
    ((*AGENTS, "columns", "name"), "text", [ENTRY, "columns.name: ", "write a dict here"]),
    ((*AGENTS, "write_disposition"), "append", [ENTRY, "write_disposition: ", "'merge'"]),
    (("resource_defaults", "write_disposition"), "replace", [ENTRY, "write_disposition: ", "'mer"]),
    # Endpoints.
    ((*AGENTS, "endpoint"), GONE, [ENTRY, "endpoint: Field required"]),
    ((*AGENTS, "endpoint"), "/v1/agents", [ENTRY, "endpoint: ", "write a dict here"]),
    ((*AGENTS, "endpoint", "path"), "", [ENTRY, "endpoint.path: ", "at least 1 character"]),
    ((*AGENTS, "endpoint", "data_selector"), GONE, [ENTRY, "endpoint.data_selector: Field requ"]),
    ((*AGENTS, "endpoint", "data_selector"), "data[", [ENTRY, "endpoint.data_selector: ", "JSON"]),
    ((*PAGINATOR, "total_path"), "total[", [ENTRY, "endpoint.paginator.total_path: ", "JSON"]),
    (
        (*AGENTS, "endpoint", "params"),
        {"since": None},
        [ENTRY, "endpoint.params.since", "string", "integer"],
    ),
    # Client.
    (("client",), GONE, ["client: Field required"]),
    (("client", "base_url"), GONE, ["client.base_url: Field required"]),
    (("client", "auth"), GONE, ["client.auth: Field required"]),
    (("client", "auth", "type"), GONE, ["client.auth", "type", "api_key", "bearer", "http_basic"]),
    (("client", "auth", "type"), "oauth2", ["client.auth: ", "'api_key', 'bearer', 'http_basic'"]),
    (("client", "auth", "location"), "body", ["client.auth.location: ", "'query' or 'header'"]),
    # Things of another kind.
    (("resources",), GONE, ["resources: Field required"]),
    (("resources",), {"agents_overview": {}}, ["resources: ", "list"]),
    (("resources",), "agents_overview", ["resources: ", "list"]),
    (("resources",), None, ["resources: ", "list"]),
    (("resources",), [], ["resources: ", "at least 1"]),
    (AGENTS, "agents_overview", ["resources[1] 'agents_overview': write a dict here"]),
    (AGENTS, None, ["resources[1]", ": write a dict here"]),
    (AGENTS, [], ["resources[1]", ": write a dict here"]),
    (AGENTS, {}, ["resources[1]", ": name: Field required", ": endpoint: Field required"]),
    (("resource_defaults",), "merge", ["resource_defaults: ", "dictionary"]),
]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    MISTAKES,
    ids=[f"{'.'.join(map(str, p))}={'gone' if v is GONE else v}" for p, v, _ in MISTAKES],
)
def test_a_mistake_is_told_with_its_place_and_what_is_allowed(
    path: Path, value: Json, said: list[str]
) -> None:
    """The message names the entry, the key and what may stand there."""
    message = refusal(changed(path, value))
    assert [part for part in said if part not in message] == []


@pytest.mark.parametrize("config", [None, {}, [], 5, "client", ("client",), REST_API["resources"]])
def test_what_is_no_configuration_at_all_is_told_too(config: Json) -> None:
    """Nothing, a list, a text: the message says what to write."""
    message = refusal(config)
    assert "write a dict here" in message or "client: Field required" in message


def test_two_mistakes_are_told_at_once() -> None:
    """Nobody has to start again for the second one."""
    config = changed((*AGENTS, "write_disposition"), "append")
    del config["resources"][2]["endpoint"]["path"]
    message = refusal(config)
    assert f"{ENTRY}write_disposition: " in message
    assert "resources[2] 'current_queue_activity': endpoint.path: " in message


def places(config: Json, path: Path = ()) -> Iterator[Path]:
    """Every place of a configuration, whole parts and single values."""
    steps: Json = config if isinstance(config, dict) else range(len(config))
    for step in steps:
        yield (*path, step)
        if isinstance(config[step], dict | list):
            yield from places(config[step], (*path, step))


PLACES = [
    place
    for place in places(plain())
    if place[1:2] not in ((0,), (2,)) and ("columns" not in place or "id" in place)
]


@pytest.mark.parametrize("key", ["api_key", "token", "password"])
@pytest.mark.parametrize(
    "place", [("client",), ("client", "auth"), AGENTS, (*AGENTS, "endpoint"), PAGINATOR]
)
def test_a_secret_in_the_configuration_is_refused_and_not_shown(place: Path, key: str) -> None:
    """The message says where the key belongs."""
    message = refusal(changed((*place, key), SECRET))
    assert SECRET not in message
    assert f"{key} never stands in the configuration: set ANALYTICS_API_KEY" in message


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place)))
@pytest.mark.parametrize(
    "value",
    [{"api_key": SECRET}, BearerTokenAuth(SECRET)],
    ids=["in a dict", "in an object of dlt"],
)
def test_a_secret_that_got_somewhere_else_is_not_shown_either(place: Path, value: Json) -> None:
    """Whatever else is wrong there, the message does not repeat it."""
    assert SECRET not in refusal(changed(place, value))


JUNK: list[Json] = [
    *(GONE, None, True, -1, 0, 1.5, float("nan"), 2**70, b"bytes", object(), lambda: None),
    *("", "text", "offset", "cursor", "\ud800", "x" * 5000),
    *([], [[]], ["id", 5], (1,), {1, 2}),
    *({}, {"type": "offset"}, {"type": []}, {"type": "cursor", 5: 1}, {None: None}, {"": {}}),
]


@pytest.mark.parametrize("seed", range(10))
def test_nothing_that_can_be_written_escapes_as_another_error(seed: int) -> None:
    """Any configuration is either valid or refused in the project's own words."""
    chance = random.Random(seed)  # noqa: S311
    refused = 0
    for _ in range(50):
        config = changed(chance.choice(PLACES), chance.choice(JUNK))
        try:
            assert isinstance(read_spec(config), ApiSpec)
        except ApiConfigError:
            refused += 1
    assert refused


def test_reading_the_configuration_leaves_it_as_it_was() -> None:
    """It may be read as often as anyone likes."""
    before = plain()
    assert read_spec(REST_API) == read_spec(REST_API)
    assert plain() == before


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ({"agents_overviw": 0.5}, "MOST_REJECTED: 'agents_overviw' is no resource of REST_API"),
        ({"agents_overview": "0.5"}, "MOST_REJECTED: agents_overview: write a number from 0 to 1"),
        ({"agents_overview": 2}, "write a number from 0 to 1"),
        ({"agents_overview": -1}, "write a number from 0 to 1"),
        ({"agents_overview": True}, "write a number from 0 to 1"),
        ({"agents_overview": float("nan")}, "write a number from 0 to 1"),
    ],
)
def test_a_share_that_is_none_is_told_when_definitions_load(
    spec: ApiSpec, shares: dict[str, Any], words: str
) -> None:
    """With the setting, the resource, and what is allowed."""
    check_shares(spec, MOST_REJECTED={"agents_overview": 0.5}, SMALLEST_REFRESH={})
    with pytest.raises(ApiConfigError, match=words):
        check_shares(spec, MOST_REJECTED=shares)
