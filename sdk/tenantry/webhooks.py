"""Checking webhooks that Tenantry sends to you: Standard Webhooks 1.0.

    from tenantry import webhooks

    event = webhooks.verify(body, request.headers, secret)

Give the body as the bytes that came in: parsed and written again it has another signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Iterable, Mapping
from typing import Any

from tenantry import _json
from tenantry.errors import InvalidArgument, TenantryError

__all__ = ["WebhookVerificationError", "verify"]

#: Seconds a time stamp may be off, either way (Standard Webhooks, "Verifying").
TOLERANCE = 300.0


class WebhookVerificationError(TenantryError):
    """This was not sent by who holds the secret, or it is too old. Answer 401."""

    remedy = "Check the secret of the endpoint, the clock of this machine, and that body is raw."


def verify(
    body: bytes,
    headers: Mapping[str, str],
    secret: str | Iterable[str],
    *,
    tolerance: float = TOLERANCE,
    now: float | None = None,
) -> Any:
    """The event in a webhook that is genuine and fresh.

    Store its `webhook-id` header before acting: repeated deliveries carry the same one.

    Args:
        body: The raw bytes.
        headers: Of the request, names in any case.
        secret: `whsec_...`; several while one is being replaced.
        tolerance: Seconds.
        now: Seconds since 1970, for tests.

    Raises:
        WebhookVerificationError: For every reason alike.
        InvalidArgument: The secret is no secret, or the body is no bytes.
    """
    if not isinstance(body, bytes | bytearray):
        hint = "Give the raw bytes of the request, before any parsing."
        raise InvalidArgument("body", "it is not bytes", hint=hint)
    keys = [_key(one) for one in ([secret] if isinstance(secret, str) else secret)]
    lower = {name.lower(): value for name, value in headers.items()}
    identifier, stamp = lower.get("webhook-id", ""), lower.get("webhook-timestamp", "")
    # Digits only: int() would also take "+1", " 1" and digits of other scripts.
    if not identifier or not (stamp.isascii() and stamp.isdigit() and len(stamp) < 13):
        raise WebhookVerificationError("The headers of a signed webhook are missing.")
    if abs((time.time() if now is None else now) - int(stamp)) > tolerance:
        raise WebhookVerificationError("The webhook is too old, or from the future.")
    signed = f"{identifier}.{stamp}.".encode() + bytes(body)
    expected = [hmac.new(key, signed, hashlib.sha256).digest() for key in keys]
    genuine = False
    for word in lower.get("webhook-signature", "").split(" "):
        version, _, signature = word.partition(",")
        if version != "v1":
            continue
        try:
            given = base64.b64decode(signature.encode(), validate=True)
        except (binascii.Error, ValueError):
            continue
        # All are compared, so that the time taken does not say which secret fits.
        for digest in expected:
            genuine |= hmac.compare_digest(digest, given)
    if not genuine:
        raise WebhookVerificationError("The signature of the webhook is not ours.")
    try:
        return _json.decode(bytes(body))
    except (ValueError, RecursionError):
        raise WebhookVerificationError("The webhook is signed, but its body is no JSON.") from None


def _key(secret: str) -> bytes:
    hint = "Give the endpoint's secret as it was shown: whsec_ and base64."
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError, AttributeError):
        raise InvalidArgument("secret", "it is not one", hint=hint) from None
    if not key:
        raise InvalidArgument("secret", "it is empty", hint=hint)
    return key
