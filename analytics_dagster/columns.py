"""The columns of the three resources: type, nullability, description. Nothing else belongs here.

Statistics count from midnight of the account's time zone until now; times are in seconds.
An *expected* statistic comes with every plan of the API; the others come with the larger plan
only and are absent or null elsewhere.
"""

from typing import Any, cast

from dlt.common.schema.typing import TColumnSchema, TTableSchemaColumns

NEUTRAL_NAMES = {"vendor_account_id": "customer_id"}
"""Field of the API to column, where they differ: vendor names stay out of the warehouse."""


def api_name(column: str) -> str:
    """The field of the API that a column is loaded from."""
    return next((field for field, name in NEUTRAL_NAMES.items() if name == column), column)


STATISTICS = {
    "agents_online": "Agents online now",
    "average_accepted_transfers": "Average accepted transfers per call",
    "average_available_time": "Average time available for calls, seconds",
    "average_away_time": "Average time away, seconds",
    "average_call_duration": "Average length of a call, seconds",
    "average_callback_wait_time": "Average wait for a callback, seconds",
    "average_calls_put_on_hold": "Average number of calls put on hold",
    "average_hold_time": "Average time on hold, seconds",
    "average_online_time": "Average time online, seconds",
    "average_queue_wait_time": "Average wait in a queue, seconds",
    "average_started_transfers": "Average started transfers per call",
    "average_talk_time": "Average time talking per call, seconds",
    "average_time_to_answer": "Average time until a call was answered, seconds",
    "average_transfers_only_time": "Average time on transferred calls only, seconds",
    "average_wait_time": "Average wait of the calls in the queue now, seconds",
    "average_wrap_up_time": "Average wrap-up after a call, seconds",
    "callbacks_waiting": "Callbacks waiting now",
    "calls_waiting": "Calls waiting now",
    "longest_wait_time": "Longest wait in the queue now, seconds",
    "max_calls_waiting": "Most calls that waited at the same time",
    "max_queue_wait_time": "Longest wait in a queue, seconds",
    "total_accepted_transfers": "Transfers accepted",
    "total_call_duration": "Length of all calls together, seconds",
    "total_callback_calls": "Calls made as callbacks",
    "total_calls": "Calls",
    "total_calls_abandoned_in_queue": "Calls whose caller hung up in the queue",
    "total_calls_accepted": "Calls accepted",
    "total_calls_denied": "Calls denied",
    "total_calls_missed": "Calls missed",
    "total_calls_outside_business_hours": "Calls outside business hours",
    "total_calls_over_max_wait": "Calls that waited longer than the longest allowed wait",
    "total_calls_put_on_hold": "Calls put on hold",
    "total_hold_time": "Time on hold of all calls together, seconds",
    "total_inbound_calls": "Inbound calls",
    "total_outbound_calls": "Outbound calls",
    "total_started_transfers": "Transfers started",
    "total_talk_time": "Time talking of all calls together, seconds",
    "total_text_replies_requested": "Text replies requested",
    "total_voicemail_requests": "Callers who asked for voicemail",
    "total_voicemails": "Voicemails left",
    "total_web_callback_calls": "Calls made as web callbacks",
    "total_wrap_up_time": "Wrap-up after all calls together, seconds",
    "web_callbacks_waiting": "Web callbacks waiting now",
}

IDENTITY: TTableSchemaColumns = {
    "id": {
        "data_type": "bigint",
        "nullable": False,
        "description": "Primary key: the account, agent or queue that the row is about",
    },
    "name": {"data_type": "text", "description": "Name of the account, agent or queue"},
    "current_timestamp": {
        "data_type": "timestamp",
        "nullable": False,
        "description": "When the row was current: the cursor of incremental loads",
    },
    "customer_id": {"data_type": "bigint", "description": "The account that the row belongs to"},
}


def statistics_columns(*, expected: str, larger_plan: str = "") -> TTableSchemaColumns:
    """The columns of one resource: identity first, then the named statistics as bigint."""
    statistics = {name: _statistic(name, expected=True) for name in expected.split()}
    optional = {name: _statistic(name, expected=False) for name in larger_plan.split()}
    return IDENTITY | statistics | optional


def _statistic(name: str, *, expected: bool) -> TColumnSchema:
    column: dict[str, Any] = {
        "data_type": "bigint",
        "description": STATISTICS[name],
        # A count or a number of seconds below zero is a mistake of the API.
        "x-minimum": 0,
    }
    if expected:
        column["x-expected"] = True
    return cast(TColumnSchema, column)


ACCOUNT_OVERVIEW = statistics_columns(
    expected="""
        average_call_duration average_queue_wait_time average_wrap_up_time max_calls_waiting
        max_queue_wait_time total_call_duration total_calls total_voicemails total_wrap_up_time
    """,
    larger_plan="""
        average_callback_wait_time average_hold_time average_time_to_answer total_callback_calls
        total_calls_abandoned_in_queue total_calls_outside_business_hours
        total_calls_over_max_wait total_voicemail_requests total_hold_time total_inbound_calls
        total_outbound_calls total_text_replies_requested total_web_callback_calls
    """,
)

AGENTS_OVERVIEW = statistics_columns(
    expected="""
        average_wrap_up_time total_calls_accepted total_calls_denied total_calls_missed
        total_talk_time total_wrap_up_time
    """,
    larger_plan="""
        average_accepted_transfers average_available_time average_away_time
        average_calls_put_on_hold average_hold_time average_online_time
        average_started_transfers average_talk_time average_transfers_only_time
        total_accepted_transfers total_calls_put_on_hold total_hold_time total_started_transfers
    """,
)

CURRENT_QUEUE_ACTIVITY = statistics_columns(
    expected="""
        agents_online average_wait_time callbacks_waiting calls_waiting web_callbacks_waiting
        longest_wait_time
    """,
)
