"""What the SDK's tests share: clients of a made-up server, and a clock that does not wait."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import settings

from tenantry import AsyncTenantry, Tenantry

# Test modules are imported by path; these two folders are where they find each other's helpers.
for folder in (Path(__file__).parent, Path(__file__).parents[2] / "tools"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from sdk_answers import BUSINESS, KEY, URL, Answers  # noqa: E402
from sdk_worlds import World, fake_world, stack_world  # noqa: E402

# A busy machine may stop for a second anywhere; how long an example takes proves nothing here.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds the clients would have slept."""
    slept: list[float] = []

    async def nap(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("tenantry._async.transport.asyncio.sleep", nap)
    monkeypatch.setattr("tenantry._sync.transport.time.sleep", slept.append)
    return slept


@pytest.fixture
def client_of(naps: list[float]) -> Iterator[Callable[..., tuple[Tenantry, Answers]]]:
    """A client, and the server it talks to, which gives these answers in order."""
    opened = []

    def make(*answers: Any, **options: Any) -> tuple[Tenantry, Answers]:
        server = Answers(*answers)
        http = httpx.Client(transport=httpx.MockTransport(server))
        opened.append(http)
        options = {"business": BUSINESS, **options}
        return Tenantry(URL, KEY, http_client=http, **options), server

    yield make
    for http in opened:
        http.close()


@pytest.fixture
def async_client_of(naps: list[float]) -> Callable[..., tuple[AsyncTenantry, Answers]]:
    """The same for the asynchronous client; the transport opens nothing that must be closed."""

    def make(*answers: Any, **options: Any) -> tuple[AsyncTenantry, Answers]:
        server = Answers(*answers)
        http = httpx.AsyncClient(transport=httpx.MockTransport(server))
        options = {"business": BUSINESS, **options}
        return AsyncTenantry(URL, KEY, http_client=http, **options), server

    return make


@pytest.fixture(scope="module", params=["fake", pytest.param("stack", marks=pytest.mark.stack)])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "fake":
        yield fake_world()
        return
    world = stack_world(request.getfixturevalue("local_stack"))
    with world.closing:
        yield world


@pytest.fixture
def client(world: World) -> Tenantry:
    return world.owner
