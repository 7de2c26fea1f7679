"""The client without async. Made from `tenantry._async`: change that only."""
