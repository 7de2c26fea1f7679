"""The database functions the SDK calls, in Python: of the world, the caller, the arguments."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

from tenantry import models
from tenantry.testing import _people, _rights
from tenantry.testing._problems import Problem, choice, choices_of, require
from tenantry.testing._world import Row, World, name_customer

Function = Callable[[World, UUID, Row], Any]

_OPEN = ("open", "pending", "snoozed")
_CALL_STATUSES = choices_of(models.CallStatus)
_CALL_OUTCOMES = choices_of(models.CallOutcome)
#: Which address a channel of a kind talks to.
KINDS = {"voice": "phone", "sms": "phone", "whatsapp": "whatsapp", "email": "email"}


def once(function: Function, name: str) -> Function:
    """Keep the first result of an idempotency key."""

    def keyed(world: World, user: UUID, given: Row) -> Any:
        key = given.pop("idempotency_key", None)
        if key is None:
            return function(world, user, given)
        place = (given["business_id"], key)
        request = (name, repr(sorted(given.items())))
        if place in world.keys:
            first, row_id = world.keys[place]
            if first != request:
                raise Problem(
                    "PT409", "This idempotency key was used with another request.",
                    field="idempotency_key", reason="idempotency_conflict",
                    hint="Use a new key for a new request.",
                )  # fmt: skip
            return next(
                row for rows in world.rows.values() for row in rows if row.get("id") == row_id
            )
        result = function(world, user, given)
        world.keys[place] = (request, result["id"])
        return result

    return keyed


def create_customer(world: World, user: UUID, given: Row) -> Row:
    phone, email = given.pop("phone", None), given.pop("email", None)
    if not any(
        (given.get("first_name"), given.get("last_name"), given.get("company_name"), phone, email)
    ):
        raise Problem(
            "22023", "A customer needs a name, a company, a phone number or an e-mail address.",
            field="first_name", reason="empty",
            hint="Send at least one of first_name, last_name, company_name, phone, email.",
        )  # fmt: skip
    choice(given, "kind", *choices_of(models.CustomerKind))
    choice(given, "lifecycle_stage", *choices_of(models.CustomerLifecycleStage))
    customer = world.insert("customers", created_by=user, **given)
    name_customer(customer)
    try:
        for kind, raw in (("email", email), ("phone", phone)):
            if raw:
                world.add_contact_point(customer, kind, raw, kind)
    except Problem:  # nothing half-made stays
        world.rows["customers"].remove(customer)
        points = world.rows["contact_points"]
        points[:] = [p for p in points if p["customer_id"] != customer["id"]]
        raise
    return customer


def find_customer(world: World, user: UUID, given: Row) -> Row | None:
    for kind in ("phone", "email"):
        if raw := given.get(kind):
            try:
                normalized = world.normalized(given["business_id"], kind, raw, kind)
            except Problem:  # what is no address is nobody's
                continue
            if found := world.owner_of(given["business_id"], normalized):
                return found
    return None


def search_customers(world: World, user: UUID, given: Row) -> list[Row]:
    query = given["query"].strip().lower()
    if len(query) < 2:
        raise Problem(
            "22023", "query must have at least two characters.", field="query", reason="too_short"
        )
    digits = re.sub(r"\D", "", query)
    found = []
    for row in world.find("customers", business_id=given["business_id"], deleted_at=None):
        columns = ("first_name", "last_name", "company_name", "city", "notes", "primary_email")
        text = " ".join(str(row[column] or "") for column in columns).lower().split()
        number = len(digits) >= 4 and digits in (row["primary_phone"] or "")
        if number or all(any(t.startswith(word) for t in text) for word in query.split()):
            found.append(row)
    found.sort(key=lambda row: row["created_at"], reverse=True)
    return found[: given.get("max_results", 20)]


def log_call(world: World, user: UUID, given: Row) -> Row:
    business_id = given["business_id"]
    choice(given, "direction", "inbound", "outbound")
    for old in world.find(
        "calls", business_id=business_id, provider_call_id=given.get("provider_call_id")
    ):
        if old["provider_call_id"] is not None:
            return old
    choice(given, "status", *_CALL_STATUSES)
    choice(given, "outcome", *_CALL_OUTCOMES)
    if not 0 <= (given.get("duration_seconds") or 0) <= 604800:
        raise Problem(
            "22023", "duration_seconds must be between 0 and 604800.",
            field="duration_seconds", reason="out_of_range", hint="Send whole seconds.",
        )  # fmt: skip
    peer = world.normalized(business_id, "phone", given.pop("peer"), "peer")
    transcript = given.pop("transcript", None)
    ours = ""
    if channel_id := given.get("channel_id"):
        channel = world.one("channels", "channel_id", id=channel_id, business_id=business_id)
        ours = channel["address_normalized"]
    else:  # the only voice channel, if there is just one
        voice = list(world.find("channels", business_id=business_id, kind="voice", is_active=True))
        if len(voice) == 1:
            given["channel_id"], ours = voice[0]["id"], voice[0]["address_normalized"]
    seconds = datetime.timedelta(seconds=given.get("duration_seconds") or 0)
    started = _moment(given.get("started_at"))
    ended = _moment(given.get("ended_at"))
    started = started or (ended - seconds if ended else world.now())
    inbound = given["direction"] == "inbound"
    call = world.insert(
        "calls", **given | {"started_at": started, "ended_at": ended or started + seconds},
        peer=peer, from_address=peer if inbound else ours, to_address=ours if inbound else peer,
        customer_id=world.link(business_id, "phone", peer, "call"), created_by=user,
        handled_by_membership_id=world.membership_of(business_id, user),
    )  # fmt: skip
    call["answered_at"] = _moment(call["answered_at"]) or (
        started if call["status"] == "completed" and seconds else None
    )
    call["outcome"] = call["outcome"] or call["status"]
    if transcript is not None:
        segments = transcript if isinstance(transcript, list) else []
        text = " ".join(s.get("text", "") for s in segments) if segments else str(transcript)
        world.insert(
            "call_transcripts", business_id=business_id, call_id=call["id"], segments=segments,
            text=text,
        )  # fmt: skip
    return call


def _moment(value: Any) -> datetime.datetime | None:
    return datetime.datetime.fromisoformat(value) if isinstance(value, str) else value


def open_conversation(world: World, user: UUID, given: Row) -> Row:
    business_id = given["business_id"]
    channel = world.one("channels", "channel_id", id=given["channel_id"], business_id=business_id)
    kind = KINDS.get(channel["kind"], "social")
    customer_id, peer = given.get("customer_id"), given.get("peer")
    if customer_id is None and peer is None:
        raise Problem(
            "22023", "Whom to talk to is missing.", field="customer_id", reason="missing",
            hint="Send customer_id, or peer with the address.",
        )  # fmt: skip
    if peer is None:
        world.one("customers", "customer_id", id=customer_id, business_id=business_id)
        points = [
            p for p in world.find("contact_points", customer_id=customer_id)
            if p["kind"] == kind or {p["kind"], kind} == {"phone", "whatsapp"}
        ]  # fmt: skip
        if not points:
            raise Problem(
                "22023", f"The customer has no address for a {channel['kind']} channel.",
                field="customer_id", reason="no_address", hint="Add a contact point, or send peer.",
            )  # fmt: skip
        peer = points[0]["normalized"]
    else:
        peer = world.normalized(business_id, kind, peer, "peer")
        customer_id = customer_id or world.link(business_id, kind, peer, channel["kind"])
    return thread(world, channel, peer, customer_id, given.get("subject"))


def thread(
    world: World, channel: Row, peer: str, customer_id: UUID | None, subject: str | None
) -> Row:
    """The open conversation of a channel with an address; a new one when there is none."""
    for row in world.find("conversations", channel_id=channel["id"], peer=peer):
        if row["status"] in _OPEN:
            row["subject"] = subject or row["subject"]
            return row
    return world.insert(
        "conversations", business_id=channel["business_id"], channel_id=channel["id"], peer=peer,
        customer_id=customer_id, subject=subject,
    )  # fmt: skip


def mark_conversation_read(world: World, user: UUID, given: Row) -> None:
    wanted = {"business_id": given["business_id"], "id": given["conversation_id"]}
    world.one("conversations", "conversation_id", **wanted)["unread_count"] = 0


def record_message(world: World, user: UUID, given: Row) -> Row:
    require(given, "body")
    wanted = {"business_id": given["business_id"], "id": given["conversation_id"]}
    conversation = world.one("conversations", "conversation_id", **wanted)
    message = add_message(world, conversation, given["body"], "outbound", "member", "sent")
    message["sender_membership_id"] = world.membership_of(given["business_id"], user)
    return message


def add_message(
    world: World, conversation: Row, body: str, direction: str, sender: str, status: str
) -> Row:
    message = world.insert(
        "messages", business_id=conversation["business_id"], conversation_id=conversation["id"],
        channel_id=conversation["channel_id"], body=body, direction=direction, sender_kind=sender,
        status=status,
    )  # fmt: skip
    if status == "sent":
        message["sent_at"] = message["occurred_at"]
    conversation["message_count"] += 1
    conversation["unread_count"] += direction == "inbound"
    conversation["last_message_at"] = message["occurred_at"]
    conversation["last_message_preview"] = body[:140]
    return message


FUNCTIONS: dict[str, Function] = {
    function.__name__: function
    for function in (
        _people.create_organization, _people.create_business, _people.invite_member,
        _people.invite_portal_customer, _people.resend_invitation, _people.revoke_invitation,
        _people.accept_invitation, _people.change_member_roles, _people.remove_member,
        _people.suspend_member, _people.reactivate_member, _people.transfer_ownership,
        find_customer, search_customers, open_conversation, mark_conversation_read,
    )
} | {
    function.__name__: once(function, function.__name__)
    for function in (create_customer, log_call, record_message)
} | _rights.FUNCTIONS  # fmt: skip
