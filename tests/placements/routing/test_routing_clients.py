"""supabase-js and the SDK, unchanged, see the same API in every placement."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tenantry import AsyncTenantry
from tenantry_cli.project import find_project
from tenantry_cli.stack.programs import find_node

pytestmark = pytest.mark.anyio
SCRIPT = Path(__file__).with_name("supabase_js.mjs")


@pytest.fixture(scope="module")
def tenants(fleet):
    return [
        fleet.tenant("js-pooled"),
        fleet.tenant("js-schema", "schema", fleet.shelf()),
        fleet.tenant("js-database", "database"),
    ]


async def javascript(front, one) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        str(find_node()),
        "--experimental-websocket",  # Node 20 has it only behind this flag; newer ones accept it
        "--no-warnings",
        str(SCRIPT),
        cwd=find_project().root,
        env={
            "PATH": os.environ["PATH"],
            "URL": front.origin,
            "KEY": front.key,
            "TOKEN": one.token,
            "BUSINESS": one.business,
        },
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    facts: dict[str, Any] = json.loads(output)
    return facts


async def test_supabase_js(front, tenants):
    pooled, *others = [await javascript(front, one) for one in tenants]
    assert pooled["found"] == ["Jörg Müller"]
    assert pooled["embedded"][0]["businesses"] == {"timezone": "UTC"}
    assert pooled["embedded"][0]["contact_points"][0]["normalized"] == "+4930901820"
    for facts in others:
        assert facts == pooled


async def test_the_sdk(front, tenants):
    seen = []
    for one in tenants:
        async with AsyncTenantry(
            front.origin, front.key, business=one.business, access_token=one.token
        ) as client:
            made = await client.customers.create(first_name="Ana", phone="+14155550123")
            again = await client.customers.get(made.id)
            names = [row.display_name async for row in client.customers.list()]
            seen.append((made.display_name, again.primary_phone, sorted(filter(None, names))))
    assert seen[0][0] == "Ana"
    assert "Ana" in seen[0][2]
    assert [one[:2] for one in seen] == [seen[0][:2]] * 3
