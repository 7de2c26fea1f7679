"""Who calls: a signed-in user, or an application with a key.

Functions verify tokens themselves; nothing in front of them is trusted to have done it. Which
algorithms count follows from our configuration, never from the token.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import aiohttp
import jwt
from starlette.datastructures import Headers

from tenantry_functions.errors import FunctionError, Unavailable
from tenantry_functions.settings import Settings

_LEEWAY_SECONDS = 5
_MAX_TOKEN = 8192
_ASYMMETRIC = ("ES256", "RS256")
_CANONICAL_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Caller:
    """A signed-in user, as the verified token tells."""

    user_id: UUID
    token: str = field(repr=False)
    claims: Mapping[str, Any] = field(repr=False)


class TokenVerifier:
    """Verifies users' access tokens: HS256 with the stack's secret, or the keys of a JWKS."""

    def __init__(self, settings: Settings, jwks: KeySet | None = None) -> None:
        self._secret = settings.jwt_secret
        self._audience = settings.jwt_audience
        self._issuer = settings.jwt_issuer
        self._jwks = jwks

    async def verify(self, headers: Headers) -> Caller:
        """The user whose token the Authorization header holds.

        Raises:
            FunctionError: 401, without telling which check failed beyond expiry.
            Unavailable: the keys cannot be fetched.
        """
        token = _bearer(headers)
        try:
            key, algorithm = await self._key(token)
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "aud", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise _unauthorized("The access token has expired; sign in again.") from None
        except (jwt.PyJWTError, ValueError, TypeError):
            raise _unauthorized("The access token is not valid; sign in again.") from None
        subject = claims.get("sub")
        is_user = isinstance(subject, str) and _CANONICAL_UUID.fullmatch(subject)
        if claims.get("role") != "authenticated" or not is_user:
            raise _unauthorized("The access token is not a user's; sign in as a user.")
        return Caller(UUID(subject), token, claims)

    async def _key(self, token: str) -> tuple[Any, str]:
        header = jwt.get_unverified_header(token)
        algorithm = header.get("alg")
        if algorithm == "HS256" and self._secret is not None:
            return self._secret, "HS256"
        if algorithm in _ASYMMETRIC and self._jwks is not None:
            key = await self._jwks.key(header.get("kid"))
            # The key decides the algorithm; a token that names another is refused.
            return key.key, key.algorithm_name
        raise jwt.InvalidAlgorithmError("not an algorithm that we use")


class KeySet:
    """The signing keys of the Auth server (RFC 7517), fetched when needed and kept.

    Args:
        keep_seconds: how long a fetched set is good.
        pause_seconds: at least this long between two fetches, whatever tokens name.
    """

    def __init__(
        self,
        url: str,
        session: aiohttp.ClientSession,
        *,
        keep_seconds: float = 600,
        pause_seconds: float = 30,
    ) -> None:
        self._url = url
        self._session = session
        self._keep = keep_seconds
        self._pause = pause_seconds
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        self._lock = asyncio.Lock()

    async def key(self, key_id: Any) -> jwt.PyJWK:
        """The key with this id.

        Raises:
            jwt.InvalidKeyError: there is none.
            Unavailable: the set cannot be fetched and none is kept.
        """
        if not isinstance(key_id, str):
            raise jwt.InvalidKeyError("the token names no key")
        async with self._lock:
            age = time.monotonic() - self._fetched_at
            if age > self._keep or (key_id not in self._keys and age > self._pause):
                await self._fetch()
        try:
            return self._keys[key_id]
        except KeyError:
            raise jwt.InvalidKeyError("unknown key") from None

    async def _fetch(self) -> None:
        try:
            timeout = aiohttp.ClientTimeout(total=5)
            async with self._session.get(
                self._url, timeout=timeout, allow_redirects=False
            ) as answer:
                answer.raise_for_status()
                document = await answer.json(content_type=None)
            listed = document["keys"]
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as error:
            if not self._keys:
                raise Unavailable("Tokens cannot be verified now; try again.") from error
            return
        self._keys = dict(_usable(listed))
        self._fetched_at = time.monotonic()


def _usable(listed: Sequence[Any]) -> list[tuple[str, jwt.PyJWK]]:
    """Signing keys of the algorithms that we use; a key we do not understand is passed over."""
    found = []
    for item in listed:
        if not isinstance(item, dict) or item.get("use", "sig") != "sig":
            continue
        try:
            key = jwt.PyJWK(item)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            continue
        if key.algorithm_name in _ASYMMETRIC and key.key_id:
            found.append((key.key_id, key))
    return found


def check_key(headers: Headers, keys: Sequence[str], name: str) -> None:
    """Pass when the `apikey` header is one of the keys; without one, the bearer is asked.

    Raises:
        FunctionError: 401; also when no key is configured, so that nobody gets in by omission.
    """
    given = headers.getlist("apikey")
    candidate = given[0].encode() if len(given) == 1 else b""
    if not given and "authorization" in headers:
        candidate = _bearer(headers).encode()
    matches = [hmac.compare_digest(candidate, key.encode()) for key in keys if key]
    if not any(matches):
        raise FunctionError(
            401, "invalid_key", f"Send the {name} key in the apikey header.", field="apikey"
        )


def _bearer(headers: Headers) -> str:
    given = headers.getlist("authorization")
    if len(given) != 1:
        raise _unauthorized("Send one Authorization header: Bearer and the user's access token.")
    scheme, _, token = given[0].partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > _MAX_TOKEN:
        raise _unauthorized("The Authorization header must be: Bearer and the access token.")
    return token


def _unauthorized(message: str) -> FunctionError:
    return FunctionError(
        401,
        "unauthorized",
        message,
        field="authorization",
        headers={"WWW-Authenticate": 'Bearer realm="tenantry"'},
    )
