"""What the SDK promises, on the real stack and on the fake: the same test for both.

So the fake is no second opinion about the product; where the two differ, a test here fails.
"""

from __future__ import annotations

import contextlib
import datetime
import secrets
import uuid

import pytest
from sdk_worlds import PASSWORD, World, founded, new_number, refused

from tenantry import Session, errors
from tenantry.models import Channel


@pytest.fixture(scope="module")
def sms(world: World) -> Channel:
    return world.owner.channels.create(kind="sms", name="Text line", address="+14155550100")


# Businesses and members.


def test_an_owner_finds_the_business_by_id_and_slug(client) -> None:
    business = client.businesses.get(client.business_id)
    assert client.businesses.get(business.slug) == business
    assert client.organizations.get(business.organization_id).status == "active"
    assert business in client.businesses.list().all()
    (mine,) = [b for b in client.businesses.mine() if b.business_id == business.id]
    assert mine.roles == ["owner"]


def test_a_business_is_changed(client) -> None:
    changed = client.businesses.update(client.business_id, settings={"theme": {"dark": True}})
    assert changed.settings == {"theme": {"dark": True}}
    assert client.businesses.get(client.business_id).settings == changed.settings


def test_nobody_else_sees_the_business(world) -> None:
    stranger = world.new_user()
    with pytest.raises(errors.NotFound, match=r"businesses\.mine"):
        stranger.use(world.owner.business_id)
    assert stranger.businesses.list().all() == []
    intruder = stranger.with_options(business=world.owner.business_id)
    for attempt in (
        lambda: intruder.customers.list().all(),
        lambda: intruder.customers.create(first_name="Eve"),
    ):
        with pytest.raises(errors.NotInBusiness):
            attempt()


def test_an_invitation_brings_somebody_in_once(world) -> None:
    guest = world.new_user()
    issued = world.owner.members.invite(email=world.email_of(guest), role="staff")
    assert issued.token not in repr(issued)
    assert issued.expires_at > datetime.datetime.now(datetime.UTC)
    assert issued.invitation_id in [i.id for i in world.owner.members.invitations()]

    membership = guest.members.accept(issued.token)
    assert guest.use(membership.business_id).id == world.owner.business_id
    refused(errors.NotFound, "token", lambda: guest.members.accept(issued.token))

    (member,) = [m for m in world.owner.members.list() if m.id == membership.id]
    assert (member.roles, member.status) == (["staff"], "active")
    assert world.owner.members.change_roles(member.id, roles=["manager", "viewer"]) == [
        "manager", "viewer",
    ]  # fmt: skip
    world.owner.members.remove(member.id)
    # Nothing from the next statement on; the gateway may take a second to say why.
    with contextlib.suppress(errors.NotInBusiness):
        assert guest.customers.list().all() == []
    refused(errors.NotFound, "membership_id", lambda: world.owner.members.remove(member.id))


def test_an_invitation_that_is_replaced_or_revoked_is_worth_nothing(world) -> None:
    guest = world.new_user()
    first = world.owner.members.invite(email=world.email_of(guest), role="viewer")
    second = world.owner.members.resend(first.invitation_id)
    assert second.token != first.token
    refused(errors.NotFound, "token", lambda: guest.members.accept(first.token))
    world.owner.members.revoke(second.invitation_id)
    refused(errors.NotFound, "token", lambda: guest.members.accept(second.token))


def test_roles_and_addresses_are_checked(client) -> None:
    refused(
        errors.ValidationError,
        "role",
        lambda: client.members.invite(email="a@example.com", role="king"),
    )
    refused(
        errors.ValidationError, "email", lambda: client.members.invite(email="nobody", role="staff")
    )


def test_the_last_owner_stays(client) -> None:
    (owner,) = [m for m in client.members.list() if "owner" in m.roles]
    refused(errors.Conflict, "membership_id", lambda: client.members.remove(owner.id))


# Customers.


def test_a_customer_comes_back_as_created(client) -> None:
    number = new_number()
    created = client.customers.create(
        first_name="Zoë", last_name="Ångström", email=f"Zoe+{secrets.token_hex(4)}@Example.com",
        phone=number, tags=["vip", 'a "b", c'],
        custom_fields={"shoe": 38, "tags": ["x"]}, lifecycle_stage="customer",
        company_name="Sør & Co", city="Malmö", country="SE", notes="Line 1\nLine 2",
    )  # fmt: skip
    assert created.display_name == "Zoë Ångström"
    assert created.primary_phone == number
    assert created.primary_email == created.primary_email.lower()
    assert created.tags == ["vip", 'a "b", c']
    assert created.custom_fields == {"shoe": 38, "tags": ["x"]}
    assert created.metric_date == created.created_at.date()
    assert client.customers.get(created.id) == created


