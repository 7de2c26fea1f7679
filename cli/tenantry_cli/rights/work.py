"""What these commands share: a client in a business, names for ids, tables, readable errors."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rich.table import Table
from rich.text import Text

from tenantry_cli.errors import TenantryError
from tenantry_cli.options import Connection, with_options
from tenantry_cli.output import Format, console, fail, plain_errors

if TYPE_CHECKING:
    from tenantry import Tenantry
    from tenantry.models import Member

with_connection = with_options(Connection)

_DURATION = re.compile(r"(\d{1,5})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@contextmanager
def working(options: Connection) -> Iterator[Tenantry]:
    """A client in the business of the options. Errors end the command with one line."""
    # The SDK takes a second to load: other commands do not need it.
    from tenantry.errors import TenantryError as SdkError
    from tenantry_cli.importing.connection import connect, login_of
    from tenantry_cli.importing.problems import ImportRefused

    with plain_errors():
        if options.output is Format.env:
            fail("--output must be pretty or json here")
        try:
            with connect(options.api_url, options.api_key, login_of(options)) as client:
                yield client.with_options(business=_business(client, options.business))
        except (ImportRefused, SdkError) as error:
            fail(str(error))


def _business(client: Tenantry, named: str) -> UUID:
    # Not client.use(): that asks for business.read, which a key or a customer need not have.
    mine = client.businesses.mine()
    found = [one for one in mine if named in (one.slug, str(one.business_id))]
    if len(found) > 1:
        raise TenantryError(f"two of your businesses are named {named}: give the id")
    if not found:
        yours = ", ".join(sorted(one.slug for one in mine)) or "none"
        raise TenantryError(f"you have no business {named!r}. Yours: {yours}")
    if found[0].needs_second_factor:
        raise TenantryError(
            f"{found[0].organization_name} asks for a second factor: sign in with one, and give "
            "that session's --access-token"
        )
    return found[0].business_id


def member_named(client: Tenantry, named: str) -> Member:
    """The member with this id or full name."""
    members = [one for one in client.members.list(status=None) if one.status != "removed"]
    wanted = named.strip().casefold()
    found = [
        one for one in members if wanted in (str(one.id), (one.full_name or "").strip().casefold())
    ]
    if len(found) != 1:
        problem = "several members are" if found else "no member is"
        raise TenantryError(f"{problem} named {named!r}: `tenantry members list` shows ids")
    return found[0]


def moment(text: str | None, option: str) -> datetime.datetime | None:
    """A time such as 2027-01-31T12:00Z, or a while from now such as 12h or 7d."""
    if text is None:
        return None
    if match := _DURATION.fullmatch(text.strip()):
        while_ = datetime.timedelta(**{_UNITS[match[2]]: int(match[1])})
        return datetime.datetime.now(datetime.UTC) + while_
    try:
        at = datetime.datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.utcoffset() is None:
        raise TenantryError(
            f"{option} {text}: use a while such as 12h or 7d, or a time with its zone such as "
            "2027-01-31T12:00Z"
        )
    return at


def show(options: Connection, rows: Sequence[dict[str, Any]], empty: str) -> None:
    """Print rows: as a JSON list, or as a table whose headings are the names."""
    if options.output is Format.json:
        show_json(list(rows))
    elif not rows:
        console.print(empty, markup=False)
    else:
        grid = Table(box=None, pad_edge=False)
        for heading in rows[0]:
            grid.add_column(heading.replace("_", " "), overflow="fold")
        for row in rows:
            grid.add_row(*(Text(_cell(value)) for value in row.values()))
        console.print(grid, soft_wrap=False)


def show_json(value: Any) -> None:
    console.print(json.dumps(value, indent=2, ensure_ascii=False, default=str), markup=False)


def done(options: Connection, sentence: str, **facts: Any) -> None:
    """Say what was done."""
    if options.output is Format.json:
        show_json(facts)
    else:
        console.print(sentence, markup=False)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    if isinstance(value, dict):
        return joined(f"{name}:{rest}" for name, rest in value.items())
    return joined(map(str, value)) if isinstance(value, list | tuple) else _visible(str(value))


def joined(parts: Iterable[str]) -> str:
    return ", ".join(_visible(part) for part in parts)


def _visible(text: str) -> str:
    # Names are written by strangers: nothing in them moves the cursor.
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
