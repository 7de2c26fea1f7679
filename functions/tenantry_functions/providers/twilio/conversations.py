"""Threads that Twilio keeps: https://www.twilio.com/docs/conversations/conversations-webhooks

ConversationSid is the thread, Index the order in it. MessageSid (IM...) is not the id that the
carrier's message has (SM...).
"""

from __future__ import annotations

from tenantry_functions.events import ConversationChange, ConversationMessage
from tenantry_functions.providers import Reading
from tenantry_functions.providers.twilio.fields import Fields

# Who writes from these writes for the business; the others are the customer's channels.
_OUR_SOURCES = frozenset({"sdk", "api"})


def read_conversation(fields: Fields, digest: str) -> Reading:
    """A message or a change of state; other events are stored."""
    thread = fields.identifier("ConversationSid")
    event_type = fields.text("EventType") or ""
    if thread is None:
        return Reading("unknown", digest)
    if event_type == "onMessageAdded" and (message := fields.identifier("MessageSid")):
        return Reading("conversation.message", message, (_message(fields, thread, message),))
    state = fields.text("StateTo")
    if event_type == "onConversationStateUpdated" and state:
        updated = fields.time("StateUpdated", "DateUpdated")
        change: ConversationChange = {
            "type": "conversation.status",
            "thread_external_id": thread,
            "status": state.lower(),
            "previous_status": (fields.text("StateFrom") or "").lower() or None,
            "reason": fields.text("Reason"),
            "occurred_at": updated,
        }
        return Reading("conversation.event", f"{thread}:{state}:{updated or digest}", (change,))
    return Reading("conversation.event", f"{thread}:{event_type}:{digest}")


def _message(fields: Fields, thread: str, message: str) -> ConversationMessage:
    source = fields.text("Source")
    return {
        "type": "conversation.message",
        "thread_external_id": thread,
        "external_id": message,
        "index": fields.count("Index"),
        "direction": "outbound" if (source or "").lower() in _OUR_SOURCES else "inbound",
        "author": fields.text("Author"),
        "source": source,
        "text": fields.raw("Body"),
        "occurred_at": fields.time("DateCreated"),
    }
