"""What the contract promises: good rows in typed tables, every other row kept, and why."""

import json
import math
import random
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any, TypeAlias, get_args

import pyarrow as pa
import pytest

from analytics_dagster.api_spec import ApiSpec, Column, DataType, Resource
from analytics_dagster.columns import api_name
from analytics_dagster.contract import Contract
from analytics_dagster.errors import FieldCollisionError
from analytics_dagster.values import UnfitError, arrow_type, fit

Json: TypeAlias = Any

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
EPOCH = 1772366400
INF, NAN = math.inf, math.nan
MONEY = Decimal("1234567890.123456789")  # a double has digits for 1234567890.1234567

FITS: dict[str, list[tuple[Json, Json]]] = {
    "bigint": [
        *((0, 0), (-5, -5), (2**53 + 1, 2**53 + 1), (2**63 - 1, 2**63 - 1), (-(2**63), -(2**63))),
        *((3.0, 3), (-0.0, 0), (1e18, 10**18), (Decimal("9007199254740993.0"), 2**53 + 1)),
        *(("250", 250), (" 250 ", 250), ("-7", -7), ("+3", 3), ("0012", 12)),
    ],
    "text": [
        *(("", ""), (" padded ", " padded "), ("NUL\0here", "NUL\0here"), ("☎️😀", "☎️😀")),
        *((5, "5"), (2**80, str(2**80))),
    ],
    "double": [
        *((0, 0.0), (7, 7.0), (2**53, 2.0**53), (1.5, 1.5), (-1e308, -1e308)),
        *(("1.5", 1.5), ("-2", -2.0), ("1e3", 1000.0)),
        (MONEY, 1234567890.1234567),
    ],
    "decimal": [
        *((0, Decimal(0)), (-7, Decimal(-7)), (2**63, Decimal(2**63)), (2**80, Decimal(2**80))),
        *((1.5, Decimal("1.5")), (0.1, Decimal("0.1")), (-1e20, Decimal(-(10**20)))),
        (MONEY, MONEY),
        *(("19.99", Decimal("19.99")), ("-1e3", Decimal(-1000)), ("1.0000000000", Decimal(1))),
        (str(MONEY), MONEY),
    ],
    "json": [
        *((5, "5"), (1.5, "1.5"), (MONEY, str(MONEY)), (True, "true"), ("text", '"text"')),
        *(([1, None], "[1, null]"), ({"a": {"b": "ü"}}, '{"a": {"b": "ü"}}'), (2**80, str(2**80))),
    ],
    "bool": [(True, True), (False, False)],
    "date": [("2026-03-01", date(2026, 3, 1)), ("1969-12-31", date(1969, 12, 31))],
    "timestamp": [
        *((EPOCH, NOON), (float(EPOCH), NOON)),
        (EPOCH + 0.25, NOON.replace(microsecond=250_000)),
        (EPOCH + Decimal("0.2500000001"), NOON.replace(microsecond=250_000)),
        (0, datetime(1970, 1, 1, tzinfo=timezone.utc)),
        *(
            (f"2026-03-01{separator}{time}", NOON)
            for separator in "T "
            for time in (
                *("12:00:00Z", "12:00Z", "12:00:00+00:00", "12:00:00", "12:00:00.000"),
                *("14:30:00+02:30", "07:00:00-0500", "13:00:00.0+01", "12:00:00.000000000Z"),
            )
        ),
        ("2026-03-02T01:00:00+13:00", NOON),
        (" 2026-03-01T12:00:00Z ", NOON),
        ("2026-03-01", NOON.replace(hour=0)),
        ("2026-03-01T12:00:00.123456Z", NOON.replace(microsecond=123456)),
        ("2026-03-01T12:00:00.123456789Z", NOON.replace(microsecond=123456)),
        ("2026-03-01T12:00:00.1234567", NOON.replace(microsecond=123456)),
        ("1969-12-31T23:59:59Z", datetime(1969, 12, 31, 23, 59, 59, tzinfo=timezone.utc)),
    ],
}
NEVER_FITS: list[Json] = [NAN, INF, -INF, "\ud800"]
NESTED: list[Json] = [[], [1], {}, {"a": 1}]
UNFIT: dict[str, list[Json]] = {
    "bigint": [
        *(3.5, -0.5, 1e300, True, False, 2**63, -(2**63) - 1, "9223372036854775808", 10**400),
        *("", "many", "3.5", "3.0", "0x10", "1_000", "１２", MONEY, Decimal(f"{2**63}.0"), *NESTED),
    ],
    "text": [3.5, 3.0, True, MONEY, *NESTED],
    "decimal": [
        *(True, False, 10**29, -(10**29), 10**400, 1e29, 0.1**10, MONEY / 10, Decimal("1E-300")),
        *(
            "",
            "many",
            "nan",
            "1e29",
            "1e400",
            "0.0000000001",
            "1_000",
            "１２",
            "1" + 40 * "0",
            *NESTED,
        ),
    ],
    "json": [[NAN], {"a": [INF]}, {"\ud800": 1}, ["\ud800"]],
    "double": [
        *(True, 2**53 + 1, 10**400),
        *("", "many", "nan", "inf", "1e400", "1_000", "１２", "9007199254740993", *NESTED),
    ],
    "bool": [0, 1, 1.0, "", "true", MONEY, *NESTED],
    "date": [
        *("", "2026-02-30", "not a day", "2026-03-01T12:00:00Z", "0000-01-01", "10000-01-01"),
        *(20454, 1.5, True, MONEY, *NESTED),
    ],
    "timestamp": [
        *("", "not a date", "2026-02-30", "2026-02-30T12:00:00Z", "2026-03-01T25:00:00Z"),
        *("2026-03-01T12:00:00+25:00", "2026-13-01", "12:00:00Z"),
        *(EPOCH * 1000, EPOCH * 1000.0, -1, 2**63, 1e300, True, False),
        *("0000-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"),
        *(Decimal(-MONEY), *NESTED),
    ],
}
ALL_FIT = [(kind, value, stored) for kind, pairs in FITS.items() for value, stored in pairs]
ALL_UNFIT = [(kind, value) for kind, values in UNFIT.items() for value in [*values, *NEVER_FITS]]
NO_OBJECTS: list[Json] = [None, True, 5, 1.5, "a row", [], [["id", 1]], ["id", 1]]

