"""Signing in, and keeping the token alive without anybody noticing."""

from __future__ import annotations

import threading
import time

import anyio
import httpx
import pytest
from sdk_answers import KEY, URL, Answers, customer, failed, ok, session

from tenantry import Session, Tenantry, errors

ROW = customer()
ID = ROW["id"]
EXPIRED = {"code": "PGRST301", "message": "JWT expired"}


def bearer(request: httpx.Request) -> str | None:
    return request.headers.get("authorization")


def test_signing_in_sends_later_requests_as_the_user(client_of) -> None:
    client, server = client_of(ok(session()), ok([ROW]))
    client.auth.sign_in(email="ana@example.com", password="secret")
    client.customers.get(ID)
    sign_in, get = server.requests
    assert str(sign_in.url) == f"{URL}/auth/v1/token?grant_type=password"
    assert bearer(sign_in) is None
    assert bearer(get) == "Bearer access-1"
    assert sign_in.headers["apikey"] == get.headers["apikey"] == KEY


def test_a_new_key_is_not_sent_as_a_token_and_an_old_one_is(client_of) -> None:
    client, server = client_of(ok([ROW]))
    client.customers.get(ID)
    assert bearer(server.last) is None
    legacy = Tenantry(
        URL, "a.b.c", business=ID, http_client=httpx.Client(transport=httpx.MockTransport(server))
    )
    legacy.customers.get(ID)
    assert bearer(server.last) == "Bearer a.b.c"


def test_a_token_from_outside_is_used(client_of) -> None:
    client, server = client_of(ok([ROW]), access_token="theirs")
    client.customers.get(ID)
    assert bearer(server.last) == "Bearer theirs"
    assert client.auth.session is None


def test_a_token_from_outside_that_ended_is_an_error_at_once(client_of) -> None:
    client, server = client_of(failed(401, EXPIRED), access_token="theirs")
    with pytest.raises(errors.AuthenticationError, match=r"sign_in|access_token"):
        client.customers.get(ID)
    assert len(server.requests) == 1


def test_a_wrong_password_says_so(client_of) -> None:
    body = {"code": 400, "error_code": "invalid_credentials", "msg": "Invalid login credentials"}
    client, _ = client_of(failed(400, body))
    with pytest.raises(errors.AuthenticationError, match="Invalid login credentials"):
        client.auth.sign_in(email="a@b.c", password="x")
    assert client.auth.session is None


def test_a_token_is_renewed_before_it_ends(client_of, monkeypatch) -> None:
    client, server = client_of(
        ok(session(lifetime=3600)), ok([ROW]), ok(session("access-2", refresh="refresh-2")),
        ok([ROW]),
    )  # fmt: skip
    client.auth.sign_in(email="a@b.c", password="x")
    now = time.monotonic()
    monkeypatch.setattr("tenantry._session.time.monotonic", lambda: now + 3539)
    client.customers.get(ID)
    assert bearer(server.last) == "Bearer access-1"
    monkeypatch.setattr("tenantry._session.time.monotonic", lambda: now + 3541)
    client.customers.get(ID)
    assert server.requests[2].url.params["grant_type"] == "refresh_token"
    assert b"refresh-1" in server.requests[2].content
    assert bearer(server.last) == "Bearer access-2"


def test_a_short_token_is_not_renewed_at_every_request(client_of) -> None:
    client, server = client_of(ok(session(lifetime=30)), ok([ROW]))
    client.auth.sign_in(email="a@b.c", password="x")
    client.customers.get(ID)
    assert len(server.requests) == 2


def test_a_token_that_the_server_calls_expired_is_renewed_and_the_write_sent_again(
    client_of,
) -> None:
    client, server = client_of(
        ok(session()), failed(401, EXPIRED), ok(session("access-2")), ok(ROW)
    )
    client.auth.sign_in(email="a@b.c", password="x")
    client.customers.create(first_name="Ana")
    assert [bearer(r) for r in server.requests] == [
        None, "Bearer access-1", None, "Bearer access-2",
    ]  # fmt: skip


def test_a_token_that_stays_refused_is_not_renewed_for_ever(client_of) -> None:
    client, server = client_of(
        ok(session()), failed(401, EXPIRED), ok(session("access-2")), failed(401, EXPIRED)
    )
    client.auth.sign_in(email="a@b.c", password="x")
    with pytest.raises(errors.AuthenticationError):
        client.customers.get(ID)
    assert len(server.requests) == 4


def test_a_session_that_was_ended_elsewhere_asks_to_sign_in_again(client_of) -> None:
    gone = {"code": 400, "error_code": "refresh_token_not_found", "msg": "Invalid Refresh Token"}
    client, _ = client_of(ok(session()), failed(400, gone))
    client.auth.sign_in(email="a@b.c", password="x")
    with pytest.raises(errors.AuthenticationError, match="Sign in again"):
        client.auth.refresh()
    assert client.auth.session is None


def test_while_the_token_lasts_a_failing_renewal_does_not_matter(client_of, monkeypatch) -> None:
    client, server = client_of(ok(session()), failed(500), ok([ROW]))
    client.auth.sign_in(email="a@b.c", password="x")
    now = time.monotonic()
    monkeypatch.setattr("tenantry._session.time.monotonic", lambda: now + 3550)
    assert client.customers.get(ID)
    assert bearer(server.last) == "Bearer access-1"
    assert client.auth.session is not None


