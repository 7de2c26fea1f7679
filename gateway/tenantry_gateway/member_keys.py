"""Members' API keys (`tnk_...`): exchanged for a short token whose subject is the key.

The database knows keys by their SHA-256 alone and says which key it is, until when, and from which
addresses it may come. That answer never changes while the key lives, so it is remembered for a
minute. What the key may do is looked up in the database by every statement, so a key that has been
revoked has no rights from that moment on, whatever is remembered here.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import math
import re
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, TypeVar

import jwt

from tenantry_gateway.addresses import Network, lies_in, parse_address, parse_network, site_of
from tenantry_gateway.errors import GatewayError
from tenantry_gateway.keys import ALGORITHM, AUDIENCE, BEARER, CANONICAL_UUID
from tenantry_gateway.limits import FairSlots, TokenBuckets
from tenantry_gateway.postgrest import Postgrest, PostgrestUnavailable
from tenantry_gateway.settings import Settings

KNOWN_SECONDS = 60.0
TOKEN_SECONDS = 300  # longer than an answer is remembered, so no token ever nears its end
UNKNOWN_SECONDS = 2.0
REMEMBERED_KEYS = 10_000
# Wrong keys from one address: so many at once, then one per second. Right ones do not count.
_GUESSES_AT_ONCE = 50
_GUESSES_PER_SECOND = 1.0
# Questions to the database at once, of those for one address, and in line behind them.
_QUESTIONS, _QUESTIONS_PER_ADDRESS, _QUESTIONS_WAITING = 6, 3, 100

_PREFIX = "tnk_"
_WELL_FORMED = re.compile(r"tnk_[0-9a-f]{64}")
_TARGET = "/rpc/authenticate_api_key"

_Value = TypeVar("_Value")

log = logging.getLogger("tenantry_gateway")


@dataclass(frozen=True, slots=True)
class MemberKey:
    """A key that the database knows, and the token that stands for it."""

    key_id: str
    token: str
    networks: tuple[Network, ...] | None
    """Where it may come from; None means anywhere."""
    since: float
    until: float
    """Unix times between which this may be believed."""

    def holds(self, now: float) -> bool:
        """Whether it may be believed now, also when the clock has been set back."""
        return self.since <= now < self.until


def looks_like_one(text: str | None) -> bool:
    """Whether somebody means this as a member's key, well-formed or not."""
    return text is not None and text[: len(_PREFIX)].lower() == _PREFIX


