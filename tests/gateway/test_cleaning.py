"""PostgREST's errors on their way out: ours whole, the others without what they give away.

The error texts are PostgREST 12.0.2's and Postgres 18's own.
"""
# ruff: noqa: E501 - their lines are as long as they are

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenantry_gateway.cleaning import clean

SECRETS = ["calls", "secret_table", "Ana", "99999", "private", "customers_pkey", "nowhere", "4711"]

OURS = {
    "code": "22023",
    "message": "phone: +1 is too short",
    "hint": "Use E.164, e.g. +14155550123.",
    "details": '{"field": "phone", "reason": "bad_phone"}',
}


def cleaned(status: int, error: object, target: str = "/customers?id=eq.1") -> tuple[int, dict]:
    body = error if isinstance(error, bytes) else json.dumps(error).encode()
    status, answer = clean(target, "request-1", status, body)
    return status, json.loads(answer)


@pytest.mark.parametrize(
    "code", ["22023", "42501", "23505", "PT404", "PT409", "PT402", "23514", "XX000"]
)
@pytest.mark.parametrize("status", [400, 403, 409, 500])
def test_our_own_errors_pass_whole(code, status):
    error = OURS | {"code": code}
    assert cleaned(status, error) == (status, error | {"request_id": "request-1"})


HIDDEN = {
    "foreign key, insert": (
        409,
        {
            "code": "23503",
            "message": 'insert or update on table "calls" violates foreign key constraint "calls_x_fkey"',
            "details": 'Key (customer_id)=(99999) is not present in table "secret_table".',
            "hint": None,
        },
        "A record that this one refers to does not exist",
    ),
    "foreign key, delete": (
        409,
        {
            "code": "23503",
            "message": 'update or delete on table "customers" violates foreign key constraint "a" on table "calls"',
            "details": 'Key is still referenced from table "calls".',
        },
        "Other records still refer to this one",
    ),
    "unique": (
        409,
        {
            "code": "23505",
            "message": 'duplicate key value violates unique constraint "customers_pkey"',
            "details": "Key (id)=(4711) already exists.",
        },
        "A record with these values exists already",
    ),
    "check of another table": (
        400,
        {
            "code": "23514",
            "message": 'new row for relation "secret_table" violates check constraint "x"',
            "details": "Failing row contains (4711, Ana).",
        },
        "A value breaks a rule of this record",
    ),
    "not null of another table": (
        400,
        {
            "code": "23502",
            "message": 'null value in column "a" of relation "secret_table" violates not-null constraint',
            "details": "Failing row contains (4711, Ana).",
        },
        "A required value is missing",
    ),
    "exclusion": (
        400,
        {
            "code": "23P01",
            "message": 'conflicting key value violates exclusion constraint "calls_no_overlap"',
            "details": "Key (staff)=(4711) conflicts with existing key (staff)=(Ana).",
        },
        "The record overlaps with an existing one",
    ),
    "right on another object": (
        403,
        {"code": "42501", "message": "permission denied for schema private"},
        "You do not have the right to do this",
    ),
    "right on an inner table": (
        403,
        {"code": "42501", "message": "permission denied for table secret_table"},
        "You do not have the right to do this",
    ),
    "named policy": (
        403,
        {
            "code": "42501",
            "message": 'new row violates row-level security policy "secret_table" for table "customers"',
        },
        "You do not have the right to do this",
    ),
    "table inside a function": (
        404,
        {"code": "42P01", "message": 'relation "private.nowhere" does not exist'},
        "There is no such table or view",
    ),
    "column inside a function": (
        400,
        {"code": "42703", "message": 'column "secret_table" does not exist'},
        "There is no such column",
    ),
    "function inside a function": (
        404,
        {
            "code": "42883",
            "message": "function private.secret_table(integer) does not exist",
            "hint": "No function matches ... private.calls",
        },
        "There is no such function or operator for these types",
    ),
    "deadlock": (
        500,
        {
            "code": "40P01",
            "message": "deadlock detected",
            "details": "Process 4711 waits for ShareLock on transaction 99999; blocked by Ana.",
            "hint": "See server log for query details.",
        },
        "Somebody changed the same records at the same moment",
    ),
    "timeout": (
        500,
        {"code": "57014", "message": "canceling statement due to statement timeout"},
        "The request took longer than the database allows",
    ),
    "internal": (
        500,
        {"code": "XX000", "message": 'could not open file "private/4711"'},
        "The request could not be completed",
    ),
    "unknown SQLSTATE": (
        400,
        {"code": "2F003", "message": "private things about Ana", "hint": "calls"},
        "The database refused the request",
    ),
    "ambiguous embed": (
        300,
        {
            "code": "PGRST201",
            "message": "Could not embed because more than one relationship was found for 'calls'",
            "details": [{"relationship": "calls_other_id_fkey using calls(other_id)"}],
            "hint": "Try changing 'customers' to one of the following: 'calls!x'",
        },
        "More than one foreign key leads to the embedded table",
    ),
    "ambiguous function": (
        300,
        {"code": "PGRST203", "message": "candidates: private.f(a => text), public.calls()"},
        "More than one function has this name and these arguments",
    ),
    "schema": (
        406,
        {"code": "PGRST106", "message": "The schema must be one of the following: calls, private"},
        "This schema is not available",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HIDDEN)
def test_names_and_values_do_not_leave(name):
    status, error, sentence = HIDDEN[name]
    answered, answer = cleaned(status, error)
    assert answered == status
    assert answer["message"] == sentence
    assert answer["code"] == error["code"]
    assert answer["details"] is None
    text = json.dumps(answer)
    assert not [secret for secret in SECRETS if secret in text]


KEPT = {
    "row security": (
        403,
        {"code": "42501", "message": 'new row violates row-level security policy for table "customers"'},
    ),
    "table right": (403, {"code": "42501", "message": "permission denied for table customers"}),
    "unknown table": (404, {"code": "42P01", "message": 'relation "public.customers" does not exist'}),
    "own check": (
        400,
        {"code": "23514", "message": 'new row for relation "customers" violates check constraint "customers_name_check"'},
    ),
    "own not null": (
        400,
        {"code": "23502", "message": 'null value in column "name" of relation "customers" violates not-null constraint'},
    ),
    "type": (400, {"code": "22P02", "message": 'invalid input syntax for type uuid: "abc"'}),
    "range": (400, {"code": "22003", "message": "integer out of range"}),
    "date": (400, {"code": "22007", "message": 'invalid input syntax for type date: "abc"'}),
    "raise": (400, {"code": "P0001", "message": "the order is closed"}),
    "body": (400, {"code": "PGRST102", "message": "Empty or invalid json"}),
    "column of the body": (
        400,
        {"code": "PGRST204", "message": "Column 'nam' of relation 'customers' does not exist"},
    ),
    "expired": (401, {"code": "PGRST301", "message": "JWT expired"}),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_messages_about_the_callers_own_request_stay(name):
    status, error = KEPT[name]
    error = error | {"details": "Failing row contains (4711, Ana).", "hint": None}
    answered, answer = cleaned(status, error)
    assert (answered, answer["message"]) == (status, error["message"])
    assert answer["details"] is None


def test_columns_that_the_caller_named():
    error = {
        "code": "42703",
        "message": "column customers.nam does not exist",
        "hint": 'Perhaps you meant to reference the column "customers.secret_table".',
    }
    _, answer = cleaned(400, error, "/customers?select=nam")
    assert answer["message"] == error["message"]
    assert answer["hint"] is None
    aliased = {"code": "42703", "message": "column notes_1.nam does not exist"}
    _, answer = cleaned(400, aliased, "/customers?select=notes(nam)")
    assert answer["message"] == aliased["message"]


@pytest.mark.parametrize(
    ("code", "message", "target"),
    [
        (
            "PGRST200",
            "Could not find a relationship between 'customers' and 'x' in the schema cache",
            "/customers?select=x(*)",
        ),
        ("PGRST202", "Could not find the function public.ech(b) in the schema cache", "/rpc/ech"),
        ("PGRST205", "Could not find the table 'public.custome' in the schema cache", "/custome"),
    ],
)
def test_guesses_at_other_names_do_not_leave(code, message, target):
    error = {
        "code": code,
        "message": message,
        "details": "Searched for ... secret_table",
        "hint": "Perhaps you meant 'secret_table' instead.",
    }
    _, answer = cleaned(404, error, target)
    assert answer["message"] == message
    assert "secret_table" not in json.dumps(answer)


@pytest.mark.parametrize(
    ("code", "details"),
    [
        ("PGRST116", "The result contains 0 rows"),
        ("PGRST100", 'unexpected "x" expecting "not" or operator (eq, gt, ...)'),
        ("PGRST103", "An offset of 500 was requested, but there are only 100 rows."),
    ],
)
def test_details_that_clients_read_stay(code, details):
    _, answer = cleaned(406, {"code": code, "message": "m", "details": details, "hint": None})
    assert answer["details"] == details


@pytest.mark.parametrize(
    "code", ["PGRST000", "PGRST001", "PGRST002", "PGRST003", "08006", "53300", "57P01", "57P03"]
)
def test_a_database_that_is_away_is_503(code):
    error = {
        "code": code,
        "message": "could not connect to server at private port 4711",
        "details": 'connection to server at "private", port 4711 failed',
    }
    status, answer = cleaned(500, error)
    assert (status, answer["message"]) == (503, "The database is not available")
    assert not [secret for secret in SECRETS if secret in json.dumps(answer)]


@pytest.mark.parametrize(
    "body",
    [b"Something went wrong: Ana", b"", b"[1]", b"{}", b"\xff", b"[" * 60_000, b'{"code":5}'],
)
def test_anything_else_becomes_a_plain_error(body):
    for status in (400, 404, 500):
        answered, answer = cleaned(status, body)
        assert answered == status
        assert answer["code"] == f"GW{status}"
        assert answer["message"]
        assert "Ana" not in json.dumps(answer)


@pytest.mark.parametrize(
    "details", ['{"reason": 5}', '{"field": "x"}', "{", '["reason"]', '{"reason": "x"} trailing', 7, None]
)  # fmt: skip
def test_only_a_reason_marks_our_own_errors(details):
    error = {
        "code": "42501",
        "message": "permission denied for table secret_table",
        "details": details,
    }
    assert "secret_table" not in json.dumps(cleaned(403, error)[1])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
CODES = st.sampled_from(
    ["23503", "23505", "42501", "42P01", "42703", "XX000", "PGRST106", "PGRST201", "40P01", "57014"]
)


# A busy machine makes these values slowly; that is no finding.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(code=CODES, message=JSON, details=JSON, hint=JSON, status=st.integers(300, 599))
def test_whatever_an_error_holds_the_answer_is_an_error_object(
    code, message, details, hint, status
):
    error = {"code": code, "message": message, "details": details, "hint": hint}
    answered, answer = cleaned(status, error)
    assert 300 <= answered <= 599
    assert answer.keys() == {"code", "message", "details", "hint", "request_id"}
    assert answer["hint"] is None or isinstance(answer["hint"], str)
    assert isinstance(answer["message"], str)
    assert answer["message"]


@pytest.mark.anyio
async def test_over_http_the_length_is_right_and_the_rest_is_kept(stack):
    stack.rest.answers(
        429,
        {"code": "PT429", "message": "slow down", "hint": "wait", "details": '{"reason":"quota"}'},
        {"Retry-After": "30", "Content-Range": "*/*"},
    )
    answer = await stack.call("POST", "/rest/v1/rpc/x", json={})
    assert answer.status == 429
    assert answer.headers["Retry-After"] == "30"
    assert answer.headers.getall("Content-Length") == [str(len(answer.body))]
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.json["request_id"] == answer.headers["X-Request-Id"]
    assert answer.json["message"] == "slow down"


@pytest.mark.anyio
async def test_a_huge_error_is_not_kept_in_memory(stack):
    stack.rest.answers(500, b'{"message":"' + b"x" * 5_000_000)
    answer = await stack.call("GET", "/rest/v1/customers")
    assert answer.status == 500
    assert len(answer.body) < 500


@pytest.mark.anyio
async def test_what_postgrest_says_about_a_token_is_not_repeated(stack):
    stack.rest.answers(
        401,
        {"code": "PGRST301", "message": "JWSError"},
        {"WWW-Authenticate": 'Bearer error="invalid_token", error_description="JWSError (secret)"'},
    )
    answer = await stack.call("GET", "/rest/v1/customers")
    assert answer.headers.getall("WWW-Authenticate") == ["Bearer"]
