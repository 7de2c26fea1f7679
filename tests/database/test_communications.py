"""From a provider's event to customer, conversation, message, call and metrics."""

from __future__ import annotations

import itertools
import random
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import psycopg
import pytest

UTC = "2026-03-02T10:00:{:02d}+00:00"


def counts(line) -> dict[str, int]:
    return line.owner.one(
        "select (select count(*) from customers where business_id = %(b)s) as customers,"
        " (select count(*) from conversations where business_id = %(b)s) as conversations,"
        " (select count(*) from messages where business_id = %(b)s) as messages,"
        " (select count(*) from calls where business_id = %(b)s) as calls".replace(
            "%(b)s", f"'{line.business_id}'"
        )
    )


def drift(line) -> list[object]:
    return line.owner.all("select * from metric_drift")


def test_a_text_creates_customer_conversation_message_and_metrics(line):
    result = line.deliver("SM1", line.text("SM1", "Are you open?"))
    assert result["status"] == "processed"
    assert result["duplicate"] is False
    assert counts(line) == {"customers": 1, "conversations": 1, "messages": 1, "calls": 0}
    thread = line.owner.one(
        "select * from conversation_threads where business_id = %s", line.business_id
    )
    assert thread["customer_phone"] == "+14155550123"
    assert (thread["last_message_preview"], thread["unread_count"]) == ("Are you open?", 1)
    metrics = line.owner.all(
        "select metric, value from daily_metrics where business_id = %s and dimension = 'business'",
        line.business_id,
    )
    assert {row["metric"]: row["value"] for row in metrics} == {
        "new_customers": 1,
        "conversations_opened": 1,
        "messages_inbound": 1,
    }
    assert drift(line) == []


def test_a_repeated_delivery_changes_nothing(line):
    first = line.deliver("SM1", line.text("SM1"))
    again = line.deliver("SM1", line.text("SM1"))
    assert again["duplicate"] is True
    assert again["results"] == first["results"]
    # The same message under another delivery key: the message id still finds the first row.
    line.deliver("other-key", line.text("SM1"))
    assert counts(line) == {"customers": 1, "conversations": 1, "messages": 1, "calls": 0}


def test_a_call_a_text_and_a_whatsapp_message_are_one_customer(line):
    line.deliver("1", line.text("SM1"))
    line.deliver("2", line.text("SM2", channel_kind="whatsapp"))
    line.deliver("3", line.call("CA1", "ringing"))
    assert counts(line) == {"customers": 1, "conversations": 2, "messages": 2, "calls": 1}


def test_a_whatsapp_user_without_a_number_is_a_customer_too(line):
    peer = "US.13491208655302741918"
    for sid in ("SM1", "SM2"):
        line.deliver(sid, line.text(sid, channel_kind="whatsapp", peer=peer, profile_name="Ana"))
    assert counts(line) == {"customers": 1, "conversations": 1, "messages": 2, "calls": 0}
    customer = line.owner.one(
        "select display_name, primary_phone from customers where business_id = %s",
        line.business_id,
    )
    assert customer == {"display_name": "Ana", "primary_phone": None}


@pytest.mark.parametrize("peer", ["22395", "MyBank", "+266696687", "+14155550199"])
def test_nobody_becomes_a_customer_by_a_number_that_is_nobodys(line, peer):
    line.deliver("1", line.text("SM1", peer=peer))
    assert counts(line) == {"customers": 0, "conversations": 1, "messages": 1, "calls": 0}


def test_a_withheld_caller_is_logged_without_a_customer(line):
    line.deliver("1", line.call("CA1", "ringing", peer="+7378742833"))
    assert counts(line) == {"customers": 0, "conversations": 0, "messages": 0, "calls": 1}


