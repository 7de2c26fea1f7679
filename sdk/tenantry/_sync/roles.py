# Made from _async/roles.py by tools/generate_sync.py: do not edit.
"""Roles: named sets of permissions, the system's and the business's own."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias
from uuid import UUID

from tenantry._keyset import DEFAULT_PAGE_SIZE, Keyset
from tenantry._reply import columns_of
from tenantry._sync.page import Pages
from tenantry._sync.resource import Resource, check_id, not_found
from tenantry.errors import InvalidArgument
from tenantry.models import Permission, PermissionTemplate, Role, RoleGrant, RoleWithPermissions

#: `{"customers.read": "own"}`, or with `{"scope": "own", "grantable": True}` or a RoleGrant.
Permissions: TypeAlias = Mapping[str, str | Mapping[str, Any] | RoleGrant]

_COLUMNS = (
    columns_of(Role)
    + ",permissions:role_permissions(permission_code,scope,grantable)"
    # Two ways lead from roles to roles: this is the one down.
    + ",inherits:role_hierarchies!role_hierarchies_parent_role_id_fkey"
    "(role:roles!role_hierarchies_child_role_id_fkey(code))"
)


class Roles(Resource):
    """Roles that members of the business in use can hold."""

    def list(
        self, *, page_size: int = DEFAULT_PAGE_SIZE, after: str | None = None
    ) -> Pages[RoleWithPermissions]:
        """System roles and the business's own, the highest rank first, with what they carry."""
        keyset = Keyset(("rank", "code"))
        return self._pages(
            self._offered(_COLUMNS),
            RoleWithPermissions,
            keyset=keyset,
            page_size=page_size,
            after=after,
        )

    def get(self, role: UUID | str) -> RoleWithPermissions:
        """A role by id or code, with what it carries. Raises NotFound."""
        reply = self._send(self._offered(_COLUMNS).eq(*_id_or_code(role)))
        rows = reply.many(RoleWithPermissions)
        if not rows:
            hint = "client.roles.list() lists the roles of the business."
            raise not_found("roles", role, reply, hint=hint)
        return rows[0]

    def create(
        self,
        *,
        code: str,
        name: str,
        rank: int | None = None,
        permissions: Permissions | None = None,
        template: str | None = None,
        inherits: Sequence[str] | None = None,
    ) -> Role:
        """Make a role of the business's own.

        It has no idempotency key: after a TransportError with `maybe_applied`, list the roles.

        Args:
            code: What it is called in calls: lower-case letters, digits, underscores.
            rank: 0 to 999, at most your own; 100 by default. Nobody gives or changes a role of a
                rank above their own.
            permissions: Code to scope (`own`, `department`, `business`), or to
                `{"scope": ..., "grantable": True}` when holders may pass it on.
            template: Code of a template to start from; `permissions` come on top.
            inherits: Codes of roles whose permissions it carries too.

        Raises:
            ValidationError: Naming the field; reason `unknown_permission`, `bad_scope`,
                `unknown_role`, `circular`, `unknown_template` and so on.
            PermissionDenied: Without `roles.write`, or with reason `may_not_grant` for a
                permission you may not pass on: `details["permission"]` says which.
            Conflict: The code is taken.
        """
        arguments = {
            "business_id": self._business_id,
            "code": code, "name": name, "rank": rank, "permissions": _plain(permissions),
            "template": template, "inherits": _codes(inherits),
        }  # fmt: skip
        reply = self._call("create_role", arguments, returns=Role)
        return reply.one(Role)

    def update(
        self,
        role_id: UUID | str,
        *,
        name: str | None = None,
        rank: int | None = None,
        permissions: Permissions | None = None,
        inherits: Sequence[str] | None = None,
    ) -> Role:
        """Change a role of the business; holders have the new rights at their next statement.

        What is None stays; `permissions` and `inherits` are replaced as a whole.

        Raises:
            NotFound: There is none, or it is a system role, which nobody changes.
            ValidationError, PermissionDenied: As in `create`.
        """
        arguments = {
            "business_id": self._business_id,
            "role_id": check_id(role_id, "role_id"),
            "name": name, "rank": rank, "permissions": _plain(permissions),
            "inherits": _codes(inherits),
        }  # fmt: skip
        reply = self._call("update_role", arguments, returns=Role, safety=self._repeatable)
        return reply.one(Role)

    def delete(self, role_id: UUID | str) -> None:
        """Remove a role of the business that nobody uses.

        Raises:
            NotFound: There is none, or it is a system role.
            Conflict: Members, invitations or other roles use it (`in_use`).
        """
        arguments = {
            "business_id": self._business_id,
            "role_id": check_id(role_id, "role_id"),
        }
        self._call("delete_role", arguments)

    def templates(self) -> builtins.list[PermissionTemplate]:
        """Sets of permissions to start a role from, by code."""
        query = self._table("permission_templates").select(columns_of(PermissionTemplate))
        reply = self._send(query.or_(self._ours()).order("code"))
        return reply.many(PermissionTemplate)

    def permissions(self) -> builtins.list[Permission]:
        """The catalogue of permissions, by code: the same for all businesses."""
        query = self._table("permissions").select(columns_of(Permission))
        reply = self._send(query.order("code"))
        return reply.many(Permission)

    def _offered(self, columns: str) -> Any:
        return self._table("roles").select(columns).or_(self._ours())

    def _ours(self) -> str:
        return f"business_id.is.null,business_id.eq.{self._business_id}"


def _id_or_code(role: UUID | str) -> tuple[str, str]:
    if isinstance(role, UUID):
        return "id", str(role)
    if not isinstance(role, str) or not role:
        raise InvalidArgument("role", f"{role!r} names none", hint="Give its code or id.")
    try:
        return "id", str(UUID(role))
    except ValueError:
        return "code", role


def _plain(permissions: Permissions | None) -> dict[str, Any] | None:
    if permissions is None:
        return None
    if not isinstance(permissions, Mapping):
        hint = 'Give a mapping such as {"customers.read": "department"}.'
        raise InvalidArgument("permissions", "they are no mapping", hint=hint)
    return {
        code: {"scope": given.scope, "grantable": given.grantable}
        if isinstance(given, RoleGrant)
        else given
        for code, given in permissions.items()
    }


def _codes(roles: Sequence[str] | None) -> builtins.list[str] | None:
    if roles is None:
        return None
    return [roles] if isinstance(roles, str) else builtins.list(roles)
