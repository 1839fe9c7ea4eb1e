"""What the bundled demo API promises: an API that behaves, and numbers that hold together."""

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import requests

from analytics_dagster.sandbox.day_curve import LocalTime
from analytics_dagster.sandbox.endpoints import endpoints
from analytics_dagster.sandbox.people import Account, Agent, accounts, agents, queues
from analytics_dagster.sandbox.rows import account_row, agent_row, queue_row
from analytics_dagster.sandbox.server import Sandbox, serve
from analytics_dagster.sandbox.working_day import figures, online_between

PROJECT = Path(__file__).parent.parent
SEED = 7
KEY = "k3y/with+signs"
NOON = datetime(2024, 5, 15, 16, 0, tzinfo=timezone.utc)  # a Wednesday, noon in New York
ACCOUNTS, AGENTS, QUEUES = endpoints(SEED)
COUNTS = {ACCOUNTS: 6, AGENTS: 300, QUEUES: 18}

NAIVE = "2024-05-15T10:00:00"  # in which time zone?

HEADING = ["id", "name", "current_timestamp", "vendor_account_id"]
BASE = {
    ACCOUNTS: """average_call_duration average_queue_wait_time average_wrap_up_time
        max_calls_waiting max_queue_wait_time total_call_duration total_calls total_voicemails
        total_wrap_up_time""",
    AGENTS: """average_wrap_up_time total_calls_accepted total_calls_denied total_calls_missed
        total_talk_time total_wrap_up_time""",
    QUEUES: """agents_online average_wait_time callbacks_waiting calls_waiting
        web_callbacks_waiting longest_wait_time""",
}
LARGER_PLAN = {
    ACCOUNTS: """average_callback_wait_time average_hold_time average_time_to_answer
        total_callback_calls total_calls_abandoned_in_queue total_calls_outside_business_hours
        total_calls_over_max_wait total_voicemail_requests total_hold_time total_inbound_calls
        total_outbound_calls total_text_replies_requested total_web_callback_calls""",
    AGENTS: """average_accepted_transfers average_available_time average_away_time
        average_calls_put_on_hold average_hold_time average_online_time average_started_transfers
        average_talk_time average_transfers_only_time total_accepted_transfers
        total_calls_put_on_hold total_hold_time total_started_transfers""",
    QUEUES: "",
}
# A weekday, a Saturday, and the Sundays on which clocks change in Europe, America and Australia.
DAYS = [
    date(2024, 5, 15),
    date(2024, 5, 18),
    *(date(2024, 3, 31), date(2024, 10, 27)),
    *(date(2024, 3, 10), date(2024, 11, 3)),
    *(date(2024, 10, 6), date(2024, 4, 7)),
]


@pytest.fixture(scope="module")
def api() -> Iterator[Sandbox]:
    with serve(api_key=KEY, seed=SEED, now=lambda: NOON) as running:
        yield running


def get(api: Sandbox, path: str, **parameters: str | float) -> requests.Response:
    return requests.get(api.base_url + path, {"api_key": api.api_key, **parameters}, timeout=10)


def rows(path: str, at: datetime = NOON, seed: int = SEED) -> list[dict[str, Any]]:
    return endpoints(seed)[path].page(int(at.timestamp()), 0, slice(None))[0]


def stamp(row: dict[str, Any]) -> int:
    """A row's timestamp in epoch seconds."""
    if type(row["current_timestamp"]) is int:
        return row["current_timestamp"]
    moment = datetime.strptime(row["current_timestamp"], "%Y-%m-%dT%H:%M:%S%z")
    return int(moment.timestamp())


def midnight(account: Account, day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(account.zone)).timestamp())


def instants(account: Account, day: date, step: int = 1800) -> list[int]:
    """Every half hour of a local day, and its last second."""
    start, end = midnight(account, day), midnight(account, day + timedelta(days=1))
    return [*range(start, end, step), end - 1]


def calls_between(day: date, start: int, end: int) -> int:
    """Calls of all accounts between two local hours."""
    total = 0
    for account in accounts(SEED):
        seconds = (min(hour * 3600, 86399) for hour in (start, end))
        first, last = (account_row(account, midnight(account, day) + second) for second in seconds)
        total += last["total_calls"] - first["total_calls"]
    return total