def test_a_number_is_found_in_any_way_of_writing_it(client) -> None:
    number = new_number()
    created = client.customers.create(first_name="Ana", phone=number)
    for written in (number, f"({number[2:5]}) {number[5:8]}-{number[8:]}", f"1-{number[2:]}"):
        found = client.customers.find(phone=written)
        assert found is not None
        assert found.id == created.id
    assert client.customers.find(phone=new_number()) is None
    assert client.customers.find(email="nobody@example.com") is None


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"first_name": "A", "phone": "12"}, "phone"),
        ({"first_name": "A", "email": "a@b@c"}, "email"),
        ({"first_name": "A", "kind": "robot"}, "kind"),
        ({"first_name": "A", "lifecycle_stage": "friend"}, "lifecycle_stage"),
        ({}, "first_name"),
    ],
)
def test_a_bad_value_is_refused_by_name_and_nothing_stays(client, arguments, field) -> None:
    before = len(client.customers.list().all())
    refused(errors.ValidationError, field, lambda: client.customers.create(**arguments))
    assert len(client.customers.list().all()) == before


def test_an_address_has_one_owner_and_the_error_says_who(client) -> None:
    number = new_number()
    first = client.customers.create(first_name="Ana", phone=number)
    error = refused(
        errors.Conflict, "phone", lambda: client.customers.create(first_name="Bea", phone=number)
    )
    assert uuid.UUID(error.details["customer_id"]) == first.id


def test_a_repeated_create_is_done_once(client) -> None:
    key = secrets.token_hex(8)
    first = client.customers.create(first_name="Once", idempotency_key=key)
    again = client.customers.create(first_name="Once", idempotency_key=key)
    assert again.id == first.id
    with pytest.raises(errors.IdempotencyConflict) as caught:
        client.customers.create(first_name="Other", idempotency_key=key)
    assert caught.value.field == "idempotency_key"


def test_a_customer_changes_field_by_field(client) -> None:
    created = client.customers.create(first_name="Ana", notes="old", tags=["a"])
    changed = client.customers.update(created.id, last_name="Miller", notes=None)
    assert (changed.display_name, changed.notes, changed.tags) == ("Ana Miller", None, ["a"])
    assert changed.updated_at >= created.updated_at
    assert client.customers.get(created.id) == changed


def test_a_removed_customer_leaves_the_lists_and_can_come_back(client) -> None:
    name = f"Gone{secrets.token_hex(4)}"
    created = client.customers.create(first_name=name)
    client.customers.delete(created.id)
    assert created.id not in [c.id for c in client.customers.list()]
    assert created.id in [c.id for c in client.customers.list(include_removed=True)]
    assert client.customers.search(name) == []
    assert client.customers.get(created.id).deleted_at is not None
    with pytest.raises(errors.NotFound):
        client.customers.summary(created.id)
    assert client.customers.restore(created.id).deleted_at is None
    assert created.id in [c.id for c in client.customers.list()]


def test_an_erased_customer_is_gone_and_calls_stay(client) -> None:
    call = client.calls.log(direction="inbound", peer=new_number())
    client.customers.delete(call.customer_id, permanently=True)
    with pytest.raises(errors.NotFound):
        client.customers.get(call.customer_id)
    assert client.calls.get(call.id).customer_id is None
    with pytest.raises(errors.NotFound):
        client.customers.delete(call.customer_id, permanently=True)


def test_lists_filter_and_page(client) -> None:
    tag = secrets.token_hex(4)
    made = [client.customers.create(first_name=f"N{n}", tags=[tag]).id for n in range(5)]
    client.customers.update(made[0], lifecycle_stage="customer")
    newest = client.customers.list(tag=tag, page_size=2)
    assert [c.id for c in newest] == made[::-1]
    assert [c.id for c in client.customers.list(tag=tag, newest_first=False, page_size=3)] == made
    assert [len(page.items) for page in newest.pages()] == [2, 2, 1]
    resumed = client.customers.list(tag=tag, page_size=2, after=newest.page().cursor)
    assert [c.id for c in resumed] == made[::-1][2:]
    assert [c.id for c in client.customers.list(tag=tag, lifecycle_stage="customer")] == made[:1]
    third = client.customers.get(made[2])
    since = client.customers.list(tag=tag, since=third.created_at)
    until = client.customers.list(tag=tag, until=third.created_at)
    assert {c.id for c in since} == set(made[2:])
    assert {c.id for c in until} == set(made[:2])


def test_search_finds_beginnings_of_words_and_parts_of_numbers(client) -> None:
    number, word = new_number(), f"Quill{secrets.token_hex(3)}"
    created = client.customers.create(first_name=word, last_name="Marlow", phone=number)
    for query in (word[:7], f"mar {word[:8].lower()}", number[-7:]):
        assert created.id in [c.id for c in client.customers.search(query)]
    assert client.customers.search(f"zz{word}") == []
    refused(errors.ValidationError, "query", lambda: client.customers.search("a"))


