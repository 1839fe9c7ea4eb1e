"""Three assets that do nothing, in process: what any run of three assets costs."""

import dagster as dg


@dg.asset
def account_overview() -> None:
    """Nothing."""


@dg.asset
def agents_overview() -> None:
    """Nothing."""


@dg.asset
def current_queue_activity() -> None:
    """Nothing."""


defs = dg.Definitions(
    assets=[account_overview, agents_overview, current_queue_activity],
    executor=dg.in_process_executor,
)
