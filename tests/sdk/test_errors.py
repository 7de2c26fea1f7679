"""Every kind of failed answer becomes the error that says what to do."""

from __future__ import annotations

import json
import pickle

import httpx
import pytest
from sdk_answers import BUSINESS, customer, failed, ok

from tenantry import Tenantry, errors

ID = customer()["id"]


def postgrest(code: str, message: str = "It failed.", **rest: object) -> dict[str, object]:
    return {"code": code, "message": message, "details": None, "hint": None} | rest


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, postgrest("22023"), errors.ValidationError),
        (400, postgrest("22P02"), errors.ValidationError),
        (400, postgrest("23514"), errors.ValidationError),
        (400, postgrest("23502"), errors.ValidationError),
        (409, postgrest("23505"), errors.Conflict),
        (409, postgrest("23503"), errors.Conflict),
        (409, postgrest("PT409"), errors.Conflict),
        (403, postgrest("42501"), errors.PermissionDenied),
        (401, postgrest("42501"), errors.AuthenticationError),
        (401, postgrest("PGRST301"), errors.AuthenticationError),
        (402, postgrest("PT402"), errors.PlanLimitExceeded),
        (404, postgrest("PT404"), errors.NotFound),
        (406, postgrest("PGRST116"), errors.NotFound),
        (404, postgrest("PGRST202"), errors.BadRequest),
        (404, postgrest("42P01"), errors.BadRequest),
        (429, postgrest("PT429"), errors.RateLimited),
        (503, postgrest("PT503", details='{"reason": "moving"}'), errors.BusinessMoving),
        (503, {"code": "GW503", "message": "No.", "details": {"reason": "moving"}},
         errors.BusinessMoving),
        (503, postgrest("PT503"), errors.ServerError),
        (421, postgrest("PT421", details='{"reason": "not_home"}'), errors.BusinessMoving),
        (423, postgrest("GW423", details='{"reason": "tenant_suspended"}'),
         errors.PermissionDenied),
        (403, postgrest("GW403", details='{"reason": "agency_mismatch"}'), errors.NotInBusiness),
        (404, postgrest("GW404", details='{"reason": "unknown_tenant"}'), errors.UnknownBusiness),
        (500, postgrest("57014"), errors.ServerError),
        (500, postgrest("P0001"), errors.ServerError),
        (400, postgrest("PGRST100"), errors.BadRequest),
        (413, None, errors.BadRequest),
        (502, "not an object", errors.ServerError),
        (301, None, errors.UnexpectedResponse),
        (400, {"code": 400, "error_code": "invalid_credentials", "msg": "Invalid login"},
         errors.AuthenticationError),
        (400, {"error": "invalid_grant", "error_description": "Invalid login"},
         errors.AuthenticationError),
        (422, {"code": "weak_password", "message": "Too short"}, errors.ValidationError),
        (422, {"error_code": "user_already_exists", "msg": "There is one"}, errors.Conflict),
        (401, {"error": "No.", "code": "bad_signature", "request_id": "r"},
         errors.AuthenticationError),
    ],
)  # fmt: skip
def test_status_and_code_choose_the_error(client_of, status, body, kind) -> None:
    client, _ = client_of(failed(status, body), max_retries=0)
    with pytest.raises(errors.APIError) as caught:
        client.customers.get(ID)
    assert type(caught.value) is kind
    assert caught.value.status == status


def test_an_error_carries_everything_the_server_said(client_of) -> None:
    body = postgrest(
        "22023",
        "phone is not a valid phone number.",
        details=json.dumps({"field": "phone", "reason": "invalid_phone"}),
        hint="Send the number with its country code.",
    )
    client, server = client_of(failed(400, body, x_request_id="from-the-gateway"))
    with pytest.raises(errors.ValidationError) as caught:
        client.customers.create(phone="1")
    error = caught.value
    assert (error.code, error.field, error.reason) == ("22023", "phone", "invalid_phone")
    assert error.hint == "Send the number with its country code."
    assert error.request_id == "from-the-gateway"
    assert str(error) == (
        "phone is not a valid phone number. Send the number with its country code."
        " (HTTP 400, 22023, request from-the-gateway)"
    )
    assert len(server.requests) == 1


def test_without_a_hint_the_remedy_of_the_kind_is_given(client_of) -> None:
    client, server = client_of(failed(403, postgrest("42501", "permission denied")))
    with pytest.raises(errors.PermissionDenied, match="Ask an owner or admin") as caught:
        client.customers.get(ID)
    assert caught.value.request_id == server.last.headers["x-request-id"]


def test_details_that_are_text_stay_text(client_of) -> None:
    client, _ = client_of(failed(409, postgrest("23505", details="Key (slug)=(a) exists.")))
    with pytest.raises(errors.Conflict) as caught:
        client.customers.get(ID)
    assert caught.value.details == "Key (slug)=(a) exists."
    assert caught.value.field is None


