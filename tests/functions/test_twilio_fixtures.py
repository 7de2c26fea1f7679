"""Every recorded request, posted through the app, is read as it says it must be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl
from xml.etree import ElementTree

import pytest
from starlette.datastructures import ImmutableMultiDict
from twilio.request_validator import RequestValidator

from tenantry_functions.inbox import Connection, MemoryInbox
from tenantry_functions.testing import ORIGIN, Answer, FunctionHost

FIXTURES = Path(__file__).parent / "fixtures"
FUNCTION = {
    "twilio_voice": "twilio-voice",
    "twilio_messaging": "twilio-messaging",
    "twilio_conversations": "twilio-messaging",
}
FILES = sorted(file for folder in FUNCTION for file in (FIXTURES / folder).glob("*.json"))


def is_twiml(answer: Answer) -> bool:
    document = ElementTree.fromstring(answer.body)  # noqa: S314  our own answer
    return document.tag == "Response" and answer.headers["content-type"].startswith("text/xml")


def canonical(key: str, event: Any, event_id: str, answer: Answer) -> Any:
    """What our event says about a key of the fixtures, where the two use another word."""
    recording = event.get("recording") or {}
    if key == "opt_out" and event["type"] == "message.status":
        return event["opt_out"]
    said = {
        "channel": lambda: event["channel_kind"],
        "dedupe_key": lambda: event_id,
        "opt_in": lambda: event["opt"] == "in",
        "opt_out": lambda: event["opt"] == "out",
        "recording_sid": lambda: event.get("recording_sid") or recording["recording_sid"],
        "transcript": lambda: event["text"],
        "response": lambda: "TwiML required" if is_twiml(answer) else None,
    }
    return said[key]() if key in said else event[key]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_key_is_read(
    file: Path, host: FunctionHost[MemoryInbox], connection: Connection
) -> None:
    fixture = json.loads(file.read_text(encoding="utf-8"))
    request = fixture["request"]
    target = f"/functions/v1/{FUNCTION[fixture['provider']]}/{connection.id}"
    # Signed by Twilio's own library, not by ours.
    form = ImmutableMultiDict(parse_qsl(request["body"], keep_blank_values=True))
    signature = RequestValidator(connection.secrets[0]).compute_signature(ORIGIN + target, form)
    headers = [*request["headers"].items(), ("X-Twilio-Signature", signature)]

    answer = host.request(request["method"], target, request["body"].encode(), headers)

    assert answer.status == 200
    (stored,) = host.inbox.webhooks.values()
    event = stored.reading.events[0]
    if fixture["provider"] != "twilio_conversations":
        assert stored.reading.kind == event["type"] == fixture["kind"]
    for key, expected in fixture["expect"].items():
        found = canonical(key, event, stored.reading.event_id, answer)
        if isinstance(expected, dict):
            found = {name: found[name] for name in expected}
        assert found == expected, key
    # The raw request is kept whole.
    assert dict(stored.payload) == dict(form.multi_items())
    # The same delivery again is acknowledged and changes nothing.
    again = host.request(request["method"], target, request["body"].encode(), headers)
    assert (again.status, again.body) == (answer.status, answer.body)
    assert len(host.inbox.webhooks) == 1


def test_all_fixtures_are_here() -> None:
    assert len(FILES) == 25
