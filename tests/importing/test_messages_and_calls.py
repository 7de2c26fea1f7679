"""Importing messages and calls: history that is complete, and no news to anybody."""

from __future__ import annotations

import datetime
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from .conftest import SMS, read_csv

MESSAGES = "select * from messages where business_id = %s order by occurred_at, id"
CALLS = "select * from calls where business_id = %s order by started_at, id"

#: 3GPP TS 23.038, 6.2.1 and 6.2.1.1, by code: an independent copy of the tables.
GSM = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM_EXTENSION = "\f^{}\\[~]|€"


def segments(body: str) -> int:
    """How many parts an SMS has, one character at a time."""
    if all(c in GSM.replace("\x1b", "") + GSM_EXTENSION for c in body):
        sizes, alone, room = [2 if c in GSM_EXTENSION else 1 for c in body], 160, 153
    else:
        sizes, alone, room = [len(c.encode("utf-16-le")) // 2 for c in body], 70, 67
    if sum(sizes) <= alone:
        return 1
    parts, used = 1, 0
    for size in sizes:
        if used + size > room:
            parts, used = parts + 1, 0
        used += size
    return parts


@pytest.fixture(scope="module")
def collection():
    return [{"body": line["text"], "label": line["label"]} for line in read_csv(SMS)]


def test_the_sms_collection_arrives_whole(owner, sms, collection):
    result = owner.import_("messages", collection, channel_id=sms)
    assert (result["created"], result["bad"]) == (3381, 0)
    stored = owner.all(MESSAGES, owner.business_id)
    assert [row["body"] for row in stored] == [line["body"] for line in collection]
    assert len({row["occurred_at"] for row in stored}) == 3381
    assert [row["payload"]["label"] for row in stored] == [line["label"] for line in collection]
    assert Counter(row["payload"]["label"] for row in stored) == {"ham": 2924, "spam": 457}
    assert {(row["direction"], row["status"]) for row in stored} == {("inbound", "received")}
    assert [row["segments"] for row in stored] == [segments(row["body"]) for row in stored]
    assert max(row["segments"] for row in stored) > 1
    # One conversation with nobody in particular; nobody has to read it, nobody is opted out.
    thread = owner.one("select * from conversations where business_id = %s", owner.business_id)
    assert (thread["peer"], thread["customer_id"]) == ("unknown", None)
    assert (thread["message_count"], thread["unread_count"]) == (3381, 0)
    assert thread["last_message_preview"] == collection[-1]["body"][:140]
    counts = owner.counts()
    assert (counts["customers"], counts["contact_points"]) == (0, 0)
    assert owner.drift() == []
    # And again: nothing.
    again = owner.import_("messages", collection, channel_id=sms)
    assert (again["created"], again["already_there"]) == (0, 3381)
    assert owner.counts() == counts


def test_texts_that_say_stop_opt_nobody_out(owner, sms, collection):
    rows = [
        {"body": line["body"], "peer": f"212555{1000 + number}"}
        for number, line in enumerate(collection)
        if "stop" in line["body"].lower()
    ]
    assert len(rows) > 50
    rows.append({"body": "STOP", "peer": "2125550199"})
    owner.import_("messages", rows, channel_id=sms)
    points = owner.all("select * from contact_points where business_id = %s", owner.business_id)
    assert len(points) == len(rows)
    assert all(point["opted_out_at"] is None for point in points)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", 1), ("a" * 160, 1), ("a" * 161, 2), ("a" * 306, 2), ("a" * 307, 3),
        ("€" * 80, 1), ("€" * 81, 2), ("a" * 152 + "€" + "a" * 151, 2), ("a" * 152 + "€" * 77, 3),
        ("ł" * 70, 1), ("ł" * 71, 2), ("ł" * 134, 2), ("ł" * 135, 3),
        ("😀" * 35, 1), ("😀" * 36, 2), ("😀" * 66, 2), ("😀" * 67, 3), ("ł" + "😀" * 66, 2),
        ("\u00e7", 1), ("\u00e7" + "a" * 70, 2), ("Ç" + "a" * 159, 1), ("`" + "a" * 70, 2),
        ("\x1b" + "a" * 70, 2), ("\f" * 80, 1), ("a\r\n" * 53, 1),
    ],
)  # fmt: skip
def test_segments_of_an_sms(world, body, expected):
    row = world.operator.execute("select sms_segments(%s) as n", (body,)).fetchone()
    assert row["n"] == expected == segments(body)


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from("a€^ł😀\n\x1b"), max_size=200).map(lambda text: text * 3))
@example("a" * 151 + "€" * 200)
@example("😀" * 300)
def test_segments_agree_with_counting_one_character_at_a_time(world, body):
    row = world.operator.execute("select sms_segments(%s) as n", (body,)).fetchone()
    assert row["n"] == segments(body)


