"""Answers to Twilio are documents, whatever text is in them."""

from __future__ import annotations

from typing import ClassVar
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import Response

from tenantry_functions import twiml
from tenantry_functions.inbox import Connection, MemoryInbox
from tenantry_functions.testing import FunctionHost

CALLBACKS = twiml.Callbacks(
    dial="https://x.example/dial?a=1&b=2",
    recording="https://x.example/recording",
    transcription="https://x.example/transcription",
)
HOSTILE = [
    "</Say><Dial>+19005550100</Dial><Say>",
    "]]></Say><Redirect>https://evil.example</Redirect>",
    "<![CDATA[<Dial>]]>",
    '" language="x"><Dial/><Say a="',
    "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>&e;",
    "Tom & Jerry <3",
    "\x00\x01\x08\x0b\x1f\x7f\ud800\udfff\ufffe\uffff",
    "नमस्ते 👋 مرحبا",
]


def parse(response: Response) -> ElementTree.Element:
    assert response.headers["content-type"] == "text/xml; charset=utf-8"
    return ElementTree.fromstring(bytes(response.body))  # noqa: S314  our own document


def shape(element: ElementTree.Element) -> list[str]:
    return [found.tag for found in element.iter()]


@pytest.mark.parametrize("greeting", HOSTILE)
def test_a_greeting_is_only_spoken(greeting: str) -> None:
    settings = twiml.VoiceSettings.of({"greeting": "Hello " + greeting})
    document = parse(twiml.take_message(settings, CALLBACKS))
    assert shape(document) == ["Response", "Say", "Record", "Hangup"]
    assert document.findtext("Say") == "Hello " + twiml.clean(greeting)


@given(
    greeting=st.text(),
    language=st.text(),
    forward_to=st.text(),
    record=st.booleans(),
)
def test_any_settings_make_a_document(
    greeting: str, language: str, forward_to: str, record: bool
) -> None:
    settings = twiml.VoiceSettings.of(
        {
            "greeting": greeting,
            "language": language,
            "forward_to": forward_to,
            "record": record,
        }
    )
    expected = ["Response", "Say", *(["Record"] if record else []), "Hangup"]
    assert shape(parse(twiml.take_message(settings, CALLBACKS))) == expected
    assert shape(parse(twiml.forward(settings, CALLBACKS))) == ["Response", "Dial", "Number"]


@given(st.characters())
def test_every_character_survives_or_is_dropped(character: str) -> None:
    settings = twiml.VoiceSettings(greeting=f"a{character}b")
    spoken = parse(twiml.take_message(settings, CALLBACKS)).findtext("Say")
    assert spoken in {f"a{character}b", "ab"}


@pytest.mark.parametrize(
    "settings",
    [
        None,
        {},
        {"greeting": None, "forward_to": None, "record": None, "language": None},
        {"greeting": 5, "forward_to": 5, "record": "no", "language": 5},
        {"greeting": " \n ", "forward_to": "911", "language": "english please"},
        {"forward_to": "+1415555012a"},
        {"forward_to": "sip:a@b"},
    ],
)
def test_senseless_settings_fall_back(settings: dict[str, object] | None) -> None:
    assert twiml.VoiceSettings.of(settings) == twiml.VoiceSettings()


def test_long_greetings_are_cut() -> None:
    settings = twiml.VoiceSettings(greeting="é" * 10_000)
    spoken = parse(twiml.take_message(settings, CALLBACKS)).findtext("Say")
    assert spoken == "é" * 4096


def test_only_english_is_transcribed() -> None:
    for language, expected in (("en-GB", "true"), ("de-DE", None)):
        settings = twiml.VoiceSettings(language=language)
        record = parse(twiml.take_message(settings, CALLBACKS)).find("Record")
        assert record is not None
        assert record.get("transcribe") == expected


