"""The configuration that this project starts from, word for word, on stock dlt.

Only the base URL is another, and the key comes from the variable in which dlt looks for it. It
runs without Dagster, which would only make it slower. `python -m bench.stock parquet` sets dlt's
load files to parquet; nothing else differs.
"""

from __future__ import annotations

import json
import os
import sys
import time

import dlt
from dlt.sources.rest_api import rest_api_source

from bench import KEY


def main() -> None:
    """Loads the three resources and prints the seconds."""
    os.environ["API_KEY"] = KEY
    began = time.perf_counter()
    source = rest_api_source(
        {
            "client": {
                "base_url": os.environ["ANALYTICS_API_BASE_URL"],
                "auth": {
                    "type": "api_key",
                    "name": "api_key",
                    "api_key": dlt.secrets["api_key"],
                    "location": "query",
                },
            },
            "resource_defaults": {"primary_key": "id", "write_disposition": "merge"},
            "resources": [
                {
                    "name": "account_overview",
                    "endpoint": {
                        "path": "/v1/account_overview",
                        "data_selector": "data",
                        "paginator": {"type": "offset", "limit": 100},
                    },
                },
                {
                    "name": "agents_overview",
                    "endpoint": {
                        "path": "/v1/agents_overview",
                        "data_selector": "data",
                        "paginator": {"type": "offset", "limit": 100},
                    },
                },
                {
                    "name": "current_queue_activity",
                    "endpoint": {
                        "path": "/v1/current_queue_activity",
                        "data_selector": "data",
                        "paginator": {"type": "offset", "limit": 100},
                    },
                },
            ],
        }
    )
    pipeline = dlt.pipeline(
        "stock",
        pipelines_dir="pipelines",
        destination=dlt.destinations.duckdb(os.environ["ANALYTICS_DUCKDB_PATH"]),
        dataset_name="analytics",
    )
    if sys.argv[1:] == ["parquet"]:
        pipeline.run(source, loader_file_format="parquet")
    else:
        pipeline.run(source)
    print(json.dumps({"seconds": time.perf_counter() - began}))


if __name__ == "__main__":
    main()
