"""What the tests of functions share: an app in process, and a connection of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tenantry_functions.inbox import Connection, MemoryInbox
from tenantry_functions.testing import FunctionHost, memory_host

ACCOUNT = "AC00000000000000000000000000000001"


@pytest.fixture
def account() -> str:
    return ACCOUNT


@pytest.fixture
def host() -> Iterator[FunctionHost[MemoryInbox]]:
    with memory_host(voice={"greeting": "Hello.", "record": True, "language": "en-US"}) as host:
        yield host


@pytest.fixture
def connection(host: FunctionHost[MemoryInbox], account: str) -> Connection:
    return host.inbox.connect(account, "the auth token of this account")