class TestVoice:
    """What the phone does, through the app."""

    call: ClassVar = {
        "AccountSid": "AC00000000000000000000000000000001",
        "CallSid": "CA1",
        "From": "+14155550123",
        "To": "+14155550199",
        "CallStatus": "ringing",
        "Direction": "inbound",
    }

    def ask(
        self,
        host: FunctionHost[MemoryInbox],
        connection: Connection,
        route: str = "",
        **more: str,
    ) -> list[str] | None:
        answer = host.twilio("twilio-voice", connection, {**self.call, **more}, route=route)
        assert answer.status == 200
        if not answer.body:
            return None
        return shape(ElementTree.fromstring(answer.body))  # noqa: S314

    def test_greeting_and_message(
        self, host: FunctionHost[MemoryInbox], connection: Connection
    ) -> None:
        answer = host.twilio("twilio-voice", connection, self.call)
        document = ElementTree.fromstring(answer.body)  # noqa: S314
        base = f"https://functions.example.com/functions/v1/twilio-voice/{connection.id}"
        record = document.find("Record")
        assert document.findtext("Say") == "Hello."
        assert record is not None
        assert record.get("action") == f"{base}/recording"
        assert record.get("recordingStatusCallback") == f"{base}/recording"
        assert record.get("transcribeCallback") == f"{base}/transcription"

    def test_a_business_that_does_not_record(
        self, host: FunctionHost[MemoryInbox], connection: Connection
    ) -> None:
        host.inbox.voice = {"greeting": "We are closed.", "record": False}
        assert self.ask(host, connection) == ["Response", "Say", "Hangup"]

    def test_forwarding(self, host: FunctionHost[MemoryInbox], connection: Connection) -> None:
        host.inbox.voice = {"forward_to": "+14155550111", "record": True}
        answer = host.twilio("twilio-voice", connection, self.call)
        document = ElementTree.fromstring(answer.body)  # noqa: S314
        dial = document.find("Dial")
        assert dial is not None
        assert dial.findtext("Number") == "+14155550111"
        assert (dial.get("action") or "").endswith(f"/twilio-voice/{connection.id}/dial")
        assert dial.get("record") == "record-from-answer-dual"

        nobody = {"CallStatus": "in-progress", "DialCallSid": "CA2"}
        missed = self.ask(host, connection, "dial", **nobody, DialCallStatus="no-answer")
        assert missed == ["Response", "Say", "Record", "Hangup"]
        spoken = self.ask(host, connection, "dial", **nobody, DialCallStatus="completed")
        assert spoken == ["Response", "Hangup"]

    def test_forwarding_without_recording(
        self, host: FunctionHost[MemoryInbox], connection: Connection
    ) -> None:
        host.inbox.voice = {"forward_to": "+14155550111", "record": False}
        answer = host.twilio("twilio-voice", connection, self.call)
        assert b"record" not in answer.body.replace(b"recording", b"").split(b"<Dial")[1]

    def test_never_forwards_to_itself(
        self, host: FunctionHost[MemoryInbox], connection: Connection
    ) -> None:
        host.inbox.voice = {"forward_to": self.call["To"]}
        assert self.ask(host, connection) == ["Response", "Say", "Record", "Hangup"]

    def test_after_the_message_it_hangs_up(
        self, host: FunctionHost[MemoryInbox], connection: Connection
    ) -> None:
        left = {"RecordingSid": "RE1", "RecordingUrl": "https://x.example", "Digits": "#"}
        done = self.ask(
            host, connection, "recording", **left, CallStatus="in-progress", RecordingDuration="5"
        )
        assert done == ["Response", "Hangup"]

    @pytest.mark.parametrize(
        ("route", "more"),
        [
            ("", {"CallbackSource": "call-progress-events", "SequenceNumber": "1"}),
            ("status", {}),
            ("status", {"CallStatus": "completed", "CallDuration": "5"}),
            ("", {"RecordingSid": "RE1", "RecordingStatus": "completed"}),
            ("recording", {"RecordingSid": "RE1", "RecordingStatus": "completed"}),
            ("transcription", {"TranscriptionSid": "TR1", "TranscriptionStatus": "completed"}),
        ],
    )
    def test_reports_get_no_instructions(
        self,
        host: FunctionHost[MemoryInbox],
        connection: Connection,
        route: str,
        more: dict[str, str],
    ) -> None:
        assert self.ask(host, connection, route, **more) is None

    def test_an_outgoing_call_is_not_greeted(
        self, host: FunctionHost[MemoryInbox], connection: Connection
    ) -> None:
        asked = self.ask(host, connection, Direction="outbound-api", CallStatus="in-progress")
        assert asked == ["Response", "Hangup"]

    def test_a_message_at_the_wrong_door_is_kept(
        self, host: FunctionHost[MemoryInbox], connection: Connection
    ) -> None:
        form = {"AccountSid": self.call["AccountSid"], "MessageSid": "SM1", "Body": "hi"}
        answer = host.twilio("twilio-voice", connection, form)
        assert answer.status == 200
        assert host.inbox.events[0]["type"] == "message.inbound"


def test_messages_are_answered_with_an_empty_document(
    host: FunctionHost[MemoryInbox], connection: Connection, account: str
) -> None:
    form = {"AccountSid": account, "MessageSid": "SM1", "SmsStatus": "received", "Body": "hi"}
    answer = host.twilio("twilio-messaging", connection, form)
    assert answer.headers["content-type"] == "text/xml; charset=utf-8"
    document = ElementTree.fromstring(answer.body)  # noqa: S314
    assert shape(document) == ["Response"]
    status = {"AccountSid": account, "MessageSid": "SM1", "MessageStatus": "sent"}
    for route in ("", "status"):
        assert host.twilio("twilio-messaging", connection, status, route=route).body == b""