# The API, over HTTP


@pytest.mark.parametrize("path", COUNTS)
def test_every_endpoint_answers_with_rows_by_id_and_their_total(api: Sandbox, path: str) -> None:
    """A page holds `data`, ordered by id, and `total`, the number of all rows."""
    answer = get(api, path, limit=1000)
    page = answer.json()
    assert answer.status_code == 200
    assert page.keys() == {"data", "total"}
    assert page["total"] == len(page["data"]) == COUNTS[path]
    assert page["data"] == sorted(page["data"], key=lambda row: row["id"])
    assert page["data"] == rows(path)


def test_paging_by_offset_gives_every_row_once(api: Sandbox) -> None:
    """Pages of the default 100 rows put together are the whole table; beyond it, they are empty."""
    pages = [get(api, AGENTS, offset=offset).json() for offset in (0, 100, 200, 300)]
    assert [len(page["data"]) for page in pages] == [100, 100, 100, 0]
    assert {page["total"] for page in pages} == {300}
    assert [row for page in pages for row in page["data"]] == rows(AGENTS)
    assert get(api, AGENTS, limit=7, offset=5).json()["data"] == rows(AGENTS)[5:12]


@pytest.mark.parametrize("wrong", [{}, {"api_key": ""}, {"api_key": "gu3ss"}, {"api_key": "ké"}])
def test_without_the_key_nothing_is_told(api: Sandbox, wrong: dict[str, str]) -> None:
    """A missing or wrong key is a 401 that repeats neither the guess nor the key."""
    answer = requests.get(api.base_url + ACCOUNTS, wrong, timeout=10)
    assert answer.status_code == 401
    assert answer.json().keys() == {"error"}
    assert "gu3ss" not in answer.text
    assert KEY not in answer.text


@pytest.mark.parametrize(
    ("parameter", "allowed", "values"),
    [
        ("limit", "1 to 1000", ["0", "1001", "-1", "ten", "", "1.5", " 5", "1_0", "٣", "9" * 5000]),
        ("offset", "0 or more", ["-1", "ten", "", "1e3", "9" * 5000]),
        ("updated_since", "ISO 8601", ["yesterday", "", "nan", "inf", "2024-05-15", NAIVE]),
    ],
)
def test_a_bad_parameter_is_named_with_what_is_allowed(
    api: Sandbox, parameter: str, allowed: str, values: list[str]
) -> None:
    """A 400 says which parameter is wrong and which values it takes."""
    for value in values:
        answer = get(api, QUEUES, **{parameter: value})
        assert answer.status_code == 400, value
        assert answer.json()["error"].startswith(f"{parameter} must be")
        assert allowed in answer.json()["error"]


def test_a_lost_caller_is_shown_the_endpoints(api: Sandbox) -> None:
    """An unknown path, also one with a slash too many, is a JSON 404 that lists the endpoints."""
    for path in ("/", "/v1/agents", f"{AGENTS}/"):
        answer = requests.get(api.base_url + path, allow_redirects=False, timeout=10)
        assert answer.status_code == 404
        assert answer.json()["endpoints"] == [ACCOUNTS, AGENTS, QUEUES]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_the_api_is_read_only(api: Sandbox, method: str) -> None:
    """Any other method than GET is a 405."""
    answer = requests.request(method, api.base_url + ACCOUNTS, params={"api_key": KEY}, timeout=10)
    assert answer.status_code == 405
    assert "error" in answer.json()


def test_updated_since_gives_just_the_rows_refreshed_since(api: Sandbox) -> None:
    """Rows as new as the given time or newer come, `total` counts them; all notations are equal."""
    since = NOON - timedelta(seconds=60)
    expected = [row for row in rows(AGENTS) if row["current_timestamp"] >= f"{since:%FT%TZ}"]
    sydney = since.astimezone(ZoneInfo("Australia/Sydney"))
    notations = (f"{since:%FT%TZ}", sydney.isoformat(), int(since.timestamp()), since.timestamp())
    assert 0 < len(expected) < 300
    for notation in notations:
        page = get(api, AGENTS, updated_since=notation, limit=10).json()
        assert page == {"data": expected[:10], "total": len(expected)}
    newest = max(row["current_timestamp"] for row in rows(QUEUES))
    assert get(api, QUEUES, updated_since=newest).json()["total"] > 0
    assert get(api, QUEUES, updated_since=newest + 1).json() == {"data": [], "total": 0}


