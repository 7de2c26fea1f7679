"""Fixtures every test may use: throw-away migrated databases (see tenantry_cli.testing)."""

pytest_plugins = ["tenantry_cli.testing"]
