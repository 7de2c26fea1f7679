"""A provider's request arrives; API, metrics and SDK show it at once; others cannot tell."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tenantry import Tenantry

from .conftest import DENTAL, PRINT

pytestmark = pytest.mark.stack


def metric(api, name: str, business: str = DENTAL) -> int:
    rows = api.rows(
        f"/rest/v1/daily_metrics?business_id=eq.{business}&metric=eq.{name}"
        "&dimension=eq.business&select=value"
    )
    return sum(row["value"] for row in rows)


def test_a_call_is_there_for_its_business_and_for_nobody_else(owner, printer, twilio, local_stack):
    before = {name: metric(owner, name) for name in ("calls_inbound", "new_customers")}
    printed = printer.get("/rest/v1/customers", Prefer="count=exact").headers["content-range"]
    sid, caller = "CA" + "1" * 32, "+12125550161"

    answer = twilio.call(sid, "ringing", caller)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/xml")
    assert "<Say" in answer.text
    assert "Bluebird Dental" in answer.text
    twilio.call(sid, "completed", caller, CallDuration="49", Duration="1", SequenceNumber="3")

    [call] = owner.rows(f"/rest/v1/calls?provider_call_id=eq.{sid}&select=*,customers(*)")
    assert (call["status"], call["duration_seconds"]) == ("completed", 49)
    assert call["customers"]["primary_phone"] == caller
    assert metric(owner, "calls_inbound") == before["calls_inbound"] + 1
    assert metric(owner, "new_customers") == before["new_customers"] + 1
    assert owner.rows("/rest/v1/metric_drift") == []

    with Tenantry(local_stack.origin, local_stack.keys.publishable_key) as client:
        client.auth.sign_in(email="staff@bluebird.example", password="tenantry-demo")
        client.use(DENTAL)
        found = client.customers.find(phone="(212) 555-0161")
        assert found is not None
        assert str(found.id) == call["customer_id"]
        today = datetime.now(UTC).date()
        daily = client.metrics.daily(
            from_=today - timedelta(days=1), to=today + timedelta(days=1), metric="calls_inbound"
        )
        assert sum(row.value for row in daily) >= 1

    # The other organization: same count as before, nothing by id, nothing by number, no difference.
    assert printer.rows(f"/rest/v1/calls?id=eq.{call['id']}") == []
    assert printer.rows(f"/rest/v1/customers?primary_phone=eq.{caller.replace('+', '%2B')}") == []
    after = printer.get("/rest/v1/customers", Prefer="count=exact").headers["content-range"]
    assert after == printed
    find = printer.post("/rest/v1/rpc/find_customer", {"business_id": PRINT, "phone": caller})
    assert find.json() in (None, {}) or find.json().get("id") is None


def test_64_parallel_deliveries_through_the_front_door(owner, twilio):
    """The same event 32 times and two quick events 16 times each, all at once."""
    sender, twin = "+12125550162", "+12125550163"
    deliveries = [(sender, "one", "SMonly")] * 32
    deliveries += [(twin, "first", "SMtwin1"), (twin, "second", "SMtwin2")] * 16
    before = {name: metric(owner, name) for name in ("messages_inbound", "new_customers")}
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda d: twilio.text(*d), deliveries))
    assert {answer.status_code for answer in answers} == {200}
    for phone, messages in ((sender, 1), (twin, 2)):
        query = f"/rest/v1/customer_summary?primary_phone=eq.{phone.replace('+', '%2B')}"
        [customer] = owner.rows(query)
        assert (customer["conversation_count"], customer["message_count"]) == (1, messages)
    assert metric(owner, "messages_inbound") == before["messages_inbound"] + 3
    assert metric(owner, "new_customers") == before["new_customers"] + 2
    assert owner.rows("/rest/v1/metric_drift") == []


def test_a_forged_or_foreign_request_stores_nothing(owner, twilio):
    before = {table: owner.count(table) for table in ("webhook_events", "messages", "customers")}
    form = {
        "AccountSid": "AC" + "0" * 31 + "1",
        "MessageSid": "SMforged",
        "From": "+12125550170",
        "To": "+14155550199",
        "Body": "x",
    }
    connection = "e0000000-0000-4000-8000-000000000001"
    forged = twilio.post(f"twilio-messaging/{connection}", form, token="not-the-token")
    unknown = twilio.post("twilio-messaging/e0000000-0000-4000-8000-00000000ffff", form)
    assert (forged.status_code, unknown.status_code) == (401, 401)
    assert forged.json()["error"] == unknown.json()["error"]
    foreign = twilio.post(f"twilio-messaging/{connection}", {**form, "AccountSid": "AC" + "9" * 32})
    assert foreign.status_code == 403
    assert foreign.json()["field"] == "AccountSid"
    assert {table: owner.count(table) for table in before} == before
