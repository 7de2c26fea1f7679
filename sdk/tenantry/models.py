"""Rows as the API gives them: frozen pydantic models.

Almost all are generated from the database's catalog (`tenantry._generated.models`). Times are aware
datetimes, money and counts are int, fractions Decimal, `jsonb` plain Python values. Closed lists of
values are open here (`Literal[...] | str`): a value added tomorrow does not break you today.
"""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from pydantic import AwareDatetime, BeforeValidator

from tenantry._generated import models as _generated
from tenantry._generated.models import *  # noqa: F403  the border between generated and hand-made
from tenantry._generated.models import BusinessMembership
from tenantry._row import JSON, Row

__all__ = [*_generated.__all__, "JSON", "IssuedInvitation", "Member", "MyBusiness", "Row"]


class MyBusiness(Row):
    """A business of the signed-in user, with what the user may do there."""

    business_id: UUID
    name: str
    slug: str
    organization_id: UUID
    organization_name: str
    timezone: str
    country: str
    currency: str
    roles: list[str]
    permissions: list[str]


class IssuedInvitation(Row):
    """A new invitation. The token is shown here once and stored nowhere: send it to the address."""

    invitation_id: UUID
    token: str
    expires_at: AwareDatetime

    def __repr_args__(self) -> Any:
        yield "invitation_id", self.invitation_id
        yield "expires_at", self.expires_at


def _role_codes(value: Any) -> Any:
    """From the embedded rows of membership_roles to the codes of the roles."""
    if not isinstance(value, list):
        return value
    # A role that the caller may not see comes as null.
    roles = [row["role"] if isinstance(row, dict) and "role" in row else row for row in value]
    return sorted(role["code"] if isinstance(role, dict) else role for role in roles if role)


class Member(BusinessMembership):
    """A user in a business, with roles and name."""

    roles: Annotated[list[str], BeforeValidator(_role_codes)]
    full_name: str | None = None