def test_messages_find_their_customers_and_conversations(owner, sms):
    known = owner.one(
        "select * from create_customer(%s, first_name => 'Ana', phone => '2125550123')",
        owner.business_id,
    )
    rows = [
        {"external_id": "SM1", "peer": "(212) 555-0123", "body": "Hi",
         "sent_at": "2026-03-01T10:00Z"},
        {"external_id": "SM2", "peer": "+12125550123", "body": "Hello", "direction": "outbound",
         "status": "delivered", "sent_at": "2026-03-01T10:05:00+00:00"},
        {"external_id": "SM3", "peer": "+12125550124", "body": "New", "name": "Zoë",
         "sent_at": "2026-03-01 23:30"},
        {"external_id": "SM4", "peer": "72345", "body": "Your code"},
        {"external_id": "SM5", "peer": "BlueBank", "body": "Your bill"},
        {"external_id": "SM6", "peer": "+14155550199", "body": "To ourselves"},
    ]  # fmt: skip
    assert owner.import_("messages", rows, channel_id=sms)["created"] == 6
    stored = {row["provider_message_id"]: row for row in owner.all(MESSAGES, owner.business_id)}
    threads = {
        row["peer"]: row
        for row in owner.all(
            "select * from conversations where business_id = %s", owner.business_id
        )
    }
    assert set(threads) == {"+12125550123", "+12125550124", "72345", "BlueBank", "+14155550199"}
    assert threads["+12125550123"]["customer_id"] == known["id"]
    assert threads["+12125550123"]["message_count"] == 2
    zoe = owner.one("select * from customers where id = %s", threads["+12125550124"]["customer_id"])
    assert (zoe["first_name"], zoe["primary_phone"]) == ("Zoë", "+12125550124")
    assert (zoe["source"], zoe["lifecycle_stage"]) == ("import", "lead")
    for peer in ("72345", "BlueBank", "+14155550199"):
        assert threads[peer]["customer_id"] is None
    sent = stored["SM2"]
    assert (sent["status"], sent["sender_kind"]) == ("delivered", "member")
    assert sent["delivered_at"] == sent["sent_at"] == sent["occurred_at"]
    # Local time of the business, on its local day.
    assert stored["SM3"]["occurred_at"].isoformat() == "2026-03-02T04:30:00+00:00"
    assert stored["SM3"]["metric_date"].isoformat() == "2026-03-01"
    assert owner.counts()["customers"] == 2
    assert owner.drift() == []


def test_history_joins_the_thread_and_reopens_nothing(owner, sms):
    rows = [
        {"external_id": "SM1", "peer": "2125550123", "body": "now", "sent_at": "2026-03-01T10:00Z"}
    ]
    owner.import_("messages", rows, channel_id=sms)
    owner.all(
        "update conversations set status = 'resolved' where business_id = %s", owner.business_id
    )
    earlier = {
        "external_id": "SM0",
        "peer": "2125550123",
        "body": "old",
        "sent_at": "2026-02-01T10:00Z",
    }
    assert owner.import_("messages", [earlier, *rows], channel_id=sms)["created"] == 1
    thread = owner.one("select * from conversations where business_id = %s", owner.business_id)
    assert (thread["status"], thread["message_count"]) == ("resolved", 2)
    assert thread["last_message_preview"] == "now"


def test_equal_texts_without_id_are_as_many_as_in_the_file(owner, sms):
    rows = [{"peer": "2125550123", "body": "Ok"}] * 3
    assert owner.import_("messages", rows, channel_id=sms)["created"] == 3
    assert owner.import_("messages", [*rows, rows[0]], channel_id=sms)["created"] == 1


