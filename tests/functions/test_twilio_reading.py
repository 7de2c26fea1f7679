"""What Twilio's requests mean, beyond the recorded ones."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry_functions.providers import Reading
from tenantry_functions.providers.twilio import Twilio
from tenantry_functions.providers.twilio.fields import Fields, address
from tenantry_functions.providers.twilio.messaging import MESSAGE_STATUS, is_retryable
from tenantry_functions.providers.twilio.opt_out import opt_request

CALL = {
    "CallSid": "CA1",
    "From": "+14155550123",
    "To": "+14155550199",
    "CallStatus": "ringing",
    "Direction": "inbound",
}
MESSAGE = {
    "MessageSid": "SM1",
    "SmsStatus": "received",
    "From": "+14155550123",
    "To": "+14155550199",
    "Body": "hello",
}
STATUS = {"MessageSid": "SM1", "MessageStatus": "sent", "From": "+1415", "To": "+14155550123"}


def read(*forms: dict[str, Any], **more: Any) -> Reading:
    return Twilio().read({k: v for form in (*forms, more) for k, v in form.items()})


def event(*forms: dict[str, Any], **more: Any) -> Any:
    (found,) = read(*forms, **more).events
    return found


class TestCalls:
    @pytest.mark.parametrize(
        ("said", "meant"),
        [
            ("queued", "queued"),
            ("initiated", "initiated"),
            ("ringing", "ringing"),
            ("in-progress", "in_progress"),
            ("answered", "in_progress"),
            ("completed", "completed"),
            ("busy", "busy"),
            ("no-answer", "no_answer"),
            ("canceled", "canceled"),
            ("failed", "failed"),
            ("Completed", "completed"),
        ],
    )
    def test_status(self, said: str, meant: str) -> None:
        assert event(CALL, CallStatus=said)["status"] == meant

    def test_unknown_status_is_kept_raw(self) -> None:
        reading = read(CALL, CallStatus="on-the-moon")
        assert reading == Reading("call.event", "CA1:on-the-moon", ())

    def test_event_ids(self) -> None:
        assert read(CALL).event_id == "CA1:ringing"
        assert read(CALL, SequenceNumber="0").event_id == "CA1:ringing:0"
        assert read(CALL, CallStatus="completed", SequenceNumber="3").event_id == "CA1:completed:3"

    def test_the_callers_keys_are_events_of_their_own(self) -> None:
        first, second = read(CALL, Digits="1"), read(CALL, Digits="2")
        assert len({read(CALL).event_id, first.event_id, second.event_id}) == 3
        assert read(CALL, Digits="1").event_id == first.event_id

    def test_call_duration_is_seconds_and_duration_is_billed_minutes(self) -> None:
        found = event(CALL, CallStatus="completed", Duration="1", CallDuration="49")
        assert found["duration_seconds"] == 49
        assert event(CALL, CallStatus="completed", Duration="2")["duration_seconds"] is None

    @pytest.mark.parametrize(
        ("direction", "ours", "peer", "said"),
        [
            ("inbound", "+14155550199", "+14155550123", "inbound"),
            ("outbound-api", "+14155550123", "+14155550199", "outbound"),
            ("outbound-dial", "+14155550123", "+14155550199", "outbound"),
            ("trunking-terminating", "+14155550123", "+14155550199", "outbound"),
            ("trunking-originating", "+14155550199", "+14155550123", "inbound"),
        ],
    )
    def test_direction_says_who_is_who(
        self, direction: str, ours: str, peer: str, said: str
    ) -> None:
        found = event(CALL, Direction=direction)
        assert (found["direction"], found["ours"], found["peer"]) == (said, ours, peer)

    def test_a_leg_names_its_parent(self) -> None:
        found = event(CALL, CallSid="CA2", ParentCallSid="CA1", Direction="outbound-dial")
        assert (found["external_id"], found["parent_external_id"]) == ("CA2", "CA1")

    @pytest.mark.parametrize(
        ("said", "meant", "outcome"),
        [
            ("human", "human", None),
            ("machine_start", "machine", "voicemail"),
            ("machine_end_beep", "machine", "voicemail"),
            ("machine_end_silence", "machine", "voicemail"),
            ("machine_end_other", "machine", "voicemail"),
            ("fax", "fax", None),
            ("unknown", "unknown", None),
            ("something new", "unknown", None),
        ],
    )
    def test_answered_by(self, said: str, meant: str, outcome: str | None) -> None:
        found = event(CALL, CallStatus="completed", AnsweredBy=said)
        assert (found["answered_by"], found["outcome"]) == (meant, outcome)

    def test_the_last_status_tells_of_the_recording(self) -> None:
        form = {"CallStatus": "completed", "CallDuration": "9", "RecordingDuration": "8"}
        url = "https://x.example/RE1"
        told, recording = read(CALL, form, RecordingSid="RE1", RecordingUrl=url).events
        assert told["recording"]["recording_sid"] == recording["recording_sid"] == "RE1"
        assert (recording["type"], recording["status"]) == ("call.recording", "completed")
        assert (recording["url"], recording["duration_seconds"]) == (url, 8)
        assert len(read(CALL, form, RecordingUrl=url).events) == 1

    def test_late_detection_has_no_status_of_its_own(self) -> None:
        form = {"CallSid": "CA1", "AnsweredBy": "machine_start", "MachineDetectionDuration": "900"}
        reading = read(form)
        assert reading.event_id == "CA1:answered-by:machine_start"
        assert reading.events[0]["status"] == "in_progress"
        assert reading.events[0]["answered_by"] == "machine"

    @pytest.mark.parametrize(
        ("said", "meant"),
        [
            ("completed", "completed"),
            ("answered", "completed"),
            ("busy", "busy"),
            ("no-answer", "no_answer"),
            ("failed", "failed"),
            ("canceled", "canceled"),
            ("?", None),
        ],
    )
    def test_dial_action(self, said: str, meant: str | None) -> None:
        form = {**CALL, "CallStatus": "in-progress", "DialCallStatus": said, "DialCallSid": "CA9"}
        reading = read(form, DialCallDuration="12")
        assert reading.event_id == f"CA1:dial:CA9:{said}"
        found = reading.events[0]
        assert (found["status"], found["dial_status"]) == ("in_progress", meant)
        assert (found["dial_seconds"], found["dial_external_id"]) == (12, "CA9")

    @pytest.mark.parametrize(
        "number", ["+266696687", "+7378742833", "+2562533", "+8656696", "+86282452253"]
    )
    def test_withheld_numbers_are_nobody(self, number: str) -> None:
        found = event(CALL, From=number, Caller=number)
        assert (found["peer"], found["peer_kind"]) == (number, "anonymous")
        assert found["peer_is_e164"] is False

    @pytest.mark.parametrize(
        ("said", "plain", "kind"),
        [
            ("Anonymous", "Anonymous", "anonymous"),
            ("", None, "anonymous"),
            ("sip:alice@example.com", "sip:alice@example.com", "sip"),
            ("client:jenny", "client:jenny", "client"),
            ("22395", "22395", "short_code"),
            ("MYSHOP", "MYSHOP", "alphanumeric"),
            ("whatsapp:+14155550123", "+14155550123", "e164"),
            ("WhatsApp:+14155550123", "+14155550123", "e164"),
            ("whatsapp:US.13491208655302741918", "US.13491208655302741918", "scoped_id"),
            ("rcs:+14155550123", "+14155550123", "e164"),
            ("+٤١٥٥٥٥٠١٢٣", "+٤١٥٥٥٥٠١٢٣", "unknown"),
            ("+014155550123", "+014155550123", "unknown"),
        ],
    )
    def test_addresses(self, said: str, plain: str | None, kind: str) -> None:
        assert address(said or None) == (plain, kind)

    def test_recordings(self) -> None:
        form = {"CallSid": "CA1", "RecordingSid": "RE1", "RecordingUrl": "https://x.example/RE1"}
        absent = event(form, RecordingStatus="absent", ErrorCode="16101", RecordingDuration="-1")
        assert (absent["status"], absent["error_code"]) == ("absent", 16101)
        assert absent["duration_seconds"] is None
        started = read(form, RecordingStatus="in-progress")
        assert started.event_id == "RE1:in-progress"
        assert started.events[0]["status"] == "in_progress"
        # A conference's recording belongs to no call; an unknown state to no version of ours.
        assert read(form, CallSid="", ConferenceSid="CF1", RecordingStatus="completed").events == ()
        assert read(form, RecordingStatus="melted").events == ()

    def test_voicemail(self) -> None:
        form = {**CALL, "CallStatus": "completed", "RecordingUrl": "https://x.example/RE1"}
        reading = read(form, RecordingSid="RE1", RecordingDuration="12", Digits="hangup")
        assert reading.event_id == "CA1:record:RE1"
        found = reading.events[0]
        assert found["outcome"] == "voicemail"
        assert found["recording"] == {
            "recording_sid": "RE1",
            "url": "https://x.example/RE1",
            "duration_seconds": 12,
        }

    def test_transcripts(self) -> None:
        form = {**CALL, "TranscriptionSid": "TR1", "RecordingSid": "RE1", "RecordingUrl": "u"}
        found = event(form, TranscriptionStatus="completed", TranscriptionText="Hi there")
        assert (found["type"], found["text"]) == ("call.transcript", "Hi there")
        assert (found["transcript_id"], found["recording_sid"]) == ("TR1", "RE1")
        live = read(form, TranscriptionEvent="transcription-content", SequenceId="7")
        assert (live.event_id, live.events) == ("TR1:transcription-content:7", ())


class TestMessages:
    def test_status_map_is_the_documented_one(self) -> None:
        assert dict(MESSAGE_STATUS) == {
            "accepted": "queued", "scheduled": "queued", "queued": "queued",
            "sending": "sending", "sent": "sent", "delivered": "delivered",
            "read": "read", "played": "read",
            "undelivered": "failed", "failed": "failed", "canceled": "canceled",
        }  # fmt: skip

    def test_unknown_status_is_kept_raw(self) -> None:
        reading = read(STATUS, MessageStatus="teleported")
        assert reading == Reading("message.status", "SM1:teleported", ())

    def test_status_without_the_newer_names(self) -> None:
        form = {"SmsSid": "SM1", "SmsStatus": "delivered", "To": "+14155550123"}
        assert event(form)["status"] == "delivered"

    def test_undelivered_keeps_the_providers_word(self) -> None:
        found = event(STATUS, MessageStatus="undelivered", ErrorCode="30003")
        assert (found["status"], found["provider_status"]) == ("failed", "undelivered")
        assert (found["error_code"], found["retryable"], found["opt_out"]) == (30003, True, False)

    @pytest.mark.parametrize(
        ("code", "retryable"),
        [
            (None, None), (99999, None), (20429, True), (30001, True), (30003, True),
            (30005, False), (30006, False), (30007, False), (63016, False), (63018, True),
            (21610, False), (21614, False), (30034, False), (30022, True),
        ],
    )  # fmt: skip
    def test_retryable(self, code: int | None, retryable: bool | None) -> None:
        assert is_retryable(code) is retryable

    @pytest.mark.parametrize(
        ("given", "moment"),
        [
            ("2603021015", "2026-03-02T10:15:00+00:00"),
            ("260302101559", "2026-03-02T10:15:59+00:00"),
            ("2613021015", None),
            ("garbage", None),
            ("٢٦٠٣٠٢١٠١٥", None),
            ("", None),
        ],
    )
    def test_carriers_time(self, given: str, moment: str | None) -> None:
        assert event(STATUS, RawDlrDoneDate=given)["occurred_at"] == moment

    def test_whatsapp(self) -> None:
        form = {**MESSAGE, "From": "whatsapp:+14155550123", "To": "whatsapp:+14155550199"}
        found = event(form, WaId="14155550123", ProfileName="Ana", OriginalRepliedMessageSid="SM0")
        assert found["channel_kind"] == "whatsapp"
        assert (found["peer"], found["ours"]) == ("+14155550123", "+14155550199")
        assert (found["profile_name"], found["wa_id"]) == ("Ana", "14155550123")
        assert found["reply_to_external_id"] == "SM0"

    def test_whatsapp_without_a_number(self) -> None:
        form = {**MESSAGE, "From": "whatsapp:US.1349", "To": "whatsapp:+14155550199"}
        found = event(form)
        assert (found["peer"], found["peer_kind"]) == ("US.1349", "scoped_id")
        assert found["peer_is_e164"] is False

    def test_whatsapp_read_receipt(self) -> None:
        form = {**STATUS, "From": "whatsapp:+14155550199", "To": "whatsapp:+14155550123"}
        found = event(form, MessageStatus="read", EventType="READ", ChannelPrefix="whatsapp")
        assert (found["channel_kind"], found["status"]) == ("whatsapp", "read")

    def test_choice_from_a_list(self) -> None:
        found = event(MESSAGE, Body="", ListId="slot_9", ListTitle="Nine o'clock")
        assert (found["button_payload"], found["text"]) == ("slot_9", "Nine o'clock")

    @pytest.mark.parametrize(
        ("latitude", "longitude"),
        [("91", "0"), ("0", "181"), ("nan", "0"), ("1e2", "0"), ("", "0"), ("37,7", "1")],
    )
    def test_impossible_places_are_left_out(self, latitude: str, longitude: str) -> None:
        assert event(MESSAGE, Latitude=latitude, Longitude=longitude)["location"] is None

    def test_media(self) -> None:
        form = {f"MediaUrl{i}": f"https://x.example/{i}" for i in (0, 1, 3)}
        found = event(MESSAGE, form, NumMedia="4", MediaContentType1="image/png")
        assert found["media"] == [
            {"url": "https://x.example/0", "content_type": None},
            {"url": "https://x.example/1", "content_type": "image/png"},
        ]

    def test_text_is_kept_as_it_is(self) -> None:
        assert event(MESSAGE, Body="  two  blanks \n")["text"] == "  two  blanks \n"

    def test_a_field_given_twice_counts_once(self) -> None:
        assert event(MESSAGE, Body=["one", "two"])["text"] == "one"


class TestOptOut:
    @pytest.mark.parametrize(
        "text",
        ["STOP", "stop", " Stop. ", "STOP!!!", '"stop"', "\u200bSTOP\n", "StopAll", "UNSUBSCRIBE",
         "cancel", "END", "Quit", "optout", "opt out", "Opt-Out", "REVOKE", "¡Stop!"],
    )  # fmt: skip
    def test_out(self, text: str) -> None:
        assert opt_request(None, text) == "out"

    @pytest.mark.parametrize("text", ["START", "yes", "Unstop.", " Yes! "])
    def test_in(self, text: str) -> None:
        assert opt_request(None, text) == "in"

    @pytest.mark.parametrize(
        "text",
        ["", "?", "please stop by at nine", "STOP PLEASE", "don't stop", "stopp", "s top",
         "the end", "I want to cancel my appointment", "yes please", "start over", "HELP",
         "cancel?no", "stop 2", "unsubscribed", "STOP\nSTOP", "stop" * 1000, "🛑"],
    )  # fmt: skip
    def test_ordinary_text(self, text: str) -> None:
        assert opt_request(None, text) is None

    @pytest.mark.parametrize(
        ("declared", "text", "meant"),
        [
            ("STOP", "parar", "out"),
            ("START", "hola", "in"),
            ("HELP", "STOP", None),
            ("stop", "x", "out"),
            ("NEW", "x", None),
        ],
    )
    def test_twilio_knows_better(self, declared: str, text: str, meant: str | None) -> None:
        assert opt_request(declared, text) == meant
        assert event(MESSAGE, Body=text, OptOutType=declared)["opt"] == meant


class TestUnknown:
    def test_it_is_stored_under_an_id_of_its_content(self) -> None:
        first, same, other = read({"A": "1"}), read({"A": "1"}), read({"A": "2"})
        assert first.kind == "unknown"
        assert first.event_id == same.event_id != other.event_id

    def test_letters_moved_over_the_border_are_the_same_event(self) -> None:
        # The signature covers names and values run together, so it fits both.
        assert read({"Ab": "c"}).event_id == read({"A": "bc"}).event_id

    @pytest.mark.parametrize("status", ["x" * 5000, "\n", "Zustand ü"])
    def test_a_status_cannot_make_an_id_too_long_or_ugly(self, status: str) -> None:
        first, other = read(CALL, CallStatus=status), read(CALL, CallStatus=status + "x")
        assert len(first.event_id) <= 200
        assert first.event_id.isascii()
        assert first.event_id != other.event_id

    @pytest.mark.parametrize(
        "form",
        [
            {"CallSid": ""},
            {"CallSid": "CA 1 with blanks"},
            {"CallSid": "C" * 65, "CallStatus": "ringing"},
            {"CallStatus": "ringing"},
            {"MessageSid": ""},
            {"MessageSid": "SM1"},
            {"RecordingStatus": "completed"},
            {"TranscriptionSid": "<>"},
            {"ConversationSid": "\n"},
        ],
    )
    def test_without_an_id_there_is_no_event(self, form: dict[str, str]) -> None:
        reading = read(form)
        assert (reading.kind, reading.events) == ("unknown", ())


NAMES = """
    AccountSid CallSid CallStatus From To Direction SequenceNumber Timestamp CallDuration
    RecordingSid RecordingUrl RecordingStatus RecordingDuration RecordingStartTime ErrorCode
    TranscriptionSid TranscriptionStatus TranscriptionText TranscriptionEvent DialCallStatus
    DialCallSid DialCallDuration AnsweredBy MessageSid SmsSid MessageStatus SmsStatus Body
    NumMedia MediaUrl0 Latitude Longitude OptOutType RawDlrDoneDate ConversationSid EventType
    StateTo StateUpdated Index DateCreated ParentCallSid SipResponseCode WaId Digits
