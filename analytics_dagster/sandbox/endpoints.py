"""The three endpoints: whose rows each one has, and when a row was last refreshed.

Every entity ticks on a cadence of its own, and its row is the one of its last tick. A row thus
never changes without its `current_timestamp`, which `updated_since` can be trusted for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from analytics_dagster.sandbox.day_curve import HOUR, LocalTime
from analytics_dagster.sandbox.people import Account, Agent, Entity, Queue, accounts, agents, queues
from analytics_dagster.sandbox.rows import Row, account_row, agent_row, queue_row
from analytics_dagster.sandbox.working_day import online_between

EntityT = TypeVar("EntityT", bound=Entity)


@dataclass(frozen=True)
class Endpoint(Generic[EntityT]):
    """One resource of the API: its entities by id, when each last ticked, and its row then."""

    entities: tuple[EntityT, ...]
    last_tick: Callable[[EntityT, int], int]
    row: Callable[[EntityT, int], Row]

    def page(self, now: int, since: float, window: slice) -> tuple[list[Row], int]:
        """The window of the rows refreshed in since..now (epoch seconds), and their full number."""
        ticks = ((entity, self.last_tick(entity, now)) for entity in self.entities)
        refreshed = [(entity, tick) for entity, tick in ticks if tick >= since]
        return [self.row(entity, tick) for entity, tick in refreshed[window]], len(refreshed)


def endpoints(seed: int) -> dict[str, Endpoint[Any]]:
    """Every endpoint by its path; the same seed and instant give the same rows, anywhere."""
    return {
        "/v1/account_overview": Endpoint(accounts(seed), account_tick, account_row),
        "/v1/agents_overview": Endpoint(agents(seed), agent_tick, agent_row),
        "/v1/current_queue_activity": Endpoint(queues(seed), queue_tick, queue_row),
    }


def account_tick(account: Account, now: int) -> int:
    """Accounts refresh every minute."""
    return last_tick(now, 60, account.id * 7)


def queue_tick(queue: Queue, now: int) -> int:
    """Queues refresh every 12 to 20 seconds."""
    return last_tick(now, (12, 15, 20)[queue.id % 3], queue.id * 7)


def agent_tick(agent: Agent, now: int) -> int:
    """Agents refresh every 1 to 5 minutes around their shift, and every hour outside it."""
    period = (60, 90, 120, 180, 240, 300)[agent.id % 6]
    stagger = agent.id * 7
    # Each period divides an hour, so both grids meet and the agent's time never runs back.
    hourly = last_tick(now, HOUR, stagger)
    on_shift = online_between(agent, LocalTime.of(agent.account, hourly), seconds=HOUR)
    return last_tick(now, period, stagger) if on_shift else hourly


def last_tick(now: int, period: int, stagger: int) -> int:
    """The last second up to now that is the stagger and a multiple of the period (seconds)."""
    return now - (now - stagger) % period