def test_after_the_token_ended_a_failing_renewal_is_the_error(client_of, monkeypatch) -> None:
    client, _ = client_of(ok(session()), failed(500))
    client.auth.sign_in(email="a@b.c", password="x")
    now = time.monotonic()
    monkeypatch.setattr("tenantry._session.time.monotonic", lambda: now + 3601)
    with pytest.raises(errors.ServerError):
        client.customers.get(ID)


def test_a_renewal_is_never_sent_twice_when_it_may_have_worked(client_of) -> None:
    client, server = client_of(ok(session()), httpx.ReadTimeout("slow"))
    client.auth.sign_in(email="a@b.c", password="x")
    with pytest.raises(errors.Timeout):
        client.auth.refresh()
    assert len(server.requests) == 2


def test_signing_out_forgets_the_tokens_whatever_happens(client_of) -> None:
    client, server = client_of(ok(session()), failed(500), ok([ROW]))
    client.auth.sign_in(email="a@b.c", password="x")
    with pytest.raises(errors.ServerError):
        client.auth.sign_out()
    assert bearer(server.last) == "Bearer access-1"
    client.customers.get(ID)
    assert bearer(server.last) is None


def test_signing_out_of_a_session_that_ended_is_fine(client_of) -> None:
    client, _ = client_of(ok(session()), failed(401, {"error_code": "bad_jwt", "msg": "expired"}))
    client.auth.sign_in(email="a@b.c", password="x")
    client.auth.sign_out()
    client.auth.sign_out()


def test_signing_up_may_need_confirmation(client_of) -> None:
    client, server = client_of(ok({"id": ID, "email": "a@b.c"}), ok(session()))
    waiting = client.auth.sign_up(email="a@b.c", password="x", full_name="Ana")
    assert waiting.session is None
    assert str(waiting.user.id) == ID
    assert server.last_body == {
        "email": "a@b.c", "password": "x", "data": {"full_name": "Ana"},
    }  # fmt: skip
    assert client.auth.session is None
    assert client.auth.sign_up(email="a@b.c", password="x").session == client.auth.session


def test_a_kept_session_goes_on(client_of) -> None:
    now = int(time.time())
    kept = Session.model_validate(session() | {"expires_at": now - 10})
    client, server = client_of(ok(session("access-2")), ok([ROW]))
    client.auth.restore(Session.model_validate_json(kept.model_dump_json()))
    client.customers.get(ID)
    assert bearer(server.last) == "Bearer access-2"


def test_tokens_are_not_in_what_is_printed(client_of) -> None:
    client, _ = client_of(ok(session("access-1", refresh="refresh-1")))
    signed_in = client.auth.sign_in(email="a@b.c", password="x")
    printed = f"{signed_in!r} {signed_in} {client!r} {client._transport.tokens}"
    assert "access-1" not in printed
    assert "refresh-1" not in printed
    assert KEY not in printed


def test_clients_with_other_options_share_the_session_and_not_the_business(client_of) -> None:
    client, server = client_of(ok(session()), ok([ROW]))
    patient = client.with_options(timeout=60, business="0197a000-0000-7000-8000-000000000002")
    client.auth.sign_in(email="a@b.c", password="x")
    patient.customers.get(ID)
    assert bearer(server.last) == "Bearer access-1"
    assert server.last.extensions["timeout"]["read"] == 60
    assert server.last.url.params["business_id"] == f"eq.{patient.business_id}"
    client.customers.get(ID)
    assert server.last.extensions["timeout"]["read"] == 10
    assert client.business_id != patient.business_id


def test_many_threads_renew_once() -> None:
    lock, renewals = threading.Lock(), []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/token"):
            time.sleep(0.02)
            with lock:
                renewals.append(request)
            return ok(session("access-2"))
        return ok([ROW])

    server = Answers(answer)
    with httpx.Client(transport=httpx.MockTransport(server)) as http:
        client = Tenantry(URL, KEY, business=ID, http_client=http)
        client.auth.restore(Session.model_validate(session() | {"expires_at": int(time.time())}))
        threads = [threading.Thread(target=client.customers.get, args=(ID,)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(renewals) == 1
    reads = [r for r in server.requests if r.url.path.endswith("/customers")]
    assert {bearer(r) for r in reads} == {"Bearer access-2"}
    assert len(reads) == 16


@pytest.mark.anyio
async def test_many_tasks_renew_once(async_client_of) -> None:
    client, server = async_client_of(
        lambda r: ok(session("access-2")) if r.url.path.endswith("/token") else ok([ROW])
    )
    client.auth.restore(Session.model_validate(session() | {"expires_at": int(time.time())}))
    async with anyio.create_task_group() as tasks:
        for _ in range(16):
            tasks.start_soon(client.customers.get, ID)
    paths = [r.url.path for r in server.requests]
    assert paths.count("/auth/v1/token") == 1
    assert paths.count("/rest/v1/customers") == 16
