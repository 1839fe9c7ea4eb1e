"""When agents work, and what they have done by a given second of their account's local day.

All of it follows in closed form from the day curve: it says for how much work an agent's time
online has had room, the work gives the calls, and the calls give the rest. So every figure only
grows until midnight, and talk, hold and wrap-up always fit into the time online.
"""

import math
from datetime import date
from functools import lru_cache
from typing import NamedTuple

from analytics_dagster.sandbox.day_curve import DAY, HOUR, LocalTime, is_weekend, load_until
from analytics_dagster.sandbox.people import Agent

OPENING, CLOSING = 8 * HOUR, 18 * HOUR  # of the business, on business days
NIGHT_SHIFT = 0.04  # share of agents

Spells = tuple[tuple[int, int], ...]  # online from, until: seconds since midnight


class Figures(NamedTuple):
    """What an agent, or a team, has done since midnight; times in seconds."""

    calls: int
    outbound: int
    outside_hours: int
    talk: int
    wrap_up: int
    held: int
    hold: int
    transfers_in: int
    transfers_out: int
    transfer_talk: int
    missed: int
    denied: int
    away: int
    online: int
    spells_online: int


def figures(agent: Agent, clock: LocalTime) -> Figures:
    """What an agent has done until now; how, differs between people and a little between days."""
    habits, today = agent.dice("habits"), agent.dice(clock.day)
    talk, wrap_up, hold = habits.uniform(150, 330), habits.uniform(15, 55), habits.uniform(40, 120)
    pace, held_share = today.uniform(0.8, 1.0), today.uniform(0.1, 0.3)

    def calls_until(second: int) -> int:
        online = spells_until(second, agent, clock.day)
        room = sum(load_until(end) - load_until(start) for start, end in online)
        return int(pace * room / (talk + wrap_up + held_share * hold))

    def some(typical_share: float) -> int:
        return int(calls * typical_share * today.uniform(0.5, 1.5))

    calls = calls_until(clock.second)
    in_hours = calls_until(min(clock.second, CLOSING)) - calls_until(min(clock.second, OPENING))
    held, transfers_in = int(calls * held_share), some(0.07)
    spells = spells_until(clock.second, agent, clock.day)
    online = sum(end - start for start, end in spells)
    return Figures(
        calls=calls,
        outbound=some(0.18),
        outside_hours=calls if is_weekend(clock.day) else calls - in_hours,
        talk=lasting(calls, talk),
        wrap_up=lasting(calls, wrap_up),
        held=held,
        hold=lasting(held, hold),
        transfers_in=transfers_in,
        transfers_out=some(0.06),
        transfer_talk=lasting(transfers_in, 0.8 * talk),
        missed=some(0.06),
        denied=some(0.02),
        away=int(online * habits.uniform(0.03, 0.08)),
        online=online,
        spells_online=len(spells),
    )


@lru_cache(maxsize=2048)
def shift(agent: Agent, day: date) -> Spells:
    """When an agent is online: mostly twice around a break, by night for a few, or not at all."""
    habits, today = agent.dice("shift"), agent.dice("shift", day)
    if today.random() > (0.25 if is_weekend(day) else 0.88):
        return ()
    if habits.random() < NIGHT_SHIFT:
        return (0, 6 * HOUR), (22 * HOUR, DAY)
    start = habits.choice((7, 8, 8, 8, 9, 9, 9, 10, 11, 13)) * HOUR + today.randrange(HOUR // 4)
    back = start + 19 * HOUR // 4
    return (start, start + 4 * HOUR), (back, back + 4 * HOUR)


def spells_until(second: int, agent: Agent, day: date) -> Spells:
    """The part of an agent's shift that has passed by this second of the day."""
    return tuple((start, min(end, second)) for start, end in shift(agent, day) if start < second)


def online_between(agent: Agent, clock: LocalTime, seconds: int) -> bool:
    """Whether the agent is online at any of so many seconds from now on."""
    spells, last = shift(agent, clock.day), clock.second + seconds
    return any(start < last and clock.second < end for start, end in spells)


def lasting(count: int, mean: float) -> int:
    """Seconds that so many events took: at most `count * mean`, and no two the same."""
    return int(mean * (count + (math.sin(count) - 1) / 2)) if count else 0
