"""What is sent again, when, and what is not."""

from __future__ import annotations

import datetime
import email.utils
import json

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sdk_answers import customer, failed, ok

from tenantry import Exchange, errors
from tenantry._error_mapping import retry_after
from tenantry._retry import RetryPolicy, Safety

ROW = customer()
ID = ROW["id"]


def code(value: str) -> dict[str, str]:
    return {"code": value, "message": "No."}


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_read_is_repeated(client_of, naps, status: int) -> None:
    client, server = client_of(failed(status), failed(status), ok([ROW]))
    assert str(client.customers.get(ID).id) == ID
    assert [r.headers.get("x-retry-count") for r in server.requests] == [None, "1", "2"]
    assert len({r.headers["x-request-id"] for r in server.requests}) == 1
    assert len(naps) == 2


@pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 500, 501, 505])
def test_other_answers_are_final(client_of, naps, status: int) -> None:
    client, server = client_of(failed(status))
    with pytest.raises(errors.APIError):
        client.customers.get(ID)
    assert len(server.requests) == 1
    assert naps == []


def test_attempts_end(client_of) -> None:
    client, server = client_of(failed(503), max_retries=2)
    with pytest.raises(errors.ServerError):
        client.customers.get(ID)
    assert len(server.requests) == 3


def test_no_retries_means_one_attempt(client_of) -> None:
    client, server = client_of(httpx.ReadError("reset"), max_retries=0)
    with pytest.raises(errors.ConnectionError):
        client.customers.get(ID)
    assert len(server.requests) == 1


def test_a_create_repeats_with_the_same_key_and_body(client_of) -> None:
    client, server = client_of(httpx.ReadTimeout("slow"), failed(502), ok(ROW))
    client.customers.create(first_name="Ana")
    bodies = [json.loads(r.content) for r in server.requests]
    assert len(bodies) == 3
    assert bodies[0] == bodies[1] == bodies[2]
    assert bodies[0]["idempotency_key"]


def test_every_create_has_a_key_of_its_own(client_of) -> None:
    client, server = client_of(ok(ROW))
    for _ in range(2):
        client.customers.create(first_name="Ana")
    first, second = (json.loads(r.content)["idempotency_key"] for r in server.requests)
    assert first != second


def test_without_retries_no_key_is_made_but_a_given_one_is_sent(client_of) -> None:
    client, server = client_of(ok(ROW), max_retries=0)
    client.customers.create(first_name="Ana")
    assert "idempotency_key" not in server.last_body
    client.customers.create(first_name="Ana", idempotency_key="mine")
    assert server.last_body["idempotency_key"] == "mine"


ORGANIZATION = {
    "id": ID, "name": "A", "slug": "a", "status": "active", "requires_mfa": False,
    "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
}  # fmt: skip


@pytest.mark.parametrize(
    "first",
    [
        failed(429),
        failed(408),
        failed(503, code("PGRST000")),
        failed(504, code("PGRST003")),
        failed(500, code("40001")),
        failed(500, code("40P01")),
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("slow"),
        httpx.PoolTimeout("full"),
    ],
)
def test_a_write_without_a_key_is_repeated_when_it_was_certainly_not_done(client_of, first) -> None:
    client, server = client_of(first, ok(ORGANIZATION))
    assert client.organizations.create(name="A").slug == "a"
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "first",
    [
        failed(502),
        failed(503),
        failed(503, code("PGRST001")),
        failed(504),
        httpx.ReadTimeout("slow"),
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("closed"),
    ],
)
def test_a_write_without_a_key_is_not_repeated_when_it_may_have_been_done(client_of, first) -> None:
    client, server = client_of(first, ok(ORGANIZATION))
    with pytest.raises(errors.TenantryError):
        client.organizations.create(name="A")
    assert len(server.requests) == 1


#: Calls about rights, and whether one whose answer was lost is sent again, as the reference says.
RIGHTS = {
    "invite_member": (lambda c: c.members.invite(email="a@example.com", role="staff"), True),
    "invite_portal_customer": (
        lambda c: c.members.invite_portal_customer(ID, email="a@example.com"), True),
    "change_member_roles": (lambda c: c.members.change_roles(ID, roles=["staff"]), True),
    "suspend_member": (lambda c: c.members.suspend(ID), True),
    "reactivate_member": (lambda c: c.members.reactivate(ID), True),
    "set_member_permission": (lambda c: c.members.set_permission(ID, "calls.read"), True),
    "update_role": (lambda c: c.roles.update(ID, name="A"), True),
    "update_department": (lambda c: c.departments.update(ID, name="A"), True),
    "assign_department_role": (
        lambda c: c.departments.assign(ID, membership_id=ID, role="staff"), True),
    "share_record": (lambda c: c.shares.share("calls", ID, role="staff"), True),
    "set_mfa_requirement": (
        lambda c: c.organizations.set_mfa_requirement(ID, required=True), True),
    "my_permissions": (lambda c: c.access.my_permissions(), True),
    "explain_access": (lambda c: c.access.explain("calls", ID), True),
    "my_sessions": (lambda c: c.sessions.list(), True),
    "remove_member": (lambda c: c.members.remove(ID), False),
    "transfer_ownership": (lambda c: c.members.transfer_ownership(ID), False),
    "clear_member_permission": (lambda c: c.members.clear_permission(ID, "calls.read"), False),
    "create_role": (lambda c: c.roles.create(code="a", name="A"), False),
    "delete_role": (lambda c: c.roles.delete(ID), False),
    "create_department": (lambda c: c.departments.create(name="A", kind="it"), False),
    "delete_department": (lambda c: c.departments.delete(ID), False),
    "remove_department_role": (
        lambda c: c.departments.unassign(ID, membership_id=ID, role="staff"), False),
    "unshare_record": (lambda c: c.shares.unshare(ID), False),
    "create_api_key": (lambda c: c.api_keys.create(name="A", scopes=["calls.read"]), False),
    "revoke_api_key": (lambda c: c.api_keys.revoke(ID), False),
    "revoke_session": (lambda c: c.sessions.revoke(ID), False),
    "revoke_other_sessions": (lambda c: c.sessions.revoke_others(), False),
    "add_domain": (lambda c: c.domains.add(host="a.example.com", audience="api"), False),
    "remove_domain": (lambda c: c.domains.remove(ID), False),
}  # fmt: skip


