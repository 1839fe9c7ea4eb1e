"""The rows of the three resources: what the API says of an entity at an instant (epoch seconds).

All statistics are whole numbers and count from the account's midnight; times are in seconds.
"""

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from analytics_dagster.sandbox.callers import callers_until, line_at
from analytics_dagster.sandbox.day_curve import HOUR, LocalTime
from analytics_dagster.sandbox.people import Account, Agent, Entity, Queue, agents
from analytics_dagster.sandbox.working_day import Figures, figures, lasting, online_between

RINGING = 5  # seconds until an agent picks up

Row = dict[str, Any]  # as JSON has it


def account_row(account: Account, instant: int) -> Row:
    """An account's day so far: the sum of its agents' days, and the callers who reached none."""
    clock = LocalTime.of(account, instant)
    team = (figures(agent, clock) for agent in agents(account.seed) if agent.account is account)
    day = Figures(*map(sum, zip(*team, strict=True)))
    answered = day.calls - day.outbound
    callers = callers_until(clock, account, answered)
    voicemails = callers.voicemail_requests * 4 // 5
    unanswered = callers.abandoned + voicemails
    base = {
        "average_call_duration": average(day.talk + day.hold, day.calls),
        "average_queue_wait_time": callers.average_wait,
        "average_wrap_up_time": average(day.wrap_up, day.calls),
        "max_calls_waiting": callers.most_waiting,
        "max_queue_wait_time": callers.longest_wait,
        "total_call_duration": day.talk + day.hold,
        "total_calls": day.calls + unanswered,
        "total_voicemails": voicemails,
        "total_wrap_up_time": day.wrap_up,
    }
    larger_plan = {
        "average_callback_wait_time": average(lasting(callers.callbacks, 800), callers.callbacks),
        "average_hold_time": average(day.hold, day.held),
        "average_time_to_answer": callers.average_wait + RINGING if answered else 0,
        "total_callback_calls": callers.callbacks,
        "total_calls_abandoned_in_queue": callers.abandoned,
        "total_calls_outside_business_hours": day.outside_hours,
        "total_calls_over_max_wait": callers.waited_too_long,
        "total_voicemail_requests": callers.voicemail_requests,
        "total_hold_time": day.hold,
        "total_inbound_calls": answered + unanswered,
        "total_outbound_calls": day.outbound,
        "total_text_replies_requested": callers.text_replies,
        "total_web_callback_calls": callers.callbacks * 2 // 5,
    }
    return row(account, account, iso(instant), base, larger_plan)


def agent_row(agent: Agent, instant: int) -> Row:
    """An agent's day so far."""
    clock = LocalTime.of(agent.account, instant)
    day = figures(agent, clock)
    available = day.online - day.away - day.talk - day.hold - day.wrap_up
    base = {
        "average_wrap_up_time": average(day.wrap_up, day.calls),
        "total_calls_accepted": day.calls,
        "total_calls_denied": day.denied,
        "total_calls_missed": day.missed,
        "total_talk_time": day.talk,
        "total_wrap_up_time": day.wrap_up,
    }
    larger_plan = {  # times are averaged per call or spell online, events per hour online
        "average_accepted_transfers": average(day.transfers_in * HOUR, day.online),
        "average_available_time": average(available, day.calls),
        "average_away_time": average(day.away, day.spells_online),
        "average_calls_put_on_hold": average(day.held * HOUR, day.online),
        "average_hold_time": average(day.hold, day.held),
        "average_online_time": average(day.online, day.spells_online),
        "average_started_transfers": average(day.transfers_out * HOUR, day.online),
        "average_talk_time": average(day.talk, day.calls),
        "average_transfers_only_time": average(day.transfer_talk, day.transfers_in),
        "total_accepted_transfers": day.transfers_in,
        "total_calls_put_on_hold": day.held,
        "total_hold_time": day.hold,
        "total_started_transfers": day.transfers_out,
    }
    return row(agent, agent.account, iso(instant), base, larger_plan)


def queue_row(queue: Queue, instant: int) -> Row:
    """Who waits in a queue at this moment, and how many agents are there to answer."""
    clock = LocalTime.of(queue.account, instant)
    staff = (agent for agent in agents(queue.seed) if agent.queue is queue)
    online = sum(online_between(agent, clock, seconds=1) for agent in staff)
    line = {"agents_online": online, **line_at(instant, clock, queue)}
    return row(queue, queue.account, instant, line, {})


def row(
    entity: Entity,
    account: Account,
    stamp: int | str,
    base: Mapping[str, int],
    larger_plan: Mapping[str, int],
) -> Row:
    """A row of an account's; its plan decides on values, nulls or nothing for the larger plan's."""
    start = {"id": entity.id, "name": entity.name, "current_timestamp": stamp}
    extras = {"sent": larger_plan, "null": dict.fromkeys(larger_plan), "omitted": {}}
    return {**start, "vendor_account_id": account.id, **base, **extras[account.extras]}


def average(amount: int, count: int) -> int:
    """The rounded average; 0 where nothing was counted."""
    return round(amount / count) if count else 0


def iso(instant: int) -> str:
    """The instant as ISO 8601 in UTC."""
    return datetime.fromtimestamp(instant, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
