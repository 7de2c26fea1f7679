"""Rows as the API gives them: frozen pydantic models.

Almost all are generated from the database's catalog (`tenantry._generated.models`). Times are aware
datetimes, money and counts are int, fractions Decimal, `jsonb` plain Python values. Closed lists of
values are open here (`Literal[...] | str`): a value added tomorrow does not break you today.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BeforeValidator, SecretStr

from tenantry._generated import models as _generated
from tenantry._generated.models import *  # noqa: F403  the border between generated and hand-made
from tenantry._generated.models import (
    BusinessMembership,
    DepartmentRole,
    Role,
    RolePermissionScope,
)
from tenantry._row import JSON, Row

__all__ = [
    *_generated.__all__,
    "JSON",
    "AccessExplanation",
    "DepartmentAssignment",
    "FleetJob",
    "Isolation",
    "IssuedApiKey",
    "IssuedInvitation",
    "Member",
    "MyBusiness",
    "MyPermission",
    "MySession",
    "RoleGrant",
    "RoleWithPermissions",
    "Row",
]


class MyBusiness(Row):
    """A business of the signed-in user, with what the user may do there.

    Attributes:
        needs_second_factor: Its organization asks for a second factor and this session has none:
            nothing of the business is open yet, and `permissions` is empty.
    """

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
    needs_second_factor: bool = False


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


def _role_code(value: Any) -> Any:
    return value.get("code") if isinstance(value, dict) else value


class DepartmentAssignment(DepartmentRole):
    """A role that a member holds within a department.

    Attributes:
        role: Code of the role.
    """

    role: Annotated[str | None, BeforeValidator(_role_code)]


class RoleGrant(Row):
    """How a role carries a permission.

    Attributes:
        scope: `own`, `department` or `business`: how far it reaches.
        grantable: Whether holders may pass it on.
    """

    scope: RolePermissionScope = "business"
    grantable: bool = False


def _grants(value: Any) -> Any:
    """From the embedded rows of role_permissions to a mapping by permission."""
    if not isinstance(value, list):
        return value
    rows = sorted(value, key=lambda row: str(row["permission_code"]))
    return {row["permission_code"]: {k: row[k] for k in ("scope", "grantable")} for row in rows}


class RoleWithPermissions(Role):
    """A role with what it carries itself, and the roles whose permissions it carries too.

    Attributes:
        permissions: By code; those of inherited roles are not repeated here.
        inherits: Codes of roles.
    """

    permissions: Annotated[dict[str, RoleGrant], BeforeValidator(_grants)]
    inherits: Annotated[list[str], BeforeValidator(_role_codes)]


class IssuedApiKey(Row):
    """A new API key. The key is shown here once and stored nowhere.

    Attributes:
        key: `key.get_secret_value()` is its text; printing or logging it shows asterisks.
        prefix: The beginning of the key, to recognise it by in the list.
        valid_until: None for no end.
    """

    api_key_id: UUID
    key: SecretStr
    prefix: str
    valid_until: AwareDatetime | None = None


#: Pooled (shared tables), a schema of its own, or a database of its own.
Isolation = Literal["pooled", "schema", "database"]


class FleetJob(Row):
    """Work that an operator asked for; `tenantry fleet worker` does it.

    Attributes:
        kind: Such as `provision` or `move`.
        progress: How far it got.
        result: What came of it, when it is done.
        error: Why it failed.
    """

    id: UUID
    kind: str
    arguments: dict[str, Any]
    state: Literal["queued", "running", "done", "failed"] | str
    progress: dict[str, Any]
    result: dict[str, Any] | None = None
    error: str | None = None
    requested_by: str | None = None
    attempts: int
    created_at: AwareDatetime
    started_at: AwareDatetime | None = None
    finished_at: AwareDatetime | None = None


class MyPermission(Row):
    """A permission of the caller in one business.

    Attributes:
        scope: `business` (all records), `department`, `own`, or `records` (single shared ones).
        expires_at: When it, or a part of it, runs out; None for never.
    """

    business_id: UUID
    permission: str
    scope: str
    expires_at: AwareDatetime | None = None


class MySession(Row):
    """An open session of the caller.

    Attributes:
        aal: `aal2` with a second factor, else `aal1`.
        is_current: Whether it is the session that asks.
    """

    id: UUID
    created_at: AwareDatetime
    refreshed_at: AwareDatetime | None = None
    user_agent: str | None = None
    ip: str | None = None
    aal: str
    is_current: bool


class AccessExplanation(Row):
    """Whether the caller may do something with a row, and why.

    Attributes:
        rule: The rule that decided, such as `role`, `permission_given`, `record_shared`,
            `record_denied`, `permission_denied`, `out_of_scope`, `no_role`, `not_found`.
        permission: The permission asked for; None where none is.
        scope: How far the deciding rule reaches; None where it was refused.
        explanation: The same in a sentence.
    """

    allowed: bool
    rule: str
    permission: str | None = None
    scope: str | None = None
    explanation: str
