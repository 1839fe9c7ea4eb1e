"""The local day of an account: what time it is there, and how busy its call centre is by then."""

from datetime import date, datetime
from itertools import accumulate
from typing import NamedTuple
from zoneinfo import ZoneInfo

from analytics_dagster.sandbox.people import Account

HOUR = 3600
DAY = 24 * HOUR
# Share of an agent's online time that goes into calls, for each local hour: two humps around lunch.
LOAD = (
    *(0.03, 0.02, 0.02, 0.02, 0.03, 0.05, 0.12, 0.30, 0.58, 0.80, 0.88, 0.82),
    *(0.60, 0.64, 0.80, 0.86, 0.74, 0.52, 0.36, 0.25, 0.17, 0.10, 0.06, 0.04),
)
LOAD_BEFORE = tuple(accumulate(LOAD, initial=0.0))


class LocalTime(NamedTuple):
    """An account's date, and the seconds that have really passed there since midnight.

    Not the wall clock's: where a clock goes back, counters must not.
    """

    day: date
    second: int

    @classmethod
    def of(cls, account: Account, instant: int) -> "LocalTime":
        """The local time of an instant (epoch seconds)."""
        here = datetime.fromtimestamp(instant, ZoneInfo(account.zone))
        midnight = here.replace(hour=0, minute=0, second=0, fold=0)
        return cls(here.date(), instant - int(midnight.timestamp()))

    @property
    def hour(self) -> int:
        """The hour of the day, 0..23; the 25th of a long day belongs to the last."""
        return min(self.second // HOUR, 23)


def is_weekend(day: date) -> bool:
    """Whether it is Saturday or Sunday."""
    return day.isoweekday() in {6, 7}


def load_until(second: int) -> float:
    """Integral of the load from midnight to this second of the day: seconds of work per agent."""
    hour, rest = divmod(min(second, DAY), HOUR)
    return LOAD_BEFORE[hour] * HOUR + LOAD[hour % 24] * rest