def test_contact_points_come_and_go(client) -> None:
    first, second = new_number(), new_number()
    created = client.customers.create(first_name="Ana", phone=first)
    added = client.customers.add_contact_point(created.id, kind="phone", raw=second)
    assert (added.normalized, added.is_primary) == (second, False)
    assert {p.normalized for p in client.customers.contact_points(created.id)} == {first, second}
    (primary,) = [p for p in client.customers.contact_points(created.id) if p.is_primary]
    client.customers.remove_contact_point(primary.id)
    assert client.customers.get(created.id).primary_phone == second
    with pytest.raises(errors.NotFound):
        client.customers.remove_contact_point(primary.id)
    with pytest.raises(errors.ValidationError):
        client.customers.add_contact_point(created.id, kind="phone", raw="12")


# Calls, conversations, messages, metrics.


def test_a_call_finds_its_customer(client) -> None:
    number = new_number()
    customer = client.customers.create(first_name="Ana", phone=number)
    started = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    call = client.calls.log(
        direction="inbound", peer=f"({number[2:5]}) {number[5:8]} {number[8:]}",
        started_at=started, duration_seconds=97, outcome="booked",
        transcript=[{"speaker": "them", "start": 0, "end": 1.5, "text": "Hello"}],
    )  # fmt: skip
    assert (call.customer_id, call.peer, call.status) == (customer.id, number, "completed")
    assert (call.started_at, call.duration_seconds) == (started, 97)
    assert (call.answered_at, call.ended_at) == (started, started + datetime.timedelta(seconds=97))
    (transcript,) = client.calls.transcripts(call.id)
    assert transcript.text == "Hello"
    assert str(transcript.segments[0]["end"]) == "1.5"
    assert client.calls.get(call.id) == call
    assert [c.id for c in client.calls.list(customer_id=customer.id)] == [call.id]
    assert client.calls.update(call.id, notes="Rang back").notes == "Rang back"
    summary = client.customers.summary(customer.id)
    assert (summary.call_count, summary.call_seconds) == (1, 97)


def test_an_unknown_caller_becomes_a_lead_once(client) -> None:
    number = new_number()
    first = client.calls.log(direction="inbound", peer=number)
    second = client.calls.log(direction="outbound", peer=number)
    assert first.customer_id == second.customer_id
    customer = client.customers.get(first.customer_id)
    assert (customer.lifecycle_stage, customer.source) == ("lead", "call")


def test_a_provider_call_is_logged_once(client) -> None:
    arguments = {
        "direction": "inbound", "peer": new_number(),
        "provider_call_id": f"CA{secrets.token_hex(16)}",
    }  # fmt: skip
    assert client.calls.log(**arguments).id == client.calls.log(**arguments).id


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"direction": "sideways", "peer": "+14155550111"}, "direction"),
        ({"direction": "inbound", "peer": "12"}, "peer"),
        ({"direction": "inbound", "peer": "+14155550111", "outcome": "fun"}, "outcome"),
        ({"direction": "inbound", "peer": "+14155550111", "status": "odd"}, "status"),
        ({"direction": "inbound", "peer": "+14155550111", "duration_seconds": -1},
         "duration_seconds"),
    ],
)  # fmt: skip
def test_a_bad_call_is_refused_by_name(client, arguments, field) -> None:
    refused(errors.ValidationError, field, lambda: client.calls.log(**arguments))


def test_a_conversation_is_one_per_address(client, sms) -> None:
    number = new_number()
    customer = client.customers.create(first_name="Ana", phone=number)
    opened = client.conversations.open(channel_id=sms.id, customer_id=customer.id)
    assert opened.peer == number
    assert client.conversations.open(channel_id=sms.id, peer=number).id == opened.id
    assert opened.id in [c.id for c in client.conversations.list(status="open")]
    assert client.conversations.get(opened.id).customer_id == customer.id


def test_messages_are_recorded_in_order(client, sms) -> None:
    conversation = client.conversations.open(channel_id=sms.id, peer=new_number())
    bodies = ["First", "Second 🌍", "Third"]
    made = [client.messages.record(conversation.id, body=body) for body in bodies]
    assert {(m.direction, m.status) for m in made} == {("outbound", "sent")}
    listed = client.messages.list(conversation.id, newest_first=False, page_size=2)
    assert [m.body for m in listed] == bodies
    assert client.messages.get(made[0].id).body == "First"
    again = client.conversations.get(conversation.id)
    assert (again.message_count, again.last_message_preview) == (3, "Third")
    client.conversations.mark_read(conversation.id)


