"""What callers meet with: how many wait, how long, and who gives up. It follows the day curve."""

import math
from typing import NamedTuple

from analytics_dagster.sandbox.day_curve import LOAD, LocalTime, is_weekend, load_until
from analytics_dagster.sandbox.people import Account, Queue

MAX_WAIT = 120  # seconds a caller should wait at most
UNLOADED = 0.6  # of the usual wait remains without any load


class Callers(NamedTuple):
    """How an account's inbound callers have fared since midnight; waits in seconds."""

    average_wait: int
    longest_wait: int
    most_waiting: int
    waited_too_long: int
    abandoned: int
    callbacks: int
    text_replies: int
    voicemail_requests: int


def callers_until(clock: LocalTime, account: Account, answered: int) -> Callers:
    """How callers have fared until now, given how many of them an agent has answered."""
    callers, wait = _full_load(account, clock)
    peak, usual = max(LOAD[: clock.hour + 1]), load_until(clock.second) / max(clock.second, 1)
    today = account.dice("callers", clock.day)
    abandoned, callbacks, text_replies, voicemail_requests = (
        int(answered * share * today.uniform(0.7, 1.3)) for share in (0.07, 0.05, 0.03, 0.05)
    )
    return Callers(
        average_wait=round(wait * (UNLOADED + usual)) if answered else 0,
        # Waits are about exponential: this is the largest of so many, and the share past a limit.
        longest_wait=round(wait * (UNLOADED + peak) * (1 + math.log(answered))) if answered else 0,
        most_waiting=max(int(callers * peak), min(answered, 1)),
        waited_too_long=int(answered * math.exp(-MAX_WAIT / wait)),
        abandoned=abandoned,
        callbacks=callbacks,
        text_replies=text_replies,
        voicemail_requests=voicemail_requests,
    )


def line_at(instant: int, clock: LocalTime, queue: Queue) -> dict[str, int]:
    """Who waits in a queue; all queues together never beat their account's `most_waiting`."""
    dice, load = queue.dice(instant), LOAD[clock.hour]
    callers, wait = _full_load(queue.account, clock)
    callers *= load / len(queue.account.queue_names)
    calls, callbacks, web = (int(callers * share * dice.random()) for share in (1, 0.5, 0.3))
    longest = round(wait * (UNLOADED + load) * dice.uniform(0.4, 2)) if calls else 0
    return {
        "average_wait_time": longest if calls == 1 else round(longest * dice.uniform(0.4, 0.9)),
        "callbacks_waiting": callbacks,
        "calls_waiting": calls,
        "web_callbacks_waiting": web,
        "longest_wait_time": longest,
    }


def _full_load(account: Account, clock: LocalTime) -> tuple[float, float]:
    """What a load of 1 would mean today: callers waiting at once, and seconds that one waits."""
    today, staff = account.dice("waiting", clock.day), account.staff_per_queue
    callers = staff * len(account.queue_names) * (0.05 if is_weekend(clock.day) else 0.3)
    return callers * today.uniform(0.6, 1.2), account.wait * today.uniform(0.7, 1.4)
