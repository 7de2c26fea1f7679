"""Users' tokens: only the right issuer's, for the right audience, not expired."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from starlette.datastructures import Headers

from tenantry_functions.auth import Caller, KeySet, TokenVerifier
from tenantry_functions.errors import FunctionError, Unavailable
from tenantry_functions.testing import JWT_SECRET, access_token, local_settings

USER = str(uuid4())


def verify(token: str, **settings: Any) -> Caller:
    verifier = TokenVerifier(local_settings(**settings))
    return asyncio.run(verifier.verify(Headers({"authorization": f"Bearer {token}"})))


def refused(token: str, **settings: Any) -> str:
    with pytest.raises(FunctionError) as caught:
        verify(token, **settings)
    assert caught.value.status == 401
    assert "www-authenticate" in {name.lower() for name in caught.value.headers}
    return caught.value.message


def test_a_good_token() -> None:
    caller = verify(access_token(USER, email="ana@example.com"))
    assert str(caller.user_id) == USER
    assert caller.claims["email"] == "ana@example.com"
    assert caller.token not in repr(caller)


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "other"},
        {"aud": None},
        {"aud": ["other"]},
        {"role": "service_role"},
        {"role": "anon"},
        {"role": None},
        {"sub": ""},
        {"sub": None},
        {"sub": 5},
        {"sub": "not-a-uuid"},
        {"sub": USER.upper()},
        {"sub": "{" + USER + "}"},
        {"exp": "tomorrow"},
        {"exp": None},
        {"nbf": int(time.time()) + 86_400},
        {"iat": int(time.time()) + 86_400},
    ],
)
def test_wrong_claims(claims: dict[str, Any]) -> None:
    assert "not" in refused(access_token(USER, **claims))


@pytest.mark.parametrize("missing", ["exp", "aud", "sub", "role"])
def test_missing_claims(missing: str) -> None:
    claims = jwt.decode(access_token(USER), options={"verify_signature": False})
    del claims[missing]
    refused(jwt.encode(claims, JWT_SECRET, algorithm="HS256"))


def test_expiry() -> None:
    assert "expired" in refused(access_token(USER, seconds=-31))
    verify(access_token(USER, seconds=2))


def test_issuer_when_configured() -> None:
    issuer = "https://auth.example.com/auth/v1"
    verify(access_token(USER, iss=issuer), jwt_issuer=issuer)
    refused(access_token(USER, iss="https://evil.example"), jwt_issuer=issuer)
    refused(access_token(USER), jwt_issuer=issuer)


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_forged_signatures_and_algorithms() -> None:
    claims = jwt.decode(access_token(USER), options={"verify_signature": False})
    refused(jwt.encode(claims, "x" * 40, algorithm="HS256"))
    with warnings.catch_warnings(action="ignore"):
        # The right secret, with a hash for which the library finds it too short.
        stronger = jwt.encode(claims, JWT_SECRET, algorithm="HS512")
    refused(stronger)
    for none in ("none", "None", "", "hs256"):
        refused(f"{encoded({'alg': none})}.{encoded(claims)}.")
    good = access_token(USER)
    head, _, signature = good.split(".")
    refused(f"{head}.{encoded({**claims, 'sub': str(uuid4())})}.{signature}")
    for broken in ("", "a", "a.b", "a.b.c", good[:-2], good + "x", "é.é.é", "x" * 9000):
        refused(broken)
    with pytest.raises(FunctionError):
        verify(good, jwt_secret=None)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "")],
        [("authorization", "Bearer ")],
        [("authorization", "Basic abc")],
        [("authorization", "Bearer GOOD"), ("authorization", "Bearer GOOD")],
        [("Authorization", "Bearer GOOD"), ("authorization", "Bearer other")],
    ],
)
def test_the_header(headers: list[tuple[str, str]]) -> None:
    good = access_token(USER)
    raw = [(n.encode(), v.replace("GOOD", good).encode()) for n, v in headers]
    with pytest.raises(FunctionError) as caught:
        asyncio.run(TokenVerifier(local_settings()).verify(Headers(raw=raw)))
    assert (caught.value.status, caught.value.field) == (401, "authorization")


class AuthServer:
    """Signing keys as an Auth server publishes them, on a free port of the loopback."""

    def __init__(self) -> None:
        self.keys: list[Any] = []
        self.fetches = 0
        self.status = 200

    async def answer(self, request: web.Request) -> web.Response:
        self.fetches += 1
        return web.json_response({"keys": self.keys}, status=self.status)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_get("/jwks.json", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            port = runner.addresses[0][1]
            yield f"http://127.0.0.1:{port}/jwks.json"
        finally:
            await runner.cleanup()


def public(key: Any, key_id: str, algorithm: str) -> dict[str, Any]:
    maker = jwt.get_algorithm_by_name(algorithm)
    document: dict[str, Any] = json.loads(maker.to_jwk(key.public_key()))  # type: ignore[attr-defined]
    return {**document, "kid": key_id, "alg": algorithm, "use": "sig"}


def test_signing_keys() -> None:
    curve, modulus = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)
    claims = jwt.decode(access_token(USER), options={"verify_signature": False})

    def signed(key: Any, key_id: str | None, algorithm: str) -> Headers:
        headers = {"kid": key_id} if key_id else {}
        token = jwt.encode(claims, key, algorithm=algorithm, headers=headers)
        return Headers({"authorization": f"Bearer {token}"})

    async def scenario() -> None:
        server = AuthServer()
        server.keys = [
            public(curve, "curve", "ES256"),
            public(modulus, "modulus", "RS256"),
            {"kty": "oct", "k": encoded("x"), "kid": "symmetric", "alg": "HS256"},
            {"kty": "nonsense"},
            "nonsense",
        ]
        async with server.running() as url, aiohttp.ClientSession() as session:
            keys = KeySet(url, session, pause_seconds=0.2)
            verifier = TokenVerifier(local_settings(jwt_secret=None), keys)
            assert str((await verifier.verify(signed(curve, "curve", "ES256"))).user_id) == USER
            assert str((await verifier.verify(signed(modulus, "modulus", "RS256"))).user_id) == USER
            assert server.fetches == 1

            public_text = json.dumps(server.keys[0]) + "x" * 40
            for headers in (
                signed(curve, None, "ES256"),
                signed(curve, "modulus", "ES256"),
                signed(curve, "unknown", "ES256"),
                signed(ec.generate_private_key(ec.SECP256R1()), "curve", "ES256"),
                # The public key as a shared secret.
                signed(public_text, "curve", "HS256"),
                signed("x" * 40, "symmetric", "HS256"),
            ):
                with pytest.raises(FunctionError) as caught:
                    await verifier.verify(headers)
                assert caught.value.status == 401
            # A flood of unknown keys is not a flood of fetches.
            for number in range(20):
                with pytest.raises(FunctionError):
                    await verifier.verify(signed(curve, f"unknown-{number}", "ES256"))
            assert server.fetches == 1

            # Rotation: a new key is found, and known ones live through an outage.
            await asyncio.sleep(0.25)
            server.keys = [public(modulus, "newer", "RS256")]
            await verifier.verify(signed(modulus, "newer", "RS256"))
            assert server.fetches == 2
            await asyncio.sleep(0.25)
            server.status = 500
            with pytest.raises(FunctionError):
                await verifier.verify(signed(modulus, "unknown", "RS256"))
            await verifier.verify(signed(modulus, "newer", "RS256"))

    asyncio.run(scenario())


@pytest.mark.parametrize("keys", [[], None])
def test_no_keys_to_be_had(keys: list[Any] | None) -> None:
    curve = ec.generate_private_key(ec.SECP256R1())
    claims = jwt.decode(access_token(USER), options={"verify_signature": False})
    token = jwt.encode(claims, curve, algorithm="ES256", headers={"kid": "k"})
    headers = Headers({"authorization": f"Bearer {token}"})

    async def scenario() -> None:
        server = AuthServer()
        server.status = 200 if keys is not None else 500
        async with server.running() as url, aiohttp.ClientSession() as session:
            verifier = TokenVerifier(local_settings(), KeySet(url, session))
            expected = FunctionError if keys is not None else Unavailable
            with pytest.raises(expected):
                await verifier.verify(headers)

    asyncio.run(scenario())
