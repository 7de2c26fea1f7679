"""No digit is lost on the way, and what cannot be sent is named."""

from __future__ import annotations

import datetime
import enum
import json
import math
import uuid
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sdk_answers import customer, ok

from tenantry import _json
from tenantry.errors import InvalidArgument, UnexpectedResponse

TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_encoded_is_decoded_to_the_same(value: object) -> None:
    assert _json.decode(_json.encode(value)) == value


@given(VALUES)
def test_the_encoding_is_json_for_others_too(value: object) -> None:
    json.loads(_json.encode(value))


@pytest.mark.parametrize("digits", ["12345678901234567.89", "0.1", "-0.000000000000000000001"])
def test_a_decimal_travels_as_a_number_with_all_its_digits(digits: str) -> None:
    assert _json.encode({"amount": Decimal(digits)}).startswith(b'{"amount":')
    assert _json.decode(_json.encode(Decimal(digits))) == Decimal(digits)
    assert b'"' not in _json.encode(Decimal(digits))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_survive(value: float) -> None:
    assert float(_json.decode(_json.encode(value))) == value


def test_dates_ids_bytes_and_enums_are_written_as_postgres_reads_them() -> None:
    class Color(enum.Enum):
        RED = "red"

    identifier = uuid.uuid4()
    value = {
        "at": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
        "on": datetime.date(2026, 1, 2),
        "id": identifier,
        "raw": b"\x01\xff",
        "color": Color.RED,
    }
    assert json.loads(_json.encode(value)) == {
        "at": "2026-01-02T03:04:05+00:00",
        "on": "2026-01-02",
        "id": str(identifier),
        "raw": "\\x01ff",
        "color": "red",
    }


@pytest.mark.parametrize(
    ("value", "place", "says"),
    [
        ({"a": [1, {"b": math.nan}]}, "a[1].b", "not a number"),
        ({"a": Decimal("Infinity")}, "a", "not a number"),
        ({"a": datetime.datetime(2026, 1, 1)}, "a", "zone"),  # noqa: DTZ001
        ({"a": "x\x00y"}, "a", "NUL"),
        ({"a": "\ud800"}, "a", "surrogate"),
        ({"a": object()}, "a", "object"),
        ({1: "a"}, "value", "cannot name"),
    ],
)
def test_what_cannot_be_sent_is_refused_with_its_place(
    value: object, place: str, says: str
) -> None:
    with pytest.raises(InvalidArgument, match=says) as caught:
        _json.encode(value)
    assert caught.value.field == place
    assert caught.value.hint


def test_the_client_reads_numbers_exactly(client_of) -> None:
    body = json.dumps(customer()).replace(
        '"custom_fields": {}', '"custom_fields": {"total": 12345678901234567.89}'
    )
    client, _ = client_of(ok(f"[{body}]"))
    row = client.customers.get(customer()["id"])
    assert row.custom_fields["total"] == Decimal("12345678901234567.89")


@pytest.mark.parametrize("body", ["<html>", "NaN", "[" * 100_000])
def test_an_answer_that_is_no_json_is_said_to_be_so(client_of, body: str) -> None:
    client, _ = client_of(ok(body))
    with pytest.raises(UnexpectedResponse, match="not JSON") as caught:
        client.customers.get(customer()["id"])
    assert caught.value.request_id


def test_an_answer_of_another_shape_names_model_and_column(client_of) -> None:
    client, _ = client_of(ok([customer(created_at="yesterday")]))
    with pytest.raises(UnexpectedResponse, match="Customer: created_at"):
        client.customers.get(customer()["id"])