def test_an_unknown_number_of_ours_waits_for_its_channel(line):
    result = line.deliver("1", line.text("SM1", ours="+14155550111"))
    assert result["status"] == "failed"
    row = line.owner.one("select * from webhook_events where business_id = %s", line.business_id)
    assert "+14155550111" in row["error"]
    assert row["next_attempt_at"] is not None
    line.owner.all(
        "insert into channels (business_id, connection_id, kind, name, address, provider)"
        " values (%s, %s, 'sms', 'Second', '+14155550111', 'twilio')",
        line.business_id,
        line.connection_id,
    )
    retried = line.owner.rpc(
        "retry_webhook_event", business_id=line.business_id, event_id=row["id"]
    )
    assert retried["status"] == "processed"
    assert counts(line)["messages"] == 1


def test_due_events_are_retried_by_the_webhook_role(line):
    line.deliver(
        "rec",
        {
            "type": "call.recording",
            "external_id": "CA1",
            "recording_sid": "RE1",
            "status": "completed",
            "duration_seconds": 9,
        },
    )
    line.deliver("call", line.call("CA1", "ringing"))
    line.world.operator.execute(
        "update webhook_events set next_attempt_at = now()"
        " where status = 'failed' and business_id = %s",
        (line.business_id,),
    )
    with line.world.integrator() as connection:
        row = connection.execute("select retry_webhook_events(10) as done").fetchone()
    assert row == {"done": 1}
    call = line.owner.one("select recording from calls where business_id = %s", line.business_id)
    assert call["recording"]["sid"] == "RE1"


def test_opt_out_is_noted_and_respected(line):
    line.deliver("1", line.text("SM1", "STOP", opt="out"))
    point = line.owner.one(
        "select opted_out_at from contact_points where business_id = %s", line.business_id
    )
    assert point["opted_out_at"] is not None
    conversation = line.owner.value(
        "select id from conversations where business_id = %s", line.business_id
    )
    with pytest.raises(psycopg.Error) as refused:
        line.owner.rpc(
            "record_message", business_id=line.business_id, conversation_id=conversation, body="Hi"
        )
    assert refused.value.sqlstate == "PT409"
    line.deliver("2", line.text("SM2", "START", opt="in"))
    line.owner.rpc(
        "record_message",
        business_id=line.business_id,
        conversation_id=conversation,
        body="Welcome back",
    )


# Threading ------


@pytest.mark.parametrize(
    ("threading", "status", "expected"),
    [
        ("single", "resolved", 1),
        ("per_resolution", "resolved", 2),
        ("single", "closed", 2),
        ("single", "pending", 1),
        ("single", "snoozed", 1),
    ],
)
def test_the_next_message_finds_or_starts_the_thread(new_line, threading, status, expected):
    line = new_line(threading=threading)
    line.deliver("1", line.text("SM1"))
    path = {"closed": ["resolved", "closed"]}.get(status, [status])
    for step in path:
        line.owner.all(
            "update conversations set status = %s, snoozed_until = now() + interval '1 day'"
            " where business_id = %s",
            step,
            line.business_id,
        )
    line.deliver("2", line.text("SM2"))
    rows = line.owner.all(
        "select status, previous_conversation_id from conversations where business_id = %s"
        " order by created_at",
        line.business_id,
    )
    assert len(rows) == expected
    assert rows[-1]["status"] == "open"
    assert (rows[-1]["previous_conversation_id"] is not None) == (expected == 2)


def test_an_illegal_status_says_what_is_legal(line):
    line.deliver("1", line.text("SM1"))
    with pytest.raises(psycopg.Error) as refused:
        line.owner.all(
            "update conversations set status = 'closed' where business_id = %s", line.business_id
        )
    assert refused.value.sqlstate == "PT409"
    assert "resolved" in str(refused.value.diag.message_hint)


# Status is a function of the set of events ------

STATUSES = ["queued", "sending", "sent", "delivered", "read", "failed", "canceled"]


def expected_status(seen: set[str]) -> str:
    for status in ("read", "delivered", "failed", "canceled", "sent", "sending"):
        if status in seen:
            return status
    return "queued"


