"""Twilio: voice, messaging, conversations.

One reader for all of them: what a request is follows from its fields, so that every one of our
URLs can be given to Twilio for anything.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from tenantry_functions.body import parse_json
from tenantry_functions.providers import Payload, Reading, SignatureError, SignedRequest
from tenantry_functions.providers.twilio import conversations, messaging, voice
from tenantry_functions.providers.twilio.fields import Fields, form
from tenantry_functions.providers.twilio.signature import check_form, check_json

_EVENT_ID = re.compile(r"[!-~]{1,200}")
_Reader = Callable[[Fields, str], Reading]


class Twilio:
    """The provider; it has no state."""

    name = "twilio"

    def __init__(self, *routes: str) -> None:
        self.routes = frozenset({"", *routes})

    def verify(self, request: SignedRequest, secrets: Sequence[str]) -> Payload:
        """See WebhookProvider.verify."""
        if media_type(request) == "application/json":
            check_json(request, secrets)
            value = parse_json(request.body)
            if not isinstance(value, dict):
                raise SignatureError("a JSON body that is no object names no account")
            return value
        return form(check_form(request, secrets))

    def account(self, payload: Payload) -> str | None:
        """See WebhookProvider.account. Given twice it names nobody."""
        named = payload.get("AccountSid", payload.get("account_sid"))
        return named if isinstance(named, str) else None

    def read(self, payload: Payload) -> Reading:
        """See WebhookProvider.read."""
        fields = Fields(payload)
        reading = _reader(fields)(fields, _digest(payload))
        if _EVENT_ID.fullmatch(reading.event_id):
            return reading
        # A part of it, such as a status, is no word of Twilio's.
        short = hashlib.sha256(reading.event_id.encode("utf-8", "replace")).hexdigest()
        return replace(reading, event_id=f"{reading.kind}:{short}")


def media_type(request: SignedRequest) -> str:
    """Content type without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _reader(fields: Fields) -> _Reader:
    """The reader for a request; the most telling field decides."""
    if fields.has("ConversationSid"):
        return conversations.read_conversation
    if fields.has("TranscriptionSid"):
        return voice.read_transcription
    if fields.has("RecordingStatus"):
        return voice.read_recording
    if fields.has("DialCallStatus"):
        return voice.read_dial
    if fields.has("RecordingUrl") and not fields.has("CallDuration", "CallbackSource"):
        return voice.read_voicemail
    if fields.has("CallSid", "CallStatus"):
        is_detection = fields.has("AnsweredBy") and not fields.has("CallStatus")
        return voice.read_answering_machine if is_detection else voice.read_status
    if fields.has("MessageSid", "SmsSid", "SmsMessageSid"):
        return messaging.read_message
    return _read_unknown


def _read_unknown(fields: Fields, digest: str) -> Reading:
    return Reading("unknown", digest)


def _digest(payload: Payload) -> str:
    """Id of a request that carries none.

    Made from what the signature covers: names and values run together, so moving a letter from a
    name to its value keeps the signature. It shall not make another event of it.
    """

    def flat(value: Any) -> str:
        return value if isinstance(value, str) else repr(value)

    text = "".join(
        name + "".join(map(flat, sorted(value, key=flat) if isinstance(value, list) else [value]))
        for name, value in sorted(payload.items())
    )
    return "unknown:" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:40]
