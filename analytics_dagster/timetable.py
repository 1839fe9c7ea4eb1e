"""When incremental loads run by themselves, and how old rows may grow before they are late."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from croniter import croniter

from analytics_dagster.errors import SettingError

CRON_VARIABLE = "ANALYTICS_SCHEDULE"
TIME_ZONE_VARIABLE = "ANALYTICS_TIME_ZONE"
EVERY_QUARTER_OF_AN_HOUR = "*/15 * * * *"
_CRON_FIELDS = 5


@dataclass(frozen=True)
class Timetable:
    """A cron string, its time zone, and the longest pause between two ticks."""

    cron: str
    time_zone: str
    pause: timedelta

    @property
    def warned_after(self) -> timedelta:
        """How old a load may grow until Dagster warns: a tick brought none."""
        return 2 * self.pause

    @property
    def late_after(self) -> timedelta:
        """How old a load may grow until it is late: a second tick brought none."""
        return 3 * self.pause


def timetable() -> Timetable:
    """The timetable of the environment; by default every 15 minutes.

    Raises:
        SettingError: the cron string or the time zone is none.
    """
    cron = os.environ.get(CRON_VARIABLE, EVERY_QUARTER_OF_AN_HOUR)
    time_zone = os.environ.get(TIME_ZONE_VARIABLE, "UTC")
    try:
        if len(croniter.expand(cron)[0]) == _CRON_FIELDS:
            return Timetable(cron, time_zone, _longest_pause(cron, ZoneInfo(time_zone)))
    except (ValueError, KeyError, OSError):  # as croniter and zoneinfo say what is none
        pass
    raise SettingError(
        f"{CRON_VARIABLE}={cron!r} or {TIME_ZONE_VARIABLE}={time_zone!r} cannot be used. Set "
        f"the one to a cron string like {EVERY_QUARTER_OF_AN_HOUR!r}, the other to a time "
        "zone like 'Europe/Berlin', or unset them."
    )


@cache
def _longest_pause(cron: str, time_zone: ZoneInfo) -> timedelta:
    """Looked for around every hour of a week: a pause that matters cannot hide."""
    now = datetime.now(time_zone)
    pauses = []
    for hours in range(7 * 24):
        ticks = croniter(cron, now + timedelta(hours=hours))
        later: float = ticks.get_next(float)
        pauses.append(later - ticks.get_prev(float))
    return timedelta(seconds=max(pauses))
