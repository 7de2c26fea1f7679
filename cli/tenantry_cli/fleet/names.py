"""Names of databases and schemas. They follow from ids, never from what somebody wrote."""

from __future__ import annotations

import re
from uuid import UUID

#: PostgreSQL truncates identifiers beyond this many bytes.
LONGEST = 63
POOLED_SCHEMA = "public"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


def schema_name(organization_id: UUID) -> str:
    """The schema of an organization on a shelf, for ever: renaming would break its functions."""
    return f"tenant_{organization_id.hex}"


def database_name(prefix: str, organization_id: UUID) -> str:
    """The database of an organization in the placement `database`."""
    return _checked(f"{prefix}_{organization_id.hex}")


def shelf_name(prefix: str, number: int) -> str:
    """The database of a shelf."""
    return _checked(f"{prefix}_shelf_{number}")


def template_name(prefix: str) -> str:
    """The database that all others are cloned from."""
    return _checked(f"{prefix}_template")


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name) or len(name) > LONGEST:
        raise ValueError(f"{name!r} is no name for a database")
    return name