COLUMN = {kind: Column.model_validate({"data_type": kind}) for kind in get_args(DataType)}
DECLARED = {
    "id": Column(data_type="bigint", nullable=False),
    "current_timestamp": Column(data_type="timestamp", nullable=False),
    "customer_id": Column(data_type="bigint"),
    **{f"a_{kind}": column for kind, column in COLUMN.items()},
}


def contract(known: dict[str, str] | None = None, resource: str = "agents_overview") -> Contract:
    return Contract(described(resource), {n: COLUMN[kind] for n, kind in (known or {}).items()})


def described(name: str) -> Resource:
    endpoint = {"path": "/v1/x", "data_selector": "data", "paginator": "single_page"}
    columns = {c: column.model_dump(by_alias=True) for c, column in DECLARED.items()}
    entry = {"name": name, "endpoint": endpoint, "columns": columns, "primary_key": "id"}
    return Resource.model_validate(entry | {"write_disposition": "merge"})


def row(number: int = 1, **fields: Json) -> dict[str, Json]:
    return {"id": number, "current_timestamp": "2026-03-01T12:00:00Z", **fields}


def full_row(number: int, moment: Json) -> dict[str, Json]:
    values = {f"a_{kind}": pairs[0][0] for kind, pairs in FITS.items()}
    return row(number, **values, vendor_account_id=8) | {"a_timestamp": moment}


# The company that a row may keep in its batch: it decides which way the batch is cast.
COMPANY = {
    "nobody": [],
    "rows with texts of time": [full_row(11, "2026-03-01T12:00:00Z"), full_row(12, None)],
    "rows with seconds of time": [full_row(11, EPOCH), full_row(12, EPOCH)],
    "rows of nulls": [row(11, a_timestamp=None, a_double=None), row(12)],
    "rows that are no objects": ["a row", 5],
}
in_any_company = pytest.mark.parametrize("others", COMPANY.values(), ids=COMPANY)


