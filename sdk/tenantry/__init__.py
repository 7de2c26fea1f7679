"""The typed client of a Tenantry API.

    >>> from tenantry import Tenantry
    >>> client = Tenantry(url, key)
    >>> client.auth.sign_in(email="owner@bluebird.example", password="...")
    >>> client.use("bluebird-dental")
    >>> customer = client.customers.create(first_name="Ana", phone="(415) 555-0123")

`AsyncTenantry` is the same with `await`. Rows are models of `tenantry.models`, errors are in
`tenantry.errors`, a double for your tests is in `tenantry.testing`.
"""

from tenantry import errors, models, webhooks
from tenantry._async.client import AsyncTenantry
from tenantry._options import Exchange
from tenantry._session import Session, SignUp, User
from tenantry._sync.client import Tenantry
from tenantry._version import __version__
from tenantry.errors import APIError, TenantryError, TransportError

__all__ = [
    "APIError",
    "AsyncTenantry",
    "Exchange",
    "Session",
    "SignUp",
    "Tenantry",
    "TenantryError",
    "TransportError",
    "User",
    "__version__",
    "errors",
    "models",
    "webhooks",
]