def test_a_message_is_recorded_once_per_key(client, sms) -> None:
    conversation = client.conversations.open(channel_id=sms.id, peer=new_number())
    for _ in range(2):
        client.messages.record(conversation.id, body="Hi", idempotency_key="hi")
    assert len(client.messages.list(conversation.id).all()) == 1
    with pytest.raises(errors.IdempotencyConflict):
        client.messages.record(conversation.id, body="Ho", idempotency_key="hi")


def test_what_is_not_there_is_not_found_by_name(client, sms) -> None:
    nothing = uuid.uuid4()
    refused(errors.NotFound, "conversation_id", lambda: client.messages.record(nothing, body="Hi"))
    refused(
        errors.NotFound, "channel_id",
        lambda: client.conversations.open(channel_id=nothing, peer=new_number()),
    )  # fmt: skip
    refused(
        errors.ValidationError, "customer_id",
        lambda: client.conversations.open(channel_id=sms.id),
    )  # fmt: skip
    refused(
        errors.ValidationError, "peer",
        lambda: client.conversations.open(channel_id=sms.id, peer="12"),
    )  # fmt: skip
    for get in (client.calls.get, client.messages.get, client.channels.get, client.customers.get):
        refused(errors.NotFound, "id", lambda get=get: get(nothing))


def test_a_resolved_conversation_is_resolved(client, sms) -> None:
    conversation = client.conversations.open(channel_id=sms.id, peer=new_number())
    resolved = client.conversations.update(conversation.id, status="resolved", subject="Done")
    assert (resolved.status, resolved.subject) == ("resolved", "Done")


def test_channels_are_listed_and_changed(client, sms) -> None:
    assert sms.id in [c.id for c in client.channels.list(kind="sms", is_active=True)]
    assert client.channels.update(sms.id, name="Texts").name == "Texts"
    with pytest.raises(errors.Conflict):
        client.channels.create(kind="sms", name="Again", address="(415) 555-0100")
    refused(
        errors.ValidationError, "address",
        lambda: client.channels.create(kind="sms", name="Bad", address="12"),
    )  # fmt: skip


def test_metrics_count_exactly_what_happened(world) -> None:
    owner = world.new_user()
    founded(owner)
    day = datetime.datetime.now(datetime.UTC).date()
    assert owner.metrics.daily(from_=day, to=day) == []
    channel = owner.channels.create(kind="voice", name="Desk", address="+14155550101")
    for seconds in (10, 20):
        owner.calls.log(
            direction="inbound", peer=new_number(), channel_id=channel.id, duration_seconds=seconds
        )
    owner.calls.log(direction="inbound", peer=new_number(), status="no_answer")
    figures = {m.metric: m.value for m in owner.metrics.daily(from_=day, to=day)}
    assert figures == {
        "calls_inbound": 3, "calls_answered": 2, "calls_missed": 1, "call_seconds": 30,
        "new_customers": 3,
    }  # fmt: skip
    by_channel = owner.metrics.daily(
        from_=day, to=day, metric="calls_inbound", dimension="channel", dimension_id=channel.id
    )
    # The call without a channel belongs to the only voice channel.
    assert [m.value for m in by_channel] == [3]
    board = owner.metrics.dashboard()
    assert (board.calls_today, board.calls_missed_today, board.customer_count) == (3, 1, 3)


def test_a_session_goes_on_and_ends(world) -> None:
    user = world.new_user()
    before = user.auth.session
    assert before is not None
    renewed = user.auth.refresh()
    assert user.businesses.mine() == []
    kept = Session.model_validate_json(renewed.model_dump_json())
    user.auth.restore(kept)
    assert user.auth.user().id == before.user.id
    user.auth.sign_out()
    assert user.auth.session is None
    with pytest.raises(errors.AuthenticationError):
        user.businesses.mine()


def test_a_wrong_password_and_a_taken_address_are_said(world) -> None:
    user = world.new_user()
    email = world.email_of(user)
    with pytest.raises(errors.AuthenticationError):
        user.auth.sign_in(email=email, password="wrong-password")
    with pytest.raises(errors.Conflict):
        user.auth.sign_up(email=email, password=PASSWORD)


@pytest.mark.anyio
async def test_the_asynchronous_client_does_the_same(world) -> None:
    async with world.asynchronous() as client:
        tag = secrets.token_hex(4)
        made = [
            (await client.customers.create(first_name=f"A{n}", tags=[tag])).id for n in range(3)
        ]
        pages = client.customers.list(tag=tag, page_size=2, newest_first=False)
        assert [c.id async for c in pages] == made
        assert (await client.customers.update(made[0], last_name="B")).display_name == "A0 B"
        with pytest.raises(errors.NotFound):
            await client.customers.get(uuid.uuid4())