def batches(others: list[Json], one: Json) -> list[list[Json]]:
    """The row first, in the middle and last among the others."""
    return [[*others[:at], one, *others[at:]] for at in range(len(others) + 1)]


def exactly(digits: str) -> Json:
    """A number with a fraction as the reader of pages makes it."""
    number = float(digits)
    return number if repr(number) == digits or math.isinf(number) else Decimal(digits)


def shown(value: Json) -> str:
    """The value as a careless message would show it."""
    return value if isinstance(value, str) and value else repr(value)


def loaded(table: pa.Table, number: int = 1) -> dict[str, Json]:
    rows: list[dict[str, Json]] = table.to_pylist()
    [found] = [row for row in rows if row["id"] == number]
    return found


@pytest.mark.parametrize(("kind", "value", "stored"), ALL_FIT)
def test_a_value_that_loses_nothing_becomes_its_type(kind: str, value: Json, stored: Json) -> None:
    """Each type takes what it can hold whole, and null."""
    found = fit(value, COLUMN[kind])
    assert (found, type(found)) == (stored, type(stored))
    assert fit(None, COLUMN[kind]) is None


@pytest.mark.parametrize(("kind", "value"), ALL_UNFIT)
def test_a_value_that_would_lose_something_is_refused_and_not_repeated(
    kind: str, value: Json
) -> None:
    """The reason names the type and not the value."""
    with pytest.raises(UnfitError) as refusal:
        fit(value, COLUMN[kind])
    assert kind in str(refusal.value)
    assert shown(value) not in str(refusal.value)


@in_any_company
@pytest.mark.parametrize(("kind", "value", "stored"), ALL_FIT)
def test_a_good_value_is_stored_the_same_in_any_company(
    others: list[Json], kind: str, value: Json, stored: Json
) -> None:
    """What else is in the batch, and where the row stands in it, makes no difference."""
    for rows in batches(others, row(**{f"a_{kind}": value})):
        found = loaded(contract().batch(rows).accepted)
        assert found == dict.fromkeys(DECLARED) | {
            "id": 1,
            "current_timestamp": NOON,
            f"a_{kind}": stored,
        }


@in_any_company
@pytest.mark.parametrize(("kind", "value"), ALL_UNFIT)
def test_a_bad_value_rejects_just_its_row_in_any_company(
    others: list[Json], kind: str, value: Json
) -> None:
    """Never NULL, never rounded: the row is kept as it came, with the column and the type."""
    bad = row(**{f"a_{kind}": value})
    good = [other for other in others if isinstance(other, dict)]
    for rows in batches(others, bad):
        batch = contract().batch(rows)
        assert batch.accepted.equals(contract().batch(good).accepted)
        [rejected] = [r for r in batch.rejected.to_pylist() if r["reason"].startswith(f"a_{kind}:")]
        assert kind in rejected["reason"].removeprefix(f"a_{kind}:")
        assert shown(value) not in rejected["reason"]
        assert rejected["resource"] == "agents_overview"
        assert repr(json.loads(rejected["raw"], parse_float=exactly)) == repr(bad)
        assert batch.accepted.num_rows + batch.rejected.num_rows == len(rows)


@in_any_company
@pytest.mark.parametrize("required", ["id", "current_timestamp"])
@pytest.mark.parametrize("how", ["null", "missing"])
def test_a_row_without_a_required_value_is_rejected(
    others: list[Json], required: str, how: str
) -> None:
    """Null and missing are the same to a column that is NOT NULL."""
    bad = row() | {required: None}
    if how == "missing":
        del bad[required]
    for rows in batches(others, bad):
        batch = contract().batch(rows)
        assert f"{required}: missing or null" in batch.rejected["reason"].to_pylist()
        assert batch.accepted.num_rows + batch.rejected.num_rows == len(rows)


@pytest.mark.parametrize("column", ["id", "current_timestamp"])
@pytest.mark.parametrize("value", ["", "not a date", "2026-02-30", EPOCH * 1000 + 0.5, True, [1]])
def test_a_key_or_cursor_that_cannot_be_rejects_the_row(column: str, value: Json) -> None:
    """The cursor never holds what is no moment, and the key what is no number."""
    batch = contract().batch([row(2), row() | {column: value}])
    assert batch.accepted.num_rows == 1
    assert batch.rejected["reason"][0].as_py().startswith(f"{column}: ")


