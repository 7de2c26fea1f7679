"""Calls, messages and requests that arrive many times at the same moment.

tests/database/test_communications.py and tests/functions/test_on_database.py send 64 deliveries
through the same code; here are the naive versions that show that such a race can be lost.
"""

from __future__ import annotations

from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from .crew import Call, Outcome, Session, call
from .naive import PAUSE, rewrite
from .race import Race, Trial, complaint
from .scenery import Office, Scenery

_OURS = "+14155550199"


def _connected(scenery: Scenery) -> tuple[Office, UUID]:
    """An office with a Twilio connection and channels on one number."""
    office = scenery.office("owner")
    connection: UUID = scenery.value(
        "insert into provider_connections (business_id, provider, account_ref, name)"
        " values (%s, 'twilio', %s, 'Desk') returning id",
        office.business_id,
        f"AC{uuid4().hex}",
    )
    for kind in ("voice", "sms"):
        scenery.rows(
            "insert into channels (business_id, connection_id, kind, name, address, provider)"
            " values (%s, %s, %s, 'Desk', %s, 'twilio')",
            *(office.business_id, connection, kind, _OURS),
        )
    return office, connection


def _text(connection: UUID, key: str) -> Call:
    event = {
        "type": "message.inbound",
        "channel_kind": "sms",
        "ours": _OURS,
        "peer": "+14155550123",
        "external_id": key,
        "text": key,
    }
    return _deliver(connection, key, event)


def _ring(connection: UUID, key: str) -> Call:
    event = {
        "type": "call.event",
        "direction": "inbound",
        "ours": _OURS,
        "peer": "+14155550123",
        "external_id": key,
        "status": "ringing",
    }
    return _deliver(connection, key, event)


def _deliver(connection: UUID, key: str, event: dict[str, str]) -> Call:
    return call(
        "select ingest_webhook(%s, %s, 'test', '{}', %s) as result",
        *(connection, key, Jsonb([event])),
        login="integrator",
    )


def _count(scenery: Scenery, table: str, office: Office) -> int:
    return int(
        scenery.value(f"select count(*) from {table} where business_id = %s", office.business_id)
    )


def _one_number(scenery: Scenery) -> Trial:
    """Calls and messages of a number that nobody knows yet."""
    office, connection = _connected(scenery)
    calls = [(_text, _ring)[number % 2](connection, f"event {number}") for number in range(16)]

    def violation(outcomes: list[Outcome]) -> str | None:
        if (customers := _count(scenery, "customers", office)) != 1:
            return f"{customers} customers of one number"
        failed = scenery.value(
            "select count(*) from webhook_events where business_id = %s and status <> 'processed'",
            office.business_id,
        )
        if failed:
            return f"{failed} events not applied"
        return complaint(outcomes, (), winners=16)

    return Trial(calls, violation)


def _identity_without_lock(session: Session) -> None:
    session.execute(
        "create or replace function public.lock_identity(business_id uuid, normalized text)"
        " returns void language sql volatile as 'select pg_sleep(0.004)'"
    )


def _one_event(scenery: Scenery) -> Trial:
    office, connection = _connected(scenery)

    def violation(outcomes: list[Outcome]) -> str | None:
        stored = {t: _count(scenery, t, office) for t in ("webhook_events", "messages")}
        if stored != {"webhook_events": 1, "messages": 1}:
            return f"stored {stored}"
        first = sum(not row["result"]["duplicate"] for one in outcomes for row in one.rows)
        return f"{first} first deliveries" if first != 1 else complaint(outcomes, (), winners=16)

    return Trial([_text(connection, "event")] * 16, violation)


def _inbox_without_key(session: Session) -> None:
    """Asks whether the event is there, then stores it."""
    rewrite(
        session,
        "public.ingest_webhook",
        (r"  insert into webhook_events", f"""  select * into v_webhook from webhook_events w
          where w.connection_id = v_connection.id
            and w.provider_event_id = ingest_webhook.provider_event_id limit 1;
          if found then return jsonb_build_object('duplicate', true); end if;
          {PAUSE}
          insert into webhook_events"""),
        (r"on conflict \(business_id, connection_id, provider_event_id\) do nothing", ""),
    )  # fmt: skip
    session.execute("alter table webhook_events drop constraint webhook_events_provider_event_key")


def _one_key(scenery: Scenery) -> Trial:
    office, key = scenery.office("owner"), uuid4().hex
    create = office.owner.calls(
        "select * from create_customer(business_id => %s, first_name => 'Ana',"
        " idempotency_key => %s)",
        *(office.business_id, key),
    )

    def violation(outcomes: list[Outcome]) -> str | None:
        if (stored := _count(scenery, "customers", office)) != 1:
            return f"{stored} customers of one key"
        ids = {row["id"] for one in outcomes for row in one.rows}
        return f"{len(ids)} answers" if len(ids) != 1 else complaint(outcomes, (), winners=16)

    return Trial([create] * 16, violation)


def _key_without_lock(session: Session) -> None:
    rewrite(
        session,
        "public.find_idempotent_result",
        (r"perform pg_advisory_xact_lock\([^;]*\);", ""),
        (
            r"if not found then return null; end if;",
            f"if not found then {PAUSE} return null; end if;",
        ),
    )
    session.execute("alter table idempotency_keys drop constraint idempotency_keys_pkey")


DELIVERIES = (
    Race("sixteen first calls and messages of a number", "one customer",
         _one_number, _identity_without_lock),
    Race("one event delivered sixteen times", "applied once, the others told so",
         _one_event, _inbox_without_key),
    Race("one idempotency key, sixteen requests", "one customer, sixteen equal answers",
         _one_key, _key_without_lock),
)  # fmt: skip