def test_a_message_known_from_its_provider_is_not_doubled(owner, sms):
    owner.all(
        "select record_inbound_message(%s, %s, '+12125550123', 'Hi', 'SM1')",
        *(owner.business_id, sms),
    )
    rows = [{"external_id": "SM1", "peer": "2125550123", "body": "Hi"}]
    assert owner.import_("messages", rows, channel_id=sms)["already_there"] == 1
    changed = [{"external_id": "SM1", "peer": "2125550123", "body": "Bye"}, {"body": "x"}]
    result = owner.import_("messages", changed, channel_id=sms, skip_bad=True)
    assert [(one["field"], one["reason"]) for one in result["problems"]] == [
        ("external_id", "changed")
    ]


def test_an_email_channel_links_by_address_and_counts_no_segments(owner):
    channel = owner.value(
        "insert into channels (business_id, kind, name, address)"
        " values (%s, 'email', 'Desk', 'desk@acme.example.com') returning id",
        owner.business_id,
    )
    rows = [
        {"peer": "Ana@Shop.example.com", "body": "Hi", "direction": "outbound"},
        {"peer": "unknown", "body": "?"},
    ]
    assert owner.import_("messages", rows, channel_id=channel)["created"] == 2
    customer = owner.one("select * from customers where business_id = %s", owner.business_id)
    assert customer["primary_email"] == "ana@shop.example.com"
    assert {row["segments"] for row in owner.all(MESSAGES, owner.business_id)} == {None}


def test_a_recent_whatsapp_message_opens_the_service_window(owner):
    channel = owner.value(
        "insert into channels (business_id, kind, name, address)"
        " values (%s, 'whatsapp', 'Desk', '+14155550199') returning id",
        owner.business_id,
    )
    row = {"peer": "2125550123", "body": "Hi", "sent_at": "2026-03-01T10:00:00Z"}
    owner.import_("messages", [row], channel_id=channel)
    thread = owner.one("select * from conversations where business_id = %s", owner.business_id)
    assert thread["service_window_until"].isoformat() == "2026-03-02T10:00:00+00:00"
    point = owner.one("select * from contact_points where business_id = %s", owner.business_id)
    assert (point["kind"], point["normalized"]) == ("whatsapp", "+12125550123")


BAD_MESSAGES = [
    ({"body": ""}, "body", "empty"),
    ({"body": "x" * 70_000}, "body", "too_long"),
    ({"body": "ł" * (255 * 67 + 1)}, "body", "too_long"),
    ({"direction": "sideways"}, "direction", "bad_choice"),
    ({"peer": "12ab!!"}, "peer", "invalid_address"),
    ({"peer": "a name that is too long"}, "peer", "invalid_address"),
    ({"sent_at": "31.03.2026"}, "sent_at", "bad_time"),
    ({"sent_at": "2026-02-30"}, "sent_at", "bad_time"),
    ({"sent_at": "2026-03-01T10:00+99:00"}, "sent_at", "bad_time"),
    ({"sent_at": "1026-03-01"}, "sent_at", "out_of_range"),
    ({"sent_at": "2226-03-01"}, "sent_at", "out_of_range"),
    ({"status": "delivered"}, "status", "bad_choice"),
    ({"direction": "outbound", "status": "received"}, "status", "bad_choice"),
    ({"external_id": "x" * 401}, "external_id", "too_long"),
    ({"label": "x" * 1001}, "label", "too_long"),
]


@pytest.mark.parametrize(("row", "field", "reason"), BAD_MESSAGES)
def test_bad_messages(owner, sms, row, field, reason):
    rows = [{"line": 4, "body": "good"}, {"line": 9, "body": "x", **row}]
    result = owner.import_("messages", rows, channel_id=sms, skip_bad=True)
    assert [(one["line"], one["field"], one["reason"]) for one in result["problems"]] == [
        (9, field, reason)
    ]
    assert result["problems"][0]["remedy"]
    assert owner.counts()["messages"] == 1


