"""Keys and tokens on /rest/v1: who is let in, and as whom PostgREST sees them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pytest

pytestmark = pytest.mark.anyio

NOW = int(time.time())
OTHER_SECRET = "another-secret-with-more-than-32-bytes-in-it"


def unsigned(header: dict[str, Any], claims: Any) -> str:
    parts = (json.dumps(part).encode() for part in (header, claims))
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts).decode() + "."


def signed(secret: str, header: dict[str, Any], payload: bytes) -> str:
    parts = (json.dumps(header).encode(), payload)
    text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    mac = hmac.new(secret.encode(), text, hashlib.sha256).digest()
    return (text + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


@pytest.mark.parametrize(
    ("key", "role_token"),
    [
        ("publishable_key", "anon_key"),
        ("anon_key", "anon_key"),
        ("secret_key", "service_role_key"),
        ("service_role_key", "service_role_key"),
    ],
)
@pytest.mark.parametrize("authorization", [None, "same", "empty"])
async def test_a_key_becomes_the_jwt_of_its_role(stack, key, role_token, authorization):
    headers = {}
    if authorization == "same":
        headers["Authorization"] = f"Bearer {stack.keys[key]}"
    elif authorization == "empty":
        headers["Authorization"] = ""
    answer = await stack.call("GET", "/rest/v1/customers", key, headers)
    assert answer.status == 200
    sent = stack.rest.last.headers
    assert sent.getall("Authorization") == [f"Bearer {stack.keys[role_token]}"]
    assert "apikey" not in sent


async def test_without_a_key(stack):
    answer = await stack.call("GET", "/rest/v1/customers", None)
    assert answer.status == 401
    assert answer.json["message"] == "No API key found in request"
    assert answer.headers["Sb-Error-Code"] == "UNAUTHORIZED_MISSING_API_KEY"
    assert (answer.reason, answer.field) == ("no_api_key", "apikey")
    assert stack.untouched


@pytest.mark.parametrize(
    "key", ["sb_publishable_for_the_tests_onlY", "x", "sb_publishable_for_the_tests_only_", "Ähm"]
)
async def test_an_unknown_key(stack, key):
    answer = await stack.raw_request(
        ["GET /rest/v1/customers HTTP/1.1", "Host: x", f"apikey: {key}"], key=False
    )
    assert answer.status == 401
    assert answer.json["message"] == "Invalid API key"
    assert key not in answer.json["hint"]
    assert stack.untouched


async def test_a_key_in_the_url_does_not_count(stack):
    target = f"/rest/v1/customers?apikey={stack.keys['publishable_key']}"
    assert (await stack.call("GET", target, None)).status == 401
    answer = await stack.call("GET", target)
    assert (answer.status, answer.reason) == (400, "key_in_url")
    assert stack.untouched


@pytest.mark.parametrize("agent", ["Mozilla/5.0 (X11)", " mozilla / 5 . 0 (Windows)"])
async def test_a_secret_key_never_comes_from_a_browser(stack, agent):
    answer = await stack.call("GET", "/rest/v1/customers", "secret_key", {"User-Agent": agent})
    assert (answer.status, answer.reason) == (401, "secret_key_in_browser")
    assert answer.json["message"] == "Forbidden use of secret API key in browser"
    assert stack.untouched
    for key in ("publishable_key", "service_role_key"):
        answer = await stack.call("GET", "/rest/v1/customers", key, {"User-Agent": agent})
        assert answer.status == 200


async def test_a_users_token_passes_unchanged(stack):
    token = stack.token()
    for scheme in ("Bearer", "bearer"):
        answer = await stack.call(
            "GET", "/rest/v1/customers", headers={"Authorization": f"{scheme} {token}"}
        )
        assert answer.status == 200
        assert stack.rest.last.headers["Authorization"] == f"Bearer {token}"


async def test_a_user_outranks_the_secret_key(stack):
    token = stack.token()
    await stack.call(
        "GET", "/rest/v1/customers", "secret_key", {"Authorization": f"Bearer {token}"}
    )
    assert stack.rest.last.headers["Authorization"] == f"Bearer {token}"


async def test_another_key_in_authorization_may_weaken_but_not_strengthen(stack):
    weaker = {"Authorization": f"Bearer {stack.keys['publishable_key']}"}
    answer = await stack.call("GET", "/rest/v1/customers", "secret_key", weaker)
    assert answer.status == 200
    assert stack.rest.last.headers["Authorization"] == f"Bearer {stack.keys['anon_key']}"
    stack.rest.seen.clear()
    for name in ("secret_key", "service_role_key"):
        stronger = {"Authorization": f"Bearer {stack.keys[name]}"}
        answer = await stack.call("GET", "/rest/v1/customers", "publishable_key", stronger)
        assert (answer.status, answer.reason) == (401, "key_mismatch")
    assert stack.untouched


REFUSED_CLAIMS = {
    "expired": ({"exp": NOW - 30}, "jwt_expired"),
    "no exp": ({"exp": None}, "bad_jwt_times"),
    "exp as text": ({"exp": str(NOW + 300)}, "bad_jwt_times"),
    "exp true": ({"exp": True}, "bad_jwt_times"),
    "exp far away": ({"exp": NOW + 86400}, "bad_jwt_times"),
    "exp far away, no iat": ({"exp": NOW + 86400, "iat": None}, "bad_jwt_times"),
    "exp infinite": ({"exp": float("inf")}, "bad_jwt_times"),
    "exp not a number": ({"exp": float("nan")}, "bad_jwt_times"),
    "exp huge": ({"exp": 10**400}, "bad_jwt_times"),
    "iat in the future": ({"iat": NOW + 86400}, "bad_jwt_times"),
    "nbf in the future": ({"nbf": NOW + 86400}, "bad_jwt_times"),
    "no aud": ({"aud": None}, "bad_jwt_audience"),
    "other aud": ({"aud": "anon"}, "bad_jwt_audience"),
    "empty aud": ({"aud": []}, "bad_jwt_audience"),
    "aud object": ({"aud": {"authenticated": 1}}, "bad_jwt_audience"),
    "no role": ({"role": None}, "bad_jwt_role"),
    "service_role": ({"role": "service_role"}, "bad_jwt_role"),
    "postgres": ({"role": "postgres"}, "bad_jwt_role"),
    "none": ({"role": "none"}, "bad_jwt_role"),
    "authenticator": ({"role": "authenticator"}, "bad_jwt_role"),
    "role list": ({"role": ["authenticated"]}, "bad_jwt_role"),
    "anon": ({"role": "anon"}, "bad_jwt_role"),
    "no sub": ({"sub": None}, "bad_jwt_subject"),
    "empty sub": ({"sub": ""}, "bad_jwt_subject"),
    "sub no uuid": ({"sub": "1"}, "bad_jwt_subject"),
    "sub in braces": ({"sub": "{5f0c8a52-6a0b-4c1e-9a43-6e0d5f9f3b11}"}, "bad_jwt_subject"),
    "sub upper case": ({"sub": "5F0C8A52-6A0B-4C1E-9A43-6E0D5F9F3B11"}, "bad_jwt_subject"),
    "sub with newline": ({"sub": "5f0c8a52-6a0b-4c1e-9a43-6e0d5f9f3b11\n"}, "bad_jwt_subject"),
}


@pytest.mark.parametrize("name", REFUSED_CLAIMS)
async def test_refused_claims(stack, name):
    claims, reason = REFUSED_CLAIMS[name]
    token = stack.token(**claims)
    answer = await stack.call(
        "GET", "/rest/v1/customers", headers={"Authorization": f"Bearer {token}"}
    )
    assert (answer.status, answer.reason) == (401, reason)
    assert answer.json["code"] == "PGRST301"
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert stack.untouched


@pytest.mark.parametrize("aud", ["authenticated", ["x", "authenticated"]])
@pytest.mark.parametrize("life", [-2, 2.5, 3600])
@pytest.mark.parametrize("issued", [True, False])
async def test_accepted_claims(stack, aud, life, issued):
    now = time.time()
    token = stack.token(aud=aud, exp=now + life, iat=now if issued else None)
    headers = {"Authorization": f"Bearer {token}"}
    assert (await stack.call("GET", "/rest/v1/customers", headers=headers)).status == 200


async def test_a_token_is_not_remembered_beyond_its_time(stack, monkeypatch):
    token = stack.token()
    headers = {"Authorization": f"Bearer {token}"}
    assert (await stack.call("GET", "/rest/v1/customers", headers=headers)).status == 200
    now = time.time()
    monkeypatch.setattr("tenantry_gateway.keys.time.time", lambda: now + 603)
    assert (await stack.call("GET", "/rest/v1/customers", headers=headers)).status == 200
    monkeypatch.setattr("tenantry_gateway.keys.time.time", lambda: now + 610)
    answer = await stack.call("GET", "/rest/v1/customers", headers=headers)
    assert (answer.status, answer.reason) == (401, "jwt_expired")


async def test_expired_says_so_in_the_words_clients_look_for(stack):
    headers = {"Authorization": f"Bearer {stack.token(exp=NOW - 3600, iat=NOW - 7000)}"}
    answer = await stack.call("GET", "/rest/v1/customers", headers=headers)
    assert answer.json["message"] == "JWT expired"


GOOD = {
    "sub": "5f0c8a52-6a0b-4c1e-9a43-6e0d5f9f3b11",
    "role": "authenticated",
    "aud": "authenticated",
    "iat": NOW,
    "exp": NOW + 3500,
}


def bad_signatures(secret: str, token: Any) -> dict[str, str]:
    good = token()
    head, payload, mac = good.split(".")
    return {
        "alg none": unsigned({"alg": "none", "typ": "JWT"}, GOOD),
        "alg None": unsigned({"alg": "None", "typ": "JWT"}, GOOD),
        "no alg": signed(secret, {"typ": "JWT"}, json.dumps(GOOD).encode()),
        "alg is a list": signed(secret, {"alg": ["HS256"]}, json.dumps(GOOD).encode()),
        "other secret": token(secret=OTHER_SECRET),
        "HS384, same secret": token(algorithm="HS384"),
        "HS512, same secret": token(algorithm="HS512"),
        "cut signature": good[:-4],
        "no signature": f"{head}.{payload}.",
        "changed payload": f"{head}.{payload[:-2]}AA.{mac}",
        "two parts": f"{head}.{payload}",
        "four parts": f"{good}.x",
        "not base64": "a.b.c",
        "nonsense": "nonsense",
        "crit": signed(secret, {"alg": "HS256", "crit": ["x"]}, json.dumps(GOOD).encode()),
        "claims are a list": signed(secret, {"alg": "HS256"}, b"[1]"),
        "claims are no JSON": signed(secret, {"alg": "HS256"}, b"{"),
        "claims are not UTF-8": signed(secret, {"alg": "HS256"}, b'{"sub":"\xff"}'),
        "deep claims": signed(secret, {"alg": "HS256"}, b"[" * 3000 + b"]" * 3000),
        "b64 false": signed(
            secret, {"alg": "HS256", "b64": False, "crit": ["b64"]}, json.dumps(GOOD).encode()
        ),
        "deep header": base64.urlsafe_b64encode(b"[" * 5000).decode().rstrip("=") + ".e30.AA",
    }


async def test_refused_signatures(stack):
    for name, token in bad_signatures(stack.secret, stack.token).items():
        answer = await stack.call(
            "GET", "/rest/v1/customers", headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.status == 401, name
        assert answer.json["code"] == "PGRST301", name
        assert token not in answer.body.decode(), name
    assert stack.untouched


@pytest.mark.parametrize(
    "value", ["Basic dXNlcjpwYXNz", "Bearer", "Bearer  ", "Bearer a b", "Bearer a, Bearer b", "x"]
)
async def test_authorization_that_is_no_bearer_token(stack, value):
    answer = await stack.call("GET", "/rest/v1/customers", headers={"Authorization": value})
    assert (answer.status, answer.reason) == (401, "authorization_not_bearer")
    assert stack.untouched


async def test_only_the_service_reads_the_description_of_the_api(stack):
    for target in ("/rest/v1/", "/rest/v1"):
        assert (await stack.call("GET", target)).reason == "description_not_public"
        user = {"Authorization": f"Bearer {stack.token()}"}
        assert (await stack.call("GET", target, "secret_key", user)).status == 403
        assert stack.untouched
    assert (await stack.call("GET", "/rest/v1/", "secret_key")).status == 200
    assert stack.rest.last.target == "/"
