"""The commands of `tenantry`, one module per group."""