def presented_key(headers: Mapping[str, str]) -> str | None:
    """The member's key in `apikey`, Authorization or both; None where there is none.

    Raises 401 where `apikey` is such a key and Authorization says something else.
    """
    apikey, authorization = headers.get("apikey"), headers.get("authorization", "").strip()
    match = BEARER.fullmatch(authorization)
    bearer = match[1] if match else None
    if apikey is None or not looks_like_one(apikey):
        return bearer if looks_like_one(bearer) else None
    same = bearer is not None and hmac.compare_digest(
        bearer.encode(), apikey.encode("utf-8", "surrogateescape")
    )
    if authorization and not same:
        raise GatewayError(
            401,
            "key_mismatch",
            "Authorization and the `apikey` header name two callers",
            "Send the API key in both headers, or only in one beside the publishable key.",
            field="Authorization",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return apikey


def _refused() -> GatewayError:
    """One answer for keys that are malformed, unknown, revoked or expired."""
    return GatewayError(
        401,
        "invalid_api_key",
        "This API key is not valid",
        "Check that it is complete, or create a new one: keys expire and can be revoked.",
        field="Authorization",
        headers={"WWW-Authenticate": "Bearer"},
    )


def _unavailable() -> GatewayError:
    return GatewayError(
        503,
        "key_check_unavailable",
        "The API key cannot be checked at the moment",
        "Try again in a moment.",
        headers={"Retry-After": "1"},
    )


class MemberKeys:
    """Knows which key is whose. Holds hashes and tokens, never keys."""

    def __init__(self, settings: Settings, postgrest: Postgrest) -> None:
        self._postgrest = postgrest
        self._secret = settings.jwt_secret
        self._known: OrderedDict[str, MemberKey] = OrderedDict()
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._asking: dict[str, asyncio.Task[MemberKey | None]] = {}
        self._guesses = TokenBuckets(_GUESSES_PER_SECOND, _GUESSES_AT_ONCE)
        self._questions = FairSlots(
            _QUESTIONS, _QUESTIONS_PER_ADDRESS, _QUESTIONS_WAITING, settings.waiting_seconds
        )

    async def close(self) -> None:
        """End the questions under way."""
        for task in list(self._asking.values()):
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    async def exchange(self, key: str, peer: str) -> MemberKey:
        """What `key`, sent from address `peer`, stands for. Raises 401, 403, 429 or 503."""
        if not _WELL_FORMED.fullmatch(key):
            raise _refused()
        digest = sha256(key.encode()).hexdigest()
        found = self._known.get(digest)
        if found is not None and found.holds(time.time()):
            self._known.move_to_end(digest)
        else:
            found = await self._look_up(digest, peer)
        if found is None or not found.holds(time.time()):
            raise _refused()
        if found.networks is not None and not lies_in(parse_address(peer), found.networks):
            raise GatewayError(
                403,
                "address_not_allowed",
                "This API key may not be used from this address",
                "Call from an address on the key's list, or create a key with another list.",
            )
        return found

    async def _look_up(self, digest: str, peer: str) -> MemberKey | None:
        if self._unknown.get(digest, 0.0) > time.monotonic():
            return None
        task = self._asking.get(digest)
        if task is None:
            site = site_of(peer)
            self._guesses.take(site)
            task = asyncio.create_task(self._ask(digest, site))
            self._asking[digest] = task
            task.add_done_callback(lambda done: self._finished(digest, done))
        # The question goes on for the others when this client leaves.
        return await asyncio.shield(task)

    def _finished(self, digest: str, task: asyncio.Task[MemberKey | None]) -> None:
        self._asking.pop(digest, None)
        if not task.cancelled():
            task.exception()  # whoever still waits has it; nobody waiting is no fault

    async def _ask(self, digest: str, site: str) -> MemberKey | None:
        try:
            async with self._questions.slot(site):
                asked = time.time()
                reply = await self._postgrest.ask("POST", _TARGET, body={"key_hash": digest})
        except PostgrestUnavailable:
            self._guesses.give_back(site)
            raise _unavailable() from None
        except BaseException:
            self._guesses.give_back(site)
            raise
        try:
            if reply.status != 200:
                raise ValueError(f"status {reply.status}")
            found = self._read(json.loads(reply.body), asked)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            self._guesses.give_back(site)
            log.error("%s cannot be used: %s", _TARGET, type(error).__name__)
            raise _unavailable() from None
        if found is None:
            _keep(self._unknown, digest, time.monotonic() + UNKNOWN_SECONDS)
            self._known.pop(digest, None)
            return None
        self._guesses.give_back(site)
        _keep(self._known, digest, found)
        return found

    def _read(self, rows: Any, now: float) -> MemberKey | None:
        """The answer of `authenticate_api_key`: one row or none. Raises what malformed ones do."""
        if not isinstance(rows, list) or len(rows) > 1:
            raise ValueError("not a row")
        if not rows:
            return None
        (row,) = rows
        key_id, expires_at = row["api_key_id"], row["expires_at"]
        if not CANONICAL_UUID.fullmatch(key_id):
            raise ValueError("not an id")
        expires = math.inf
        if expires_at not in (None, "infinity"):
            moment = datetime.fromisoformat(expires_at)
            if moment.tzinfo is None:
                raise ValueError("a time without its zone")
            expires = moment.timestamp()
        listed = row["allowed_addresses"]
        networks = None if listed is None else tuple(parse_network(one) for one in listed)
        if expires <= now:
            return None
        return MemberKey(
            key_id, self._token(key_id, now, expires), networks, now,
            min(now + KNOWN_SECONDS, expires),
        )  # fmt: skip

    def _token(self, key_id: str, now: float, expires: float) -> str:
        """A token like a user's that says it stands for a key; it never outlives the key."""
        claims = {
            "sub": key_id,
            "role": AUDIENCE,
            "aud": AUDIENCE,
            "api_key": True,
            "iat": int(now),
            "exp": math.floor(min(int(now) + TOKEN_SECONDS, expires)),
        }
        return jwt.encode(claims, self._secret, algorithm=ALGORITHM)


def _keep(known: OrderedDict[str, _Value], digest: str, value: _Value) -> None:
    known[digest] = value
    known.move_to_end(digest)
    if len(known) > REMEMBERED_KEYS:
        known.popitem(last=False)
