"""Three assets that do nothing, in process: what any run of three assets costs."""

import dagster as dg

from bench import RESOURCES


def _nothing() -> None:
    """Nothing."""


defs = dg.Definitions(
    assets=[dg.asset(name=name)(_nothing) for name in RESOURCES],
    executor=dg.in_process_executor,
)
