"""Another destination of dlt's, by dlt's own settings: what it can do, and where it is."""

from __future__ import annotations

from functools import cache
from typing import Any

import dlt
from dlt.common.configuration.exceptions import ConfigurationException

from analytics_dagster.database import DATASET, AnyDestination
from analytics_dagster.errors import SettingError, WarehouseConnectionError
from analytics_dagster.progress import LOGGER


def is_of_dlt(kind: str) -> bool:
    """Whether dlt has a destination of that name."""
    return kind in dlt.destinations.__all__


def lacks(kind: str) -> str:
    """What a destination cannot do that a load needs; empty when it can do all."""
    can = _of_dlt(kind).capabilities()
    needed = {
        "merge rows": can.supported_merge_strategies,
        "take parquet files without a staging area": "parquet"
        in (can.supported_loader_file_formats or ()),
        "replace a table from a staging one": "insert-from-staging"
        in (can.supported_replace_strategies or ()),
        # Where dlt leaves it open, a statement at least is done as a whole.
        "keep others from seeing some of the rows of a statement": can.supports_transactions
        is not False,
    }
    return " or ".join(what for what, is_there in needed.items() if not is_there)


def other_destination(kind: str) -> AnyDestination:
    """The destination, not opened; with transactions wherever it has them.

    dlt's first way to replace a table empties it before it loads.
    """
    how = {"supports_transactions": True, "supports_truncate_command": False}
    more = how if _has_transactions(kind) else {}
    return _of_dlt(kind, replace_strategy="insert-from-staging", **more)


@cache
def tell(kind: str) -> None:
    """Says once what such a destination does not promise."""
    said = f"{kind} is not tested with this project; see the README, Destinations."
    if not _has_transactions(kind):
        said += " It has no transactions: a run that is killed may leave a table without rows"
        said += " until the next one."
    LOGGER.warning(said)


def location(kind: str) -> str:
    """Which database it is, by its settings; it may tell what is secret.

    Raises:
        SettingError: the library of the destination is missing.
        WarehouseConnectionError: there are no whole settings for it.
    """
    destination = other_destination(kind)
    try:
        _ = destination.client_class  # imports the library
        config = destination.spec()
        config.dataset_name = DATASET
        return destination.configuration(config).data_location() or kind
    except ImportError:
        failure: Exception = SettingError(
            f"{kind} is the destination, and a library for it is not installed. Install it: "
            f'pip install "dlt[{kind}]"'
        )
    except (ConfigurationException, ValueError):
        # Not what it says, which may quote the secret.
        failure = WarehouseConnectionError(
            f"There are no whole settings for {kind}. Set {variable(kind)}, or what else dlt's "
            f"documentation of {kind} names, or the same in .dlt/secrets.toml."
        )
    raise failure


def variable(kind: str) -> str:
    """The variable of dlt's that says which database it is."""
    return f"DESTINATION__{kind.upper()}__CREDENTIALS"


def _has_transactions(kind: str) -> bool:
    """Where dlt leaves it open, what has them for changes of tables has them for rows."""
    can = _of_dlt(kind).capabilities()
    said = can.supports_transactions
    return can.supports_ddl_transactions if said is None else said


def _of_dlt(kind: str, **options: Any) -> AnyDestination:
    made: AnyDestination = getattr(dlt.destinations, kind)(**options)
    return made
