"""Members' API keys (`tnk_...`): whose they are, for how long, from where, and how often asked."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import jwt
import pytest
from aiohttp import web

pytestmark = pytest.mark.anyio

KEY = "tnk_" + "0123456789abcdef" * 4
OTHER = "tnk_" + "f" * 64
KEY_ID = "0190a1b2-c3d4-7e5f-8a6b-0c1d2e3f4a5b"
TARGET = "/rpc/authenticate_api_key"


def digest(key: str) -> str:
    return sha256(key.encode()).hexdigest()


class Database:
    """A fake PostgREST that knows keys by their hash and echoes everything else."""

    def __init__(self, stack: Any) -> None:
        self.stack = stack
        self.keys: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.fails: web.Response | None = None
        self.hold: asyncio.Event | None = None
        self.was_asked = asyncio.Event()
        self.add(KEY)
        stack.rest.answer = self.answer

    def add(self, key: str, *, seconds: float | None = None, addresses: Any = None) -> None:
        expires = None
        if seconds is not None:
            expires = datetime.fromtimestamp(time.time() + seconds, UTC).isoformat()
        self.keys[digest(key)] = {
            "api_key_id": KEY_ID,
            "business_id": KEY_ID,
            "expires_at": expires,
            "allowed_addresses": addresses,
        }

    async def answer(self, request: web.BaseRequest) -> web.Response:
        if request.raw_path != TARGET:
            return web.json_response([{"ok": True}])
        seen = self.stack.rest.last
        assert seen.method == "POST"
        assert seen.headers["Authorization"] == f"Bearer {self.stack.keys['service_role_key']}"
        arguments = json.loads(seen.body)
        assert list(arguments) == ["key_hash"]
        self.asked.append(arguments["key_hash"])
        self.was_asked.set()
        if self.hold is not None:
            await self.hold.wait()
        if self.fails is not None:
            return web.Response(status=self.fails.status, body=self.fails.body)
        row = self.keys.get(arguments["key_hash"])
        return web.json_response([row] if row else [])

    @property
    def requests(self) -> list[Any]:
        return [one for one in self.stack.rest.seen if one.target != TARGET]

    def claims(self) -> dict[str, Any]:
        """What PostgREST would read from the token of the last request."""
        token = self.requests[-1].headers["Authorization"].removeprefix("Bearer ")
        # Tests move the gateway's clock, not this one.
        return jwt.decode(token, self.stack.secret, ["HS256"], audience="authenticated", leeway=100)


@pytest.fixture
def database(stack: Any) -> Database:
    return Database(stack)


async def get(stack: Any, key: str = KEY, apikey: str | None = None, **headers: str) -> Any:
    """A read with `key` as bearer, and the publishable key or `apikey` beside it."""
    sent = {"Authorization": f"Bearer {key}"} | headers
    if apikey is not None:
        sent["apikey"] = apikey
    return await stack.call("GET", "/rest/v1/customers", headers=sent)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the wall clock ahead by so many seconds."""
    real = time.time

    def ahead(seconds: float) -> None:
        monkeypatch.setattr(time, "time", lambda: real() + seconds)

    return ahead


async def test_a_key_becomes_a_short_token_of_its_own(stack, database):
    before = int(time.time())
    assert (await get(stack)).status == 200
    assert database.asked == [digest(KEY)]
    claims = database.claims()
    assert claims.pop("exp") - claims.pop("iat") == 300
    assert claims == {
        "sub": KEY_ID,
        "role": "authenticated",
        "aud": "authenticated",
        "api_key": True,
    }
    assert (
        before
        <= jwt.decode(
            database.requests[-1].headers["Authorization"][7:], options={"verify_signature": False}
        )["iat"]
    )
    for seen in stack.rest.seen:
        assert KEY not in str(seen)


@pytest.mark.parametrize(
    ("apikey", "authorization"),
    [
        ("publishable_key", f"Bearer {KEY}"),
        ("anon_key", f"bearer  {KEY} "),
        ("secret_key", f"Bearer {KEY}"),
        (KEY, None),
        (KEY, ""),
        (KEY, f"Bearer {KEY}"),
    ],
)
async def test_where_a_key_may_stand(stack, database, apikey, authorization):
    headers = {"apikey": stack.keys.get(apikey, apikey)}
    if authorization is not None:
        headers["Authorization"] = authorization
    assert (await stack.call("GET", "/rest/v1/customers", None, headers)).status == 200
    assert database.claims()["sub"] == KEY_ID
    assert "apikey" not in database.requests[-1].headers


