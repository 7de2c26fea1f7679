"""Messages: SMS, MMS, WhatsApp, RCS. Inbound, and how far ours have come.

https://www.twilio.com/docs/messaging/guides/webhook-request and
https://www.twilio.com/docs/messaging/guides/track-outbound-message-status
"""

from __future__ import annotations

from collections.abc import Mapping

from tenantry_functions.events import (
    Location,
    Media,
    MessageInbound,
    MessageStatus,
    MessageStatusChange,
)
from tenantry_functions.providers import Reading
from tenantry_functions.providers.twilio.fields import Fields, address, channel_kind
from tenantry_functions.providers.twilio.opt_out import opt_request

MESSAGE_STATUS: Mapping[str, MessageStatus] = {
    "accepted": "queued",
    "scheduled": "queued",
    "queued": "queued",
    "sending": "sending",
    "sent": "sent",
    "delivered": "delivered",
    "read": "read",
    "played": "read",
    "undelivered": "failed",
    "failed": "failed",
    "canceled": "canceled",
}
_INBOUND = frozenset({"received", "receiving"})
_MAX_MEDIA = 10

OPTED_OUT = 21610
"""https://www.twilio.com/docs/api/errors/21610: the recipient has replied STOP."""

# https://www.twilio.com/docs/api/errors: trouble that passes by itself ...
_PASSING = frozenset(
    {
        20429,  # too many requests
        20500, 20503,  # Twilio's own trouble
        30001,  # queue overflow
        30003,  # handset off or out of reach
        30008,  # unknown error
        30017,  # carrier congestion
        30022, 30023, 30027,  # A2P 10DLC rate and daily limits
        30036,  # validity period expired
        30410,  # provider timeout
        30500,  # internal failure
        63010, 63012,  # channel provider's trouble
        63018, 63038,  # rate and daily limits
    }
)  # fmt: skip
# ... and trouble that the same message will always meet.
_LASTING = frozenset(
    {
        21211, 21214, 21217, 21408, OPTED_OUT, 21611, 21612, 21614, 21617,
        30002, 30004, 30005, 30006, 30007, 30010, 30011, 30018, 30019, 30024,
        30032, 30033, 30034, 30035, 30044, 30453, 30454, 30485,
        63001, 63002, 63003, 63005, 63006, 63007, 63008, 63013, 63015, 63016, 63017,
        63019, 63020, 63021, 63024, 63027, 63028, 63029, 63030, 63031, 63032, 63033,
        63034, 63035, 63036, 63040, 63041, 63042, 63049, 63051,
    }
)  # fmt: skip


def read_message(fields: Fields, digest: str) -> Reading:
    """Either direction: the status tells which."""
    message = fields.identifier("MessageSid", "SmsSid", "SmsMessageSid")
    if message is None:
        return Reading("unknown", digest)
    status = (fields.text("MessageStatus", "SmsStatus") or "").lower()
    if status in _INBOUND or (not status and fields.has("Body", "NumMedia")):
        return Reading("message.inbound", message, (_inbound(fields, message),))
    if not status:
        return Reading("unknown", digest)
    event_id = f"{message}:{status}"
    known = MESSAGE_STATUS.get(status)
    if known is None:
        return Reading("message.status", event_id)
    return Reading("message.status", event_id, (_status(fields, message, known, status),))


def _inbound(fields: Fields, message: str) -> MessageInbound:
    peer, kind = address(fields.text("From"))
    ours, _ = address(fields.text("To"))
    text = fields.raw("Body") or fields.raw("ButtonText") or fields.raw("ListTitle")
    return {
        "type": "message.inbound",
        "channel_kind": channel_kind(fields),
        "ours": ours,
        "peer": peer,
        "peer_kind": kind,
        "peer_is_e164": kind == "e164",
        "external_id": message,
        "text": text,
        "media": media(fields),
        "location": _location(fields),
        "button_payload": fields.text("ButtonPayload", "ListId"),
        "reply_to_external_id": fields.identifier("OriginalRepliedMessageSid"),
        "occurred_at": fields.time("Timestamp", "DateCreated"),
        "opt": opt_request(fields.text("OptOutType"), text),
        "profile_name": fields.text("ProfileName"),
        "wa_id": fields.identifier("WaId"),
        "segments": fields.count("NumSegments"),
    }


def _status(
    fields: Fields, message: str, status: MessageStatus, provider_status: str
) -> MessageStatusChange:
    ours, _ = address(fields.text("From"))
    peer, kind = address(fields.text("To", "ChannelToAddress"))
    error = fields.error_code("ErrorCode")
    return {
        "type": "message.status",
        "channel_kind": channel_kind(fields),
        "ours": ours,
        "peer": peer,
        "peer_kind": kind,
        "external_id": message,
        "status": status,
        "provider_status": provider_status,
        "error_code": error,
        "retryable": is_retryable(error),
        "opt_out": error == OPTED_OUT,
        "occurred_at": fields.compact_time("RawDlrDoneDate") or fields.time("Timestamp"),
    }


def is_retryable(error_code: int | None) -> bool | None:
    """Whether sending again may help; None when there is no error or we do not know it."""
    if error_code in _PASSING:
        return True
    return False if error_code in _LASTING else None


def media(fields: Fields) -> list[Media]:
    """Attachments. Fetching one needs the account's credentials and an allowed host."""
    found: list[Media] = []
    for index in range(_MAX_MEDIA):
        url = fields.text(f"MediaUrl{index}")
        if url is None:
            break
        found.append({"url": url, "content_type": fields.text(f"MediaContentType{index}")})
    return found


def _location(fields: Fields) -> Location | None:
    latitude = fields.coordinate("Latitude", 90)
    longitude = fields.coordinate("Longitude", 180)
    if latitude is None or longitude is None:
        return None
    return {
        "latitude": latitude,
        "longitude": longitude,
        "label": fields.text("Label"),
        "address": fields.text("Address"),
    }