@pytest.mark.parametrize("value", NO_OBJECTS)
def test_a_row_that_is_no_object_is_rejected(value: Json) -> None:
    """It has no fields to look at, and is kept all the same."""
    for rows in batches([row(1), row(2)], value):
        batch = contract().batch(rows)
        assert batch.accepted["id"].to_pylist() == [1, 2]
        assert batch.rejected["reason"].to_pylist() == ["the row is no object"]
        assert json.loads(batch.rejected["raw"][0].as_py()) == value


AS_THEY_COME: dict[str, list[Json]] = {
    "bigint": [0, -5, 2**53 + 1, 2**63 - 1, None],
    "text": ["", "NUL\0here", "☎️😀", None],
    "double": [0, 7, 1.5, -1e308, None],
    "bool": [True, False, None],
    "date": ["2026-03-01", "1969-12-31", None],
    "decimal": [0, 2**53 + 1, 1.5, 12345678901234.5, -0.1, None],
    "json": [None],
}


@pytest.mark.parametrize(
    "moments",
    [["2026-03-01T12:00:00Z", "1969-12-31 14:30:00.123456+02:30", None], [EPOCH, 0, EPOCH + 1]],
    ids=["texts of time", "seconds of time"],
)
def test_good_rows_make_the_same_table_with_and_without_a_bad_one(moments: list[Json]) -> None:
    """The quick way and the careful way agree, in types, in order and in every value."""
    chance = random.Random(1)  # noqa: S311
    values = AS_THEY_COME | {"timestamp": moments}
    rows = [
        row(number, **{f"a_{kind}": chance.choice(values[kind]) for kind in COLUMN})
        for number in range(300)
    ]
    careful = contract().batch([*rows, row(a_bigint="many")])
    assert careful.accepted.equals(contract().batch(rows).accepted)
    assert (careful.accepted.num_rows, careful.rejected.num_rows) == (len(rows), 1)


def test_every_form_of_a_moment_may_stand_in_one_batch() -> None:
    """ISO 8601 with any zone or none and seconds since the epoch become the same instant."""
    forms = [value for value, stored in FITS["timestamp"] if stored == NOON]
    for first in range(len(forms)):
        rows = [
            row(number) | {"current_timestamp": form}
            for number, form in enumerate(forms[first:] + forms[:first])
        ]
        assert contract().batch(rows).accepted["current_timestamp"].to_pylist() == [NOON] * len(
            forms
        )


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("rows", [0, 3])
def test_a_table_has_exactly_the_declared_columns(spec: ApiSpec, index: int, rows: int) -> None:
    """In the declared order, with the declared types, NOT NULL where declared; also when empty."""
    resource = spec.resources[index]
    values = {"name": "Ada", "current_timestamp": EPOCH}
    given = [
        {api_name(name): values.get(name, number) for name in reversed(resource.columns)}
        for number in range(rows)
    ]
    batch = Contract(resource, {}).batch(given)
    assert batch.accepted.num_rows == rows
    assert batch.rejected.num_rows == 0
    assert [(f.name, f.type, f.nullable) for f in batch.accepted.schema] == [
        (name, arrow_type(column), name not in ("id", "current_timestamp"))
        for name, column in resource.columns.items()
    ]


def test_the_vendors_name_becomes_the_neutral_one() -> None:
    """`vendor_account_id` is loaded as `customer_id` and leaves no column of its own."""
    found = contract()
    table = found.batch([row(vendor_account_id=8)]).accepted
    assert table["customer_id"].to_pylist() == [8]
    assert table.column_names == list(DECLARED)
    assert found.findings.seen_columns == {"id", "current_timestamp", "customer_id"}
    assert found.findings.new_fields == {}


