"""The one base of errors that commands print as a plain message."""


class TenantryError(RuntimeError):
    """Something was asked that cannot be done; the message says why and what to do about it."""
