"""What the fake adds to the client, for the tests of its users; the rest is in test_contract."""

from __future__ import annotations

import datetime

import pytest

from tenantry import AsyncTenantry, Tenantry, errors
from tenantry.testing import AsyncFakeTenantry, FakeTenantry

FIXED = datetime.datetime(2026, 1, 31, 23, 30, tzinfo=datetime.UTC)


def test_the_fake_is_the_client_and_ready_to_use() -> None:
    with FakeTenantry() as client:
        assert isinstance(client, Tenantry)
        customer = client.customers.create(first_name="Ana", phone="(415) 555-0123")
        assert customer.primary_phone == "+14155550123"
        assert client.server.requests[-1] == ("POST", "/rest/v1/rpc/create_customer")


def test_every_fake_is_a_world_of_its_own() -> None:
    first, second = FakeTenantry(), FakeTenantry()
    first.customers.create(first_name="Ana")
    assert second.customers.list().all() == []


def test_the_same_calls_give_the_same_rows() -> None:
    def world() -> list[str]:
        client = FakeTenantry(now=lambda: FIXED)
        client.calls.log(direction="inbound", peer="+14155550123", duration_seconds=5)
        return [call.model_dump_json() for call in client.calls.list()]

    assert world() == world()


def test_the_clock_is_the_tests() -> None:
    client = FakeTenantry(now=lambda: FIXED)
    created = client.customers.create(first_name="Ana")
    assert created.created_at == FIXED
    assert created.metric_date == datetime.date(2026, 1, 31)
    client.businesses.update(client.business_id, timezone="Asia/Tokyo")  # morning there
    assert client.customers.create(first_name="Bea").metric_date == datetime.date(2026, 2, 1)


@pytest.mark.parametrize(
    "kind",
    [
        errors.BadRequest, errors.ValidationError, errors.AuthenticationError,
        errors.PermissionDenied, errors.NotFound, errors.Conflict, errors.IdempotencyConflict,
        errors.PlanLimitExceeded, errors.RateLimited, errors.ServerError, errors.Timeout,
        errors.ConnectionError,
    ],
)  # fmt: skip
def test_any_error_can_be_brought_about(kind: type[errors.TenantryError]) -> None:
    client = FakeTenantry()
    if kind is errors.AuthenticationError:
        client = FakeTenantry(server=client.server, business=client.business_id)
        client.auth.sign_out()
    client.fail_next(kind, "As ordered.")
    with pytest.raises(errors.TenantryError, match=r"ordered|No answer") as caught:
        client.customers.list().all()
    assert type(caught.value) is kind


def test_an_error_that_is_only_a_base_cannot_be_ordered() -> None:
    with pytest.raises(errors.InvalidArgument, match="concrete"):
        FakeTenantry().fail_next(errors.APIError)


def test_retries_can_be_rehearsed(naps: list[float]) -> None:
    client = FakeTenantry(max_retries=2)
    client.fail_next(errors.RateLimited, times=2, retry_after=3)
    assert client.customers.create(first_name="Ana").first_name == "Ana"
    assert len(client.customers.list().all()) == 1
    assert len(naps) == 2
    assert all(3 <= nap < 4 for nap in naps)


def test_other_people_are_in_the_same_world() -> None:
    owner = FakeTenantry()
    guest = owner.as_user("guest@example.com")
    assert guest.businesses.list().all() == []
    issued = owner.members.invite(email="guest@example.com", role="viewer")
    guest.members.accept(issued.token)
    guest.use("demo")
    owner.customers.create(first_name="Ana")
    assert [c.first_name for c in guest.customers.list()] == ["Ana"]


def test_messages_can_arrive() -> None:
    client = FakeTenantry()
    channel = client.channels.create(kind="sms", name="Text line", address="+14155550100")
    message = client.receive_message(channel_id=channel.id, peer="+14155550123", body="Hello?")
    assert (message.direction, message.status) == ("inbound", "received")
    conversation = client.conversations.get(message.conversation_id)
    assert (conversation.unread_count, conversation.message_count) == (1, 1)
    client.conversations.mark_read(conversation.id)
    assert client.conversations.get(conversation.id).unread_count == 0
    assert client.metrics.dashboard().messages_today == 1


def test_what_the_fake_does_not_know_it_says() -> None:
    client = FakeTenantry()
    with pytest.raises(errors.BadRequest, match="does not exist"):
        client.send(client.from_("invoices").select("*"))
    with pytest.raises(errors.BadRequest, match="does not know the function"):
        client.send(client.rpc("post_invoice"))
    with pytest.raises(errors.BadRequest, match="does not know the operator"):
        client.send(client.from_("customers").select("id").ilike("first_name", "a%"))


@pytest.mark.anyio
async def test_the_asynchronous_fake_is_the_same() -> None:
    async with AsyncFakeTenantry() as client:
        assert isinstance(client, AsyncTenantry)
        await client.customers.create(first_name="Ana")
        client.fail_next(errors.PermissionDenied)
        with pytest.raises(errors.PermissionDenied):
            await client.customers.list().all()
        assert len(await client.customers.list().all()) == 1
        other = client.as_user("other@example.com")
        assert await other.businesses.list().all() == []