def test_a_used_idempotency_key_is_its_own_error(client_of) -> None:
    details = json.dumps({"field": "idempotency_key", "reason": "idempotency_conflict"})
    client, _ = client_of(failed(409, postgrest("PT409", details=details)))
    with pytest.raises(errors.IdempotencyConflict):
        client.customers.create(first_name="Ana", idempotency_key="k")


def test_a_plan_limit_says_bound_and_use(client_of) -> None:
    details = json.dumps({"field": "customers", "limit": 5000, "used": 5000})
    client, _ = client_of(failed(402, postgrest("PT402", details=details)))
    with pytest.raises(errors.PlanLimitExceeded) as caught:
        client.customers.create(first_name="Ana")
    assert (caught.value.limit, caught.value.used) == (5000, 5000)


def test_a_row_that_is_not_there_is_not_found(client_of) -> None:
    client, _ = client_of(ok([]))
    with pytest.raises(errors.NotFound, match=ID) as caught:
        client.customers.get(ID)
    assert caught.value.request_id


def test_an_update_that_finds_nothing_mentions_the_missing_right(client_of) -> None:
    client, _ = client_of(ok([]))
    with pytest.raises(errors.NotFound, match="lack the right to change"):
        client.customers.update(ID, first_name="B")


def test_all_errors_have_one_base() -> None:
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), errors.TenantryError)


@pytest.mark.parametrize(
    "error",
    [
        errors.ValidationError(
            "a", status=400, code="22023", details={"field": "a"}, hint="h", request_id="r"
        ),
        errors.RateLimited("a", status=429, retry_after=3.0),
        errors.Timeout("a", request_id="r"),
        errors.NoBusinessChosen(),
        errors.InvalidArgument("a", "b", hint="c"),
    ],
)
def test_errors_survive_pickling(error: errors.TenantryError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  our own bytes
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.__dict__ == error.__dict__


@pytest.mark.parametrize(
    ("cause", "kind", "maybe_applied"),
    [
        (httpx.ConnectTimeout("t"), errors.Timeout, False),
        (httpx.ReadTimeout("t"), errors.Timeout, True),
        (httpx.ConnectError("refused"), errors.ConnectionError, False),
        (httpx.ReadError("reset"), errors.ConnectionError, True),
        (httpx.RemoteProtocolError("closed"), errors.ConnectionError, True),
    ],
)
def test_no_answer_says_whether_it_may_have_been_done(
    client_of, cause, kind, maybe_applied
) -> None:
    client, _ = client_of(cause, max_retries=0)
    with pytest.raises(errors.TransportError) as caught:
        client.customers.get(ID)
    assert type(caught.value) is kind
    assert caught.value.maybe_applied is maybe_applied
    assert caught.value.request_id in str(caught.value)
    assert caught.value.__cause__ is cause


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"url": ""}, "url"),
        ({"url": "ftp://x"}, "url"),
        ({"url": "http://[::1"}, "url"),
        ({"url": "http://user@x"}, "url"),
        ({"url": "http://x:port"}, "url"),
        ({"key": ""}, "key"),
        ({"key": None}, "key"),
        ({"key": "a\nb"}, "key"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": "10"}, "timeout"),
        ({"timeout": float("inf")}, "timeout"),
        ({"max_retries": -1}, "max_retries"),
        ({"max_retries": True}, "max_retries"),
        ({"business": "bluebird"}, "business"),
    ],
)
def test_impossible_settings_are_refused_by_name(arguments, field) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        Tenantry(**{"url": "http://x", "key": "k", **arguments})
    assert caught.value.field == field
    assert caught.value.hint
    assert isinstance(caught.value, ValueError)


def test_a_business_must_be_chosen(client_of) -> None:
    client, server = client_of(ok([]), business=None)
    with pytest.raises(errors.NoBusinessChosen, match=r"client\.use"):
        client.customers.list()
    assert server.requests == []


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda c: c.customers.get("nonsense"), "id"),
        (lambda c: c.customers.list(page_size=0), "page_size"),
        (lambda c: c.customers.list(page_size=501), "page_size"),
        (lambda c: c.customers.list(after="nonsense"), "after"),
        (lambda c: c.customers.list(after="bnVsbA"), "after"),
        (lambda c: c.customers.search("ana", limit=0), "limit"),
        (lambda c: c.customers.find(), "phone"),
        (lambda c: c.customers.update(ID), "changes"),
        (lambda c: c.customers.update(ID, business_id=BUSINESS), "business_id"),
        (lambda c: c.customers.create(first_name="A", idempotency_key=""), "idempotency_key"),
        (lambda c: c.customers.create(first_name="A\x00"), "first_name"),
        (lambda c: c.metrics.daily(from_="2026-01-01", to="2026-01-02"), "from_"),
        (lambda c: c.auth.sign_in(email="", password="x"), "email"),
        (lambda c: c.use(""), "business"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_sent(client_of, call, field) -> None:
    client, server = client_of(ok([]))
    with pytest.raises(errors.InvalidArgument) as caught:
        call(client)
    assert caught.value.field == field
    assert server.requests == []
