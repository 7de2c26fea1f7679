"""API keys and users' tokens: who calls, and with which token PostgREST shall see the caller.

A project has four keys: the opaque `sb_publishable_` and `sb_secret_` keys, and the legacy `anon`
and `service_role` keys, which are JWTs. Only these four strings ever act as service_role: a JWT
with that role that is not one of them is refused, whoever signed it.
"""

from __future__ import annotations

import hmac
import json
import re
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Literal

import jwt

from tenantry_gateway.errors import GatewayError
from tenantry_gateway.settings import Settings

Role = Literal["anon", "authenticated", "service_role"]

AUDIENCE: Literal["authenticated"] = "authenticated"
ALGORITHM = "HS256"
CLOCK_DIFFERENCE_SECONDS = 5
REMEMBERED_TOKENS = 10_000

# The hosted gateway's own test for a browser, which a secret key must never reach.
_BROWSER = re.compile(r"^\s*Mozilla\s*/\s*5\s*\.\s*0", re.IGNORECASE)
CANONICAL_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/=-]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One of the project's keys. `name` is its settings field, never its value."""

    name: str
    role: Role
    opaque: bool


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request, once key and token are checked."""

    key: ApiKey
    role: Role
    user_id: str | None
    """The user, or the member's API key that acts for one."""
    token: str
    """The JWT that tells PostgREST the role: the user's own or the key's."""


def _unauthorized(
    reason: str, message: str, hint: str, *, field: str, code: str | None = None, hosted: str = ""
) -> GatewayError:
    headers = {"WWW-Authenticate": "Bearer"}
    if hosted:
        headers["Sb-Error-Code"] = hosted  # as the hosted gateway marks its answers
    return GatewayError(401, reason, message, hint, field=field, code=code, headers=headers)


def _bad_token(reason: str, message: str) -> GatewayError:
    # PGRST301 is what PostgREST answers and what clients test for.
    return _unauthorized(
        reason,
        message,
        "Sign in again and send the new access token.",
        field="Authorization",
        code="PGRST301",
    )


