"""The API as the caller: the user's token travels, numbers stay exact, refusals stay readable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tenantry_functions.errors import FunctionError, Unavailable
from tenantry_functions.rest import RestClient

WHO = {
    "Authorization": "Bearer the-users-token",
    "X-Request-Id": "request-1",
    "apikey": "the-publishable-key",
    "X-Tenant": "acme",
}


class Api:
    """Answers as told on a free port, and remembers what it was asked."""

    def __init__(self, status: int = 200, body: str = "[]") -> None:
        self.status = status
        self.body = body
        self.asked: list[dict[str, Any]] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(
            {
                "method": request.method,
                "path": request.path_qs,
                "authorization": request.headers.getall("authorization"),
                "request_id": request.headers.get("x-request-id"),
                "where": (request.headers.getall("apikey"), request.headers.getall("x-tenant")),
                "body": await request.text(),
            }
        )
        headers = {"Location": "http://127.0.0.1:1/"} if self.status == 302 else None
        return web.Response(
            status=self.status, text=self.body, content_type="application/json", headers=headers
        )

    @asynccontextmanager
    async def client(self) -> AsyncIterator[RestClient]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            async with aiohttp.ClientSession() as session:
                base_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
                yield RestClient(session, base_url, WHO)
        finally:
            await runner.cleanup()


def test_the_users_token_travels() -> None:
    api = Api(body='[{"balance": 12345678901234567.89}]')

    async def scenario() -> None:
        async with api.client() as rest:
            rows = await rest.select("customers", id="eq.a b&c", limit="1")
            assert rows == [{"balance": Decimal("12345678901234567.89")}]
            await rest.rpc("find_customer", phone="+14155550123")
            spoof = {"authorization": "Bearer other", "x-tenant": "other", "Prefer": "x=y"}
            await rest.request("PATCH", "customers", body={"a": 1}, headers=spoof)

    asyncio.run(scenario())
    assert {tuple(asked["authorization"]) for asked in api.asked} == {("Bearer the-users-token",)}
    assert {asked["request_id"] for asked in api.asked} == {"request-1"}
    for asked in api.asked:
        assert asked["where"] == (["the-publishable-key"], ["acme"])
    assert api.asked[0]["path"] == "/customers?id=eq.a+b%26c&limit=1"
    assert api.asked[1]["path"] == "/rpc/find_customer"
    assert api.asked[1]["body"] == '{"phone": "+14155550123"}'


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a?b", "A", "a-b", "rpc/x"])
def test_names_cannot_leave_their_place(name: str) -> None:
    async def scenario() -> None:
        async with Api().client() as rest:
            for call in (rest.rpc(name), rest.select(name)):
                with pytest.raises(ValueError, match="not the name"):
                    await call

    asyncio.run(scenario())


def refusal(status: int, body: str) -> FunctionError:
    async def scenario() -> FunctionError:
        async with Api(status, body).client() as rest:
            with pytest.raises(FunctionError) as caught:
                await rest.rpc("f")
            return caught.value

    return asyncio.run(scenario())


def test_a_refusal_keeps_its_field_and_remedy() -> None:
    error = refusal(
        400,
        '{"code":"22023","message":"phone is not valid.","hint":"Write it with country code.",'
        '"details":"{\\"field\\":\\"phone\\",\\"reason\\":\\"bad_phone\\"}"}',
    )
    assert (error.status, error.code, error.field) == (400, "bad_phone", "phone")
    assert error.message == "phone is not valid. Write it with country code."


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (403, '{"code":"42501","message":"permission denied"}', "42501"),
        (404, "{}", "refused"),
        (404, "[]", "refused"),
        (409, '{"code":"23505","details":"not json"}', "23505"),
        (409, '{"code":"23505","details":"[1]"}', "23505"),
        (400, '{"details":"{\\"field\\":5}"}', "refused"),
    ],
)
def test_other_refusals(status: int, body: str, code: str) -> None:
    error = refusal(status, body)
    assert (error.status, error.code, error.field) == (status, code, None)
    assert error.message


@pytest.mark.parametrize(("status", "body"), [(500, "{}"), (503, ""), (200, "<html>")])
def test_its_trouble_is_not_the_callers(status: int, body: str) -> None:
    error = refusal(status, body)
    assert isinstance(error, Unavailable)
    assert error.status == 503


@pytest.mark.parametrize(
    "details", ['"{\\"reason\\":\\"moving\\"}"', '{"reason":"moving"}'], ids=["sql", "gateway"]
)
def test_a_business_that_is_being_moved(details: str) -> None:
    error = refusal(503, f'{{"code":"PT503","message":"no","details":{details}}}')
    assert (error.status, error.code, error.headers) == (503, "moving", {"Retry-After": "5"})


def test_nobody_there() -> None:
    async def scenario() -> None:
        async with aiohttp.ClientSession() as session:
            rest = RestClient(session, "http://127.0.0.1:1", WHO)
            with pytest.raises(Unavailable):
                await rest.select("customers")

    asyncio.run(scenario())


def test_no_content_and_no_redirects() -> None:
    async def scenario() -> None:
        async with Api(204, "").client() as rest:
            assert await rest.rpc("f") is None
        api = Api(302, "")
        async with api.client() as rest:
            await rest.rpc("f")
        assert len(api.asked) == 1

    asyncio.run(scenario())
