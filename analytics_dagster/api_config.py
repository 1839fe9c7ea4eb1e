"""The REST API configuration: what is loaded, in dlt's own terms. Edit this file to add a resource.

`REST_API` is a `RESTAPIConfig` as dlt's documentation of the REST API source explains it,
with two things left out: the base URL is a placeholder that ANALYTICS_API_BASE_URL replaces,
and the key never stands here (see `resources.AnalyticsApi`). What dlt's configuration has no
key for stands beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analytics_dagster.columns import ACCOUNT_OVERVIEW, AGENTS_OVERVIEW, CURRENT_QUEUE_ACTIVITY

if TYPE_CHECKING:
    from dlt.sources.rest_api.typing import IncrementalConfig, RESTAPIConfig

INCREMENTAL: IncrementalConfig = {
    "cursor_path": "current_timestamp",
    # The API's own filter. Remove it where the API has none: rows are filtered here, too.
    "start_param": "updated_since",
    # Seconds: a row may arrive so much later than its timestamp says.
    "lag": 600,
}
"""What the three resources have in common: rows say when they were current."""

REST_API: RESTAPIConfig = {
    "client": {
        "base_url": "https://api.example.com",
        "auth": {"type": "api_key", "name": "api_key", "location": "query"},
    },
    "resource_defaults": {"primary_key": "id", "write_disposition": "merge"},
    "resources": [
        {
            "name": "account_overview",
            "endpoint": {
                "path": "/v1/account_overview",
                "data_selector": "data",
                "paginator": {"type": "offset", "limit": 100},
                "incremental": INCREMENTAL,
            },
            "columns": ACCOUNT_OVERVIEW,
        },
        {
            "name": "agents_overview",
            "endpoint": {
                "path": "/v1/agents_overview",
                "data_selector": "data",
                "paginator": {"type": "offset", "limit": 100},
                "incremental": INCREMENTAL,
            },
            "columns": AGENTS_OVERVIEW,
        },
        {
            "name": "current_queue_activity",
            "endpoint": {
                "path": "/v1/current_queue_activity",
                "data_selector": "data",
                "paginator": {"type": "offset", "limit": 100},
                "incremental": INCREMENTAL,
            },
            "columns": CURRENT_QUEUE_ACTIVITY,
        },
    ],
}

DESCRIPTIONS = {
    "account_overview": "One row per account: its calls, waits and voicemails of today.",
    "agents_overview": "One row per agent: the calls, talk and wrap-up time of today.",
    "current_queue_activity": "One row per queue: who waits, and how long, right now.",
}
"""Resource to the description of its asset; a resource without one is described by its path."""

SMALLEST_REFRESH: dict[str, float] = {}
"""Resource to the share of its rows that a full refresh leaves at least; 0.5 where none is set."""

MOST_REJECTED: dict[str, float] = {}
"""Resource to the share of its rows that may break the contract: with more of them nothing is
loaded. Where none is set, 0.1, and up to ten rows if another one is good.
"""