def test_calls_find_their_customers_and_count(owner):
    rows = [
        {"external_id": "CA1", "direction": "inbound", "peer": "(212) 555-0123", "name": "Zoë",
         "started_at": "2026-03-01 23:30", "duration_seconds": "65", "notes": "asked for Ana"},
        {"external_id": "CA2", "direction": "outbound", "peer": "2125550123",
         "started_at": "2026-03-02T10:00:00Z", "duration_seconds": "0"},
        {"direction": "inbound", "peer": "+7378742833", "started_at": "2026-03-03",
         "status": "voicemail"},
        {"direction": "inbound", "peer": "2125550124", "started_at": "2026-03-04T08:00+01:00",
         "status": "canceled", "outcome": "spam"},
    ]  # fmt: skip
    voice = owner.value(
        "select id from channels where business_id = %s and kind = 'voice'", owner.business_id
    )
    assert owner.import_("calls", rows, channel_id=voice)["created"] == 4
    first, second, third, fourth = owner.all(CALLS, owner.business_id)
    assert (first["status"], first["outcome"]) == ("completed", "completed")
    assert first["answered_at"] == first["started_at"]
    assert first["ended_at"] - first["started_at"] == datetime.timedelta(seconds=65)
    assert (first["from_address"], first["to_address"]) == ("+12125550123", "+14155550199")
    assert (first["caller_name"], first["notes"]) == ("Zoë", "asked for Ana")
    assert first["metric_date"].isoformat() == "2026-03-01"
    assert (second["status"], second["answered_at"]) == ("no_answer", None)
    assert second["customer_id"] == first["customer_id"]
    assert (third["peer"], third["customer_id"], third["outcome"]) == (
        "anonymous", None, "voicemail"
    )  # fmt: skip
    assert (fourth["outcome"], fourth["status"]) == ("spam", "canceled")
    metrics = {
        row["metric"]: row["value"]
        for row in owner.all(
            "select metric, sum(value) as value from daily_metrics where business_id = %s"
            " and dimension = 'business' group by 1",
            owner.business_id,
        )
    }
    assert metrics["calls_inbound"] == 3
    assert metrics["calls_missed"] == 2
    assert metrics["call_seconds"] == 65
    assert owner.drift() == []
    before = owner.all(CALLS, owner.business_id)
    assert owner.import_("calls", rows, channel_id=voice)["already_there"] == 4
    assert owner.all(CALLS, owner.business_id) == before


BAD_CALLS = [
    ({"direction": None}, "direction", "missing"),
    ({"direction": "up"}, "direction", "bad_choice"),
    ({"peer": "abc"}, "peer", "invalid_phone"),
    ({"started_at": None}, "started_at", "missing"),
    ({"started_at": "yesterday"}, "started_at", "bad_time"),
    ({"started_at": "1999-01-01"}, "started_at", "out_of_range"),
    ({"duration_seconds": "1.5"}, "duration_seconds", "bad_number"),
    ({"duration_seconds": "604801"}, "duration_seconds", "bad_number"),
    ({"duration_seconds": "99999999999"}, "duration_seconds", "bad_number"),
    ({"status": "ringing"}, "status", "bad_choice"),
    ({"outcome": "happy"}, "outcome", "bad_choice"),
    ({"external_id": "x" * 201}, "external_id", "too_long"),
    ({"notes": "x" * 10001}, "notes", "too_long"),
]


@pytest.mark.parametrize(("row", "field", "reason"), BAD_CALLS)
def test_bad_calls(owner, row, field, reason):
    good = {"direction": "inbound", "peer": "2125550123", "started_at": "2026-03-01"}
    rows = [{"line": 4, **good}, {"line": 9, **good, "notes": "other", **row}]
    result = owner.import_("calls", rows, skip_bad=True)
    assert [(one["line"], one["field"], one["reason"]) for one in result["problems"]] == [
        (9, field, reason)
    ]
    assert owner.counts()["calls"] == 1


def test_a_call_known_by_its_id_must_be_the_same_call(owner):
    row = {"external_id": "CA1", "direction": "inbound", "peer": "2125550123",
           "started_at": "2026-03-01"}  # fmt: skip
    owner.import_("calls", [row])
    result = owner.import_("calls", [{**row, "peer": "2125550124"}], skip_bad=True)
    assert [(one["field"], one["reason"]) for one in result["problems"]] == [
        ("external_id", "changed")
    ]
