"""Calls: status callbacks, TwiML requests, dialled legs, recordings, transcriptions.

https://www.twilio.com/docs/usage/webhooks/voice-webhooks and
https://www.twilio.com/docs/voice/twiml#request-parameters
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from tenantry_functions.events import (
    CallEvent,
    CallRecording,
    CallStatus,
    CallTranscript,
    Direction,
    Recording,
)
from tenantry_functions.providers import Payload, Reading
from tenantry_functions.providers.twilio.fields import Fields, address

CALL_STATUS: Mapping[str, CallStatus] = {
    "queued": "queued",
    "initiated": "initiated",
    "ringing": "ringing",
    "in-progress": "in_progress",
    "answered": "in_progress",
    "completed": "completed",
    "busy": "busy",
    "no-answer": "no_answer",
    "canceled": "canceled",
    "failed": "failed",
}
# A dialled leg is over when it is told; `answered` says that it was a conference.
# https://www.twilio.com/docs/voice/twiml/dial#dialcallstatus-values
_DIAL_STATUS: Mapping[str, CallStatus] = {**CALL_STATUS, "answered": "completed"}

_OUTBOUND = frozenset({"outbound-api", "outbound-dial", "outbound", "trunking-terminating"})

_RECORDING_STATUS: Mapping[str, Literal["completed", "absent", "failed", "in_progress"]] = {
    "completed": "completed",
    "absent": "absent",
    "failed": "failed",
    "in-progress": "in_progress",
}


def read_status(fields: Fields, digest: str) -> Reading:
    """A call is in a state: a progress callback or a request for TwiML."""
    call = fields.identifier("CallSid")
    status = fields.text("CallStatus") or ""
    known = CALL_STATUS.get(status.lower())
    if call is None:
        return Reading("unknown", digest)
    sequence = fields.count("SequenceNumber")
    parts = [call, status or "none"]
    if sequence is not None:
        parts.append(str(sequence))
    elif fields.has("Digits", "SpeechResult", "ErrorUrl", "UnstableSpeechResult"):
        # The caller's keys or words, or a call for the fallback: several in one state.
        parts.append(digest)
    event_id = ":".join(parts)
    if known is None:
        return Reading("call.event", event_id)
    event = _call(fields, call, known)
    return Reading("call.event", event_id, (event, *_finished_recording(fields, event)))


def _finished_recording(fields: Fields, event: CallEvent) -> tuple[CallRecording, ...]:
    """The recording that the last status of a call tells of: there may be no other callback."""
    recording = event["recording"]
    if event["status"] != "completed" or not recording or not recording["recording_sid"]:
        return ()
    return (
        {
            "type": "call.recording",
            "external_id": event["external_id"],
            "recording_sid": recording["recording_sid"],
            "status": "completed",
            "duration_seconds": recording["duration_seconds"],
            "url": recording["url"],
            "started_at": fields.time("RecordingStartTime"),
            "error_code": None,
        },
    )


def read_answering_machine(fields: Fields, digest: str) -> Reading:
    """Asynchronous answering machine detection: it reports who answered, not a state."""
    call = fields.identifier("CallSid")
    if call is None:
        return Reading("unknown", digest)
    event_id = f"{call}:answered-by:{fields.text('AnsweredBy')}"
    # Only an answered call is listened to; a state already further on stays.
    return Reading("call.event", event_id, (_call(fields, call, "in_progress"),))


def read_dial(fields: Fields, digest: str) -> Reading:
    """<Dial action>: the forwarded leg is over. CallStatus is the parent's."""
    call = fields.identifier("CallSid")
    if call is None:
        return Reading("unknown", digest)
    leg = fields.identifier("DialCallSid") or "none"
    event_id = f"{call}:dial:{leg}:{fields.text('DialCallStatus')}"
    known = CALL_STATUS.get((fields.text("CallStatus") or "").lower(), "in_progress")
    return Reading("call.event", event_id, (_call(fields, call, known),))


def read_voicemail(fields: Fields, digest: str) -> Reading:
    """<Record action>: the caller has left a message. Told once, before the callback for it."""
    call = fields.identifier("CallSid")
    if call is None:
        return Reading("unknown", digest)
    mark = fields.identifier("RecordingSid") or digest
    known = CALL_STATUS.get((fields.text("CallStatus") or "").lower(), "in_progress")
    event = _call(fields, call, known)
    if event["recording"] and event["recording"]["duration_seconds"] != 0:
        event["outcome"] = "voicemail"
    return Reading("call.event", f"{call}:record:{mark}", (event,))