# The server


def test_several_sandboxes_run_side_by_side_and_stop() -> None:
    """Each has a port of its own; after the block nothing listens and no thread is left."""
    before = threading.active_count()
    with serve(now=lambda: NOON) as one, serve(now=lambda: NOON, seed=SEED) as two:
        assert one.base_url != two.base_url
        assert get(one, AGENTS).json() != get(two, AGENTS).json()
        kept_alive = requests.Session()
        kept_alive.get(one.base_url, timeout=10)
    for stopped in (one, two):
        with pytest.raises(requests.ConnectionError):
            get(stopped, AGENTS)
    assert threading.active_count() == before


def test_a_port_can_be_used_again_at_once() -> None:
    """Stopping and starting on the same port works without a pause."""
    with serve() as first:
        get(first, AGENTS)
    port = int(first.base_url.rsplit(":", 1)[1])
    with serve(port) as second:
        assert second.base_url == first.base_url
        assert get(second, AGENTS).ok


def test_a_taken_port_is_named() -> None:
    """Somebody else's port is an OSError with its number, a number that is no port a ValueError."""
    with serve() as api:
        port = int(api.base_url.rsplit(":", 1)[1])
        with pytest.raises(OSError, match=rf"port {port}: .* choose another"), serve(port):
            pass
    for number in (-1, 65536):
        with pytest.raises(ValueError, match=f"65535, not {number}"), serve(number):
            pass


def test_only_this_machine_can_reach_it(api: Sandbox) -> None:
    """The server listens on the loopback interface and nowhere else."""
    port = int(api.base_url.removeprefix("http://127.0.0.1:"))
    with pytest.raises(OSError, match=r"refused|timed out|assign"):
        socket.create_connection(("127.0.0.2", port), timeout=5)


def test_the_key_is_never_shown_and_never_blank(api: Sandbox) -> None:
    """The key is not in the representation, and a blank one, known to all, is refused."""
    assert KEY not in repr(api)
    assert api.base_url in repr(api)
    with pytest.raises(ValueError, match="api_key must not be empty"), serve(api_key=" "):
        pass


