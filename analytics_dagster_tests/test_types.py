"""What stands on the wire stands in the table, digit by digit, or its row is kept beside it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from analytics_dagster.api_config import MOST_REJECTED
from analytics_dagster.api_reader import read_spec
from analytics_dagster.api_spec import ApiSpec
from analytics_dagster_tests.conftest import Project
from analytics_dagster_tests.fake_api import Exchange, FakeApi, fault
from analytics_dagster_tests.test_definitions import with_calls

NAME = "calls"
COLUMNS = {
    "id": {"data_type": "bigint", "nullable": False},
    "number": {"data_type": "bigint"},
    "average": {"data_type": "double"},
    "price": {"data_type": "decimal", "precision": 30, "scale": 19},
    "amount": {"data_type": "decimal", "precision": 10, "scale": 2},
    "large": {"data_type": "decimal", "precision": 38, "scale": 0},
    "note": {"data_type": "text"},
    "flag": {"data_type": "bool"},
    "moment": {"data_type": "timestamp"},
    "day": {"data_type": "date"},
    "details": {"data_type": "json"},
}
REJECTED = object()
LONG = "☎" * (5 * 2**20 // 3)
DEEP = 200 * "[" + 200 * "]"

# Column, what the API writes, and what DuckDB reads.
ON_THE_WIRE: list[tuple[str, str, Any]] = [
    *(("number", text, REJECTED) for text in ("3.5", '"many"', "true", '{"a": 1}', "[1]", "1e400")),
    *(("number", text, REJECTED) for text in (str(2**63), str(-(2**63) - 1), str(2**64), "NaN")),
    *(("number", str(n), n) for n in (2**63 - 1, -(2**63), 0)),
    *(("number", text, 250) for text in ("250", "250.0", '"250"')),
    ("number", "9007199254740993.0", 2**53 + 1),
    ("number", "null", None),
    *(("average", text, REJECTED) for text in ("1e400", "-Infinity", "NaN", "true", '"nan"')),
    ("average", "3", 3.0),
    ("average", "33.333333333333333333333333333333", 100 / 3),
    ("price", "1234567.1234567890123456789", Decimal("1234567.1234567890123456789")),
    ("price", '"0.0000000000000000001"', Decimal("1e-19")),
    ("price", "0.1", Decimal("0.1")),
    ("price", "-12", Decimal(-12)),
    *(("price", text, REJECTED) for text in ("0.00000000000000000001", "123456789012", "1e400")),
    *(("price", text, REJECTED) for text in ("NaN", "true", '"many"', "[1]")),
    ("amount", "19.99", Decimal("19.99")),
    ("amount", "19.990", Decimal("19.99")),
    ("amount", "12345678.90", Decimal("12345678.90")),
    *(("amount", text, REJECTED) for text in ("19.999", "123456789.01", "1e10")),
    *(("large", str(n), Decimal(n)) for n in (2**63, 2**64, -(2**100), 10**38 - 1)),
    ("large", '"99999999999999999999999999999999999999"', Decimal(10**38 - 1)),
    *(("large", text, REJECTED) for text in (str(10**38), "9" * 5000, "0.5", f'"{10**400}"')),
    ("note", r'"NUL\u0000here"', "NUL\0here"),
    ("note", r'"\ud83d\ude00 ☎"', "😀 ☎"),
    ("note", f'"{LONG}"', LONG),
    ("note", str(2**80), str(2**80)),
    ("note", '""', ""),
    *(("note", text, REJECTED) for text in (r'"\ud800"', r'"half \udc00"', "3.5", "[]", "{}")),
    ("flag", "true", True),
    *(("flag", text, REJECTED) for text in ("1", '"true"', "[]")),
    ("moment", '"2026-11-23T10:00:00.123456+01:00"', "2026-11-23 09:00:00.123456+00"),
    ("moment", "1795428000", "2026-11-23 10:00:00+00"),
    *(("moment", text, REJECTED) for text in ('""', '"not a date"', '"2026-02-30T00:00:00Z"')),
    *(("moment", text, REJECTED) for text in ("1795428000000", "true", "-1", "[]")),
    ("day", '"2026-11-23"', "2026-11-23"),
    *(("day", text, REJECTED) for text in ('""', '"2026-02-30"', "20260")),
    ("details", '{"a": [1, 1.1234567890123456789]}', '{"a": [1, 1.1234567890123456789]}'),
    ("details", '"text"', '"text"'),
    ("details", DEEP, DEEP),
    *(("details", text, REJECTED) for text in ("[NaN]", r'{"a": "\ud800"}', "1e400")),
]


@fault
def written(exchange: Exchange, rows: list[str]) -> None:
    """Answer with the rows as they are written here."""
    query = exchange.asked.query
    start, size = int(query["offset"]), int(query["limit"])
    page = ", ".join(rows[start : start + size])
    exchange.reply(200, f'{{"data": [{page}], "total": {len(rows)}}}'.encode())


def calls(**columns: Any) -> ApiSpec:
    return read_spec(with_calls(columns=COLUMNS | columns))


@pytest.fixture(autouse=True)
def _any_share_of_bad_rows(monkeypatch: pytest.MonkeyPatch, project: Project, api: FakeApi) -> None:
    monkeypatch.setitem(MOST_REJECTED, NAME, 1)
    project.points_at(api)


def value(project: Project, column: str, number: int) -> list[Any]:
    is_text = column in ("moment", "day", "details")
    shown = f"CAST({column} AS VARCHAR)" if is_text else column
    return [row[0] for row in project.query(f"SELECT {shown} FROM {NAME} WHERE id = {number}")]


@pytest.mark.parametrize("where", ["first", "last"])
def test_every_value_is_stored_as_it_is_written_or_its_row_is_kept(
    project: Project, api: FakeApi, where: str
) -> None:
    """Among good rows, before or after them, on the first run and on a later one."""
    good = [f'{{"id": {n}, "number": {n}, "average": 0.5}}' for n in range(1000, 1300)]
    for run in range(2):
        cases = dict(enumerate(ON_THE_WIRE, start=run * len(ON_THE_WIRE)))
        odd = [f'{{"id": {n}, "{column}": {text}}}' for n, (column, text, _) in cases.items()]
        api.heal()
        api.always(NAME, written(odd + good if where == "first" else good + odd))
        figures = project.run(NAME, spec=calls()).metadata(NAME)
        for number, (column, text, stored) in cases.items():
            found = value(project, column, number)
            assert found == ([] if stored is REJECTED else [stored]), (column, text[:40])
        rejected = [n for n, (*_, stored) in cases.items() if stored is REJECTED]
        assert figures["rows_rejected"] == len(rejected)
        raws = project.query("SELECT raw, reason FROM rejected_rows")
        for number in rejected:
            [(raw, reason)] = [r for r in raws if f'"id": {number},' in r[0]]
            assert reason.startswith(f"{cases[number][0]}: ")
            assert json.loads(raw).keys() == {"id", cases[number][0]}
    assert project.query(f"SELECT count(*) FROM {NAME} WHERE id >= 1000") == [(300,)]


def test_declared_decimals_and_json_have_their_types_in_duckdb(
    project: Project, api: FakeApi
) -> None:
    """With the declared digits; without, those of dlt."""
    api.always(NAME, written([]))
    assert project.run(NAME, spec=calls(plain={"data_type": "decimal"})).success
    types = project.query(
        "SELECT column_name, data_type FROM information_schema.columns "
        f"WHERE table_schema = 'analytics' AND table_name = '{NAME}'"
    )
    found = {name: kind for name, kind in types if name in ("price", "amount", "plain", "details")}
    assert found == {
        "price": "DECIMAL(30,19)",
        "amount": "DECIMAL(10,2)",
        "plain": "DECIMAL(38,9)",
        "details": "JSON",
    }


@pytest.mark.parametrize(
    ("before", "after", "is_taken"),
    [
        ((10, 2), (8, 1), True),
        ((10, 2), (10, 3), False),
        ((10, 2), (9, 0), False),
        ((38, 0), (38, 0), True),
        ((38, 0), (20, 0), True),
        ((38, 0), (38, 1), False),
    ],
)
def test_a_decimal_is_taken_where_the_column_has_all_of_its_digits(
    project: Project,
    api: FakeApi,
    before: tuple[int, int],
    after: tuple[int, int],
    is_taken: bool,  # noqa: FBT001
) -> None:
    """Before and after the point; without a scale as well."""
    api.always(NAME, written(['{"id": 1, "cost": 5}']))
    for (precision, scale), is_right in ((before, True), (after, is_taken)):
        cost = {"data_type": "decimal", "precision": precision, "scale": scale}
        run = project.run(NAME, spec=calls(cost=cost))
        assert run.success == is_right, run.error
    if not is_taken:
        assert f"cost is decimal({', '.join(map(str, before))}) in the table" in run.error


UNDECLARED: list[tuple[str, Any, str]] = [
    ("19.99", 19.99, "DOUBLE"),
    ("1234567890.123456789", "1234567890.123456789", "VARCHAR"),
    (str(2**63), str(2**63), "VARCHAR"),
    (str(-(2**100)), str(-(2**100)), "VARCHAR"),
    (str(2**53 + 1), 2**53 + 1, "BIGINT"),
    ('{"a": 1.1234567890123456789}', '{"a": 1.1234567890123456789}', "VARCHAR"),
]


@pytest.mark.parametrize(("text", "stored", "kind"), UNDECLARED)
def test_a_number_that_nobody_declared_keeps_its_digits(
    project: Project, api: FakeApi, text: str, stored: Any, kind: str
) -> None:
    """As a number where the column can hold it, else as text; the same on the next load."""
    for number in (1, 2):
        api.heal()
        api.always(NAME, written([f'{{"id": {number}, "extra": {text}}}']))
        assert project.run(NAME, spec=calls()).success
        assert project.query(f"SELECT extra, typeof(extra) FROM {NAME} WHERE id = {number}") == [
            (stored, kind)
        ]


def test_a_number_too_long_for_a_double_that_nobody_declared_rejects_its_row(
    project: Project, api: FakeApi
) -> None:
    """The column is one of doubles since the first load: the digits are kept with the row."""
    for number, text in ((1, "1.5"), (2, "1234567890.123456789")):
        api.heal()
        api.always(NAME, written([f'{{"id": {number}, "extra": {text}}}']))
        assert project.run(NAME, spec=calls()).success
    assert project.query(f"SELECT id, extra FROM {NAME}") == [(1, 1.5)]
    [(raw, reason)] = project.query("SELECT raw, reason FROM rejected_rows")
    assert "1234567890.123456789" in raw
    assert reason == "extra: a decimal number has more digits than a double"


@pytest.mark.parametrize(
    ("column", "text", "too_long"),
    [
        ("price", "1.1234567890123456789", "1.12345678901234567891"),
        ("amount", "19.99", "19.999"),
        ("details", '{"a": 1}', "[NaN]"),
    ],
)
def test_a_column_that_is_declared_no_more_keeps_its_type_and_its_digits(
    project: Project, api: FakeApi, column: str, text: str, too_long: str
) -> None:
    """As any column that an earlier load added: nothing is rounded to fit the table."""
    rows = [
        f'{{"id": {n}, "{column}": {found}}}' for n, found in enumerate((text, text, too_long), 1)
    ]
    api.always(NAME, written(rows[:1]))
    assert project.run(NAME, spec=calls()).success
    kept = {name: hints for name, hints in COLUMNS.items() if name != column}
    api.heal()
    api.always(NAME, written(rows))
    run = project.run(NAME, spec=read_spec(with_calls(columns=kept)))
    assert run.metadata(NAME)["rows_rejected"] == 1
    shown = project.query(f"SELECT CAST({column} AS VARCHAR) FROM {NAME} ORDER BY id")
    assert shown == [(text,), (text,)]


ODD_NAMES = [
    "_dlt_id",
    "_dlt_load_id",
    "select",
    "a.b",
    "ünï",
    'quo"te',
    "x" * 300,
    "a b",
    "1st",
    "ID_",
]


@pytest.mark.parametrize("name", ODD_NAMES, ids=lambda name: name[:10])
def test_a_field_of_any_name_is_loaded_every_time(
    project: Project, api: FakeApi, name: str
) -> None:
    """Also one that dlt or SQL uses itself."""
    for number in (1, 2):
        api.heal()
        api.always(NAME, written([json.dumps({"id": number, name: 5 + number})]))
        run = project.run(NAME, spec=calls())
        assert run.success, run.error
        figures = run.metadata(NAME)
        assert (figures["rows_loaded"], figures["rows_rejected"]) == (1, 0)
        assert number == 2 or len(figures["new_fields"]) == 1
    columns = [row[0] for row in project.query(f"DESCRIBE {NAME}") if row[0] not in COLUMNS]
    assert len(columns) == 1
    column = columns[0].replace('"', '""')
    assert project.query(f'SELECT "{column}" FROM {NAME} ORDER BY id') == [(6,), (7,)]
