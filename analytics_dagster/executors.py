"""Where the steps of a run work: in its process, beside it, or on other machines."""

from __future__ import annotations

import os
from collections.abc import Callable

import dagster as dg

from analytics_dagster.errors import SettingError
from analytics_dagster.warehouse import DESTINATION_VARIABLE, Warehouse

EXECUTOR_VARIABLE = "ANALYTICS_EXECUTOR"


def _celery() -> dg.ExecutorDefinition:
    from dagster_celery import celery_executor

    # The names are Celery's own: its workers read them as well. As references they are resolved
    # by the run, so that no password of a broker is kept in a definition.
    config = {
        "broker": {"env": "CELERY_BROKER_URL"},
        "backend": {"env": "CELERY_RESULT_BACKEND"},
        # A run waits for results while the place where they are kept is restarted.
        "config_source": {"result_backend_always_retry": True},
    }
    executor: dg.ExecutorDefinition = celery_executor.configured(config, name="celery")
    return executor


def _kubernetes() -> dg.ExecutorDefinition:
    from dagster_k8s import k8s_job_executor

    executor: dg.ExecutorDefinition = k8s_job_executor
    return executor


# DuckDB has one writer, and a process per step costs more than the load.
_DEFAULT = "in_process"
_HERE: dict[str, Callable[[], dg.ExecutorDefinition]] = {
    _DEFAULT: lambda: dg.in_process_executor,
    "multiprocess": lambda: dg.multiprocess_executor,
}
_ELSEWHERE = {"celery": _celery, "kubernetes": _kubernetes}


def build_executor(warehouse: Warehouse) -> dg.ExecutorDefinition:
    """The executor that the environment names.

    Raises:
        SettingError: there is none of this name, its library is missing, or its machines would
            each load into a file of their own.
    """
    name = os.environ.get(EXECUTOR_VARIABLE, _DEFAULT)
    makers = _HERE | _ELSEWHERE
    if name not in makers:
        raise SettingError(
            f"{EXECUTOR_VARIABLE}={name!r} is no executor. Set it to one of {', '.join(makers)}, "
            f"or unset it to use {_DEFAULT}."
        )
    if name in _ELSEWHERE and warehouse.kind() == "duckdb":
        raise SettingError(
            f"{EXECUTOR_VARIABLE}={name} puts steps on other machines, and {DESTINATION_VARIABLE}="
            "duckdb is a file of one machine. Set the destination to postgres, for example."
        )
    try:
        return makers[name]()
    except ImportError:
        pass
    raise SettingError(
        f"{EXECUTOR_VARIABLE}={name}, and its library is not installed. Install it: "
        f'pip install -e ".[{name}]"'
    )
