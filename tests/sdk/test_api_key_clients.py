"""Clients that act with an API key: what they send, what they refuse, what they never show."""

from __future__ import annotations

import httpx
import pytest
from pydantic import SecretStr
from sdk_answers import BUSINESS, KEY, URL, Answers, ok

from tenantry import AsyncTenantry, Tenantry, errors
from tenantry.testing import FakeTenantry

TEXT = "tnk_" + "0123456789abcdef" * 4


def sent(*arguments: object, **options: object) -> httpx.Request:
    server = Answers(ok([]))
    with httpx.Client(transport=httpx.MockTransport(server)) as http:
        client = Tenantry(URL, *arguments, business=BUSINESS, http_client=http, **options)  # type: ignore[arg-type]
        client.customers.list().all()
        assert TEXT not in repr(client)
        assert TEXT not in repr(client.__dict__)
    return server.last


@pytest.mark.parametrize("key", [TEXT, SecretStr(TEXT)])
def test_a_key_goes_beside_the_publishable_one(key: SecretStr | str) -> None:
    headers = sent(KEY, api_key=key).headers
    assert headers["apikey"] == KEY
    assert headers["authorization"] == f"Bearer {TEXT}"


@pytest.mark.parametrize("options", [{"api_key": TEXT}, {"key": TEXT}])
def test_a_key_goes_alone(options: dict[str, str]) -> None:
    headers = sent(**options).headers
    assert headers["apikey"] == TEXT
    assert "authorization" not in headers


@pytest.mark.parametrize(
    "options",
    [
        {"api_key": TEXT[:-1]},
        {"api_key": TEXT.upper()},
        {"api_key": "sb_secret_x"},
        {"api_key": b"tnk_"},
        {"api_key": TEXT, "access_token": "a.b.c"},
        {"key": TEXT, "access_token": "a.b.c"},
        {"key": TEXT, "api_key": "tnk_" + "f" * 64},
    ],
)
def test_what_is_no_key_or_not_alone_is_refused_unshown(options: dict[str, object]) -> None:
    for kind in (Tenantry, AsyncTenantry):
        with pytest.raises(errors.InvalidArgument) as caught:
            kind(URL, **options)  # type: ignore[arg-type]
        assert caught.value.field == "api_key"
        assert TEXT[4:20] not in str(caught.value)


def test_without_any_key_the_publishable_one_is_missing() -> None:
    with pytest.raises(errors.InvalidArgument, match="publishable"):
        Tenantry(URL)


def test_nobody_signs_in_with_a_key() -> None:
    client = Tenantry(URL, KEY, api_key=TEXT)
    with pytest.raises(errors.InvalidArgument, match="another client"):
        client.auth.sign_in(email="a@example.com", password="x")
    with pytest.raises(errors.InvalidArgument, match="another client"):
        client.auth.sign_up(email="a@example.com", password="x")
    client.auth.sign_out()
    assert client._transport.tokens.access_token == TEXT
    client.close()


def test_the_fake_knows_its_keys() -> None:
    owner = FakeTenantry()
    issued = owner.api_keys.create(name="Job", scopes=["customers.read"])
    job = owner.as_api_key(issued.key, business=owner.business_id)
    owner.customers.create(first_name="Ana")
    assert [c.first_name for c in job.customers.list()] == ["Ana"]
    assert [p.permission for p in job.access.my_permissions()] == ["customers.read"]
    assert [b.permissions for b in job.businesses.mine()] == [["customers.read"]]
    with pytest.raises(errors.PermissionDenied):
        job.sessions.list()
    owner.api_keys.revoke(issued.api_key_id)
    with pytest.raises(errors.AuthenticationError) as caught:
        job.customers.list().all()
    assert caught.value.reason == "invalid_api_key"