def test_message_status_does_not_depend_on_order_or_repetition(line):
    chooser = random.Random(7)
    number = 0
    sets = [s for n in (1, 2, 3) for s in itertools.combinations(STATUSES, n)]
    with line.world.integrator() as connection:
        for events in chooser.sample(sets, 30):
            for order in {tuple(chooser.sample(events * 2, len(events) * 2)) for _ in range(2)}:
                number += 1
                for step, status in enumerate(order):
                    line.deliver(
                        f"{number}:{step}",
                        line.message_status(
                            f"SM{number}", status, occurred_at=UTC.format(STATUSES.index(status))
                        ),
                        connection=connection,
                    )
                row = line.owner.one(
                    "select status from messages where business_id = %s and"
                    " provider_message_id = %s",
                    line.business_id,
                    f"SM{number}",
                )
                assert row["status"] == expected_status(set(order)), order
    assert drift(line) == []


def test_call_events_in_any_order_give_the_same_call(line):
    steps = [
        ("queued", {}),
        ("ringing", {}),
        ("in_progress", {}),
        ("completed", {"duration_seconds": 42}),
    ]
    rows = []
    for number, order in enumerate(itertools.permutations(steps)):
        for step, (status, more) in enumerate(order):
            line.deliver(
                f"{number}:{step}",
                line.call(
                    f"CA{number}",
                    status,
                    **more,
                    occurred_at=UTC.format(10 * [s for s, _ in steps].index(status)),
                ),
            )
        rows.append(
            line.owner.one(
                "select status, duration_seconds, outcome, answered_at is not null as answered,"
                " ended_at from calls where business_id = %s and provider_call_id = %s",
                line.business_id,
                f"CA{number}",
            )
        )
    assert all(row == rows[0] for row in rows)
    assert (rows[0]["status"], rows[0]["duration_seconds"]) == ("completed", 42)
    assert drift(line) == []


def test_a_call_never_goes_back_for_any_role(line):
    line.deliver("1", line.call("CA1", "completed", duration_seconds=5))
    with pytest.raises(psycopg.Error) as refused:
        line.world.operator.execute(
            "update calls set status = 'ringing' where business_id = %s", (line.business_id,)
        )
    assert refused.value.sqlstate == "PT409"


def test_callbacks_without_our_number_find_their_row(line):
    line.deliver("1", line.call("CA1", "in_progress"))
    line.deliver("2", line.message_status("SM1", "sent"))
    results = [
        line.deliver("3", line.call("CA1", "completed", ours=None, answered_by="machine")),
        line.deliver("4", line.message_status("SM1", "delivered", ours=None)),
    ]
    assert [r["status"] for r in results] == ["processed", "processed"]
    # A callback about nothing we know waits.
    assert line.deliver("5", line.call("CA9", "completed", ours=None))["status"] == "failed"


def test_a_voicemail_is_a_voicemail_until_a_member_says_otherwise(line):
    line.deliver("1", line.call("CA1", "completed", duration_seconds=9))
    line.deliver("2", line.call("CA1", "completed", outcome="voicemail"))
    call = "select outcome from calls where business_id = %s"
    assert line.owner.value(call, line.business_id) == "voicemail"
    line.owner.all("update calls set outcome = 'spam' where business_id = %s", line.business_id)
    line.deliver("3", line.call("CA1", "in_progress", outcome="voicemail"))
    assert line.owner.value(call, line.business_id) == "spam"


def test_a_leg_is_not_a_second_call(line):
    line.deliver("1", line.call("CA1", "in_progress"))
    line.deliver(
        "2",
        line.call(
            "CA2",
            "completed",
            parent_external_id="CA1",
            direction="outbound",
            peer="+14155550177",
            duration_seconds=20,
        ),
    )
    assert counts(line)["calls"] == 1
    call = line.owner.one("select legs, status from calls where business_id = %s", line.business_id)
    assert call["legs"]["CA2"]["status"] == "completed"
    assert call["status"] == "in_progress"


# Concurrency ------


def at_once(line, deliveries):
    """Delivers everything at the same moment, each on a connection of its own."""
    barrier = Barrier(len(deliveries))

    def one(delivery):
        key, event = delivery
        with line.world.integrator() as connection:
            connection.execute("select 1")
            barrier.wait()
            return line.deliver(key, event, connection=connection)

    with ThreadPoolExecutor(len(deliveries)) as pool:
        return list(pool.map(one, deliveries))