"""
VALUES = """
    CA1 SM1 RE1 TR1 IM1 completed ringing received read failed absent inbound outbound-api 0 -1
    99999999999999999999 +14155550123 whatsapp:+1 whatsapp: : client: sip: STOP 2603021015 nan
    onMessageAdded onConversationStateUpdated
"""
DATES = ["", "Mon, 02 Mar 2026 10:01:01 +0000", "Mon, 02 Mar 99999 10:01:01 +9999"]
values = st.one_of(st.sampled_from([*VALUES.split(), *DATES]), st.text(max_size=30))
forms = st.dictionaries(
    st.one_of(st.sampled_from(NAMES.split()), st.text(max_size=8)),
    st.one_of(values, st.lists(values, min_size=1, max_size=3)),
    max_size=16,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(forms)
def test_no_form_makes_the_reader_fail(form: dict[str, Any]) -> None:
    reading = Twilio().read(form)
    assert reading.kind
    assert 0 < len(reading.event_id) <= 255
    assert reading.event_id.isprintable()
    json.dumps(reading.events, allow_nan=False)


@given(st.dictionaries(st.sampled_from(NAMES.split()) | st.text(), json_values, max_size=6))
def test_no_json_makes_the_reader_fail(payload: dict[str, Any]) -> None:
    reading = Twilio().read(payload)
    json.dumps(reading.events, allow_nan=False)


@given(st.text())
def test_any_text_as_a_time(text: str) -> None:
    fields = Fields({"T": text})
    for found in (fields.time("T"), fields.compact_time("T")):
        assert found is None or found.endswith("+00:00")


@pytest.mark.parametrize(
    ("given_time", "moment"),
    [
        ("Mon, 02 Mar 2026 10:01:01 +0000", "2026-03-02T10:01:01+00:00"),
        ("Mon, 02 Mar 2026 10:01:01 -0800", "2026-03-02T18:01:01+00:00"),
        ("Mon, 02 Mar 2026 10:01:01 -0000", "2026-03-02T10:01:01+00:00"),
        ("2026-03-02T18:01:58.111Z", "2026-03-02T18:01:58.111000+00:00"),
        ("0001-01-01T00:00:00+14:00", None),
        ("1999-12-31T23:59:59Z", None),
        ("2100-01-01T00:00:00Z", None),
    ],
)
def test_times(given_time: str, moment: str | None) -> None:
    assert Fields({"T": given_time}).time("T") == moment