@pytest.mark.parametrize(
    "authorization", [f"Bearer {OTHER}", "user", "publishable", "secret", f"Basic {KEY}", KEY]
)
async def test_two_callers_in_one_request(stack, database, authorization):
    bearers = {
        "user": f"Bearer {stack.token()}",
        "publishable": f"Bearer {stack.keys['publishable_key']}",
        "secret": f"Bearer {stack.keys['secret_key']}",
    }
    headers = {"apikey": KEY, "Authorization": bearers.get(authorization, authorization)}
    answer = await stack.call("GET", "/rest/v1/customers", None, headers)
    assert (answer.status, answer.reason) == (401, "key_mismatch")
    assert stack.untouched


async def test_a_key_alone_in_authorization_still_needs_an_apikey(stack, database):
    answer = await stack.call("GET", "/rest/v1/x", None, {"Authorization": f"Bearer {KEY}"})
    assert (answer.status, answer.reason) == (401, "no_api_key")
    assert stack.untouched


MALFORMED = {
    "upper case": KEY.upper().replace("TNK", "tnk"),
    "prefix in upper case": "TNK_" + KEY[4:],
    "one short": KEY[:-1],
    "one long": KEY + "0",
    "no digits": "tnk_" + "g" * 64,
    "empty": "tnk_",
    "padded": KEY[:-1] + "=",
}


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.parametrize("place", ["Authorization", "apikey"])
async def test_malformed_keys_are_refused_without_asking(stack, database, name, place):
    key = MALFORMED[name]
    if place == "apikey":
        answer = await stack.call("GET", "/rest/v1/x", None, {"apikey": key})
    else:
        answer = await get(stack, key)
    assert (answer.status, answer.reason) == (401, "invalid_api_key")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert stack.untouched


async def test_bytes_that_are_not_ascii(stack, database):
    answer = await stack.raw_request(
        ["GET /rest/v1/x HTTP/1.1", "Host: x", "apikey: tnk_\u00e9"], key=False
    )
    assert (answer.status, answer.reason) == (401, "invalid_api_key")


async def test_one_text_for_every_key_that_does_not_hold(stack, database):
    database.add(OTHER, seconds=-1)
    texts = set()
    for key in (OTHER, "tnk_" + "a" * 64, "tnk_x"):
        answer = await get(stack, key)
        body = answer.json
        del body["request_id"]
        texts.add((answer.status, json.dumps(body, sort_keys=True)))
    assert len(texts) == 1
    assert not database.requests


async def test_an_answer_is_remembered_for_a_minute(stack, database, clock):
    for _ in range(5):
        assert (await get(stack)).status == 200
    assert len(database.asked) == 1
    first = database.claims()
    clock(59)
    assert (await get(stack)).status == 200
    assert len(database.asked) == 1
    assert database.claims() == first
    clock(61)
    assert (await get(stack)).status == 200
    assert len(database.asked) == 2
    second = database.claims()
    # Made anew long before the first one ends.
    assert second["iat"] > first["iat"]
    assert first["exp"] - second["iat"] > 200


async def test_a_key_that_has_gone_is_refused_after_a_minute_at_the_latest(stack, database, clock):
    assert (await get(stack)).status == 200
    database.keys.clear()
    clock(61)
    assert (await get(stack)).reason == "invalid_api_key"
    database.add(KEY)
    assert (await get(stack)).reason == "invalid_api_key"  # remembered as unknown, shortly


async def test_a_clock_set_back_does_not_lengthen_an_answer(stack, database, clock):
    assert (await get(stack)).status == 200
    clock(-3600)
    assert (await get(stack)).status == 200
    assert len(database.asked) == 2


async def test_a_token_never_outlives_its_key(stack, database, clock):
    database.add(KEY, seconds=40)
    assert (await get(stack)).status == 200
    claims = database.claims()
    assert 38 <= claims["exp"] - claims["iat"] <= 40
    clock(39)
    assert (await get(stack)).status == 200
    assert len(database.asked) == 1
    clock(40.01)
    answer = await get(stack)
    assert (answer.status, answer.reason) == (401, "invalid_api_key")


async def test_a_key_in_its_last_second(stack, database):
    database.add(KEY, seconds=0.9)
    await get(stack)
    token = database.requests[-1].headers["Authorization"].removeprefix("Bearer ")
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["iat"] <= claims["exp"] <= time.time() + 1


async def test_many_requests_at_once_make_one_question(stack, database):
    database.hold = asyncio.Event()
    calls = [asyncio.create_task(get(stack)) for _ in range(100)]
    await database.was_asked.wait()
    await asyncio.sleep(0.1)
    database.hold.set()
    answers = await asyncio.gather(*calls)
    assert {answer.status for answer in answers} == {200}
    assert len(database.asked) == 1


