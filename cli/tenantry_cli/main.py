"""The `tenantry` command."""

from __future__ import annotations

import typer

from tenantry_cli.commands import backup, doctor, fleet, migrate, stack, tenant
from tenantry_cli.importing import command as importing
from tenantry_cli.operations import maintain, monitor
from tenantry_cli.rights import access, api_keys, members, roles

app = typer.Typer(
    name="tenantry",
    help="Run and look after Tenantry, the multi-tenant business backend.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # locals hold passwords
)

for command in (stack.up, stack.down, stack.status, stack.reset, stack.logs, doctor.doctor):
    app.command()(command)
app.command()(backup.restore)
app.add_typer(backup.app, name="backup")
app.add_typer(migrate.app, name="migrate")
app.add_typer(tenant.app, name="tenant")
app.add_typer(fleet.app, name="fleet")
app.add_typer(importing.app, name="import")
app.add_typer(members.app, name="members")
app.add_typer(roles.app, name="roles")
app.add_typer(api_keys.app, name="api-keys")
app.add_typer(access.app, name="access")
app.add_typer(monitor.app, name="monitor")
app.add_typer(maintain.app, name="maintenance")
