"""Applying supabase/migrations: the same ledger and the same result as Supabase's own CLI."""

from tenantry_cli.migrate.files import Migration, MigrationError, read_migrations
from tenantry_cli.migrate.runner import Applied, Plan, apply_migrations, plan_migrations

__all__ = [
    "Applied",
    "Migration",
    "MigrationError",
    "Plan",
    "apply_migrations",
    "plan_migrations",
    "read_migrations",
]