def test_a_long_text_passes_whole() -> None:
    """Five megabytes are a value like any other."""
    text = "☎" * (5 * 2**20 // 3)
    assert loaded(contract().batch([row(a_text=text)]).accepted)["a_text"] == text


@pytest.mark.parametrize("seed", range(5))
def test_no_row_is_ever_lost(seed: int) -> None:
    """Accepted and rejected rows add up to the rows that came, and so do the findings."""
    chance = random.Random(seed)  # noqa: S311
    good = {kind: [value for value, _ in FITS[kind]] for kind in FITS}
    found = contract()
    for start in range(0, 1000, 100):
        rows: list[Json] = []
        for number in range(start, start + 100):
            kind = chance.choice(list(COLUMN))
            value = chance.choice((good if chance.random() < 0.8 else UNFIT)[kind])
            extra = chance.choice([{}, {"extra": chance.choice(NO_OBJECTS)}])
            rows.append(row(number, **{f"a_{kind}": value}, **extra))
        before = found.findings.rejected
        batch = found.batch(rows)
        assert batch.accepted.num_rows + batch.rejected.num_rows == len(rows)
        assert found.findings.rejected - before == batch.rejected.num_rows


def test_a_bad_row_that_comes_again_is_kept_once() -> None:
    """Within a batch and in a later one: a page that is read twice rejects nothing twice."""
    found, bad = contract(), row(a_bigint="many")
    assert found.batch([bad, row(2), bad]).rejected.num_rows == 1
    assert found.batch([bad]).rejected.num_rows == 0
    assert found.batch([row(3, a_bigint="many")]).rejected.num_rows == 1
    assert found.findings.reasons == {"a_bigint: a text is no bigint": 2}
    assert found.findings.rejected == 2


def test_a_row_that_stays_bad_is_known_by_its_key() -> None:
    """Other values of it move with the clock; another reason or key is another rejection."""

    def identity(**fields: Json) -> str:
        return str(contract().batch([row(**fields)]).rejected["rejected_id"][0])

    bad = identity(number=7, a_bigint="many")
    assert bad == identity(number=7, a_bigint="few", current_timestamp="2026-03-01T12:05:00Z")
    assert bad != identity(number=8, a_bigint="many")
    assert bad != identity(number=7, a_date="many")


def test_a_rejected_row_is_known_by_its_resource_and_its_content() -> None:
    """Without a key: the same row has the same id in every load, and another elsewhere."""

    def identity(resource: str) -> str:
        return str(contract(resource=resource).batch([row(id=None)]).rejected["rejected_id"][0])

    assert identity("agents_overview") == identity("agents_overview")
    assert identity("agents_overview") != identity("account_overview")


NEW_FIELDS: list[tuple[list[Json], str, list[Json]]] = [
    ([5, None], "bigint", [5, None]),
    ([None, 1.5], "double", [None, 1.5]),
    ([5, 1.5], "double", [5.0, 1.5]),
    ([True], "bool", [True]),
    (["many"], "text", ["many"]),
    (["2026-03-01"], "text", ["2026-03-01"]),
    ([[1, "ü"]], "text", ['[1, "\\u00fc"]']),
    ([{"a": None}], "text", ['{"a": null}']),
    ([5, "many", True], "text", ["5", "many", "true"]),
    ([5, True], "text", ["5", "true"]),
]


@pytest.mark.parametrize(("values", "kind", "stored"), NEW_FIELDS)
def test_a_new_field_becomes_a_column_of_the_type_that_it_shows(
    values: list[Json], kind: str, stored: list[Json]
) -> None:
    """It is reported under the name of its column, and comes after the declared ones."""
    found = contract()
    rows = [row(number, **{"AI Agent Calls": value}) for number, value in enumerate(values)]
    table = found.batch(rows).accepted
    assert table["ai_agent_calls"].to_pylist() == stored
    assert table.schema.field("ai_agent_calls").type == arrow_type(COLUMN[kind])
    assert table.column_names == [*DECLARED, "ai_agent_calls"]
    assert found.findings.new_fields == {"ai_agent_calls": kind}


@pytest.mark.parametrize(
    ("first", "later"), [(5, "many"), (5, 1.5), (5, True), (1.5, True), (True, 5), (5, [1])]
)
@pytest.mark.parametrize("earlier_load", [False, True])
def test_a_later_value_of_another_type_rejects_its_row(
    first: Json, later: Json, *, earlier_load: bool
) -> None:
    """A column keeps the type that it got, in this load or in an earlier one."""
    kind = {bool: "bool", int: "bigint", float: "double"}[type(first)]
    found = contract({"extra": kind} if earlier_load else {})
    assert found.batch([row(1, extra=first)]).accepted["extra"].to_pylist() == [first]
    batch = found.batch([row(2, extra=later), row(3, extra=first), row(4)])
    assert batch.accepted["extra"].to_pylist() == [first, None]
    assert batch.rejected["reason"][0].as_py().startswith("extra: ")
    assert found.findings.new_fields == ({} if earlier_load else {"extra": kind})


@pytest.mark.parametrize("earlier_load", [False, True])
def test_what_comes_later_for_a_new_text_is_written_as_json(*, earlier_load: bool) -> None:
    """Text holds whatever the API puts there; only a text itself is not quoted."""
    found = contract({"extra": "text"} if earlier_load else {})
    found.batch([row(1, extra="many")])
    later = [5, 1.5, True, [1], {"a": None}, None, "few"]
    batch = found.batch([row(number, extra=value) for number, value in enumerate(later)])
    written = ["5", "1.5", "true", "[1]", '{"a": null}', None, "few"]
    assert batch.accepted["extra"].to_pylist() == written


def test_a_new_field_without_a_value_waits_for_one() -> None:
    """Null has no type: the field is reported, and its column comes with its first value."""
    found = contract()
    assert found.batch([row(extra=None)]).accepted.column_names == list(DECLARED)
    assert found.findings.new_fields == {"extra": "null so far"}
    assert found.batch([row(2, extra=5)]).accepted["extra"].to_pylist() == [5]
    assert found.findings.new_fields == {"extra": "bigint"}


def test_a_column_of_an_earlier_load_that_vanished_is_null() -> None:
    """The field is not among those seen, so that its absence can be told."""
    found = contract({"ai_agent_calls": "bigint"})
    assert found.batch([row()]).accepted["ai_agent_calls"].to_pylist() == [None]
    assert "ai_agent_calls" not in found.findings.seen_columns


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("User Name", "user_name"),
        ("userName", "UserName"),
        ("Id", "id"),
        ("vendor_account_id", "customer_id"),
    ],
)
@pytest.mark.parametrize(
    ("before", "batch"),
    [([], [(0, 1)]), ([], [(0,), (1,)]), ([(0,)], [(1,)])],
    ids=["in one row", "in one batch", "in two batches"],
)
def test_two_fields_for_one_column_stop_the_load(
    one: str, other: str, before: list[tuple[int, ...]], batch: list[tuple[int, ...]]
) -> None:
    """The last one does not win: the error names both fields."""
    found = contract()

    def rows(picked: list[tuple[int, ...]]) -> list[dict[str, Json]]:
        return [{(one, other)[field]: 5 for field in fields} for fields in picked]

    found.batch(rows(before))
    with pytest.raises(FieldCollisionError) as collision:
        found.batch(rows(batch))
    assert repr(one) in str(collision.value)
    assert repr(other) in str(collision.value)


@pytest.mark.parametrize("depth", [100, 1000])
@pytest.mark.parametrize("fields", [{}, {"a_bigint": "many"}], ids=["good row", "bad row"])
def test_a_deeply_nested_value_is_no_crash(depth: int, fields: dict[str, Json]) -> None:
    """As deep as the JSON reader allows: the row is accepted or rejected, as any other."""
    nested: Json = 1
    for _ in range(depth):
        nested = [nested]
    batch = contract().batch([row(1, extra=nested, **fields), row(2)])
    assert batch.accepted.num_rows + batch.rejected.num_rows == 2
    assert loaded(batch.accepted, 2)


@pytest.mark.parametrize("name", ["", " ", "\ud800", "a\ud800"])
def test_a_field_whose_name_is_no_name_loses_no_row(name: str) -> None:
    """The row is accepted or rejected, as any other."""
    batch = contract().batch([row(1) | {name: 5}, row(2)])
    assert batch.accepted.num_rows + batch.rejected.num_rows == 2
    assert loaded(batch.accepted, 2)
