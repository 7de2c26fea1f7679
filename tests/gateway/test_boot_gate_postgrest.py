"""The boot gate before the real PostgREST and a migrated database."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from tenantry_cli.project import find_project
from tenantry_cli.stack.ports import free_port
from tenantry_cli.stack.programs import find_postgrest
from tenantry_cli.testing import Database

pytestmark = pytest.mark.anyio

SETTINGS = {
    "PGRST_DB_SCHEMAS": "public",
    "PGRST_DB_EXTRA_SEARCH_PATH": "public, extensions",
    "PGRST_DB_ANON_ROLE": "anon",
    "PGRST_DB_MAX_ROWS": "1000",
    "PGRST_DB_PLAN_ENABLED": "false",
    "PGRST_DB_AGGREGATES_ENABLED": "false",
    "PGRST_OPENAPI_MODE": "disabled",
    "PGRST_JWT_AUD": "authenticated",
    "PGRST_SERVER_HOST": "127.0.0.1",
    "PGRST_LOG_LEVEL": "crit",
}


@asynccontextmanager
async def postgrest(database: Database, secret: str, **settings: str) -> AsyncIterator[str]:
    port = free_port()
    process = subprocess.Popen(  # noqa: ASYNC220 - starts at once
        [find_postgrest(find_project())],
        env={
            "PATH": os.environ["PATH"],
            "PGRST_DB_URI": database.url("authenticator"),
            "PGRST_JWT_SECRET": secret,
            "PGRST_SERVER_PORT": str(port),
            **SETTINGS,
            **settings,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 10)


@pytest.fixture
async def gated(new_stack: Any, module_database: Database) -> AsyncIterator[Callable[..., Any]]:
    """Start PostgREST with other settings, and the gateway with its gate before it."""
    async with AsyncExitStack() as started:

        async def start(**settings: str) -> Any:
            first = await new_stack()
            origin = await started.enter_async_context(
                postgrest(module_database, first.secret, **settings)
            )
            return await new_stack(boot_gate="enforce", boot_gate_seconds=0.1, postgrest_url=origin)

        yield start


async def decided(stack: Any, status: str) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while True:
            answer = await stack.call("GET", "/healthz", None)
            if answer.json["status"] == status:
                return answer.json  # type: ignore[no-any-return]
            await asyncio.sleep(0.05)


async def test_our_own_settings_and_database_are_served(gated, module_database):
    stack = await gated()
    assert (await stack.call("GET", "/rest/v1/subscription_plans")).reason == "starting"
    assert await decided(stack, "ok") == {"status": "ok"}
    assert (await stack.call("GET", "/rest/v1/subscription_plans?select=code")).status == 200

    with module_database.connect(autocommit=True) as connection:
        connection.execute("alter table public.calls no force row level security")
        health = await decided(stack, "failing")
        assert health["differences"] == ["policies: public.calls differs"]
        answer = await stack.call("GET", "/rest/v1/subscription_plans")
        assert (answer.status, answer.reason) == (503, "boot_gate")
        connection.execute("alter table public.calls force row level security")
    await decided(stack, "ok")
    assert (await stack.call("GET", "/rest/v1/subscription_plans")).status == 200


@pytest.mark.parametrize(
    ("settings", "problems"),
    [
        (
            {
                "PGRST_DB_PLAN_ENABLED": "true",
                "PGRST_DB_AGGREGATES_ENABLED": "true",
                "PGRST_OPENAPI_MODE": "ignore-privileges",
                "PGRST_DB_MAX_ROWS": "",
                "PGRST_DB_SCHEMAS": "public,private",
            },
            ["db-plan-enabled", "db-aggregates-enabled", "openapi-mode", "max-rows", "db-schemas"],
        ),
        (
            {"PGRST_DB_ANON_ROLE": "service_role", "PGRST_JWT_AUD": ""},
            ["db-anon-role", "without a role", "jwt-aud"],
        ),
    ],
)
async def test_settings_that_open_it(gated, settings, problems):
    stack = await gated(**settings)
    differences = (await decided(stack, "failing"))["differences"]
    assert all(one.startswith("PostgREST: ") for one in differences)
    for problem in problems:
        assert [one for one in differences if problem in one], (problem, differences)
    assert len(differences) == len(problems)


async def test_facts_come_in_pages_where_fewer_rows_are_served(gated, module_database):
    stack = await gated(PGRST_DB_MAX_ROWS="100")
    await decided(stack, "ok")
    with module_database.connect(autocommit=True) as connection:
        connection.execute("alter table public.messages disable trigger _010_guard")
        health = await decided(stack, "failing")
        connection.execute("alter table public.messages enable trigger _010_guard")
    assert health["differences"] == ["triggers: public.messages _010_guard differs"]


async def test_a_description_by_privilege_hides_what_it_must(gated):
    stack = await gated(PGRST_OPENAPI_MODE="follow-privileges")
    await decided(stack, "ok")


async def test_another_secret_is_another_project(gated):
    stack = await gated(PGRST_JWT_SECRET="another-secret-with-more-than-32-bytes-in-it")
    health = await decided(stack, "failing")
    assert health["differences"] == ["functions: public.boot_facts() does not answer"]
