"""The canonical events: what a provider's request means, in our words.

This is the contract with the database: `ingest_webhook` applies exactly these. `ours` and `peer`
are E.164 numbers without a channel prefix, or a short code, an alphanumeric sender, a SIP address,
a provider's own user id; `peer_kind` says which. Times are ISO 8601 in UTC, durations seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

AddressKind = Literal[
    "e164", "short_code", "alphanumeric", "anonymous", "sip", "client", "scoped_id", "unknown"
]
ChannelKind = Literal["sms", "whatsapp", "social"]
Direction = Literal["inbound", "outbound"]
CallStatus = Literal[
    "queued", "initiated", "ringing", "in_progress",
    "completed", "busy", "no_answer", "canceled", "failed",
]  # fmt: skip
MessageStatus = Literal["queued", "sending", "sent", "delivered", "read", "failed", "canceled"]

Event = Mapping[str, Any]
"""Any of the classes below, as it goes to the database."""


class Media(TypedDict):
    url: str
    content_type: str | None


class Location(TypedDict):
    latitude: float
    longitude: float
    label: str | None
    address: str | None


class Recording(TypedDict):
    recording_sid: str | None
    url: str | None
    duration_seconds: int | None


class MessageInbound(TypedDict):
    type: Literal["message.inbound"]
    channel_kind: ChannelKind
    ours: str | None
    peer: str | None
    peer_kind: AddressKind
    peer_is_e164: bool
    external_id: str
    text: str
    media: list[Media]
    location: Location | None
    button_payload: str | None
    reply_to_external_id: str | None
    occurred_at: str | None
    opt: Literal["out", "in"] | None
    profile_name: str | None
    wa_id: str | None
    segments: int | None


class MessageStatusChange(TypedDict):
    type: Literal["message.status"]
    channel_kind: ChannelKind
    ours: str | None
    peer: str | None
    peer_kind: AddressKind
    external_id: str
    status: MessageStatus
    provider_status: str
    error_code: int | None
    retryable: bool | None
    opt_out: bool
    occurred_at: str | None


class CallEvent(TypedDict):
    type: Literal["call.event"]
    direction: Direction
    ours: str | None
    peer: str | None
    peer_kind: AddressKind
    peer_is_e164: bool
    external_id: str
    parent_external_id: str | None
    status: CallStatus
    sequence: int | None
    occurred_at: str | None
    duration_seconds: int | None
    answered_by: Literal["human", "machine", "fax", "unknown"] | None
    outcome: Literal["voicemail"] | None
    error_code: int | None
    sip_code: str | None
    dial_status: CallStatus | None
    dial_seconds: int | None
    dial_external_id: str | None
    caller_name: str | None
    recording: Recording | None


class CallRecording(TypedDict):
    type: Literal["call.recording"]
    external_id: str
    recording_sid: str
    status: Literal["completed", "absent", "failed", "in_progress"]
    duration_seconds: int | None
    url: str | None
    started_at: str | None
    error_code: int | None


class CallTranscript(TypedDict):
    type: Literal["call.transcript"]
    external_id: str
    transcript_id: str
    status: Literal["completed", "failed"]
    text: str | None
    recording_sid: str | None


class ConversationMessage(TypedDict):
    """A message inside a thread that the provider keeps (Twilio Conversations)."""

    type: Literal["conversation.message"]
    thread_external_id: str
    external_id: str
    index: int | None
    direction: Direction
    author: str | None
    source: str | None
    text: str
    occurred_at: str | None


class ConversationChange(TypedDict):
    """The provider opened, put aside or closed a thread."""

    type: Literal["conversation.status"]
    thread_external_id: str
    status: str
    previous_status: str | None
    reason: str | None
    occurred_at: str | None