@pytest.mark.parametrize("function", RIGHTS)
def test_a_call_about_rights_is_repeated_only_where_twice_is_once(client_of, function) -> None:
    call, is_repeatable = RIGHTS[function]
    client, server = client_of(httpx.ReadTimeout("slow"), failed(400))
    with pytest.raises(errors.TenantryError):
        call(client)
    assert {r.url.path for r in server.requests} == {f"/rest/v1/rpc/{function}"}
    assert len(server.requests) == (2 if is_repeatable else 1)


def test_a_delete_that_an_earlier_attempt_did_is_done(client_of) -> None:
    client, _ = client_of(httpx.ReadTimeout("slow"), ok([]))
    client.customers.delete(ID, permanently=True)


def test_a_delete_of_nothing_is_not_found(client_of) -> None:
    client, _ = client_of(ok([]))
    with pytest.raises(errors.NotFound):
        client.customers.delete(ID, permanently=True)


def test_the_server_says_how_long_to_wait(client_of, naps) -> None:
    client, _ = client_of(failed(429, retry_after="7"), ok([ROW]))
    client.customers.get(ID)
    assert 7 <= naps[0] < 8


def test_a_server_that_asks_for_too_much_patience_is_not_waited_for(client_of, naps) -> None:
    client, server = client_of(failed(429, retry_after="3600"))
    with pytest.raises(errors.RateLimited, match="Wait 3600 seconds") as caught:
        client.customers.get(ID)
    assert caught.value.retry_after == 3600
    assert len(server.requests) == 1
    assert naps == []


def test_retry_after_may_be_a_date() -> None:
    at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=30)
    seconds = retry_after({"retry-after": email.utils.format_datetime(at, usegmt=True)})
    assert seconds is not None
    assert 27 < seconds <= 30


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("", None), ("soon", None), ("nan", None), ("inf", None), ("-5", 0.0), ("1.5", 1.5),
     ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0)],
)  # fmt: skip
def test_odd_retry_after_headers_do_no_harm(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}) == seconds


@given(st.integers(0, 9))
def test_back_off_is_random_below_a_bound_that_doubles_up_to_eight_seconds(attempt: int) -> None:
    waits = [RetryPolicy(10).backoff(attempt) for _ in range(50)]
    assert 0 <= min(waits) < max(waits) <= min(8, 0.5 * 2**attempt)


def test_an_earlier_refusal_does_not_use_up_the_safety_of_a_write() -> None:
    policy = RetryPolicy(2)
    answer = {"status": 502, "code": None, "retry_after": None}
    assert policy.wait_after_answer(0, **answer, safety=Safety.ONCE) is None
    assert policy.wait_after_answer(0, **answer, safety=Safety.REPEATABLE) is not None
    assert policy.wait_after_answer(2, **answer, safety=Safety.REPEATABLE) is None


def test_every_attempt_is_reported(client_of) -> None:
    seen: list[Exchange] = []
    client, _ = client_of(failed(503), ok([ROW], **{"X-Request-Id": "abc"}))
    client.with_options(on_response=seen.append).customers.get(ID)
    assert [(e.status, e.attempt) for e in seen] == [(503, 0), (200, 1)]
    assert seen[1].request_id == "abc"
    assert seen[1].headers["x-request-id"] == "abc"
    assert seen[1].path == "/rest/v1/customers"


def test_logs_hold_no_query_no_body_and_no_secret(client_of, caplog) -> None:
    client, _ = client_of(ok(ROW), access_token="token-of-the-user")
    with caplog.at_level("DEBUG", logger="tenantry"):
        client.customers.create(first_name="Ana", phone="+14155550123")
        client.customers.find(phone="+14155550123")
    text = caplog.text
    assert "POST /rest/v1/rpc/create_customer 200" in text
    for secret in ("Ana", "4155550123", "token-of-the-user", "sb_publishable_test"):
        assert secret not in text


@pytest.mark.anyio
async def test_the_asynchronous_client_retries_alike(async_client_of, naps) -> None:
    client, server = async_client_of(failed(503), httpx.ReadError("reset"), ok([ROW]))
    assert str((await client.customers.get(ID)).id) == ID
    assert len(server.requests) == 3
    assert len(naps) == 2
