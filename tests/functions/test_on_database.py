"""The functions on a real database, as role integrator: rows, races, outages."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tenantry_functions.providers.twilio.signature import form_pairs, signature
from tenantry_functions.testing import ORIGIN, Answer, FunctionHost, encode_form

FIXTURES = Path(__file__).parent / "fixtures"
Host = FunctionHost[None]
Tenant = Any  # the class of the fixture `tenant`, see conftest.py


def message(number: int = 1, **more: str) -> dict[str, str]:
    return {
        "AccountSid": "AC00000000000000000000000000000001",
        "MessageSid": f"SM{number:032}",
        "SmsStatus": "received",
        "From": "+14155550123",
        "To": "+14155550199",
        "Body": f"hello {number}",
        **more,
    }


def call(status: str = "ringing", **more: str) -> dict[str, str]:
    return {
        "AccountSid": "AC00000000000000000000000000000001",
        "CallSid": "CA1",
        "CallStatus": status,
        "Direction": "inbound",
        "From": "+14155550123",
        "To": "+14155550199",
        **more,
    }


async def post(host: Host, tenant: Tenant, form: dict[str, str], function: str) -> Answer:
    target, body = f"/functions/v1/{function}/{tenant.connection.id}", encode_form(form)
    signed = signature(tenant.SECRET, f"{ORIGIN}{target}".encode(), form_pairs(body)).decode()
    headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("x-twilio-signature", signed),
    ]
    return await host.send("POST", target, body, headers)


def posts(
    host: Host, tenant: Tenant, numbers: Iterable[int]
) -> Iterator[Coroutine[Any, Any, Answer]]:
    return (post(host, tenant, message(n), "twilio-messaging") for n in numbers)


def at_once(
    host: Host, tenant: Tenant, forms: Iterable[dict[str, str]], function: str
) -> list[Answer]:
    async def all_of_them() -> list[Answer]:
        return await asyncio.gather(*(post(host, tenant, form, function) for form in forms))

    return host.run(all_of_them())


def test_a_message_becomes_a_customer_and_a_thread(served: Host, tenant: Tenant) -> None:
    assert served.twilio("twilio-messaging", tenant.connection, message()).status == 200
    (customer,) = tenant.rows("customers")
    (conversation,) = tenant.rows("conversations")
    (stored,) = tenant.rows("messages")
    assert customer["primary_phone"] == "+14155550123"
    assert conversation["customer_id"] == customer["id"]
    assert (stored["body"], stored["status"]) == ("hello 1", "received")
    (event,) = tenant.rows("webhook_events")
    assert (event["status"], event["payload"]) == ("processed", message())


def test_the_fixtures_are_applied(served: Host, tenant: Tenant) -> None:
    order = {"inbound": 0, "status": 1, "dial": 2, "recording": 3, "transcribe": 4}
    files = [*FIXTURES.glob("twilio_voice/*.json"), *FIXTURES.glob("twilio_messaging/*.json")]
    # A status before its call is another test; outgoing calls have the other number as ours.
    tenant.add_channel("voice", "+14155550123")
    for file in sorted(files, key=lambda f: min(order[w] for w in order if w in f.stem)):
        request = json.loads(file.read_text())["request"]
        function = file.parent.name.replace("_", "-")
        answer = served.twilio(function, tenant.connection, request["body"].encode())
        assert answer.status == 200, file.stem
    events = tenant.rows("webhook_events")
    assert len(events) == len(files)
    assert {(e["status"], e["error"]) for e in events} == {("processed", None)}
    calls = {row["provider_call_id"]: row for row in tenant.rows("calls")}
    first = calls["CAaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1"]
    assert (first["status"], first["duration_seconds"]) == ("completed", 97)
    assert first["recording"]["sid"] == "REbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
    assert calls["CAdddddddddddddddddddddddddddddddd"]["outcome"] == "voicemail"
    failed = {row["error_code"]: row for row in tenant.rows("messages") if row["error_code"]}
    assert (failed[21610]["status"], failed[21610]["is_retryable"]) == ("failed", False)
    assert failed[63018]["is_retryable"] is True


def test_64_deliveries_of_one_event_at_once(served: Host, tenant: Tenant) -> None:
    answers = at_once(served, tenant, [message()] * 64, "twilio-messaging")
    assert {(a.status, a.body) for a in answers} == {(200, answers[0].body)}
    for table in ("webhook_events", "customers", "conversations", "messages"):
        assert len(tenant.rows(table)) == 1, table


def test_64_messages_of_a_new_customer_at_once(served: Host, tenant: Tenant) -> None:
    answers = at_once(served, tenant, map(message, range(64)), "twilio-messaging")
    assert {a.status for a in answers} == {200}
    assert len(tenant.rows("customers")) == 1
    (conversation,) = tenant.rows("conversations")
    assert conversation["message_count"] == 64
    assert {row["body"] for row in tenant.rows("messages")} == {f"hello {n}" for n in range(64)}


def test_a_call_and_a_message_at_once_are_one_customer(served: Host, tenant: Tenant) -> None:
    progress = [
        call("ringing", SequenceNumber="0"),
        call("in-progress", SequenceNumber="1"),
        call("completed", SequenceNumber="2", CallDuration="31"),
    ]
    forms = [*progress, message(1), message(2)] * 4
    assert {a.status for a in at_once(served, tenant, forms, "twilio-voice")} == {200}
    assert len(tenant.rows("customers")) == 1
    (row,) = tenant.rows("calls")
    assert (row["status"], row["duration_seconds"]) == ("completed", 31)
    assert len(tenant.rows("messages")) == 2


def test_the_phone_is_answered_as_the_channel_says(served: Host, tenant: Tenant) -> None:
    settings = {"greeting": "Hallo & willkommen", "language": "de-DE", "record": True}
    tenant.admin.execute(
        "update channels set settings = %s where business_id = %s and kind = 'voice'",
        (json.dumps(settings), tenant.business_id),
    )
    first = served.twilio("twilio-voice", tenant.connection, call())
    assert '<Say language="de-DE">Hallo &amp; willkommen</Say><Record' in first.text
    # Twilio asks again when our answer got lost: it must hear the same.
    assert served.twilio("twilio-voice", tenant.connection, call()).body == first.body
    assert len(tenant.rows("calls")) == 1


def test_nothing_is_stored_of_what_is_refused(served: Host, tenant: Tenant) -> None:
    forged = served.twilio("twilio-messaging", tenant.connection, message(), secret="other")
    other = served.twilio("twilio-messaging", tenant.connection, message(AccountSid="AC2"))
    tenant.admin.execute(
        "update provider_connections set is_active = false where business_id = %s",
        (tenant.business_id,),
    )
    inactive = served.twilio("twilio-messaging", tenant.connection, message())
    assert (forged.status, other.status, inactive.status) == (401, 403, 401)
    for table in ("webhook_events", "customers", "messages"):
        assert tenant.rows(table) == []


def test_rotated_secrets(served: Host, tenant: Tenant) -> None:
    tenant.admin.execute(
        "update private.provider_secrets set position = 2 where connection_id = %s",
        (tenant.connection.id,),
    )
    tenant.admin.execute(
        "insert into private.provider_secrets (business_id, connection_id, position, secret)"
        " values (%s, %s, 1, 'the newer auth token')",
        (tenant.business_id, tenant.connection.id),
    )
    for number, secret in enumerate((tenant.SECRET, "the newer auth token")):
        answer = served.twilio(
            "twilio-messaging", tenant.connection, message(number), secret=secret
        )
        assert answer.status == 200
    assert len(tenant.rows("messages")) == 2


def test_hostile_text_is_only_text(served: Host, tenant: Tenant) -> None:
    text = "a\0b \ufffe '; drop table messages; -- \u202e </Say> {{7*7}} %s 👋🏽"
    answer = served.twilio("twilio-messaging", tenant.connection, message(Body=text))
    assert answer.status == 200
    (row,) = tenant.rows("messages")
    assert row["body"] == text.replace("\0", "\ufffd")


def test_what_cannot_be_applied_yet_is_applied_later(tenant: Tenant) -> None:
    with FunctionHost(None, settings=tenant.settings(retry_interval_seconds=0.05)) as host:
        form = message(To="+14155550111")
        assert host.twilio("twilio-messaging", tenant.connection, form).status == 200
        (event,) = tenant.rows("webhook_events")
        assert event["status"] == "failed"
        tenant.add_channel("sms", "+14155550111")
        tenant.admin.execute(
            "update webhook_events set next_attempt_at = now() where business_id = %s",
            (tenant.business_id,),
        )
        deadline = time.monotonic() + 5
        while not tenant.rows("messages") and time.monotonic() < deadline:
            host.run(asyncio.sleep(0.05))
    (event,) = tenant.rows("webhook_events")
    assert event["status"] == "processed"
    assert len(tenant.rows("messages")) == 1


class TestOutages:
    def test_connections_cut_by_the_server(self, served: Host, tenant: Tenant) -> None:
        at_once(served, tenant, map(message, range(8)), "twilio-messaging")
        tenant.admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'integrator'"
            " and datname = current_database()"
        )
        answers = at_once(served, tenant, map(message, range(8, 16)), "twilio-messaging")
        assert {a.status for a in answers} == {200}
        assert len(tenant.rows("messages")) == 16

    def test_no_database(self, tenant: Tenant) -> None:
        nowhere = "postgresql://integrator:x@127.0.0.1:1/postgres"
        settings = replace(tenant.settings(pool_wait_seconds=0.3), database_url=nowhere)
        with FunctionHost(None, settings=settings) as host:
            started = time.monotonic()
            answer = host.twilio("twilio-messaging", tenant.connection, message())
            assert time.monotonic() - started < 2
            assert (answer.status, answer.json()["code"]) == (503, "unavailable")
            assert int(answer.headers["retry-after"]) > 0
            assert "127.0.0.1" not in answer.text
            assert host.request("GET", "/readyz", b"", []).status == 503
            assert host.request("GET", "/healthz", b"", []).status == 200

    def test_a_locked_table(self, tenant: Tenant) -> None:
        with (
            FunctionHost(None, settings=tenant.settings(statement_timeout_ms=300)) as host,
            psycopg.connect(tenant.database.url("postgres")) as other,
        ):
            other.execute("lock table webhook_events in access exclusive mode")
            answer = host.twilio("twilio-messaging", tenant.connection, message())
            assert answer.status == 503
            other.rollback()
            assert tenant.rows("webhook_events") == []
            assert host.twilio("twilio-messaging", tenant.connection, message()).status == 200
            assert len(tenant.rows("messages")) == 1

    def test_more_requests_than_connections(self, tenant: Tenant) -> None:
        settings = tenant.settings(pool_wait_seconds=0.3, statement_timeout_ms=10_000)
        with (
            FunctionHost(None, settings=settings) as host,
            psycopg.connect(tenant.database.url("postgres")) as other,
        ):
            at_once(host, tenant, map(message, range(1000, 1010)), "twilio-messaging")
            other.execute("lock table webhook_events in access exclusive mode")

            async def overload() -> list[Answer]:
                tasks = [asyncio.create_task(p) for p in posts(host, tenant, range(100))]
                # Those that hold a connection wait for the lock; all others are turned away.
                for first in islice(asyncio.as_completed(tasks), 100 - settings.pool_max):
                    assert (await first).status == 503
                other.rollback()
                return await asyncio.gather(*tasks)

            answers = host.run(overload())
            acknowledged = {f"hello {n}" for n, a in enumerate(answers) if a.status == 200}
            refused = [a for a in answers if a.status != 200]
            assert 1 <= len(acknowledged) <= settings.pool_max
            assert {(a.status, a.headers["retry-after"]) for a in refused} == {(503, "5")}
            stored = {row["body"] for row in tenant.rows("messages")}
            assert stored & {f"hello {n}" for n in range(100)} == acknowledged


def test_the_role_can_do_nothing_else(tenant: Tenant) -> None:
    with psycopg.connect(tenant.database.url("integrator"), autocommit=True) as connection:
        for table in ("messages", "customers", "webhook_events", "provider_connections"):
            query = sql.SQL("select * from public.{}").format(sql.Identifier(table))
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(query)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select * from private.provider_secrets")