def test_the_process_keeps_its_signals_and_its_log_clean(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Serving takes over no signal and writes no line, so no line with the key either."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with caplog.at_level("DEBUG"), serve(api_key=KEY) as api:
        get(api, AGENTS)
        assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert [record for record in caplog.records if record.name.startswith("uvicorn")] == []
    assert capfd.readouterr() == ("", "")


def command(*options: str) -> "subprocess.Popen[str]":
    arguments = [sys.executable, "-m", "analytics_dagster.sandbox", *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(arguments, cwd=PROJECT, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_how_to_call_it_and_stops_when_told(stop: signal.Signals) -> None:
    """It prints URL, key, endpoints and a curl line that works; Ctrl-C and SIGTERM end it well."""
    with command("--port", "0", "--api-key", KEY) as process:
        assert process.stdout is not None
        greeting = [process.stdout.readline() for _ in range(6)]
        url = greeting[-1].split("'")[1]
        answer = requests.get(url, timeout=10)
        process.send_signal(stop)
        rest = process.communicate(timeout=30)
    assert len(answer.json()["data"]) == 2
    assert f"api_key: {KEY}\n" in greeting[1]
    assert [line.split()[-1] for line in greeting[2:5]] == [ACCOUNTS, AGENTS, QUEUES]
    assert (rest, process.returncode) == (("", ""), 0)


def test_the_command_fails_in_one_line(api: Sandbox) -> None:
    """A taken port, a number that is no port or a blank key is one line and exit code 2."""
    taken = api.base_url.rsplit(":", 1)[1]
    for options, problem in (
        (["--port", taken], f"port {taken}"),
        (["--port", "65536"], "65535"),
        (["--port", "-1"], "65535"),
        (["--port", "0", "--api-key", ""], "api_key"),
    ):
        with command(*options) as process:
            output, error = process.communicate(timeout=30)
        assert (output, process.returncode) == ("", 2)
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert problem in error


# The rows


@pytest.mark.parametrize("path", COUNTS)
def test_rows_have_exactly_the_documented_fields(path: str) -> None:
    """Base statistics are always there; the larger plan's are sent, null or left out by account."""
    extras = {account.id: account.extras for account in accounts(SEED)}
    assert set(extras.values()) == {"sent", "null", "omitted"}
    base, larger_plan = BASE[path].split(), LARGER_PLAN[path].split()
    for row in rows(path):
        plan = extras[row["vendor_account_id"]]
        assert set(row) == {*HEADING, *base, *(larger_plan if plan != "omitted" else ())}
        assert all(type(row[name]) is int for name in base)
        values = {type(row[name]) for name in larger_plan if name in row}
        assert values <= ({int} if plan == "sent" else {type(None)})


@pytest.mark.parametrize("path", COUNTS)
def test_every_statistic_is_alive(path: str) -> None:
    """On a busy afternoon no statistic is 0 in all rows."""
    hours = [rows(path, NOON + timedelta(hours=hour)) for hour in range(-6, 6)]
    for name in (BASE[path] + " " + LARGER_PLAN[path]).split():
        assert any(row.get(name) for table in hours for row in table), name


def test_timestamps_come_in_both_notations() -> None:
    """Accounts and agents tell time in ISO 8601 with Z, queues in epoch seconds."""
    for row in rows(ACCOUNTS) + rows(AGENTS):
        moment = datetime.strptime(row["current_timestamp"], "%Y-%m-%dT%H:%M:%S%z")
        assert NOON - timedelta(hours=1) <= moment <= NOON
    assert all(type(row["current_timestamp"]) is int for row in rows(QUEUES))


def test_people_are_believable() -> None:
    """Ids and agents' names are unique, and everybody belongs to an account that exists."""
    tables = {path: rows(path) for path in COUNTS}
    ids = {row["id"] for row in tables[ACCOUNTS]}
    assert all(row["vendor_account_id"] == row["id"] for row in tables[ACCOUNTS])
    assert len({row["name"] for row in tables[AGENTS]}) == 300
    assert len({account.zone for account in accounts(SEED)}) == 6
    for table in tables.values():
        assert {row["vendor_account_id"] for row in table} == ids
        assert len({row["id"] for row in table}) == len(table)


def test_the_same_seed_and_moment_give_the_same_rows_in_any_process() -> None:
    """Rows are a function of seed and time alone; another seed gives other rows."""
    code = f"""if True:
        from analytics_dagster.sandbox.endpoints import endpoints
        for endpoint in endpoints({SEED}).values():
            print(endpoint.page({int(NOON.timestamp())}, 0, slice(None))[0])"""
    environment = {"PYTHONHASHSEED": "1", "PYTHONIOENCODING": "utf-8", "TZ": "Asia/Tokyo"}
    other = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT, env=environment, capture_output=True, encoding="utf-8", check=True, timeout=60,
    )  # fmt: skip
    assert other.stdout.splitlines() == [str(rows(path)) for path in COUNTS]
    assert all(rows(path) != rows(path, seed=SEED + 1) for path in COUNTS)


@pytest.mark.parametrize("path", COUNTS)
def test_a_row_changes_only_together_with_its_timestamp(path: str) -> None:
    """Timestamps never lie ahead or run back, and between two of them a row stays as it is."""
    start = datetime(2024, 5, 15, 10, 50, tzinfo=timezone.utc)
    slowest = {ACCOUNTS: 60, AGENTS: 3600, QUEUES: 20}[path]
    moments = [start + timedelta(seconds=11 * step) for step in range(0, 120, 3)]
    for earlier, later in pairwise(moments):
        for before, after in zip(rows(path, earlier), rows(path, later), strict=True):
            if before["current_timestamp"] == after["current_timestamp"]:
                assert before == after
            else:
                assert before["current_timestamp"] < after["current_timestamp"]
    endpoint = endpoints(SEED)[path]
    entities, last_tick = endpoint.entities, endpoint.last_tick
    for second in range(0, 86400, 977):
        now = int(start.timestamp()) + second
        ticks = [last_tick(entity, now) for entity in entities]
        assert stamp(endpoint.page(now, 0, slice(1))[0][0]) == ticks[0]
        assert all(now - slowest < tick <= now for tick in ticks)
        assert all(last_tick(e, tick) == tick for e, tick in zip(entities, ticks, strict=True))
        assert len(set(ticks)) > 1


def test_agents_at_work_refresh_often_and_others_rarely() -> None:
    """Of who is online, the row is never older than 5 minutes; of most others it is, by night."""
    tick = endpoints(SEED)[AGENTS].last_tick
    ages = {True: [0], False: [0]}
    for now in range(int(NOON.timestamp()), int(NOON.timestamp()) + 86400, 487):
        for agent in agents(SEED)[::4]:
            online = online_between(agent, LocalTime.of(agent.account, now), seconds=1)
            ages[online].append(now - tick(agent, now))
    assert 60 < max(ages[True]) < 300
    assert 3500 < max(ages[False]) < 3600
    assert sum(age > 300 for age in ages[False]) > len(ages[False]) / 2


# The numbers


@pytest.mark.parametrize("day", DAYS, ids=str)
def test_counters_start_at_zero_and_never_fall_until_midnight(day: date) -> None:
    """Every total and maximum is 0 at local midnight and only grows, also where clocks change."""

    def watch(entity: Account | Agent, account: Account, row: Any) -> None:
        table = [row(entity, instant) for instant in instants(account, day)]
        names = [name for name in table[0] if name.startswith(("total_", "max_"))]
        for name in [name for name in names if table[0][name] is not None]:
            values = [row[name] for row in table]
            assert values[0] == 0, name
            assert values == sorted(values), name

    for account in accounts(SEED):
        watch(account, account, account_row)
    for agent in agents(SEED)[::9]:
        watch(agent, agent.account, agent_row)


@pytest.mark.parametrize("day", DAYS, ids=str)
def test_a_day_lasts_as_long_as_it_lasts(day: date) -> None:
    """The seconds of a day are counted as they pass, on days of 23 and 25 hours too."""
    for account in accounts(SEED):
        for instant in instants(account, day):
            assert LocalTime.of(account, instant) == (day, instant - midnight(account, day))


@pytest.mark.parametrize("day", DAYS, ids=str)
def test_at_midnight_everything_is_zero(day: date) -> None:
    """At an account's midnight there is nothing to tell, a second later not more than that."""
    for account in accounts(SEED):
        people = [agent for agent in agents(SEED) if agent.account is account]
        for second in (0, 1):
            now = midnight(account, day) + second
            told = [account_row(account, now), *(agent_row(agent, now) for agent in people)]
            for row in told:
                statistics = [value for name, value in row.items() if name not in HEADING]
                assert all(0 <= (value or 0) <= second for value in statistics)


@pytest.mark.parametrize("day", DAYS, ids=str)
def test_nobody_works_longer_than_they_are_online(day: date) -> None:
    """Talk, hold, wrap-up and breaks fit into the time online, and that into the day so far."""
    for agent in agents(SEED)[::5]:
        for instant in instants(agent.account, day, step=2711):
            clock = LocalTime.of(agent.account, instant)
            done = figures(agent, clock)
            assert done.talk + done.hold + done.wrap_up + done.away <= done.online <= clock.second
            row = agent_row(agent, instant)
            worked = row["total_talk_time"] + row["total_wrap_up_time"]
            assert worked + (row.get("total_hold_time") or 0) <= done.online


@pytest.mark.parametrize("day", DAYS, ids=str)
def test_an_account_is_the_sum_of_its_agents(day: date) -> None:
    """Calls are those its agents took, those given up and those left as voicemail."""
    for account in accounts(SEED):
        for instant in instants(account, day, step=9001):
            row = account_row(account, instant)
            team = [agent_row(a, instant) for a in agents(SEED) if a.account is account]
            accepted, talk, wrap_up, hold = (
                sum(member.get(name) or 0 for member in team)
                for name in (
                    *("total_calls_accepted", "total_talk_time"),
                    *("total_wrap_up_time", "total_hold_time"),
                )
            )
            assert row["total_wrap_up_time"] == wrap_up
            assert row["total_calls"] >= accepted + row["total_voicemails"]
            if account.extras == "sent":
                given_up = row["total_calls_abandoned_in_queue"] + row["total_voicemails"]
                assert row["total_calls"] == accepted + given_up
                assert row["total_call_duration"] == talk + hold
                assert row["total_hold_time"] == hold


@pytest.mark.parametrize("day", DAYS, ids=str)
def test_averages_and_maxima_agree_with_totals(day: date) -> None:
    """Averages are totals by counts, parts are no larger than wholes, maxima than averages."""
    for account in (account for account in accounts(SEED) if account.extras == "sent"):
        for instant in instants(account, day, step=5501):
            row = account_row(account, instant)
            calls = row["total_calls"]
            answered = calls - row["total_calls_abandoned_in_queue"] - row["total_voicemails"]
            assert row["average_call_duration"] == mean(row["total_call_duration"], answered)
            assert row["average_wrap_up_time"] == mean(row["total_wrap_up_time"], answered)
            assert row["max_queue_wait_time"] >= row["average_queue_wait_time"]
            assert row["average_time_to_answer"] >= row["average_queue_wait_time"]
            assert row["total_inbound_calls"] + row["total_outbound_calls"] == calls
            assert row["total_voicemails"] <= row["total_voicemail_requests"]
            assert row["total_web_callback_calls"] <= row["total_callback_calls"]
            assert row["total_calls_outside_business_hours"] <= calls
            assert not row["total_calls_over_max_wait"] or row["max_queue_wait_time"] >= 120
    for agent in (agent for agent in agents(SEED)[::9] if agent.account.extras == "sent"):
        for instant in instants(agent.account, day, step=5501):
            row = agent_row(agent, instant)
            calls, held = row["total_calls_accepted"], row["total_calls_put_on_hold"]
            assert row["average_talk_time"] == mean(row["total_talk_time"], calls)
            assert row["average_wrap_up_time"] == mean(row["total_wrap_up_time"], calls)
            assert row["average_hold_time"] == mean(row["total_hold_time"], held)
            assert held <= calls


def mean(total: int, count: int) -> int:
    return round(total / count) if count else 0


@pytest.mark.parametrize("day", DAYS, ids=str)
def test_a_queue_shows_a_picture_of_this_moment(day: date) -> None:
    """Nobody waiting means no wait, the longest wait is the longest, and the account agrees."""
    for account in accounts(SEED):
        lines = [queue for queue in queues(SEED) if queue.account is account]
        for instant in instants(account, day, step=5501):
            table = [queue_row(line, instant) for line in lines]
            for row in table:
                waiting, longest = row["calls_waiting"], row["longest_wait_time"]
                assert (waiting > 0) == (longest > 0)
                assert 0 <= row["average_wait_time"] <= longest
                assert waiting != 1 or row["average_wait_time"] == longest
                assert 0 <= row["agents_online"] <= account.staff_per_queue
            most = account_row(account, instant)["max_calls_waiting"]
            assert sum(row["calls_waiting"] for row in table) <= most


def test_calls_follow_the_business_day() -> None:
    """Calls come in two humps around lunch, nearly none by night, and fewer at the weekend."""
    weekday, saturday = DAYS[:2]
    morning, lunch = calls_between(weekday, 9, 11), calls_between(weekday, 12, 14)
    afternoon, night = calls_between(weekday, 14, 16), calls_between(weekday, 0, 6)
    assert morning > lunch < afternoon
    assert 0 < night < 0.01 * calls_between(weekday, 0, 24)
    assert 0 < calls_between(saturday, 0, 24) < 0.5 * calls_between(weekday, 0, 24)