def settle(line):
    """Retries what lost a race until nothing is due, as the worker does."""
    with line.world.integrator() as connection:
        for _ in range(10):
            line.world.operator.execute(
                "update webhook_events set next_attempt_at = now()"
                " where status = 'failed' and business_id = %s",
                (line.business_id,),
            )
            if connection.execute("select retry_webhook_events(100) as n").fetchone()["n"] == 0:
                return


def test_64_deliveries_of_one_message_are_one_message(line):
    results = at_once(line, [("SM1", line.text("SM1"))] * 64)
    settle(line)
    assert sum(not r["duplicate"] for r in results) == 1
    assert counts(line) == {"customers": 1, "conversations": 1, "messages": 1, "calls": 0}
    assert drift(line) == []


def test_64_quick_texts_of_one_stranger_are_one_customer_and_one_thread(line):
    at_once(line, [(f"SM{n % 2}", line.text(f"SM{n % 2}", f"text {n % 2}")) for n in range(64)])
    settle(line)
    assert counts(line) == {"customers": 1, "conversations": 1, "messages": 2, "calls": 0}
    row = line.owner.one(
        "select message_count, unread_count from conversations where business_id = %s",
        line.business_id,
    )
    assert row == {"message_count": 2, "unread_count": 2}
    assert drift(line) == []


def test_a_call_and_texts_at_once_are_one_customer(line):
    deliveries = [(f"SM{n}", line.text(f"SM{n}")) for n in range(20)]
    deliveries += [(f"CA{n}:ringing", line.call(f"CA{n}", "ringing")) for n in range(6)]
    deliveries += [
        (f"CA{n}:completed", line.call(f"CA{n}", "completed", duration_seconds=3)) for n in range(6)
    ]
    at_once(line, deliveries)
    settle(line)
    assert counts(line) == {"customers": 1, "conversations": 1, "messages": 20, "calls": 6}
    statuses = line.owner.all(
        "select distinct status from calls where business_id = %s", line.business_id
    )
    assert statuses == [{"status": "completed"}]
    assert drift(line) == []


def test_metrics_stay_exact_under_mixed_writers(line):
    """Inserts, edits, deletions, a zone change and a rebuild at once; then nothing may differ."""
    chooser = random.Random(11)
    operator_url = line.world.database.url("postgres")

    def writer(seed: int) -> int:
        own = random.Random(seed)
        done = 0
        with psycopg.connect(operator_url, autocommit=True) as connection:
            for n in range(40):
                action = own.choice(["call", "call", "toggle", "delete", "zone", "rebuild"])
                try:
                    if action == "call":
                        connection.execute(
                            "insert into calls (business_id, direction, peer, from_address,"
                            " to_address, status, started_at) values (%s, 'inbound', 'x', 'x', 'y',"
                            " 'queued', now() - make_interval(hours => %s))",
                            (line.business_id, own.randrange(100)),
                        )
                    elif action == "toggle":
                        connection.execute(
                            "update calls set duration_seconds = %s, answered_at = now(),"
                            " status = case status when 'queued' then 'completed' else status end"
                            " where id = (select id from calls where business_id = %s"
                            " order by id offset %s limit 1)",
                            (own.randrange(500), line.business_id, own.randrange(20)),
                        )
                    elif action == "delete":
                        connection.execute(
                            "delete from calls where id = (select id from calls"
                            " where business_id = %s order by id offset %s limit 1)",
                            (line.business_id, own.randrange(20)),
                        )
                    elif action == "zone" and n % 5 == 0:
                        connection.execute(
                            "update businesses set timezone = %s where id = %s",
                            (
                                own.choice(["Asia/Tokyo", "America/Los_Angeles", "UTC"]),
                                line.business_id,
                            ),
                        )
                    elif action == "rebuild" and n % 5 == 0:
                        connection.execute("select recompute_metrics(%s)", (line.business_id,))
                    done += 1
                except psycopg.errors.DeadlockDetected:
                    continue  # a caller retries 40P01; nothing of the statement stays
        return done

    with ThreadPoolExecutor(6) as pool:
        done = sum(pool.map(writer, [chooser.randrange(10**6) for _ in range(6)]))
    assert done > 200
    assert drift(line) == []
    assert line.owner.value("select count(*) from daily_metrics") > 0
    # The drift view does see a fault.
    line.world.operator.execute(
        "update daily_metric_slots set value = value + 1 where business_id = %s",
        (line.business_id,),
    )
    assert drift(line) != []
    assert line.owner.value("select recompute_metrics(%s)", line.business_id) > 0
    assert drift(line) == []


