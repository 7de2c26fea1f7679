"""`python -m tenantry_cli` is the `tenantry` command."""

from tenantry_cli.main import app

app()
