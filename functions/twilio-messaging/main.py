"""Messages through Twilio: SMS, MMS, WhatsApp, RCS, and how far ours have come."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from tenantry_functions import Context, edge, twiml
from tenantry_functions.providers.twilio import Twilio


@edge(auth="webhook", provider=Twilio("status"))
async def handler(ctx: Context, request: Request) -> Response:
    """An empty document for a message that came in: replies go through the outbox."""
    if ctx.delivery.reading.kind == "message.inbound":
        return twiml.no_reply()
    return Response(status_code=200)
