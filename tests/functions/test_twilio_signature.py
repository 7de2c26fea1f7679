"""Twilio's signature: published vectors, agreement with its own library, and forgeries."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from starlette.datastructures import Headers, ImmutableMultiDict
from twilio.request_validator import RequestValidator

from tenantry_functions.body import storable
from tenantry_functions.providers import SignatureError, SignedRequest
from tenantry_functions.providers.twilio import Twilio
from tenantry_functions.providers.twilio.signature import covered, form_pairs, signature

VECTORS = sorted((Path(__file__).parent / "fixtures" / "signatures").glob("*.json"))
FORM = "application/x-www-form-urlencoded"
SECRET = "the auth token"

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
fields = st.lists(st.tuples(text, text), min_size=1, max_size=12)
urls = st.builds(
    "{}://{}{}{}{}".format,
    st.sampled_from(["https", "http"]),
    st.sampled_from(["api.example.com", "127.0.0.1", "user:pass@example.com"]),
    st.sampled_from(["", ":443", ":80", ":8443"]),
    st.sampled_from(["/functions/v1/x", "/a%20b/c", "/x/"]),
    st.sampled_from(["", "?foo=1&bar=2", "?a=:8080&b=%41"]),
)


def verify(
    url: str, body: bytes, header: str | None, secret: str = SECRET, **more: str
) -> dict[str, Any]:
    headers = {"content-type": FORM, **{name.replace("_", "-"): v for name, v in more.items()}}
    if header is not None:
        headers["x-twilio-signature"] = header
    request = SignedRequest(url.encode(), Headers(headers), body)
    return dict(Twilio().verify(request, [secret]))


def is_valid(*arguments: Any, **more: str) -> bool:
    try:
        verify(*arguments, **more)
    except SignatureError:
        return False
    return True


@pytest.mark.parametrize("file", VECTORS, ids=lambda file: file.stem)
def test_published_vectors(file: Path) -> None:
    fixture = json.loads(file.read_text())
    vector, body = fixture["vector"], fixture["request"]["body"].encode()
    kind = fixture["request"]["headers"]["Content-Type"]
    assert is_valid(vector["url"], body, vector["signature"], vector["secret"], content_type=kind)
    wrong = "A" + vector["signature"][1:] if vector["signature"][0] != "A" else "B"
    assert not is_valid(vector["url"], body, wrong, vector["secret"], content_type=kind)
    assert not is_valid(vector["url"], body, vector["signature"], "54321", content_type=kind)
    assert not is_valid(
        vector["url"] + "&x=1", body, vector["signature"], vector["secret"], content_type=kind
    )


@given(url=urls, form=fields, algorithm=st.sampled_from(["HMAC_SHA1", "HMAC_SHA256"]))
def test_agrees_with_twilio(url: str, form: list[tuple[str, str]], algorithm: str) -> None:
    validator = RequestValidator(SECRET)
    signed = validator.compute_signature(url, ImmutableMultiDict(form), algorithm)
    # The library looks at the URL with and without its port; so do we.
    assert validator.validate(url, ImmutableMultiDict(form), signed, algorithm)
    settings = f"key=webhooks_sharedkey_1,algorithm={algorithm}"
    assert is_valid(
        url,
        urlencode(form).encode(),
        signed,
        x_twilio_webhooks_signature_settings=settings,
    )


@given(url=urls, form=fields, garbage=st.text(st.characters(max_codepoint=255), max_size=40))
def test_refuses_what_twilio_refuses(url: str, form: list[tuple[str, str]], garbage: str) -> None:
    expected = RequestValidator(SECRET).validate(url, ImmutableMultiDict(form), garbage)
    assert is_valid(url, urlencode(form).encode(), garbage) == expected is False


@given(form=fields, position=st.integers(0), byte=st.integers(0, 255))
def test_one_changed_byte_is_refused(form: list[tuple[str, str]], position: int, byte: int) -> None:
    url, body = "https://api.example.com/x", urlencode(form).encode()
    signed = signature(SECRET, url.encode(), form_pairs(body)).decode()
    position %= len(body)
    changed = body[:position] + bytes([byte]) + body[position + 1 :]
    # `%4a` and `%4A` are one letter, and `a=` + `&b=` may run together as `a==b=`: where what is
    # covered is the same, the request means the same to Twilio.
    assume(covered(form_pairs(changed)) != covered(form_pairs(body)))
    assert is_valid(url, body, signed)
    assert not is_valid(url, changed, signed)


@given(form=fields, extra=st.tuples(text, text))
def test_added_and_removed_fields_are_refused(
    form: list[tuple[str, str]], extra: tuple[str, str]
) -> None:
    url = "https://api.example.com/x"
    body = urlencode(form).encode()
    signed = signature(SECRET, url.encode(), form_pairs(body)).decode()
    for other in ([*form, extra], form[1:]):
        changed = urlencode(other).encode()
        if covered(form_pairs(changed)) != covered(form_pairs(body)):
            assert not is_valid(url, changed, signed)


@given(body=st.binary(max_size=200), header=st.text(st.characters(max_codepoint=255)))
def test_any_bytes_are_refused_without_another_error(body: bytes, header: str) -> None:
    assert not is_valid("https://api.example.com/x", body, header)


@given(form=fields)
def test_the_payload_is_what_was_sent(form: list[tuple[str, str]]) -> None:
    url, body = "https://api.example.com/x", urlencode(form).encode()
    signed = signature(SECRET, url.encode(), form_pairs(body)).decode()
    payload = verify(url, body, signed)
    flat = [
        (name, value)
        for name, values in payload.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    cleaned = [(n.replace("\0", "\ufffd"), v.replace("\0", "\ufffd")) for n, v in form]
    assert sorted(flat) == sorted(cleaned)
    assert all(storable(name) and storable(value) for name, value in flat)


@pytest.mark.parametrize("header", [None, "", " ", "garbage", "é", "v1,abc", "=" * 500])
def test_missing_and_garbage_signatures(header: str | None) -> None:
    assert not is_valid("https://api.example.com/x", b"a=1", header)


def test_two_signature_headers_are_ambiguous() -> None:
    url, body = b"https://api.example.com/x", b"a=1"
    good = signature(SECRET, url, form_pairs(body))
    for headers in ([good, b"garbage"], [b"garbage", good], [good, good]):
        raw = [(b"content-type", FORM.encode()), *((b"x-twilio-signature", h) for h in headers)]
        with pytest.raises(SignatureError):
            Twilio().verify(SignedRequest(url, Headers(raw=raw), body), [SECRET])


def test_rotation_and_missing_secrets() -> None:
    url, body = b"https://api.example.com/x", b"a=1"
    headers = Headers(
        {
            "content-type": FORM,
            "x-twilio-signature": signature("old", url, form_pairs(body)).decode(),
        }
    )
    request = SignedRequest(url, headers, body)
    assert Twilio().verify(request, ["new", "old"]) == {"a": "1"}
    for secrets in ([], ["new"], [""], ["", ""]):
        with pytest.raises(SignatureError):
            Twilio().verify(request, secrets)


def test_an_empty_secret_signs_nothing() -> None:
    url, body = b"https://api.example.com/x", b"a=1"
    forged = signature("", url, form_pairs(body)).decode()
    assert not is_valid(url.decode(), body, forged, "")


@pytest.mark.parametrize("algorithm", ["MD5", "HMAC_SHA512", "none", "HMAC_SHA256,algorithm=x"])
def test_unsupported_algorithms_are_refused(algorithm: str) -> None:
    url, body = "https://api.example.com/x", b"a=1"
    for known in ("sha1", "sha256"):
        good = signature(SECRET, url.encode(), form_pairs(body), known).decode()
        settings = f"key=k,algorithm={algorithm}"
        assert not is_valid(url, body, good, x_twilio_webhooks_signature_settings=settings)


class TestJson:
    """A JSON body is covered by its hash in the URL alone."""

    body = b'{"AccountSid": "AC1"}'

    def url(self, body: bytes) -> str:
        return f"https://api.example.com/x?bodySHA256={hashlib.sha256(body).hexdigest()}"

    def sign(self, url: str) -> str:
        return signature(SECRET, url.encode(), []).decode()

    def test_accepted(self) -> None:
        url = self.url(self.body)
        found = verify(url, self.body, self.sign(url), content_type="application/json")
        assert found == {"AccountSid": "AC1"}

    @pytest.mark.parametrize("body", [b"", b"{}", b'{"AccountSid":"AC1"}', b"[]", b"\xff"])
    def test_another_body_is_refused(self, body: bytes) -> None:
        url = self.url(self.body)
        assert not is_valid(url, body, self.sign(url), content_type="application/json")

    def test_hash_missing_or_twice(self) -> None:
        digest = hashlib.sha256(self.body).hexdigest()
        twice = (f"?bodySHA256=00&bodySHA256={digest}", f"?bodySHA256={digest}&bodySHA256=00")
        for query in ("", "?bodySHA256=", *twice):
            url = f"https://api.example.com/x{query}"
            assert not is_valid(url, self.body, self.sign(url), content_type="application/json")

    @pytest.mark.parametrize("body", [b"", b"&", b"&&&", b'{"AccountSid": "AC1"}', b"a=1"])
    def test_replayed_as_a_form_is_refused(self, body: bytes) -> None:
        url = self.url(self.body)
        assert not is_valid(url, body, self.sign(url))

    def test_a_form_replayed_as_json_is_refused(self) -> None:
        url, body = "https://api.example.com/x", b"a=1"
        good = signature(SECRET, url.encode(), form_pairs(body)).decode()
        assert not is_valid(url, body, good, content_type="application/json")

    def test_what_is_no_object_is_refused(self) -> None:
        for body in (b"[]", b"1", b"null", b'"AccountSid"'):
            url = self.url(body)
            assert not is_valid(url, body, self.sign(url), content_type="application/json")