async def test_the_question_survives_the_client_that_asked_first(stack, database):
    database.hold = asyncio.Event()
    first = asyncio.create_task(get(stack))
    await database.was_asked.wait()
    second = asyncio.create_task(get(stack))
    await asyncio.sleep(0.1)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await asyncio.sleep(0.1)
    database.hold.set()
    assert (await second).status == 200
    assert len(database.asked) == 1


async def test_unknown_keys_are_remembered_shortly(stack, database, monkeypatch):
    for _ in range(5):
        assert (await get(stack, OTHER)).reason == "invalid_api_key"
    assert len(database.asked) == 1
    monkeypatch.setattr("tenantry_gateway.member_keys.UNKNOWN_SECONDS", -1.0)
    database.asked.clear()
    wrong = "tnk_" + "1" * 64
    for _ in range(3):
        assert (await get(stack, wrong)).reason == "invalid_api_key"
    assert len(database.asked) == 3


async def test_what_is_remembered_is_bounded(stack, database, monkeypatch):
    monkeypatch.setattr("tenantry_gateway.member_keys.REMEMBERED_KEYS", 2)
    keys = ["tnk_" + digit * 64 for digit in "123"]
    for key in keys:
        database.add(key)
        assert (await get(stack, key)).status == 200
    assert (await get(stack, keys[2])).status == 200
    assert len(database.asked) == 3
    assert (await get(stack, keys[0])).status == 200
    assert len(database.asked) == 4


async def test_guessing_is_slowed_down_and_right_keys_are_not_guesses(stack, database):
    for number in range(60):
        key = f"tnk_{number:064x}"
        database.add(key)
        assert (await get(stack, key)).status == 200
    answers = [await get(stack, f"tnk_{number + 1000:064x}") for number in range(60)]
    assert [answer.status for answer in answers[:50]] == [401] * 50
    refused = answers[-1]
    assert (refused.status, refused.reason) == (429, "rate_limit")
    assert int(refused.headers["Retry-After"]) >= 1
    # Whoever is known already is not held up by the guesses of a neighbour.
    assert (await get(stack, f"tnk_{5:064x}")).status == 200


@pytest.mark.parametrize(
    ("addresses", "allowed"),
    [
        (None, True),
        (["127.0.0.0/8"], True),
        (["10.0.0.0/8", "127.0.0.1/32"], True),
        (["::ffff:127.0.0.0/104"], True),
        (["10.0.0.0/8"], False),
        (["::1/128"], False),
        ([], False),
    ],
)
async def test_addresses(stack, database, addresses, allowed):
    database.add(KEY, addresses=addresses)
    for _ in range(2):  # asked, and remembered
        answer = await get(stack)
        if allowed:
            assert answer.status == 200
        else:
            assert (answer.status, answer.reason) == (403, "address_not_allowed")
    assert bool(database.requests) is allowed
    assert len(database.asked) == 1


async def test_nobody_talks_himself_onto_the_list(stack, database):
    database.add(KEY, addresses=["10.0.0.0/8"])
    for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded", "True-Client-IP"):
        answer = await get(stack, **{name: "10.0.0.1"})
        assert answer.reason == "address_not_allowed"


async def test_a_trusted_proxy_names_the_address(new_stack):
    from tenantry_gateway.addresses import parse_network

    stack = await new_stack(trusted_proxies=(parse_network("127.0.0.0/8"),))
    database = Database(stack)
    database.add(KEY, addresses=["10.0.0.0/8"])
    assert (await get(stack, **{"X-Forwarded-For": "10.0.0.1"})).status == 200
    assert database.requests[-1].headers["X-Forwarded-For"] == "10.0.0.1"
    answer = await get(stack, **{"X-Forwarded-For": "10.0.0.1, 203.0.113.9"})
    assert answer.reason == "address_not_allowed"
    assert (await get(stack)).reason == "address_not_allowed"


async def test_a_list_that_cannot_be_read_lets_nobody_in(stack, database):
    database.add(KEY, addresses=["not an address"])
    assert (await get(stack)).status == 503


@pytest.mark.parametrize(
    "reply",
    [
        (404, b'{"code":"PGRST202"}'),
        (401, b"{}"),
        (500, b""),
        (200, b"{}"),
        (200, b"[1]"),
        (200, b"[{}]"),
        (200, b"nonsense"),
        (200, b"[{}, {}]"),
        (200, json.dumps([{"api_key_id": "1", "expires_at": None, "allowed_addresses": None}])),
    ],
)
async def test_an_answer_that_is_none(stack, database, reply, caplog):
    status, body = reply
    database.fails = web.Response(
        status=status, body=body if isinstance(body, bytes) else body.encode()
    )
    answer = await get(stack)
    assert (answer.status, answer.reason) == (503, "key_check_unavailable")
    assert answer.headers["Retry-After"] == "1"
    assert TARGET in caplog.text
    assert not database.requests
    database.fails = None
    assert (await get(stack)).status == 200


