"""`make bench-growth`: what a load costs, and how many go on at the same time into one Postgres.

Eight resources like `agents_overview`, by 1, 2 and 4 processes that are warm, as those of a Celery
worker. The server of Postgres is one of the tests, which does not wait for its disk.
"""

from __future__ import annotations

import copy
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from multiprocessing import get_context
from typing import Any

from analytics_dagster_tests.postgres_server import PostgresServer, running_postgres
from bench import KEY
from bench.contenders import Offer, server

_LOADS = 8
_SLOTS = (1, 2, 4)
_OFFERS = (Offer(3), Offer(20_000), Offer(20_000, latency_ms=50))


def main() -> int:
    """Prints a table as Markdown; the exit status is 0 when every row arrived."""
    print(
        f"| {_LOADS} loads of | slots | s | loads a minute | rows/s | times as fast | rows right |"
    )
    print("|---|---|---|---|---|---|---|")
    flaws = 0
    with running_postgres() as postgres:
        for offer in _OFFERS:
            for row, is_right in _measured(offer, postgres):
                print(f"| {' | '.join(row)} |", flush=True)
                flaws += not is_right
    return int(flaws > 0)


def _measured(offer: Offer, postgres: PostgresServer) -> Iterator[tuple[list[str], bool]]:
    alone = 0.0
    for slots in _SLOTS:
        credentials = postgres.new_database()
        seconds = _seconds(slots, offer, credentials)
        alone = alone or seconds
        changed = "count(DISTINCT id) FILTER (WHERE \"current_timestamp\" > '2026-02-01')"
        found = [
            postgres.query(credentials, f"SELECT count(*), {changed} FROM {_name(number)}")
            for number in range(_LOADS)
        ]
        is_right = found == [[(offer.rows, offer.rows)]] * _LOADS
        speed = (60 * _LOADS / seconds, _LOADS * offer.rows / seconds)
        figures = [f"{seconds:.2f}", *(f"{each:,.0f}" for each in speed)]
        ratio = f"{alone / seconds:.2f}"
        yield [str(offer), str(slots), *figures, ratio, "yes" if is_right else "NO"], is_right


def _seconds(slots: int, offer: Offer, credentials: str) -> float:
    """What it takes to load every row anew by so many processes; the first loads do not count."""
    settings = {
        "ANALYTICS_API_KEY": KEY,
        "ANALYTICS_DESTINATION": "postgres",
        "DESTINATION__POSTGRES__CREDENTIALS": credentials,
        "RUNTIME__DLTHUB_TELEMETRY": "false",
    }
    now = datetime.now(timezone.utc).replace(microsecond=0)
    changed = replace(offer, changed=offer.rows, changed_at=now)
    with ProcessPoolExecutor(slots, get_context("spawn"), _begin, (settings,)) as pool:
        with server(Offer(offer.rows)) as base_url:
            list(pool.map(partial(_load, base_url), range(_LOADS)))
        with server(changed) as base_url:
            began = time.perf_counter()
            list(pool.map(partial(_load, base_url), range(_LOADS)))
            return time.perf_counter() - began


def _begin(settings: dict[str, str]) -> None:
    os.environ.update(settings)
    import analytics_dagster.loading  # noqa: F401  imports do not count


def _name(number: int) -> str:
    return f"agents_overview_{number}"


def _load(base_url: str, number: int) -> None:
    from analytics_dagster.api_config import REST_API
    from analytics_dagster.api_reader import read_spec
    from analytics_dagster.loading import load
    from analytics_dagster.resources import AnalyticsApi
    from analytics_dagster.warehouse import Warehouse

    config: Any = copy.deepcopy(REST_API)
    [agents] = [each for each in config["resources"] if each["name"] == "agents_overview"]
    agents["name"] = _name(number)
    config["resources"] = [agents]
    spec = read_spec(config)
    with (
        AnalyticsApi(base_url=base_url).process_config_and_initialize_cm() as api,
        api.connect(spec.client) as transport,
    ):
        load(spec.resources[0], transport, Warehouse())


if __name__ == "__main__":
    sys.exit(main())
