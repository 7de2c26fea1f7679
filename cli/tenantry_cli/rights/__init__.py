"""`tenantry members`, `roles`, `api-keys`, `access`: who may do what in a business."""
