"""Forged, replayed, broken and hostile deliveries: a clear answer, and nothing stored."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from twilio.request_validator import RequestValidator

from tenantry_functions.inbox import Connection, MemoryInbox
from tenantry_functions.providers import Payload, Reading
from tenantry_functions.providers.twilio import Twilio
from tenantry_functions.providers.twilio.signature import form_pairs, signature
from tenantry_functions.testing import ORIGIN, Answer, FunctionHost, encode_form, memory_host

FORM = ("content-type", "application/x-www-form-urlencoded")
Host = FunctionHost[MemoryInbox]


@pytest.fixture
def message(account: str) -> dict[str, str]:
    return {
        "AccountSid": account,
        "MessageSid": "SM1",
        "SmsStatus": "received",
        "From": "+14155550123",
        "To": "+14155550199",
        "Body": "hello",
    }


def post(host: Host, target: str, body: bytes, *headers: tuple[str, str]) -> Answer:
    return host.request("POST", f"/functions/v1/{target}", body, headers)


def sign(secret: str, target: str, body: bytes, origin: str = ORIGIN) -> tuple[str, str]:
    url = f"{origin}/functions/v1/{target}".encode()
    return "x-twilio-signature", signature(secret, url, form_pairs(body)).decode()


def refusal(answer: Answer) -> tuple[int, Any]:
    """The answer without its request id."""
    return answer.status, {k: v for k, v in answer.json().items() if k != "request_id"}


class TestForgeries:
    @pytest.mark.parametrize("header", [None, "", "garbage", "a" * 28, "é", "v1,abc"])
    def test_signature(
        self, host: Host, connection: Connection, message: dict[str, str], header: str | None
    ) -> None:
        signed = [("x-twilio-signature", header)] if header is not None else []
        answer = post(
            host, f"twilio-messaging/{connection.id}", encode_form(message), FORM, *signed
        )
        assert answer.status == 401
        assert answer.json()["code"] == "invalid_signature"
        assert not host.inbox.webhooks

    def test_another_connections_secret(
        self, host: Host, connection: Connection, message: dict[str, str]
    ) -> None:
        other = host.inbox.connect("AC2", "the auth token of the other account")
        answer = host.twilio("twilio-messaging", connection, message, secret=other.secrets[0])
        assert answer.status == 401
        assert not host.inbox.webhooks

    def test_another_accounts_request_at_this_connection(
        self, host: Host, connection: Connection, message: dict[str, str]
    ) -> None:
        for named in ("AC2", "", connection.account_ref.lower(), connection.account_ref + " "):
            answer = host.twilio("twilio-messaging", connection, {**message, "AccountSid": named})
            assert (answer.status, answer.json()["field"]) == (403, "AccountSid")
        unnamed = {k: v for k, v in message.items() if k != "AccountSid"}
        assert host.twilio("twilio-messaging", connection, unnamed).status == 403
        twice = [*message.items(), ("AccountSid", "AC2")]
        assert host.twilio("twilio-messaging", connection, twice).status == 403
        assert not host.inbox.webhooks

    def test_unknown_and_known_connections_answer_the_same(
        self, host: Host, connection: Connection, message: dict[str, str]
    ) -> None:
        body = encode_form(message)
        inactive = host.inbox.connect(connection.account_ref, "a secret that was right")
        host.inbox.connections[inactive.id] = replace(inactive, is_active=False)
        elsewhere = host.inbox.connect(connection.account_ref, "another secret", provider="stripe")
        bare = host.inbox.connect(connection.account_ref)
        identifiers = [connection.id, uuid4(), inactive.id, elsewhere.id, bare.id, "nonsense"]
        answers = [
            refusal(post(host, f"twilio-messaging/{identifier}", body, FORM, signature))
            for identifier in identifiers
            for signature in (
                ("x-twilio-signature", "A" * 27 + "="),
                sign("", f"twilio-messaging/{identifier}", body),
                sign("no such connection", f"twilio-messaging/{identifier}", body),
                sign("a secret that was right", f"twilio-messaging/{identifier}", body),
                sign("another secret", f"twilio-messaging/{identifier}", body),
            )
        ]
        assert answers == [answers[0]] * len(answers)
        assert answers[0][0] == 401
        assert not host.inbox.webhooks

    def test_the_url_does_not_come_from_headers(
        self, host: Host, connection: Connection, message: dict[str, str]
    ) -> None:
        target, body = f"twilio-messaging/{connection.id}", encode_form(message)
        forged = sign(connection.secrets[0], target, body, "https://evil.example")
        lies = [
            ("host", "evil.example"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "host=evil.example;proto=https"),
        ]
        assert post(host, target, body, FORM, forged, *lies).status == 401
        # And they cannot spoil a good one either.
        good = sign(connection.secrets[0], target, body)
        assert post(host, target, body, FORM, good, *lies).status == 200

    @pytest.mark.parametrize("change", ["/", "/status", "?a=1", "?a=2&b=1", "//"])
    def test_another_path_or_query(
        self, host: Host, connection: Connection, message: dict[str, str], change: str
    ) -> None:
        target, body = f"twilio-messaging/{connection.id}", encode_form(message)
        good = sign(connection.secrets[0], target, body)
        assert post(host, target + change, body, FORM, good).status in {401, 404}
        assert not host.inbox.webhooks

    def test_a_query_is_signed_in_its_own_order(
        self, host: Host, connection: Connection, message: dict[str, str]
    ) -> None:
        body, path = encode_form(message), f"twilio-messaging/{connection.id}"
        for query in ("b=2&a=1", "a=%20&a=+", "x=%E2%82%AC", "empty="):
            target = f"{path}?{query}"
            signed = sign(connection.secrets[0], target, body)
            assert post(host, target, body, FORM, signed).status == 200
        signed = sign(connection.secrets[0], f"{path}?a=1&b=2", body)
        assert post(host, f"{path}?b=2&a=1", body, FORM, signed).status == 401

    @pytest.mark.parametrize(
        ("origin", "signed_origin"),
        [
            ("https://api.example.com", "https://api.example.com:443"),
            ("https://api.example.com:443", "https://api.example.com"),
            ("https://api.example.com:8443", "https://api.example.com"),
            ("http://127.0.0.1:54321", "http://127.0.0.1:54321"),
        ],
    )
    def test_ports(
        self, host: Host, account: str, message: dict[str, str], origin: str, signed_origin: str
    ) -> None:
        settings = replace(host.settings, public_origin=origin)
        with memory_host(settings=settings) as other:
            connection = other.inbox.connect(account, "the auth token")
            target, body = f"twilio-messaging/{connection.id}", encode_form(message)
            signed = sign("the auth token", target, body, signed_origin)
            assert post(other, target, body, FORM, signed).status == 200
            wrong = sign("the auth token", target, body, signed_origin + "1")
            assert post(other, target, body, FORM, wrong).status == 401


class TestReplays:
    def test_the_same_delivery_is_stored_once(
        self, host: Host, connection: Connection, message: dict[str, str]
    ) -> None:
        answers = [host.twilio("twilio-messaging", connection, message) for _ in range(3)]
        assert {(a.status, a.body) for a in answers} == {(200, answers[0].body)}
        assert len(host.inbox.webhooks) == 1

    def test_a_json_request_replayed_as_a_form(
        self, host: Host, connection: Connection, account: str
    ) -> None:
        body = json.dumps({"AccountSid": account, "service": "x"}).encode()
        query = f"bodySHA256={hashlib.sha256(body).hexdigest()}"
        target = f"twilio-voice/{connection.id}?{query}"
        signed = sign(connection.secrets[0], target, b"")
        as_json = ("content-type", "application/json; charset=utf-8")
        assert post(host, target, body, as_json, signed).status == 200
        assert len(host.inbox.webhooks) == 1
        for replayed in (b"", b"AccountSid=" + account.encode(), body):
            assert post(host, target, replayed, FORM, signed).status == 401
        assert len(host.inbox.webhooks) == 1

    def test_shared_keys(self, host: Host, connection: Connection, message: dict[str, str]) -> None:
        target, body = f"twilio-messaging/{connection.id}", encode_form(message)
        url = f"{ORIGIN}/functions/v1/{target}".encode()
        signed = signature(connection.secrets[0], url, form_pairs(body), "sha256").decode()
        header = ("x-twilio-signature", signed)
        settings = (
            "x-twilio-webhooks-signature-settings",
            "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256",
        )
        assert post(host, target, body, FORM, header).status == 401
        assert post(host, target, body, FORM, header, settings).status == 200


class TestBrokenRequests:
    def test_body_too_large(self, host: Host, connection: Connection) -> None:
        answer = host.twilio("twilio-messaging", connection, b"Body=" + b"x" * 1_048_576)
        assert (answer.status, answer.json()["code"]) == (413, "body_too_large")
        declared = post(
            host,
            f"twilio-messaging/{connection.id}",
            b"",
            FORM,
            ("content-length", "99999999999"),
        )
        assert declared.status == 413

    def test_the_largest_body(self, host: Host, connection: Connection, account: str) -> None:
        body = f"AccountSid={account}&MessageSid=SM1&Body=".encode()
        body += b"x" * (1_048_576 - len(body))
        assert host.twilio("twilio-messaging", connection, body).status == 200

    @pytest.mark.parametrize(
        "kind", [None, "", "text/plain", "multipart/form-data; boundary=x", "application/jsonp"]
    )
    def test_content_type(
        self, host: Host, connection: Connection, message: dict[str, str], kind: str | None
    ) -> None:
        target, body = f"twilio-messaging/{connection.id}", encode_form(message)
        headers = [("content-type", kind)] if kind is not None else []
        answer = post(host, target, body, *headers, sign(connection.secrets[0], target, body))
        assert (answer.status, answer.json()["field"]) == (415, "content-type")
        assert not host.inbox.webhooks

    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
    def test_method(self, host: Host, connection: Connection, method: str) -> None:
        answer = host.call(f"twilio-voice/{connection.id}", method=method)
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
        assert not any(name.startswith("access-control") for name in answer.headers)

    def test_bytes_that_are_no_text_are_kept_as_marks(
        self, host: Host, connection: Connection, account: str
    ) -> None:
        body = f"AccountSid={account}&MessageSid=SM1&Body=a%00b%FFc%ED%A0%80".encode() + b"\xff\x00"
        assert host.twilio("twilio-messaging", connection, body).status == 200
        (event,) = host.inbox.events
        assert "\0" not in event["text"]
        assert event["text"].startswith("a\ufffdb\ufffdc")
        (stored,) = host.inbox.webhooks.values()
        assert "\\u0000" not in json.dumps(dict(stored.payload))

    def test_thousands_of_fields(self, host: Host, connection: Connection, account: str) -> None:
        few = {"AccountSid": account, **{f"field{i}": "x" for i in range(999)}}
        assert host.twilio("twilio-messaging", connection, few).status == 200
        target, many = f"twilio-messaging/{connection.id}", {**few, "last": "x"}
        url = f"{ORIGIN}/functions/v1/{target}"
        signed = RequestValidator(connection.secrets[0]).compute_signature(url, many)
        header = ("x-twilio-signature", signed)
        for body in (encode_form(many), b"a=1&" * 100_000):
            assert post(host, target, body, FORM, header).status == 401
        assert len(host.inbox.webhooks) == 1

    @pytest.mark.parametrize(
        "body",
        [b"{", b"", b"[" * 100_000, b'{"a":' * 50 + b"1" + b"}" * 50, b'{"a":1,"a":2}',
         b'{"a":NaN}', b'{"a":1e999}', b'{"a":"\\u0000"}', b'{"a":"\\ud800"}', b'\xff'],
    )  # fmt: skip
    def test_json(self, host: Host, connection: Connection, body: bytes) -> None:
        target = f"twilio-voice/{connection.id}?bodySHA256={hashlib.sha256(body).hexdigest()}"
        signed = sign(connection.secrets[0], target, b"")
        answer = post(host, target, body, ("content-type", "application/json"), signed)
        assert answer.status == 401
        assert not host.inbox.webhooks

    @pytest.mark.parametrize(
        "path", ["", "/", "/nonsense", "/nonsense/status", "/{id}x", "/x/{id}", "/{id}%00"]
    )
    def test_no_connection_in_the_path(
        self, host: Host, connection: Connection, message: dict[str, str], path: str
    ) -> None:
        target = "twilio-messaging" + path.replace("{id}", str(connection.id))
        body = encode_form(message)
        signed = sign(connection.secrets[0], target, body)
        assert post(host, target, body, FORM, signed).status in {401, 404}
        assert not host.inbox.webhooks

    def test_unknown_route(
        self, host: Host, connection: Connection, message: dict[str, str]
    ) -> None:
        answer = host.twilio("twilio-messaging", connection, message, route="recording")
        assert (answer.status, answer.json()["code"]) == (404, "not_found")


class TestKeeping:
    def test_unknown_kinds_are_stored(
        self, host: Host, connection: Connection, account: str
    ) -> None:
        form = {"AccountSid": account, "StreamSid": "MZ1", "StreamEvent": "stream-started"}
        for function in ("twilio-voice", "twilio-messaging"):
            assert host.twilio(function, connection, form).status == 200
        (stored,) = host.inbox.webhooks.values()
        assert (stored.reading.kind, stored.reading.events) == ("unknown", ())
        assert stored.payload == form

    def test_an_outage_is_not_acknowledged(
        self, host: Host, connection: Connection, message: dict[str, str]
    ) -> None:
        host.inbox.outage = True
        answer = host.twilio("twilio-messaging", connection, message)
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) > 0
        host.inbox.outage = False
        assert host.twilio("twilio-messaging", connection, message).status == 200
        assert len(host.inbox.webhooks) == 1

    def test_what_the_reader_cannot_read_is_stored_raw(
        self,
        host: Host,
        connection: Connection,
        message: dict[str, str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def fail(self: Twilio, payload: Payload) -> Reading:
            raise ZeroDivisionError

        monkeypatch.setattr(Twilio, "read", fail)
        for _ in range(2):
            assert host.twilio("twilio-messaging", connection, message).status == 200
        (stored,) = host.inbox.webhooks.values()
        assert (stored.reading.kind, stored.payload) == ("unread", message)

    @pytest.mark.parametrize("error", [TypeError, ZeroDivisionError, UnicodeDecodeError])
    def test_a_verifier_that_fails_lets_nobody_in(
        self,
        host: Host,
        connection: Connection,
        message: dict[str, str],
        monkeypatch: pytest.MonkeyPatch,
        error: type[Exception],
    ) -> None:
        def fail(self: Twilio, *arguments: object) -> Payload:
            raise error(*(("utf-8", b"", 0, 1, "x") if error is UnicodeDecodeError else ()))

        monkeypatch.setattr(Twilio, "verify", fail)
        assert host.twilio("twilio-messaging", connection, message).status == 401
        assert not host.inbox.webhooks

    def test_a_verifier_that_asks_for_no_secret_lets_nobody_in(
        self, host: Host, message: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Twilio, "verify", lambda *_: dict(message))
        for secrets in ((), ("",)):
            bare = host.inbox.connect(message["AccountSid"], *secrets)
            target = f"twilio-messaging/{bare.id}"
            assert post(host, target, encode_form(message), FORM).status == 401
        assert not host.inbox.webhooks

    def test_outcomes_are_counted(
        self, host: Host, connection: Connection, message: dict[str, str]
    ) -> None:
        host.twilio("twilio-messaging", connection, message)
        host.twilio("twilio-messaging", connection, message)
        host.twilio("twilio-messaging", connection, message, secret="wrong")
        text = host.request("GET", "/metrics", b"", []).text
        for kind, outcome in (
            ("message.inbound", "processed"),
            ("message.inbound", "duplicate"),
            ("any", "refused"),
        ):
            labels = f'{{kind="{kind}",outcome="{outcome}",provider="twilio"}}'
            assert f"tenantry_functions_webhooks_total{labels} 1.0" in text