def read_recording(fields: Fields, digest: str) -> Reading:
    """Recording status callback. RecordingUrl may come before, with or after completion."""
    recording = fields.identifier("RecordingSid")
    call = fields.identifier("CallSid")
    status = fields.text("RecordingStatus") or ""
    if recording is None:
        return Reading("unknown", digest)
    known = _RECORDING_STATUS.get(status.lower())
    event_id = f"{recording}:{status}"
    # The recording of a conference belongs to no call.
    if call is None or known is None:
        return Reading("call.recording", event_id)
    event: CallRecording = {
        "type": "call.recording",
        "external_id": call,
        "recording_sid": recording,
        "status": known,
        "duration_seconds": fields.count("RecordingDuration"),
        "url": fields.text("RecordingUrl"),
        "started_at": fields.time("RecordingStartTime"),
        "error_code": fields.error_code("ErrorCode", "RecordingErrorCode"),
    }
    return Reading("call.recording", event_id, (event,))


def read_transcription(fields: Fields, digest: str) -> Reading:
    """Transcription of a recording. Words while the call goes on are stored, not applied."""
    transcription = fields.identifier("TranscriptionSid")
    if transcription is None:
        return Reading("unknown", digest)
    if live := fields.text("TranscriptionEvent"):
        sequence = fields.text("SequenceId") or "0"
        return Reading("call.transcript", f"{transcription}:{live}:{sequence}")
    status = (fields.text("TranscriptionStatus") or "").lower()
    event_id = f"{transcription}:{status}"
    call = fields.identifier("CallSid")
    if call is None or status not in {"completed", "failed"}:
        return Reading("call.transcript", event_id)
    event: CallTranscript = {
        "type": "call.transcript",
        "external_id": call,
        "transcript_id": transcription,
        "status": "completed" if status == "completed" else "failed",
        "text": fields.text("TranscriptionText"),
        "recording_sid": fields.identifier("RecordingSid"),
    }
    return Reading("call.transcript", event_id, (event,))


def _call(fields: Fields, call: str, status: CallStatus) -> CallEvent:
    direction = _direction(fields)
    caller, called = fields.text("From", "Caller"), fields.text("To", "Called")
    ours, _ = address(called if direction == "inbound" else caller)
    peer, kind = address(caller if direction == "inbound" else called)
    answered_by = _answered_by(fields)
    reached_machine = answered_by == "machine" and status == "completed"
    dial = fields.text("DialCallStatus")
    return {
        "type": "call.event",
        "direction": direction,
        "ours": ours,
        "peer": peer,
        "peer_kind": kind,
        "peer_is_e164": kind == "e164",
        "external_id": call,
        "parent_external_id": fields.identifier("ParentCallSid"),
        "status": status,
        "sequence": fields.count("SequenceNumber"),
        "occurred_at": fields.time("Timestamp"),
        # `Duration` is the billed minutes.
        "duration_seconds": fields.count("CallDuration"),
        "answered_by": answered_by,
        # What the status alone implies is the database's to say.
        "outcome": "voicemail" if reached_machine else None,
        "error_code": fields.error_code("ErrorCode"),
        "sip_code": fields.text("SipResponseCode"),
        "dial_status": _DIAL_STATUS.get(dial.lower()) if dial else None,
        "dial_seconds": fields.count("DialCallDuration"),
        "dial_external_id": fields.identifier("DialCallSid"),
        "caller_name": fields.text("CallerName"),
        "recording": _recording(fields),
    }


def _direction(fields: Fields) -> Direction:
    return "outbound" if (fields.text("Direction") or "").lower() in _OUTBOUND else "inbound"


def _answered_by(fields: Fields) -> Literal["human", "machine", "fax", "unknown"] | None:
    value = (fields.text("AnsweredBy") or "").lower()
    if not value:
        return None
    if value.startswith("machine"):
        return "machine"
    if value == "human":
        return "human"
    return "fax" if value == "fax" else "unknown"


def _recording(fields: Fields) -> Recording | None:
    recording, url = fields.identifier("RecordingSid"), fields.text("RecordingUrl")
    if recording is None and url is None:
        return None
    return {
        "recording_sid": recording,
        "url": url,
        "duration_seconds": fields.count("RecordingDuration"),
    }


def asks_for_instructions(payload: Payload) -> bool:
    """Whether Twilio takes TwiML in answer: a request of the call's own, not a report about it."""
    reports = ("CallbackSource", "SequenceNumber", "Timestamp", "CallDuration")
    return "CallStatus" in payload and not any(name in payload for name in reports)
