"""tenantry access: what you may do, and why."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer
from rich.text import Text

from tenantry_cli.options import Connection
from tenantry_cli.output import Format, console
from tenantry_cli.rights.work import show, show_json, with_connection, working

app = typer.Typer(no_args_is_help=True, help="What you may do in a business, and why.")


@app.command()
@with_connection
def permissions(options: Connection) -> None:
    """List your permissions and how far each reaches."""
    with working(options) as client:
        rows = [
            {"permission": one.permission, "scope": one.scope, "expires_at": one.expires_at}
            for one in client.access.my_permissions()
        ]
        show(options, rows, "you may do nothing here")


@app.command()
@with_connection
def explain(
    options: Connection,
    table: Annotated[str, typer.Argument(help="Such as customers.")],
    row_id: Annotated[
        UUID, typer.Argument(metavar="ID", help="Of the row; for insert of the business.")
    ],
    verb: Annotated[str, typer.Argument(help="select, insert, update or delete.")] = "select",
) -> None:
    """Say whether you may do this with a row, and which rule decides. Status 0 either way."""
    with working(options) as client:
        said = client.access.explain(table, row_id, verb)
        if options.output is Format.json:
            show_json(said.model_dump())
            return
        verdict = Text("allowed", "green") if said.allowed else Text("refused", "red")
        console.print(verdict + Text(f"  {verb} on {table}", ""))
        console.print(said.explanation, markup=False)
        rule = f"rule: {said.rule}"
        if said.permission:
            rule += f", permission: {said.permission}"
        if said.scope:
            rule += f", scope: {said.scope}"
        console.print(rule, markup=False)
