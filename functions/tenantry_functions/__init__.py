"""Tenantry."""
