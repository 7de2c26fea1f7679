"""A business of one's own, on the real stack or in the fake: for tests of what both promise."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from tenantry import AsyncTenantry, Tenantry, errors
from tenantry.testing import AsyncFakeTenantry, FakeTenantry

PASSWORD = "correct-horse-7"


@dataclass
class World:
    """A business of one's own, its owner, and a way to make other people."""

    owner: Tenantry
    new_user: Callable[[], Tenantry]
    asynchronous: Callable[[], AsyncTenantry]
    closing: ExitStack = field(default_factory=ExitStack)

    def email_of(self, client: Tenantry) -> str:
        address = client.auth.user().email
        assert address is not None
        return address


def founded(owner: Tenantry) -> None:
    """Give a new user an organization and a business, in use."""
    name = f"Acme {secrets.token_hex(4)}"
    organization = owner.organizations.create(name=name, country="US")
    business = owner.businesses.create(
        organization_id=organization.id, name=name, timezone="UTC", country="US", currency="USD"
    )
    owner.use(business.id)


def fake_world() -> World:
    start = FakeTenantry()

    def new_user() -> Tenantry:
        return start.as_user(f"{secrets.token_hex(6)}@example.com")

    owner = new_user()
    founded(owner)
    email = owner.auth.user().email
    return World(
        owner,
        new_user,
        lambda: AsyncFakeTenantry(server=start.server, email=email, business=owner.business_id),
    )


def stack_world(stack, **options) -> World:
    keys = stack.variables()
    closing = ExitStack()

    def new_user() -> Tenantry:
        client = Tenantry(keys["API_URL"], keys["PUBLISHABLE_KEY"], **options)
        closing.callback(client.close)
        email = f"{secrets.token_hex(6)}@example.com"
        client.auth.sign_up(email=email, password=PASSWORD, full_name="Ana Example")
        if client.auth.session is None:
            client.auth.sign_in(email=email, password=PASSWORD)
        return client

    owner = new_user()
    founded(owner)

    def asynchronous() -> AsyncTenantry:
        assert owner.auth.session is not None
        return AsyncTenantry(
            keys["API_URL"], keys["PUBLISHABLE_KEY"], business=owner.business_id,
            access_token=owner.auth.session.access_token,
        )  # fmt: skip

    return World(owner, new_user, asynchronous, closing)


def new_number() -> str:
    """A number of the United States that nobody in these tests has."""
    return f"+1415{secrets.randbelow(8) + 2}{secrets.randbelow(10**6):06d}"


def refused(
    kind: type[errors.APIError], field: str | None, call: Callable[[], object]
) -> errors.APIError:
    with pytest.raises(errors.APIError) as caught:
        call()
    assert type(caught.value) is kind, caught.value
    assert caught.value.field == field
    assert caught.value.hint
    assert caught.value.request_id
    return caught.value
