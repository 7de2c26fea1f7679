"""Signed webhooks: the reference library agrees, and hostile input is refused, never a crash."""

from __future__ import annotations

import base64
import datetime
import secrets
from decimal import Decimal

import pytest
import standardwebhooks
from hypothesis import given
from hypothesis import strategies as st

from tenantry import webhooks
from tenantry.errors import InvalidArgument

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
BODY = b'{"type":"call.completed","data":{"amount":0.10}}'


def signed(
    body: bytes = BODY, *, secret: str = SECRET, at: datetime.datetime = NOW
) -> dict[str, str]:
    signature = standardwebhooks.Webhook(secret).sign("msg_1", at, body.decode())
    stamp = str(int(at.timestamp()))
    return {"Webhook-Id": "msg_1", "webhook-timestamp": stamp, "WEBHOOK-SIGNATURE": signature}


def verify(headers: dict[str, str], body: bytes = BODY, secret=SECRET) -> object:
    return webhooks.verify(body, headers, secret, now=NOW.timestamp())


def test_what_the_reference_library_signs_is_genuine_and_exact() -> None:
    event = verify(signed())
    assert event == {"type": "call.completed", "data": {"amount": Decimal("0.10")}}


def test_the_published_vector_is_genuine() -> None:
    # github.com/standard-webhooks/standard-webhooks, spec: "Signature scheme".
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    assert webhooks.verify(b'{"test": 2432232314}', headers, secret, now=1614265330) == {
        "test": 2432232314
    }


def test_while_a_secret_is_replaced_both_are_good() -> None:
    old = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
    both = signed()
    both["WEBHOOK-SIGNATURE"] = f"v1a,abc {signed(secret=old)['WEBHOOK-SIGNATURE']}"
    assert verify(both, secret=[SECRET, old])
    with pytest.raises(webhooks.WebhookVerificationError):
        verify(both, secret=[SECRET])


@pytest.mark.parametrize("seconds", [-301, 301])
def test_what_is_too_old_or_from_the_future_is_refused(seconds: int) -> None:
    assert verify(signed(at=NOW + datetime.timedelta(seconds=seconds - (1 if seconds > 0 else -1))))
    with pytest.raises(webhooks.WebhookVerificationError, match="too old"):
        verify(signed(at=NOW + datetime.timedelta(seconds=seconds)))


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-signature": ""}, {"webhook-signature": "garbage"},
        {"webhook-signature": "v1,abc"}, {"webhook-signature": "v1,é"},
        {"webhook-signature": "v2," + "A" * 44}, {"webhook-id": ""}, {"webhook-id": "msg_2"},
        {"webhook-timestamp": ""}, {"webhook-timestamp": "soon"},
        {"webhook-timestamp": "-1"}, {"webhook-timestamp": "9" * 400},
        {"webhook-timestamp": "١٧٦٧٣٢٣٠٤٥"},
    ],
)  # fmt: skip
def test_any_other_header_is_refused(change: dict[str, str]) -> None:
    headers = {name.lower(): value for name, value in signed().items()} | change
    with pytest.raises(webhooks.WebhookVerificationError):
        verify(headers)


@given(st.binary())
def test_any_other_body_is_refused(body: bytes) -> None:
    with pytest.raises(webhooks.WebhookVerificationError):
        verify(signed(), body)


@given(
    st.dictionaries(
        st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature"]), st.text()
    )
)
def test_no_header_crashes_it(headers: dict[str, str]) -> None:
    with pytest.raises(webhooks.WebhookVerificationError):
        verify(headers)


def test_a_signed_body_that_is_no_json_is_refused() -> None:
    with pytest.raises(webhooks.WebhookVerificationError, match="no JSON"):
        verify(signed(b"hello"), b"hello")


def test_a_text_body_and_a_bad_secret_are_mistakes_of_the_caller() -> None:
    with pytest.raises(InvalidArgument, match="raw bytes"):
        verify(signed(), BODY.decode())  # type: ignore[arg-type]
    for secret in ("", "whsec_", "whsec_!!", None):
        with pytest.raises(InvalidArgument, match="whsec_"):
            verify(signed(), secret=[secret])