class KeyRing:
    """Knows the project's keys and checks tokens against its secret."""

    def __init__(self, settings: Settings) -> None:
        self._keys = [
            (settings.publishable_key.encode(), ApiKey("publishable_key", "anon", True)),
            (settings.secret_key.encode(), ApiKey("secret_key", "service_role", True)),
            (settings.anon_key.encode(), ApiKey("anon_key", "anon", False)),
            (settings.service_role_key.encode(), ApiKey("service_role_key", "service_role", False)),
        ]
        self._role_tokens = {"anon": settings.anon_key, "service_role": settings.service_role_key}
        self._auth_keys = {
            "anon": settings.lite_publishable_key,
            "service_role": settings.lite_secret_key,
        }
        self._secret = settings.jwt_secret.encode()
        self._longest = settings.max_token_seconds
        self._jws = jwt.PyJWS(algorithms=[ALGORITHM])
        self._verified: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def identify(self, presented: str) -> ApiKey | None:
        """The key that equals `presented`. Compares with all of them, in constant time."""
        candidate = presented.encode("utf-8", "surrogateescape")
        found = None
        for value, key in self._keys:
            if hmac.compare_digest(value, candidate):
                found = key
        return found

    def api_key(self, presented: str | None, user_agent: str) -> ApiKey:
        """The key of a request. Raises 401 as the hosted gateway words it."""
        if not presented:
            raise _unauthorized(
                "no_api_key",
                "No API key found in request",
                "Send the project's publishable key in the `apikey` header.",
                field="apikey",
                hosted="UNAUTHORIZED_MISSING_API_KEY",
            )
        key = self.identify(presented)
        if key is None:
            raise _unauthorized(
                "invalid_api_key",
                "Invalid API key",
                "Double check the `apikey` header: `tenantry status` prints this project's keys.",
                field="apikey",
                hosted="UNAUTHORIZED_INVALID_API_KEY",
            )
        if key.name == "secret_key" and _BROWSER.match(user_agent):
            raise _unauthorized(
                "secret_key_in_browser",
                "Forbidden use of secret API key in browser",
                "Use the publishable key in browsers and replace this secret key: it has leaked.",
                field="apikey",
                hosted="UNAUTHORIZED_INVALID_API_KEY_TYPE",
            )
        return key

    def publishable(self) -> ApiKey:
        """The key that stands for a caller who brings a key of a member alone."""
        return self._keys[0][1]

    def auth_key(self, key: ApiKey) -> str:
        """The opaque key that Auth and Storage know for the same role."""
        return self._auth_keys[key.role]

    def caller(self, key: ApiKey, authorization: str | None) -> Caller:
        """The caller behind `key` and the Authorization header. Raises 401."""
        bearer = self.bearer(authorization)
        if bearer is None:
            return self._as_key(key)
        other = self.identify(bearer)
        if other is None:
            return Caller(key, AUDIENCE, self._user_of(bearer), bearer)
        if other.role == "service_role" and key.role != "service_role":
            raise _unauthorized(
                "key_mismatch",
                "Authorization carries a stronger key than the `apikey` header",
                "Send the same key in both headers, or only in `apikey`.",
                field="Authorization",
            )
        return self._as_key(other)

    def _as_key(self, key: ApiKey) -> Caller:
        return Caller(key, key.role, None, self._role_tokens[key.role])

    def bearer(self, authorization: str | None) -> str | None:
        """The token of an Authorization header; None where there is none. Raises 401."""
        if authorization is None or not authorization.strip():
            return None
        match = BEARER.fullmatch(authorization.strip())
        if match is None:
            raise _unauthorized(
                "authorization_not_bearer",
                "Authorization is not `Bearer <token>`",
                "Send the user's access token as `Authorization: Bearer <token>`, or no such "
                "header.",
                field="Authorization",
            )
        return match[1]

    def _user_of(self, token: str) -> str:
        """The user of a token, remembered until it expires: a signature cannot change its mind."""
        known = self._verified.get(token)
        if known is not None and known[0] > time.time():
            return known[1]
        claims = self.verify(token)
        user = str(claims["sub"])
        self._verified[token] = (float(claims["exp"]), user)
        if len(self._verified) > REMEMBERED_TOKENS:
            self._verified.popitem(last=False)
        return user

    def verify(self, token: str, *, expired_too: bool = False) -> dict[str, Any]:
        """The claims of a user's token, checked strictly. Raises 401 with code PGRST301.

        PostgREST 12 accepts tokens without `exp` and without `aud`; these are refused here.
        """
        try:
            claims = json.loads(self._jws.decode(token, self._secret, algorithms=[ALGORITHM]))
        except jwt.PyJWTError:
            raise _bad_token("bad_jwt", "JWT could not be verified") from None
        except (ValueError, RecursionError):
            claims = None
        if not isinstance(claims, dict):
            raise _bad_token("bad_jwt", "JWT claims are not a JSON object")
        self._check_times(claims, expired_too)
        audience = claims.get("aud")
        if audience != AUDIENCE and not (isinstance(audience, list) and AUDIENCE in audience):
            raise _bad_token("bad_jwt_audience", f"JWT `aud` must be {AUDIENCE!r}")
        if claims.get("role") != AUDIENCE:
            raise _bad_token("bad_jwt_role", f"JWT `role` must be {AUDIENCE!r}")
        subject = claims.get("sub")
        if not isinstance(subject, str) or not CANONICAL_UUID.fullmatch(subject):
            raise _bad_token("bad_jwt_subject", "JWT `sub` must be a user id")
        return claims

    def _check_times(self, claims: dict[str, Any], expired_too: bool) -> None:
        now = time.time()
        expires = _seconds(claims, "exp")
        if expires is None:
            raise _bad_token("bad_jwt_times", "JWT `exp` is missing")
        if expires <= now - CLOCK_DIFFERENCE_SECONDS and not expired_too:
            raise _bad_token("jwt_expired", "JWT expired")
        issued = _seconds(claims, "iat")
        if issued is None:
            # Without an issue time the remaining life is what can be bounded.
            issued = now
        for name in ("iat", "nbf"):
            starts = _seconds(claims, name)
            if starts is not None and starts > now + CLOCK_DIFFERENCE_SECONDS:
                raise _bad_token("bad_jwt_times", f"JWT `{name}` lies in the future")
        if expires - issued > self._longest + CLOCK_DIFFERENCE_SECONDS:
            raise _bad_token("bad_jwt_times", f"JWT lives longer than {self._longest} seconds")


def _seconds(claims: dict[str, Any], name: str) -> float | None:
    """A time claim; None where it is missing. NaN and infinity are no times."""
    value = claims.get(name)
    if value is None:
        return None
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not -(2**53) < value < 2**53:
        raise _bad_token("bad_jwt_times", f"JWT `{name}` is not a number of seconds")
    return float(value)
