"""tenantry members: people of a business."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from tenantry_cli.errors import TenantryError
from tenantry_cli.options import Connection
from tenantry_cli.output import Format, console, progress
from tenantry_cli.rights.work import (
    done,
    member_named,
    moment,
    show,
    show_json,
    with_connection,
    working,
)

app = typer.Typer(no_args_is_help=True, help="People of a business and their roles.")

MemberArgument = Annotated[str, typer.Argument(help="Membership id or full name.")]


@app.command("list")
@with_connection
def list_members(
    options: Connection,
    everybody: Annotated[
        bool, typer.Option("--all", help="Also suspended and removed members.")
    ] = False,
) -> None:
    """List members with roles, and departments they work for."""
    with working(options) as client:
        departments = {one.id: one.name for one in client.departments.list()}
        places: dict[UUID, list[str]] = {}
        for one in client.departments.assignments():
            name = departments.get(one.department_id, str(one.department_id))
            places.setdefault(one.membership_id, []).append(f"{name} ({one.role})")
        rows = [
            {
                "id": one.id,
                "name": one.full_name,
                "roles": one.roles,
                "departments": places.get(one.id, []),
                "status": one.status,
            }
            for one in client.members.list(status=None if everybody else "active")
        ]
        show(options, rows, "no members that you may see")


@app.command()
@with_connection
def invite(
    options: Connection,
    address: Annotated[str, typer.Argument(help="E-mail address.")],
    role: Annotated[
        str | None, typer.Option(help="Code of the role; `tenantry roles list` shows them.")
    ] = None,
    department: Annotated[str | None, typer.Option(help="Name or id.")] = None,
    customer: Annotated[
        UUID | None, typer.Option(help="Id: into the portal, as this customer, without a role.")
    ] = None,
) -> None:
    """Invite somebody for 7 days. Prints the token once: send it to the address."""
    with working(options) as client:
        if (role is None) == (customer is None):
            raise TenantryError("give --role for a member, or --customer for the portal")
        if customer is not None:
            if department is not None:
                raise TenantryError("customers work for no department: leave --department out")
            issued = client.members.invite_portal_customer(customer, email=address)
        else:
            place = None
            if department is not None:
                found = [
                    one.id
                    for one in client.departments.list()
                    if department.casefold() in (str(one.id), one.name.casefold())
                ]
                if len(found) != 1:
                    problem = "several departments are" if found else "no department is"
                    raise TenantryError(f"{problem} named {department!r}: give the id")
                place = found[0]
            issued = client.members.invite(email=address, role=role or "", department_id=place)
        if options.output is Format.json:
            facts = {"invitation_id": issued.invitation_id, "token": issued.token}
            show_json({**facts, "expires_at": issued.expires_at})
            return
        console.print(issued.token, markup=False)
        progress.print(
            f"Send this token to {address}: it is shown once and ends {issued.expires_at:%Y-%m-%d}",
            markup=False,
        )


@app.command()
@with_connection
def roles(
    options: Connection,
    member: MemberArgument,
    role: Annotated[list[str], typer.Argument(help="Codes: these replace the present ones.")],
) -> None:
    """Replace the roles of a member."""
    with working(options) as client:
        one = member_named(client, member)
        now = client.members.change_roles(one.id, roles=role)
        done(options, f"{one.full_name or one.id} is now {', '.join(now)}", id=one.id, roles=now)


@app.command()
@with_connection
def suspend(options: Connection, member: MemberArgument) -> None:
    """Take all rights of a member until `reactivate`; roles stay noted."""
    with working(options) as client:
        one = member_named(client, member)
        client.members.suspend(one.id)
        done(options, f"{one.full_name or one.id} is suspended", id=one.id, status="suspended")


@app.command()
@with_connection
def reactivate(options: Connection, member: MemberArgument) -> None:
    """Give a suspended member their rights back."""
    with working(options) as client:
        one = member_named(client, member)
        client.members.reactivate(one.id)
        done(options, f"{one.full_name or one.id} is active again", id=one.id, status="active")


@app.command()
@with_connection
def remove(options: Connection, member: MemberArgument) -> None:
    """End a membership: roles, single permissions and API keys end with it."""
    with working(options) as client:
        one = member_named(client, member)
        client.members.remove(one.id)
        done(options, f"{one.full_name or one.id} is removed", id=one.id, status="removed")


@app.command()
@with_connection
def permission(
    options: Connection,
    member: MemberArgument,
    code: Annotated[
        str | None, typer.Argument(help="Such as audit.read. Without one: lists what is set.")
    ] = None,
    deny: Annotated[bool, typer.Option("--deny", help="Deny it, whatever the roles say.")] = False,
    clear: Annotated[
        bool, typer.Option("--clear", help="Take it back: the roles decide again.")
    ] = False,
    scope: Annotated[
        str | None, typer.Option(help="own, department or business. Default: business.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="7d, 12h, or a time such as 2027-01-31T12:00Z.")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="For those who read it later.")] = None,
) -> None:
    """Give a member one permission beside their roles, deny it, or take that back."""
    with working(options) as client:
        one = member_named(client, member)
        if code is None:
            if deny or clear or scope or expires or reason:
                raise TenantryError("name the permission, such as audit.read")
            columns = ("permission_code", "effect", "scope", "expires_at", "reason")
            rows = [
                {name: getattr(given, name) for name in columns}
                for given in client.members.permissions(one.id)
            ]
            show(options, rows, "no single permissions: the roles decide")
        elif clear:
            if deny or scope or expires or reason:
                raise TenantryError("--clear takes a permission back and goes alone")
            client.members.clear_permission(one.id, code)
            done(options, f"{code}: the roles decide again", id=one.id, permission_code=code)
        else:
            given = client.members.set_permission(
                one.id,
                code,
                effect="deny" if deny else None,
                scope=scope,
                expires_at=moment(expires, "--expires"),
                reason=reason,
            )
            until = f" until {given.expires_at:%Y-%m-%d %H:%M} UTC" if given.expires_at else ""
            verb = "is denied" if deny else f"is given, scope {given.scope},"
            done(
                options,
                f"{code} {verb}{until}",
                id=one.id,
                permission_code=code,
                effect=given.effect,
                scope=given.scope,
                expires_at=given.expires_at,
            )
