"""Who imports, and where: a signed-in client of the API."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import typer

from tenantry import Tenantry
from tenantry.errors import NotFound
from tenantry.models import Business, Channel
from tenantry_cli.importing.columns import Kind
from tenantry_cli.importing.problems import ImportRefused
from tenantry_cli.options import Connection
from tenantry_cli.output import is_terminal
from tenantry_cli.project import find_project
from tenantry_cli.stack.control import require_running_stack
from tenantry_cli.stack.home import Home

#: Seconds. Storing may take the 8 that the database allows, after a wait in the gateway's line.
_TIMEOUT = 60.0


@dataclass(frozen=True)
class Login:
    """How to sign in: with a token, or with address and password."""

    access_token: str | None = None
    email: str | None = None
    password: str | None = None


def login_of(options: Connection) -> Login:
    """The login that the options give; asks for a password that is missing."""
    login = Login(options.access_token, options.email, options.password)
    if login.access_token or not login.email or login.password or not is_terminal():
        return login
    return replace(login, password=typer.prompt("Password", hide_input=True, err=True))


def connect(api_url: str | None, api_key: str | None, login: Login) -> Tenantry:
    """A client acting as the user or with the API key, at the running local stack by default.

    Raises ImportRefused, StackError, and the SDK's errors.
    """
    if api_url is None or api_key is None:
        if api_url is not None:
            raise ImportRefused(
                "--api-url needs the publishable key of that API: --api-key or TENANTRY_API_KEY"
            )
        stack = require_running_stack(Home(find_project().home))
        api_url, api_key = stack.origin, api_key or stack.keys.publishable_key
    if api_key.startswith("tnk_"):
        return Tenantry(api_url, api_key=api_key, timeout=_TIMEOUT)
    if login.access_token:
        return Tenantry(api_url, api_key, access_token=login.access_token, timeout=_TIMEOUT)
    if not login.email or not login.password:
        raise ImportRefused(
            "as whom? Give --email and TENANTRY_PASSWORD, or --access-token "
            "(or TENANTRY_EMAIL, TENANTRY_ACCESS_TOKEN)"
        )
    client = Tenantry(api_url, api_key, timeout=_TIMEOUT)
    try:
        client.auth.sign_in(email=login.email, password=login.password)
    except BaseException:
        client.close()
        raise
    return client


def choose_business(client: Tenantry, business: str) -> Business:
    """The business with this slug or id, from now on in use. Raises ImportRefused."""
    try:
        return client.use(business)
    except NotFound:
        mine = ", ".join(sorted(one.slug for one in client.businesses.mine())) or "none"
        raise ImportRefused(f"you have no business {business!r}. Yours: {mine}") from None


def choose_channel(client: Tenantry, kind: Kind, channel: str | None) -> Channel | None:
    """The channel with this id, address, kind or kind:address; without one the only one there is.

    None for customers, and for calls where the business has no voice channel or several. Raises
    ImportRefused.
    """
    if kind is Kind.customers:
        if channel is not None:
            raise ImportRefused("customers belong to no channel: leave --channel out")
        return None
    is_voice = kind is Kind.calls
    known = [one for one in client.channels.list() if (one.kind == "voice") is is_voice]
    listed = ", ".join(f"{one.kind}:{one.address_normalized}" for one in known)
    if channel is not None:
        found = [one for one in known if channel.strip().casefold() in _names(one)]
        if len(found) == 1:
            return found[0]
        problem = "several channels match" if found else "no channel matches"
        raise ImportRefused(f"{problem} --channel {channel}. For {kind}: {listed or 'none'}")
    if len(known) == 1:
        return known[0]
    if is_voice:
        return None
    hint = f"say which with --channel: {listed}" if known else "add one first"
    raise ImportRefused(f"messages belong to a channel; {hint}")


def _names(channel: Channel) -> set[str]:
    addresses = {channel.address.casefold(), channel.address_normalized.casefold()}
    kind = str(channel.kind)
    return {str(channel.id), kind, *addresses, *(f"{kind}:{address}" for address in addresses)}


def call(client: Tenantry, function: str, **arguments: Any) -> Any:
    """What a function of the API returns. All that imports use may be sent twice."""
    given = {"business_id": client.business_id, **arguments}
    return client.send(client.rpc(function, given), repeatable=True).data
