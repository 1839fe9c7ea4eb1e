"""What a load needs of the database of a warehouse, whichever it is. No Dagster here.

Another destination is another class with these methods, and a line in warehouse.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import dlt
from dlt.common.destination import Destination
from dlt.destinations.sql_client import SqlClientBase

from analytics_dagster.api_spec import Column
from analytics_dagster.scratch import Scratch

DATASET = "analytics"
AnyDestination = Destination[Any, Any]


@dataclass(frozen=True)
class Question:
    """A question in DuckDB's SQL about a table, named `{table}` there, and parquet files.

    `columns` are those of the table that it needs, and `where` is a clause in any dialect that
    leaves the rows that it needs.
    """

    query: str
    columns: Mapping[str, Column]
    where: str = ""


class Database(Protocol):
    """The database of a warehouse; the tables are in its dataset `analytics`.

    `file_format` is what it loads, and with `has_types` it can be asked for the types of columns.
    """

    @property
    def kind(self) -> str:
        """What it is, as a setting names it."""

    @property
    def setting(self) -> str:
        """The variable that says which one it is."""

    file_format: ClassVar[Literal["parquet", "csv"]]
    has_types: ClassVar[bool]

    def place(self) -> str:
        """Where it is, as a message may show it."""

    def folders(self) -> Sequence[Path]:
        """The folders of this machine that it is in."""

    def is_there(self) -> bool:
        """Whether it can be asked without being made."""

    def shown(self, table: str) -> str:
        """A table as a reader of the database names it."""

    def look(self, table: str) -> str:
        """A command line that shows rows of a table."""

    def one_load(self, resource: str) -> AbstractContextManager[Callable[[], None]]:
        """While the block runs, no other run loads the resource into this database.

        One load reads the API after the other: of two at the same time the one that ends last
        could put old rows over new ones. What it gives raises when that does not hold any more.

        Raises:
            OverlapError: another run loaded the resource for `overlap_timeout` seconds.
            WarehouseError: the database cannot be reached.
        """

    def is_being_loaded(self, resource: str) -> bool:
        """Whether a process that lives loads the resource now."""

    def writing(self, *, alone: bool) -> AbstractContextManager[AnyDestination]:
        """The database as a dlt destination while the block runs.

        It has transactions: dlt merges and replaces by DELETE and INSERT, and without them a
        process that is killed in between leaves the table empty. `alone` says that the block
        makes or fills tables that resources share.

        Raises:
            WarehouseError: it cannot be written, or others write it for too long.
        """

    def asking(
        self, destination: AnyDestination, resource: str
    ) -> AbstractContextManager[SqlClientBase[Any]]:
        """A connection for questions about the tables that a load of the resource writes.

        To be used within `writing`, of which the destination is; asking makes nothing.
        """

    def load_file(self, file: Path, scratch: Scratch) -> Path:
        """The rows of a parquet file in the format that is loaded."""

    def answer(
        self, question: Question, client: SqlClientBase[Any], table: str, scratch: Scratch
    ) -> int:
        """The number that answers a question about a table, asked through such a connection."""


@contextmanager
def dlt_client(destination: AnyDestination, schema: str) -> Iterator[SqlClientBase[Any]]:
    """A connection of dlt's to the dataset, while the block runs."""
    with dlt.dataset(destination, DATASET, dlt.Schema(schema)).sql_client as client:
        yield client


class AskedByDuckDb:
    """The part of a `Database` whose tables, or copies of them, a DuckDB has."""

    file_format: ClassVar[Literal["parquet", "csv"]] = "parquet"
    has_types: ClassVar[bool] = True

    def load_file(self, file: Path, scratch: Scratch) -> Path:  # noqa: ARG002  it is loaded as it is
        """The file itself."""
        return file

    def answer(
        self,
        question: Question,
        client: SqlClientBase[Any],
        table: str,
        scratch: Scratch,  # noqa: ARG002  nothing has to be copied
    ) -> int:
        """The number that answers a question, found where the table is."""
        [[number]] = client.execute_sql(question.query.replace("{table}", table)) or [[0]]
        return int(number)
