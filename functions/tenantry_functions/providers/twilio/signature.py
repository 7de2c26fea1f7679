"""Proof that Twilio sent a request.

https://www.twilio.com/docs/usage/webhooks/webhooks-security: base64 of HMAC-SHA1 with the account's
auth token over the URL followed by every form field, name and value, sorted by name. A JSON body
is not in the signature; its SHA-256 is, as `bodySHA256` in the URL. With a shared key the header
`X-Twilio-Webhooks-Signature-Settings: key=...,algorithm=HMAC_SHA256` names the other hash.

No time is signed: the unique event id is the only protection against replay.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator, Sequence
from urllib.parse import unquote_to_bytes

from tenantry_functions.providers import SignatureError, SignedRequest

SIGNATURE_HEADER = "x-twilio-signature"
SETTINGS_HEADER = "x-twilio-webhooks-signature-settings"
MAX_FIELDS = 1000
"""Twilio sends some sixty at most; sorting a million would be work done for anybody."""

_ALGORITHMS = {"HMAC_SHA1": "sha1", "HMAC_SHA256": "sha256"}
_DEFAULT_PORTS = {b"https": b"443", b"http": b"80"}

Pair = tuple[bytes, bytes]


def form_pairs(body: bytes) -> list[Pair]:
    """Decoded fields of a form in their order; blank values and repeated names are kept.

    Raises:
        SignatureError: more than MAX_FIELDS fields.
    """
    if body.count(b"&") >= MAX_FIELDS:
        raise SignatureError(f"more than {MAX_FIELDS} fields")
    pairs = []
    for piece in body.split(b"&"):
        if piece:
            name, _, value = piece.replace(b"+", b" ").partition(b"=")
            pairs.append((unquote_to_bytes(name), unquote_to_bytes(value)))
    return pairs


def covered(pairs: Sequence[Pair]) -> bytes:
    """The part of a form that the signature covers: sorted, each pair once, without separators."""
    return b"".join(name + value for name, value in sorted(set(pairs)))


def signature(secret: str, url: bytes, pairs: Sequence[Pair], algorithm: str = "sha1") -> bytes:
    """The header's value for a request."""
    digest = hmac.digest(secret.encode(), url + covered(pairs), algorithm)
    return base64.b64encode(digest)


def check_form(request: SignedRequest, secrets: Sequence[str]) -> list[Pair]:
    """The fields of a signed form.

    Raises:
        SignatureError: the form is empty (else the signature of a JSON request, which covers the
            URL alone, would be good for it too) or no secret signed it.
    """
    pairs = form_pairs(request.body)
    if not pairs:
        raise SignatureError("empty form")
    _check(request, secrets, pairs)
    return pairs


def check_json(request: SignedRequest, secrets: Sequence[str]) -> None:
    """Pass when the URL is signed and holds the SHA-256 of the body.

    Raises:
        SignatureError: the hash is missing, given twice or wrong, or no secret signed the URL.
    """
    query = request.url.partition(b"?")[2]
    claimed = [value for name, value in form_pairs(query) if name == b"bodySHA256"]
    actual = hashlib.sha256(request.body).hexdigest().encode()
    if len(claimed) != 1 or not hmac.compare_digest(claimed[0].lower(), actual):
        raise SignatureError("bodySHA256 is missing or of another body")
    _check(request, secrets, [])


def _check(request: SignedRequest, secrets: Sequence[str], pairs: Sequence[Pair]) -> None:
    given = request.headers.getlist(SIGNATURE_HEADER)
    if len(given) != 1:
        raise SignatureError("the signature header is missing or given twice")
    header = given[0].encode("latin-1")
    algorithm = _algorithm(request.headers.getlist(SETTINGS_HEADER))
    fields = covered(pairs)
    found = False
    # All are computed, so that the time taken does not tell which secret or URL came close.
    for secret in filter(None, secrets):
        for url in _urls(request.url):
            digest = hmac.digest(secret.encode(), url + fields, algorithm)
            found |= hmac.compare_digest(base64.b64encode(digest), header)
    if not found:
        raise SignatureError("no secret of the connection signed this request")


def _algorithm(settings: list[str]) -> str:
    """Hash named by the settings header; without one, the auth token's HMAC-SHA1."""
    named = "HMAC_SHA1"
    for part in ",".join(settings).split(","):
        name, _, value = part.partition("=")
        if name.strip() == "algorithm" and value.strip():
            named = value.strip()
    try:
        return _ALGORITHMS[named.upper()]
    except KeyError:
        raise SignatureError("unsupported algorithm") from None


def _urls(url: bytes) -> Iterator[bytes]:
    """The URL without and with its port: Twilio is not consistent in which of them it signs.

    Its own validators try both (twilio-python, request_validator.py).
    """
    scheme, separator, rest = url.partition(b"://")
    end = min((rest.index(mark) for mark in (b"/", b"?") if mark in rest), default=len(rest))
    authority, tail = rest[:end], rest[end:]
    host, colon, port = authority.rpartition(b":")
    if not colon or not port.isdigit():
        host, port = authority, _DEFAULT_PORTS[scheme.lower()]
    yield scheme + separator + host + tail
    yield scheme + separator + host + b":" + port + tail