async def test_postgrest_is_down(new_stack):
    stack = await new_stack(postgrest_url="http://127.0.0.1:1")
    for _ in range(60):  # no guesses
        answer = await get(stack)
        assert (answer.status, answer.reason) == (503, "key_check_unavailable")
        assert answer.headers["Retry-After"] == "1"


async def test_no_account_behind_a_key(stack, database):
    for target in ("/auth/v1/user", "/auth/v1/token?grant_type=password", "/auth/v1/verify"):
        for headers in ({"apikey": KEY}, {"Authorization": f"Bearer {KEY}"}):
            answer = await stack.call("POST", target, headers=headers)
            assert (answer.status, answer.reason) == (403, "api_key_not_for_auth")
    assert stack.untouched


async def test_storage_sees_a_user(new_stack):
    stack = await new_stack()
    database = Database(stack)
    headers = {"Authorization": f"Bearer {KEY}"}
    for key in ("publishable_key", "secret_key"):
        answer = await stack.call("GET", "/storage/v1/object/list/a", key, headers)
        assert (answer.status, answer.reason) == (403, "storage_not_for_users")
    assert not stack.lite.seen
    opened = await new_stack(storage_access="users")
    database = Database(opened)
    assert (await opened.call("GET", "/storage/v1/bucket", headers=headers)).status == 200
    sent = opened.lite.last.headers
    assert KEY not in str(sent)
    assert sent["apikey"] == opened.keys["lite_publishable_key"]
    claims = jwt.decode(
        sent["Authorization"][7:], opened.secret, ["HS256"], audience="authenticated"
    )
    assert (claims["sub"], claims["api_key"]) == (KEY_ID, True)
    assert database.asked == [digest(KEY)]


@pytest.mark.parametrize("place", ["bearer", "apikey", "both"])
async def test_functions_see_the_token(stack, database, place):
    headers = {}
    if place != "apikey":
        headers["Authorization"] = f"Bearer {KEY}"
    if place != "bearer":
        headers["apikey"] = KEY
    answer = await stack.call("POST", "/functions/v1/export", headers=headers, data=b"{}")
    assert answer.status == 200
    sent = stack.functions.last.headers
    assert KEY not in str(sent)
    assert sent["apikey"] == stack.keys["publishable_key"]
    claims = jwt.decode(
        sent["Authorization"][7:], stack.secret, ["HS256"], audience="authenticated"
    )
    assert (claims["sub"], claims["role"]) == (KEY_ID, "authenticated")
    answer = await stack.call(
        "POST", "/functions/v1/export", headers={"Authorization": f"Bearer {OTHER}"}
    )
    assert (answer.status, answer.reason) == (401, "invalid_api_key")
    assert len(stack.functions.seen) == 1


async def test_a_webhook_with_other_credentials_passes_as_it_is(stack, database):
    for value in ("Basic dXNlcjpwYXNz", "Bearer something", "Digest x=tnk_"):
        await stack.call("POST", "/functions/v1/hook", None, {"Authorization": value})
        assert stack.functions.last.headers["Authorization"] == value
    assert not stack.rest.seen


async def test_each_key_has_its_own_rate(new_stack):
    stack = await new_stack(rate=0.001, burst=2)
    database = Database(stack)
    database.add(OTHER)
    database.keys[digest(OTHER)]["api_key_id"] = KEY_ID.replace("5b", "5c")
    assert [(await get(stack)).status for _ in range(3)] == [200, 200, 429]
    assert (await get(stack, OTHER)).status == 200
    assert (await get(stack, stack.token())).status == 200


async def test_keys_are_in_no_log_and_no_metric(new_stack, caplog):
    caplog.set_level(logging.DEBUG)
    stack = await new_stack(log_requests=True)
    database = Database(stack)
    await get(stack)
    await get(stack, OTHER)
    database.fails = web.Response(status=500)
    answers = [await get(stack, "tnk_" + "b" * 64), await get(stack, MALFORMED["one long"])]
    metrics = (await stack.call("GET", "/metrics", None)).body.decode()
    texts = [caplog.text, metrics, *(answer.body.decode() for answer in answers)]
    for text in texts:
        for secret in (KEY, OTHER, "b" * 64, digest(KEY), digest(OTHER)):
            assert secret not in text
    assert "401" in caplog.text