# Customers by function ------


@pytest.mark.parametrize(
    ("arguments", "field", "reason"),
    [
        ({}, "first_name", "empty"),
        ({"phone": "12"}, "phone", "invalid_phone"),
        ({"email": "nobody@"}, "email", "invalid_email"),
        ({"first_name": "A", "kind": "robot"}, "kind", "bad_choice"),
        ({"first_name": "A", "lifecycle_stage": "dead"}, "lifecycle_stage", "bad_choice"),
        ({"first_name": "A", "country": "United States"}, "country", "bad_country"),
    ],
)
def test_bad_customers_name_the_field_and_nothing_is_stored(line, arguments, field, reason):
    with pytest.raises(psycopg.Error) as refused:
        line.owner.rpc("create_customer", business_id=line.business_id, **arguments)
    assert refused.value.sqlstate == "22023"
    assert f'"field": "{field}"' in str(refused.value.diag.message_detail)
    assert f'"reason": "{reason}"' in str(refused.value.diag.message_detail)
    assert refused.value.diag.message_hint
    assert counts(line)["customers"] == 0


def test_an_idempotency_key_gives_the_first_result(line):
    create = {"business_id": line.business_id, "first_name": "Ana", "idempotency_key": "k1"}
    first = line.owner.rpc("create_customer", **create)
    assert line.owner.rpc("create_customer", **create)["id"] == first["id"]
    with pytest.raises(psycopg.Error) as refused:
        line.owner.rpc("create_customer", **(create | {"first_name": "Bea"}))
    assert refused.value.sqlstate == "PT409"
    assert counts(line)["customers"] == 1


def test_a_number_belongs_to_one_customer(line):
    first = line.owner.rpc(
        "create_customer", business_id=line.business_id, first_name="Ana", phone="(415) 555-0123"
    )
    assert first["primary_phone"] == "+14155550123"
    with pytest.raises(psycopg.Error) as refused:
        line.owner.rpc(
            "create_customer",
            business_id=line.business_id,
            first_name="Bea",
            phone="+1 415-555-0123",
        )
    assert refused.value.sqlstate == "23505"
    assert str(first["id"]) in str(refused.value.diag.message_detail)
    line.deliver("1", line.text("SM1"))
    assert counts(line)["customers"] == 1
    found = line.owner.rpc("find_customer", business_id=line.business_id, phone="415 555 0123")
    assert found["id"] == first["id"]


@pytest.mark.parametrize("query", ["goncal", "GONÇALVES lu", "embr", "5550123", "luis@x", "paulo"])
def test_search_finds_by_any_part(line, query):
    line.owner.rpc(
        "create_customer",
        business_id=line.business_id,
        first_name="Luís",
        last_name="Gonçalves",
        company_name="Embraer",
        city="São Paulo",
        phone="+14155550123",
        email="luis@x.example",
    )
    line.owner.rpc("create_customer", business_id=line.business_id, first_name="Other")
    rows = line.owner.all(
        "select display_name from search_customers(%s, %s)", line.business_id, query
    )
    assert [row["display_name"] for row in rows] == ["Luís Gonçalves"]


@pytest.mark.parametrize("query", ["'", "a:*|b", "& | !", "\\", "%%%", "(((", "x'); drop table"])
def test_search_text_is_data(line, query):
    line.owner.rpc("create_customer", business_id=line.business_id, first_name="Ana")
    if len(query) < 2:
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            line.owner.all("select * from search_customers(%s, %s)", line.business_id, query)
    else:
        assert (
            line.owner.all("select * from search_customers(%s, %s)", line.business_id, query) == []
        )
