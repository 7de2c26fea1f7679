"""tenantry roles: what people of a business can be."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tenantry_cli.errors import TenantryError
from tenantry_cli.options import Connection
from tenantry_cli.output import Format
from tenantry_cli.rights.work import done, show, with_connection, working

app = typer.Typer(no_args_is_help=True, help="Roles: the system's and the business's own.")


@app.command("list")
@with_connection
def list_roles(options: Connection) -> None:
    """List roles, the highest rank first, with what they carry."""
    with working(options) as client:
        rows: list[dict[str, Any]] = []
        for one in client.roles.list():
            grants = one.permissions
            carried: Any = {
                code: {"scope": grants[code].scope, "grantable": grants[code].grantable}
                for code in sorted(grants)
            }
            if options.output is not Format.json:
                carried = {code: grant["scope"] for code, grant in carried.items()}
            rows.append({
                "code": one.code, "name": one.name, "rank": one.rank, "inherits": one.inherits,
                "kind": "system" if one.business_id is None else "own", "permissions": carried,
            })  # fmt: skip
        show(options, rows, "no roles that you may see")


@app.command()
@with_connection
def create(
    options: Connection,
    code: Annotated[str, typer.Argument(help="Lower-case letters, digits, underscores.")],
    name: Annotated[str | None, typer.Option(help="For people. Default: made from the code.")] = (
        None
    ),
    rank: Annotated[int, typer.Option(help="0 to 999, at most your own.")] = 100,
    permission: Annotated[
        list[str] | None,
        typer.Option(
            "--permission", "-p",
            help="CODE, CODE:SCOPE or CODE:SCOPE:grantable, as often as needed. "
            "Scope: own, department or business.",
        ),
    ] = None,
    template: Annotated[str | None, typer.Option(help="Start from this template.")] = None,
    inherits: Annotated[
        list[str] | None, typer.Option(help="Carry what this role carries too.")
    ] = None,
) -> None:  # fmt: skip
    """Make a role of the business's own."""
    with working(options) as client:
        made = client.roles.create(
            code=code,
            name=name or code.replace("_", " ").capitalize(),
            rank=rank,
            permissions=dict(map(_grant, permission or ())),
            template=template,
            inherits=inherits,
        )
        done(options, f"role {made.code} is made", id=made.id, code=made.code, rank=made.rank)


@app.command()
@with_connection
def delete(options: Connection, role: Annotated[str, typer.Argument(help="Code or id.")]) -> None:
    """Remove a role that nobody uses."""
    with working(options) as client:
        one = client.roles.get(role)
        if one.business_id is None:
            raise TenantryError(f"{one.code} is a system role, which stays")
        client.roles.delete(one.id)
        done(options, f"role {one.code} is deleted", id=one.id, code=one.code)


def _grant(text: str) -> tuple[str, dict[str, Any]]:
    code, scope, may_pass_on, *more = [*text.split(":"), "", ""]
    if more[2:] or may_pass_on not in ("", "grantable"):
        raise TenantryError(f"--permission {text}: write CODE, CODE:SCOPE or CODE:SCOPE:grantable")
    return code, {"scope": scope or "business", "grantable": bool(may_pass_on)}
