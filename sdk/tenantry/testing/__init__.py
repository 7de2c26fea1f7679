"""A Tenantry in memory, for the tests of what you build on the SDK.

    from tenantry.testing import FakeTenantry

    def test_greeting():
        client = FakeTenantry()
        client.customers.create(first_name="Ana", phone="(415) 555-0123")
        assert greet(client, "+14155550123") == "Hello Ana"

It is the real client in front of a made-up server: the same calls, models, errors, retries, pages.
It knows the resources of the SDK, finds customers by normalised number, keeps idempotency keys,
daily metrics, roles, departments, shares and API keys, and shows a user only the businesses they
are in. An operator's jobs are done when they are looked at. It does not check permissions within a
business (`client.access` says what the roles say, but nothing is refused for it), keep plan limits,
audit, or run your own triggers: test that on a real stack.
"""

from tenantry.testing._client import AsyncFakeTenantry, FakeTenantry
from tenantry.testing._server import FakeServer

__all__ = ["AsyncFakeTenantry", "FakeServer", "FakeTenantry"]
