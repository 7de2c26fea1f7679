"""Answers to Twilio: https://www.twilio.com/docs/voice/twiml

Every document is built as a tree and serialised by the library, so that a greeting can say
`</Say><Dial>` and is only read aloud. Text never meets markup here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from starlette.responses import Response

# XML 1.0, 2.2: what a document may hold; everything else is dropped, also half surrogates. A
# carriage return may be held, but every reader makes a line feed of it.
_NOT_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,2}")
_MAX_SPOKEN = 4096
"""Characters that <Say> takes at once."""

DEFAULT_GREETING = "Please leave a message after the tone."
_DEFAULT_LANGUAGE = "en-US"
_RING_SECONDS = 20
_MESSAGE_SECONDS = 120


@dataclass(frozen=True, slots=True)
class VoiceSettings:
    """How a voice channel answers. A setting that makes no sense falls back to the default."""

    greeting: str = DEFAULT_GREETING
    forward_to: str | None = None
    record: bool = True
    language: str = _DEFAULT_LANGUAGE

    @classmethod
    def of(cls, settings: Mapping[str, Any] | None, *, not_to: str | None = None) -> VoiceSettings:
        """From the channel's settings.

        Args:
            not_to: our own number: a call forwarded to it would come back to us for ever.
        """
        settings = settings or {}
        greeting, language = settings.get("greeting"), settings.get("language")
        forward_to = settings.get("forward_to")
        is_number = isinstance(forward_to, str) and _E164.fullmatch(forward_to) is not None
        return cls(
            greeting=greeting
            if isinstance(greeting, str) and clean(greeting).strip()
            else DEFAULT_GREETING,
            forward_to=forward_to if is_number and forward_to != not_to else None,
            record=settings.get("record") is not False,
            language=language
            if isinstance(language, str) and _LANGUAGE.fullmatch(language)
            else _DEFAULT_LANGUAGE,
        )


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Our URLs for what comes next."""

    dial: str
    recording: str
    transcription: str


def clean(text: str) -> str:
    """Without the characters that XML cannot hold."""
    return _NOT_XML.sub("", text)


def forward(settings: VoiceSettings, callbacks: Callbacks) -> Response:
    """Ring another number; what came of it is told to `callbacks.dial`, which goes on."""
    response = ElementTree.Element("Response")
    attributes = {
        "action": callbacks.dial,
        "method": "POST",
        "timeout": str(_RING_SECONDS),
        "answerOnBridge": "true",
    }
    if settings.record:
        attributes |= {"record": "record-from-answer-dual", **_recording(callbacks)}
    dial = ElementTree.SubElement(response, "Dial", attributes)
    ElementTree.SubElement(dial, "Number").text = settings.forward_to
    return _answer(response)


def take_message(settings: VoiceSettings, callbacks: Callbacks) -> Response:
    """Greet and, where the channel records, take a message."""
    response = ElementTree.Element("Response")
    say = ElementTree.SubElement(response, "Say", {"language": settings.language})
    say.text = clean(settings.greeting)[:_MAX_SPOKEN]
    if settings.record:
        # Without an action <Record> asks this same URL again, for ever.
        attributes = {
            "action": callbacks.recording,
            "method": "POST",
            "maxLength": str(_MESSAGE_SECONDS),
            "playBeep": "true",
            **_recording(callbacks),
        }
        if settings.language.startswith("en"):
            # Twilio transcribes recordings in English only.
            attributes |= {"transcribe": "true", "transcribeCallback": callbacks.transcription}
        ElementTree.SubElement(response, "Record", attributes)
    ElementTree.SubElement(response, "Hangup")
    return _answer(response)


def hang_up() -> Response:
    """The call is over."""
    response = ElementTree.Element("Response")
    ElementTree.SubElement(response, "Hangup")
    return _answer(response)


def no_reply() -> Response:
    """A message came; nothing is said in return now."""
    return _answer(ElementTree.Element("Response"))


def _recording(callbacks: Callbacks) -> dict[str, str]:
    return {
        "recordingStatusCallback": callbacks.recording,
        "recordingStatusCallbackMethod": "POST",
        "recordingStatusCallbackEvent": "completed absent",
    }


def _answer(root: ElementTree.Element) -> Response:
    document = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return Response(document, media_type="text/xml", headers={"Cache-Control": "no-store"})
