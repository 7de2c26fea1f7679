"""A business's API key from its making to its end, through the gateway."""

from __future__ import annotations

import contextlib
import datetime
import secrets
from collections.abc import Iterator

import httpx
import pytest

from tenantry import Tenantry, errors
from tenantry.models import IssuedApiKey

pytestmark = pytest.mark.stack


@pytest.fixture
def owner(local_stack) -> Iterator[Tenantry]:
    """The owner of a new business with a customer, Ana."""
    keys = local_stack.variables()
    with Tenantry(keys["API_URL"], keys["PUBLISHABLE_KEY"]) as client:
        client.auth.sign_up(email=f"{secrets.token_hex(6)}@example.com", password="correct-horse-7")
        name = f"Keys {secrets.token_hex(4)}"
        organization = client.organizations.create(name=name, country="US")
        business = client.businesses.create(
            organization_id=organization.id, name=name, timezone="UTC", country="US",
            currency="USD",
        )  # fmt: skip
        client.use(business.id)
        client.customers.create(first_name="Ana")
        yield client


def acting(local_stack, owner: Tenantry, issued: IssuedApiKey, **options: object) -> Tenantry:
    return Tenantry(
        local_stack.origin, api_key=issued.key, business=owner.business_id, **options  # type: ignore[arg-type]
    )  # fmt: skip


def names(client: Tenantry) -> list[str | None]:
    return [customer.first_name for customer in client.customers.list()]


def test_a_key_does_what_it_was_made_for_and_nothing_else(local_stack, owner) -> None:
    issued = owner.api_keys.create(name="Reader", scopes=["customers.read"])
    with acting(local_stack, owner, issued) as job:
        assert names(job) == ["Ana"]
        assert [p.permission for p in job.access.my_permissions()] == ["customers.read"]
        with pytest.raises(errors.PermissionDenied) as caught:
            job.customers.create(first_name="No")
        assert caught.value.details["permission"] == "customers.write"
        assert job.calls.list().all() == []
        customer = job.customers.list().all()[0]
        said = job.access.explain("customers", customer.id, "update")
        assert (said.allowed, said.rule) == (False, "not_in_key_scopes")
        for people_only in (
            lambda: job.members.invite(email="x@example.com", role="viewer"),
            lambda: job.api_keys.create(name="Child", scopes=["customers.read"]),
            lambda: job.shares.share("customers", customer.id, role="viewer"),
        ):
            with pytest.raises(errors.PermissionDenied):
                people_only()
    (listed,) = owner.api_keys.list()
    assert listed.last_used_at is not None


def test_both_forms_of_sending_it_are_the_same(local_stack, owner) -> None:
    issued = owner.api_keys.create(name="Forms", scopes=["customers.read"])
    with (
        acting(local_stack, owner, issued) as alone,
        acting(local_stack, owner, issued, key=local_stack.keys.publishable_key) as beside,
    ):
        assert names(alone) == names(beside) == ["Ana"]
    text = issued.key.get_secret_value()
    answer = httpx.get(
        f"{local_stack.origin}/rest/v1/customers?select=first_name", headers={"apikey": text}
    )
    assert (answer.status_code, answer.json()) == (200, [{"first_name": "Ana"}])


def test_a_revoked_key_reaches_nothing(local_stack, owner) -> None:
    issued = owner.api_keys.create(name="Short", scopes=["customers.read"])
    with acting(local_stack, owner, issued) as job:
        assert names(job) == ["Ana"]
        owner.api_keys.revoke(issued.api_key_id)
        # The gateway may remember the key for a minute; the database does not.
        with contextlib.suppress(errors.AuthenticationError):
            assert names(job) == []


def test_what_is_no_key_of_ours_is_refused(local_stack, owner) -> None:
    url = local_stack.origin
    with (
        Tenantry(url, api_key=f"tnk_{'0' * 64}", business=owner.business_id) as stranger,
        pytest.raises(errors.AuthenticationError) as caught,
    ):
        stranger.customers.list().all()
    assert caught.value.reason == "invalid_api_key"
    elsewhere = owner.api_keys.create(
        name="Elsewhere", scopes=["customers.read"], allowed_addresses=["203.0.113.0/24"],
        expires_at=datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1),
    )  # fmt: skip
    with (
        acting(local_stack, owner, elsewhere) as job,
        pytest.raises(errors.PermissionDenied),
    ):
        job.customers.list().all()
