"""tenantry api-keys: a member's rights, narrowed, for a machine."""

from __future__ import annotations

from typing import Annotated

import typer

from tenantry_cli.errors import TenantryError
from tenantry_cli.options import Connection
from tenantry_cli.output import Format, console, progress
from tenantry_cli.rights.work import done, moment, show, show_json, with_connection, working

app = typer.Typer(no_args_is_help=True, help="API keys of a business.")


@app.command("list")
@with_connection
def list_keys(
    options: Connection,
    everything: Annotated[bool, typer.Option("--all", help="Also revoked ones.")] = False,
) -> None:
    """List keys, newest first. The keys themselves are stored nowhere."""
    columns = ["id", "prefix", "name", "scopes", "allowed_addresses", "expires_at", "last_used_at"]
    columns += ["revoked_at"] if everything else []
    with working(options) as client:
        rows = [
            {name: getattr(one, name) for name in columns}
            for one in client.api_keys.list(include_revoked=everything)
        ]
        show(options, rows, "no API keys that you may see")


@app.command()
@with_connection
def create(
    options: Connection,
    name: Annotated[str, typer.Argument(help="What it is for.")],
    scope: Annotated[
        list[str], typer.Option("--scope", "-s", help="Permission, as often as needed.")
    ],
    expires: Annotated[
        str | None, typer.Option(help="90d, 12h, or a time such as 2027-01-31T12:00Z.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", help="Network it may be used from, such as 203.0.113.0/24."),
    ] = None,
) -> None:
    """Make a key that acts as you, narrowed to its scopes. Prints it once, and nothing else."""
    with working(options) as client:
        issued = client.api_keys.create(
            name=name,
            scopes=scope,
            expires_at=moment(expires, "--expires"),
            allowed_addresses=allow,
        )
        key = issued.key.get_secret_value()
        if options.output is Format.json:
            facts = {"id": issued.api_key_id, "key": key, "prefix": issued.prefix}
            show_json({**facts, "expires_at": issued.valid_until})
            return
        console.print(key, markup=False)
        progress.print("Keep this key now: it is shown once and stored nowhere")


@app.command()
@with_connection
def revoke(
    options: Connection,
    key: Annotated[str, typer.Argument(help="Id or prefix, as in the list. Never the key.")],
) -> None:
    """End a key: it can do nothing from the next request on."""
    with working(options) as client:
        found = [one for one in client.api_keys.list() if key in (str(one.id), one.prefix)]
        if len(found) != 1:
            problem = "several keys have" if found else "no open key has"
            # What was given may be a key itself: it is not repeated.
            raise TenantryError(f"{problem} this id or prefix: see `tenantry api-keys list`")
        client.api_keys.revoke(found[0].id)
        done(options, f"{found[0].name} ({found[0].prefix}) is revoked", id=found[0].id)
