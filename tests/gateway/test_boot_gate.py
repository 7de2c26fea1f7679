"""The boot gate before a fake PostgREST: when it opens, closes, waits, and what it says."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
from aiohttp import web

from tenantry_gateway.boot_facts import Fact, written

pytestmark = pytest.mark.anyio

FACTS = [
    Fact("migrations", "1", "a", "none"),
    Fact("policies", "public.calls", "b", "none"),
    Fact("policies", "public.calls calls_select", "c", "widens"),
]


class Database:
    """A PostgREST that is set as it should be; tests set single things wrong."""

    def __init__(self, stack: Any, facts: list[Fact]) -> None:
        self.stack = stack
        self.facts = facts
        self.page = 1000
        self.wrong: set[str] = set()
        self.away: int | None = None
        self.looked = asyncio.Event()

    def problem(self, status: int, code: str) -> web.Response:
        return web.json_response({"code": code, "message": "x"}, status=status)

    def role(self, request: web.BaseRequest) -> str | None:
        """The role of a request; None where its token is refused."""
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not bearer:
            return "service_role" if "visitors" in self.wrong else "anon"
        options: Any = {}
        if "expired" in self.wrong:
            options["verify_exp"] = False
        if "audience" in self.wrong:
            options["verify_aud"] = False
        if "stranger" in self.wrong:
            options["verify_signature"] = False
            claims = jwt.decode(bearer, options={"verify_signature": False})
            if jwt.get_unverified_header(bearer)["alg"] == "none":
                return None
            if claims["exp"] < 2e9 and claims.get("aud") == "other":
                return None
            return str(claims.get("role", "anon"))
        if jwt.get_unverified_header(bearer)["alg"] == "none":
            payload = bearer.split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
            return claims["role"] if "unsigned" in self.wrong else None
        keys = self.stack.keys
        audience = "authenticated"
        if bearer in (keys["anon_key"], keys["service_role_key"]):
            options["verify_aud"] = False
        try:
            claims = jwt.decode(
                bearer, self.stack.secret, ["HS256"], audience=audience, options=options
            )
        except jwt.PyJWTError:
            return None
        return claims.get("role", "service_role" if "roleless" in self.wrong else "anon")

    async def answer(self, request: web.BaseRequest) -> web.Response:
        if self.away is not None:
            return self.problem(self.away, "PGRST002")
        path, _, query = request.raw_path.partition("?")
        role = self.role(request)
        if role is None:
            return self.problem(401, "PGRST301")
        if path == "/":
            if "description" in self.wrong:
                return web.json_response({"paths": {"/": {}, "/rpc/boot_facts": {}}})
            return web.json_response({}, status=404)
        if path not in ("/rpc/boot_facts", "/rpc/boot_rows"):
            return web.json_response([{"ok": True}])
        if role != "service_role":
            return self.problem(401, "42501")
        if "plan" in request.headers["Accept"] and "plan" not in self.wrong:
            return self.problem(415, "PGRST107")
        if request.headers.get("Accept-Profile") == "private" and "schema" not in self.wrong:
            return self.problem(406, "PGRST106")
        if path == "/rpc/boot_rows":
            return web.json_response(list(range(1001 if "rows" in self.wrong else self.page)))
        if "count()" in query and "aggregates" not in self.wrong:
            return self.problem(400, "PGRST123")
        if "absent" in self.wrong:
            return self.problem(404, "PGRST202")
        offset = int(parse_qs(query).get("offset", ["0"])[0])
        self.looked.set()
        assert "count()" in query or query.startswith("order=section,name,fingerprint,risk")
        page = self.facts[offset : offset + self.page]
        rows = [
            {"section": f.section, "name": f.name, "fingerprint": f.fingerprint, "risk": f.risk}
            for f in page
        ]
        total = {"Content-Range": f"{offset}-{offset + len(page) - 1}/{len(self.facts)}"}
        return web.json_response(rows, headers=total)


@pytest.fixture
async def gated(new_stack: Any, tmp_path: Any) -> Callable[..., Any]:
    """Start a gateway with the gate enforced; set `wrong` things before it looks first."""

    async def start(*wrong: str, facts: list[Fact] | None = None, **changes: Any) -> Any:
        path = tmp_path / "expected.json"
        path.write_text(written(FACTS))
        first = await new_stack()  # its PostgREST can be prepared before the gateway starts
        database = Database(first, list(FACTS) if facts is None else facts)
        database.wrong |= set(wrong)
        first.rest.answer = database.answer
        settings = {
            "boot_gate": "enforce",
            "boot_gate_seconds": 0.05,
            "expected_database": path,
            "postgrest_url": first.rest.origin,
        }
        stack = await new_stack(**(settings | changes))
        stack.rest, stack.database, stack.expected = first.rest, database, path
        return stack

    return start


async def until(stack: Any, status: str) -> dict[str, Any]:
    """The body of /healthz once it says `status`."""
    async with asyncio.timeout(5):
        while True:
            answer = await stack.call("GET", "/healthz", None)
            if answer.json["status"] == status:
                assert answer.status == (503 if status in ("failing", "starting") else 200)
                return answer.json  # type: ignore[no-any-return]
            await asyncio.sleep(0.01)


async def test_an_equal_database_is_served(gated):
    stack = await gated()
    assert await until(stack, "ok") == {"status": "ok"}
    assert (await stack.call("GET", "/rest/v1/calls")).status == 200
    for _ in range(3):  # it looks again and again
        stack.database.looked.clear()
        await asyncio.wait_for(stack.database.looked.wait(), 5)
    assert (await stack.call("GET", "/rest/v1/calls")).status == 200


async def test_another_database_is_not_served(gated, caplog):
    facts = [FACTS[0], Fact("policies", "public.calls", "x", "open")]
    stack = await gated(facts=facts)
    health = await until(stack, "failing")
    assert health["reason"] == "boot_gate"
    assert health["differences"] == [
        "policies: public.calls calls_select is missing",
        "policies: public.calls differs",
    ]
    assert "make expected" in health["hint"]
    seen = len(stack.rest.seen)
    answer = await stack.call("GET", "/rest/v1/calls", "secret_key")
    assert (answer.status, answer.reason) == (503, "boot_gate")
    assert int(answer.headers["Retry-After"]) >= 1
    assert not [one for one in stack.rest.seen[seen:] if one.target == "/calls"]
    # Only what reads the database through PostgREST is closed.
    assert (await stack.call("GET", "/auth/v1/settings")).status == 200
    assert (await stack.call("OPTIONS", "/rest/v1/calls", None)).status < 300
    assert "policies: public.calls differs" in caplog.text
    assert "make expected" in caplog.text
    assert caplog.text.count("2 differences") == 1


async def test_it_opens_and_closes_as_the_database_changes(gated):
    stack = await gated()
    await until(stack, "ok")
    removed = stack.database.facts.pop()
    await until(stack, "failing")
    assert (await stack.call("GET", "/rest/v1/calls")).reason == "boot_gate"
    stack.database.facts.append(removed)
    await until(stack, "ok")
    assert (await stack.call("GET", "/rest/v1/calls")).status == 200


async def test_a_new_list_is_read_without_a_restart(gated):
    facts = [*FACTS, Fact("policies", "public.notes", "n", "open")]
    stack = await gated(facts=facts)
    await until(stack, "failing")
    stack.expected.write_text(written(facts))
    await until(stack, "ok")
    stack.expected.write_text("nonsense")
    health = await until(stack, "failing")
    assert health["differences"][0].startswith("gateway: the list of what is expected cannot")


async def test_objects_of_a_team_do_not_close_it(gated):
    stack = await gated(facts=[*FACTS, Fact("policies", "public.notes", "n", "none")])
    await until(stack, "ok")


async def test_facts_come_in_pages(gated):
    facts = [Fact("functions", f"public.f{number}()", "f", "none") for number in range(25)]
    stack = await gated(facts=[*FACTS, *facts])
    stack.expected.write_text(written([*FACTS, *facts]))
    stack.database.page = 10
    await until(stack, "ok")
    del stack.database.facts[-1]
    health = await until(stack, "failing")
    assert health["differences"] == ["functions: public.f24() is missing"]


PROBLEMS = {
    "plan": "plans are served",
    "aggregates": "aggregates are served",
    "description": "the description of the API is public",
    "rows": "more than 1000 rows are served",
    "schema": "the schema private is served",
    "visitors": "visitors act as the service",
    "roleless": "a token without a role acts as the service",
    "unsigned": "an unsigned token is believed",
    "stranger": "a stranger's signature is believed",
    "audience": "another audience is believed",
    "expired": "an expired token is believed",
}


@pytest.mark.parametrize("wrong", PROBLEMS)
async def test_settings_of_postgrest(gated, wrong):
    stack = await gated(wrong)
    health = await until(stack, "failing")
    named = [one for one in health["differences"] if PROBLEMS[wrong] in one]
    assert len(named) == 1
    assert named[0].startswith("PostgREST: ")
    if wrong != "stranger":
        assert health["count"] == 1


async def test_a_database_without_the_function(gated):
    stack = await gated("absent")
    health = await until(stack, "failing")
    assert health["differences"] == ["functions: public.boot_facts() does not answer"]


async def test_it_waits_for_postgrest(gated):
    stack = await gated(postgrest_url="http://127.0.0.1:1")
    answer = await stack.call("GET", "/rest/v1/calls")
    assert (answer.status, answer.reason) == (503, "starting")
    assert answer.headers["Retry-After"] == "1"
    await asyncio.sleep(0.3)
    await until(stack, "starting")


async def test_it_waits_while_postgrest_has_no_database(gated):
    stack = await gated()
    stack.database.away = 503
    health = (await stack.call("GET", "/healthz", None)).json
    assert health["status"] in ("starting", "ok")
    stack.database.away = None
    await until(stack, "ok")
    # Later, requests fail by themselves; the gate is no second reason.
    stack.database.away = 503
    await asyncio.sleep(0.3)
    assert (await stack.call("GET", "/healthz", None)).status == 200
    stack.database.away = None
    stack.database.facts.pop()
    await until(stack, "failing")


async def test_an_error_of_the_check_closes_it(gated):
    stack = await gated()
    await until(stack, "ok")
    stack.database.away = 500
    stack.database.problem = lambda status, code: web.json_response({"code": "XX000"}, status=500)
    health = await until(stack, "failing")
    assert health["differences"] == ["functions: public.boot_facts() does not answer"]


async def test_it_looks_at_once_when_asked(gated):
    import tenantry_gateway.app as app

    started: list[Any] = []
    original = app.Gateway.start

    def start(gateway: Any) -> None:
        started.append(gateway)
        original(gateway)

    from tenantry_gateway.server import serving

    stack = await gated(boot_gate="off")
    settings = started_settings(stack)
    async with serving(settings, start) as origin:
        stack.origin = origin
        await until(stack, "ok")
        stack.database.facts.pop()
        await asyncio.sleep(0.2)
        assert (await stack.call("GET", "/healthz", None)).status == 200
        started[0].boot_gate.look_again()
        await until(stack, "failing")


def started_settings(stack: Any) -> Any:
    """Settings of a gateway that looks once an hour."""
    from tenantry_gateway.settings import Settings

    return Settings(
        postgrest_url=stack.rest.origin,
        auth_url=stack.lite.origin,
        functions_url=stack.functions.origin,
        jwt_secret=stack.secret,
        port=0,
        shutdown_seconds=0.1,
        boot_gate_seconds=3600,
        expected_database=stack.expected,
        **stack.keys,
    )


async def test_a_warning_serves(gated, caplog):
    caplog.set_level(logging.INFO)
    stack = await gated(boot_gate="warn", facts=FACTS[:1])
    health = await until(stack, "warning")
    assert health["count"] == 2
    assert (await stack.call("GET", "/rest/v1/calls")).status == 200
    assert "only a warning" in caplog.text


async def test_off_never_looks(gated):
    stack = await gated(boot_gate="off", facts=[])
    await asyncio.sleep(0.2)
    assert not stack.rest.seen
    assert (await stack.call("GET", "/healthz", None)).json == {"status": "ok"}
    assert (await stack.call("GET", "/rest/v1/calls")).status == 200
