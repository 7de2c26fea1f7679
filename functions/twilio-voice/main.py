"""Calls through Twilio: answer the phone, follow the call, keep recording and transcript."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tenantry_functions import Context, edge, twiml
from tenantry_functions.providers.twilio import Twilio
from tenantry_functions.providers.twilio.voice import asks_for_instructions
from tenantry_functions.webhooks import Delivery

_LIVE = frozenset({"queued", "initiated", "ringing", "in_progress"})


@edge(
    auth="webhook",
    provider=Twilio("status", "recording", "transcription", "dial"),
)
async def handler(ctx: Context, request: Request) -> Response:
    """What to do next with a call; nothing for a callback that only reports."""
    delivery = ctx.delivery
    if delivery.reading.kind == "message.inbound":
        return twiml.no_reply()
    is_report = delivery.route == "status" or not asks_for_instructions(delivery.payload)
    if is_report or delivery.reading.kind != "call.event":
        return Response(status_code=200)
    event = next(iter(delivery.reading.events), None)
    if event is None or event["direction"] != "inbound" or event["status"] not in _LIVE:
        return twiml.hang_up()
    if event["outcome"] == "voicemail" or event["dial_status"] == "completed":
        return twiml.hang_up()
    settings = twiml.VoiceSettings.of(_voice(delivery), not_to=event["ours"])
    callbacks = _callbacks(ctx)
    if settings.forward_to and event["dial_status"] is None:
        return twiml.forward(settings, callbacks)
    return twiml.take_message(settings, callbacks)


def _voice(delivery: Delivery) -> Mapping[str, Any] | None:
    """The channel's settings, as the database gave them with the call."""
    for result in delivery.receipt.results:
        if isinstance(voice := result.get("voice"), Mapping):
            return voice
    return None


def _callbacks(ctx: Context) -> twiml.Callbacks:
    def url(route: str) -> str:
        return ctx.services.receiver.url(ctx.function, ctx.delivery.connection, route)

    return twiml.Callbacks(url("dial"), url("recording"), url("transcription"))
