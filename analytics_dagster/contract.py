"""The contract between the API and a table: rows in, typed Arrow tables and rejected rows out.

A batch is cast in one go by Arrow; only a batch that does not pass is looked at row by row.
A row that breaks the contract is kept with the reason and its raw JSON, and the others load.
A field that no column declares is added as a column of the type that it first shows; when
that type is text, whatever else comes for it later is written as JSON.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from hashlib import sha256
from typing import Any

import dlt
import pyarrow as pa
import simplejson

from analytics_dagster.api_spec import Column, DataType, Resource
from analytics_dagster.columns import NEUTRAL_NAMES, api_name
from analytics_dagster.errors import FieldCollisionError
from analytics_dagster.values import UnfitError, arrow_type, fit, from_wire

REJECTED_COLUMNS = {
    "rejected_id": Column(
        data_type="text",
        nullable=False,
        description="Hash of resource, key and reason: a row that stays bad is kept once",
    ),
    "resource": Column(
        data_type="text", nullable=False, description="The resource that the row came from"
    ),
    "reason": Column(
        data_type="text", nullable=False, description="Which column the row broke, and how"
    ),
    "raw": Column(
        data_type="text", nullable=False, description="The row as the API last sent it, as JSON"
    ),
    "rejected_at": Column(
        data_type="timestamp", nullable=False, description="When the row was last rejected"
    ),
}


@dataclass(frozen=True)
class Batch:
    """The rows that keep the contract, and those that do not, each as an Arrow table."""

    accepted: pa.Table
    rejected: pa.Table


@dataclass
class Findings:
    """What the contract saw so far; fields are named as the columns that they become.

    `reasons` counts each rejected row once; when it is read again it is one of `duplicates`.
    `undeclared` are the columns that were added, now or earlier.
    `rows_with` counts the rows that had the field of a column, of `objects` rows that have fields.
    """

    reasons: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    objects: int = 0
    rows_with: Counter[str] = field(default_factory=Counter)
    undeclared: dict[str, Column] = field(default_factory=dict)
    new_fields: dict[str, str] = field(default_factory=dict)

    @property
    def seen_columns(self) -> set[str]:
        """The columns whose field any row had."""
        return set(self.rows_with)

    def lacking(self, columns: Iterable[str]) -> dict[str, int]:
        """Those of the columns whose field some rows did not have, and how many did not."""
        lacked = {name: self.objects - self.rows_with[name] for name in columns}
        return {name: rows for name, rows in lacked.items() if rows}

    @property
    def rejected(self) -> int:
        """Rows that broke the contract."""
        return self.reasons.total()


class Contract:
    """The declared columns of one resource, and the undeclared ones that were met.

    Args:
        resource: the resource, whose columns are declared.
        known: undeclared columns of the table from earlier loads.
    """

    def __init__(self, resource: Resource, known: Mapping[str, Column]) -> None:
        self.findings = Findings(undeclared=dict(known))
        self._resource = resource.name
        self._declared = resource.columns
        self._key = [api_name(column) for column in resource.primary_key]
        self._columns = {**resource.columns, **known}
        self._field_of = {name: api_name(name) for name in self._columns}
        self._normalize = dlt.Schema(resource.name).naming.normalize_identifier
        self._met: dict[str, str] = {}
        self._nameless: set[str] = set()
        self._rejected: set[str] = set()

    def batch(self, rows: list[Any]) -> Batch:
        """The rows as Arrow tables: accepted ones typed, rejected ones with their reasons.

        Raises:
            FieldCollisionError: two fields would become one column.
        """
        self._meet([row for row in rows if isinstance(row, dict)])
        rejected: list[dict[str, Any]] = []
        accepted = self._cast(rows)
        if accepted is None:
            fitted = [kept for row in rows if (kept := self._fit(row, rejected)) is not None]
            accepted = pa.Table.from_pylist(fitted, schema=_schema(self._columns))
        return Batch(accepted, pa.Table.from_pylist(rejected, schema=_schema(REJECTED_COLUMNS)))

    def _meet(self, rows: list[dict[str, Any]]) -> None:
        """Gives every field of the rows its column, and counts the rows that have it."""
        fields = set().union(*rows)
        self._name_columns(rows, fields)
        self.findings.objects += len(rows)
        shapes = Counter(tuple(row) for row in rows if len(row) < len(fields))
        shapes[tuple(fields)] += len(rows) - shapes.total()
        for shape, count in shapes.items():
            for name in self._met.keys() & shape:
                self.findings.rows_with[self._met[name]] += count

    def _name_columns(self, rows: list[dict[str, Any]], fields: set[str]) -> None:
        for name in sorted(fields - self._met.keys() - self._nameless):
            column = self._column_of(name)
            if not column:
                self._nameless.add(name)
                continue
            other = next((f for f, met in self._met.items() if met == column), None)
            if other is not None:
                raise FieldCollisionError(
                    f"{self._resource}: the fields {other!r} and {name!r} would both become the "
                    f"column {column!r}, and one would be lost. Give one of them a name of its "
                    "own in columns.NEUTRAL_NAMES."
                )
            if column not in self._columns:
                kind = _kind([row[name] for row in rows if row.get(name) is not None])
                self.findings.new_fields[column] = kind.data_type if kind else "null so far"
                if kind is None:
                    continue
                self._columns[column] = self.findings.undeclared[column] = kind
            self._met[name] = column
            self._field_of[column] = name

    def _column_of(self, name: str) -> str:
        """The column of a field, or nothing when the name is none."""
        try:
            name.encode()
            column = NEUTRAL_NAMES.get(name) or self._normalize(name)
        except ValueError:
            return ""
        return NEUTRAL_NAMES.get(column, column)

    def _cast(self, rows: list[Any]) -> pa.Table | None:
        """The rows cast column by column, or None when one of them has to be looked at."""
        fields = [self._field_of[name] for name in self._columns]
        try:
            if self._nameless and any(self._nameless & row.keys() for row in rows):
                return None
            arrays = [
                _cast([row.get(field) for row in rows], column)
                for field, column in zip(fields, self._columns.values(), strict=True)
            ]
        except (AttributeError, UnfitError):  # a row that is no object, or a value
            return None
        return pa.Table.from_arrays(arrays, schema=_schema(self._columns))

    def _fit(self, row: Any, rejected: list[dict[str, Any]]) -> dict[str, Any] | None:
        """The row with every value as its type; or None, and the row is among the rejected."""
        try:
            if not isinstance(row, dict):
                raise UnfitError("the row is no object")  # noqa: TRY301  told as the values are
            if self._nameless & row.keys():
                raise UnfitError("a field has no name")  # noqa: TRY301
            return {name: self._fit_value(name, row) for name in self._columns}
        except UnfitError as unfit:
            reason = str(unfit)
        raw = _json(row) or '"nested too deeply to be kept"'
        identity = self._identity(row, reason, raw)
        if identity in self._rejected:
            self.findings.duplicates += 1
            return None
        self._rejected.add(identity)
        self.findings.reasons[reason] += 1
        values = (identity, self._resource, reason, raw, datetime.now(timezone.utc))
        rejected.append(dict(zip(REJECTED_COLUMNS, values, strict=True)))
        return None

    def _identity(self, row: Any, reason: str, raw: str) -> str:
        """What tells a rejected row: its key, or all of it where the key is what is wrong."""
        key = [row.get(name) for name in self._key] if isinstance(row, dict) else [None]
        told_by = raw if None in key else f"{reason}\n{key}"
        return sha256(f"{self._resource}\n{told_by}".encode(errors="replace")).hexdigest()

    def _fit_value(self, name: str, row: dict[str, Any]) -> Any:
        column, value = self._columns[name], row.get(self._field_of[name])
        if value is None and not column.nullable:
            raise UnfitError(f"{name}: missing or null")
        try:
            if name not in self._declared:
                return _fit_undeclared(value, column)
            return fit(value, column)
        except UnfitError as unfit:
            raise UnfitError(f"{name}: {unfit}") from None


def _cast(values: list[Any], column: Column) -> pa.Array:
    """Arrow says which type the values have: told which to make, it would cut 3.5 to 3.

    Raises:
        UnfitError: some value may not fit.
    """
    # Among numbers Arrow takes a boolean for one.
    if column.data_type in ("double", "decimal") and bool in set(map(type, values)):
        raise UnfitError
    try:
        array = from_wire(pa.array(values), column)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        array = None
    if array is None or (array.null_count and not column.nullable):
        raise UnfitError
    return array


def _fit_undeclared(value: Any, column: Column) -> Any:
    """As `fit`, but a text takes anything as JSON, and nobody asked a double to round."""
    if column.data_type == "text" and not isinstance(value, str | None):
        return _json(value) or fit(value, column)
    if column.data_type == "double" and isinstance(value, Decimal):
        raise UnfitError("a decimal number has more digits than a double")
    return fit(value, column)


def _schema(columns: Mapping[str, Column]) -> pa.Schema:
    return pa.schema(
        pa.field(name, arrow_type(column), nullable=column.nullable)
        for name, column in columns.items()
    )


def _json(value: Any) -> str:
    """The value as JSON, or nothing when it is nested more deeply than Python follows."""
    try:
        return str(simplejson.dumps(value, allow_nan=True))
    except RecursionError:
        return ""


def _kind(values: list[Any]) -> Column | None:
    """The column of an undeclared field by its values, or None without a value."""
    found = {_kind_of(value) for value in values}
    if found == {"bigint", "double"}:
        found = {"double"}
    kind = found.pop() if len(found) == 1 else "text"
    return Column(data_type=kind) if values else None


def _kind_of(value: Any) -> DataType:
    if type(value) is int and not -(2**63) <= value < 2**63:
        return "text"
    kinds: dict[type, DataType] = {bool: "bool", int: "bigint", float: "double"}
    return kinds.get(type(value), "text")
