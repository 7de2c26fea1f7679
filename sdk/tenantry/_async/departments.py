"""Departments: the tree of a business, and who works where."""

from __future__ import annotations

import builtins
from typing import Any
from uuid import UUID

from tenantry._async.page import AsyncPages
from tenantry._async.resource import AsyncResource, check_id, matching
from tenantry._keyset import DEFAULT_PAGE_SIZE, by_age
from tenantry._reply import columns_of
from tenantry.models import Department, DepartmentAssignment, DepartmentKind, DepartmentRole

_ASSIGNMENT = columns_of(DepartmentRole) + ",role:roles(code)"


class AsyncDepartments(AsyncResource):
    """Departments of the business in use.

    A permission of scope department reaches the records of one's departments and of those below
    them, of their people, and those that nobody has yet. Where a business has no departments it
    reaches all of it: with the first department it stops doing so.
    """

    def list(
        self,
        *,
        kind: DepartmentKind | None = None,
        parent_id: UUID | str | None = None,
        newest_first: bool = True,
        page_size: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
    ) -> AsyncPages[Department]:
        """Departments by creation; with `parent_id` those directly below it."""
        query = matching(self._rows("departments", Department), kind=kind, parent_id=parent_id)
        return self._pages(
            query, Department, keyset=by_age(newest_first), page_size=page_size, after=after
        )

    async def get(self, department_id: UUID | str) -> Department:
        """A department. Raises NotFound."""
        return await self._get("departments", Department, department_id)

    async def create(
        self,
        *,
        name: str,
        kind: DepartmentKind,
        parent_id: UUID | str | None = None,
        manager_membership_id: UUID | str | None = None,
    ) -> Department:
        """Add a department. Its name is unique beside its sisters.

        It has no idempotency key: after a TransportError with `maybe_applied`, list them.

        Args:
            kind: Such as `sales`, `customer_service`, `finance`, `operations`, `it`; the hint of
                the error for another lists all.
            parent_id: The department above it; none by default.
            manager_membership_id: Who leads it. For people to read: rights come from roles alone.

        Raises:
            ValidationError: Naming the field.
            NotFound: There is no such parent or member.
            Conflict: The name is taken there.
            PermissionDenied: Without `departments.write`.
        """
        arguments = {
            "business_id": self._business_id,
            "name": name, "kind": kind, "parent_id": parent_id,
            "manager_membership_id": manager_membership_id,
        }  # fmt: skip
        reply = await self._call("create_department", arguments, returns=Department)
        return reply.one(Department)

    async def update(
        self,
        department_id: UUID | str,
        *,
        name: str | None = None,
        kind: DepartmentKind | None = None,
        parent_id: UUID | str | None = None,
        manager_membership_id: UUID | str | None = None,
        make_root: bool | None = None,
    ) -> Department:
        """Change a department; what is None stays. Moving it moves who reaches its records.

        Args:
            make_root: Move it to the top.

        Raises:
            NotFound: There is no such department, parent or member.
            ValidationError: Also with reason `circular`, below itself.
            Conflict: The name is taken there.
        """
        arguments = {
            "business_id": self._business_id,
            "department_id": check_id(department_id, "department_id"),
            "name": name, "kind": kind, "parent_id": parent_id,
            "manager_membership_id": manager_membership_id, "make_root": make_root,
        }  # fmt: skip
        reply = await self._call(
            "update_department", arguments, returns=Department, safety=self._repeatable
        )
        return reply.one(Department)

    async def delete(self, department_id: UUID | str) -> None:
        """Remove a department: roles held there end, its records belong to none.

        Raises:
            NotFound: There is none.
            Conflict: There are others below it (`in_use`).
        """
        arguments = {
            "business_id": self._business_id,
            "department_id": check_id(department_id, "department_id"),
        }
        await self._call("delete_department", arguments)

    async def assign(
        self, department_id: UUID | str, *, membership_id: UUID | str, role: str
    ) -> None:
        """Let a member work for a department with a role, which reaches no further than it.

        Raises:
            NotFound: There is no such department or member.
            ValidationError: There is no such role; the hint lists them.
            PermissionDenied: Without `members.write`, for a rank not below yours, or a role that
                carries what you may not pass on.
        """
        arguments = self._assignment(department_id, membership_id, role)
        await self._call("assign_department_role", arguments, safety=self._repeatable)

    async def unassign(
        self, department_id: UUID | str, *, membership_id: UUID | str, role: str
    ) -> None:
        """End a role of a member in a department. Raises NotFound, PermissionDenied."""
        await self._call(
            "remove_department_role", self._assignment(department_id, membership_id, role)
        )

    async def assignments(
        self,
        *,
        department_id: UUID | str | None = None,
        membership_id: UUID | str | None = None,
    ) -> builtins.list[DepartmentAssignment]:
        """Who works where, with which role: of a department, of a member, or all."""
        query = self._table("department_roles").select(_ASSIGNMENT)
        query = matching(
            query,
            business_id=self._business_id,
            department_id=department_id,
            membership_id=membership_id,
        )
        reply = await self._send(query.order("created_at").order("role_id"))
        return reply.many(DepartmentAssignment)

    def _assignment(
        self, department_id: UUID | str, membership_id: UUID | str, role: str
    ) -> dict[str, Any]:
        return {
            "business_id": self._business_id,
            "department_id": check_id(department_id, "department_id"),
            "membership_id": check_id(membership_id, "membership_id"),
            "role": role,
        }
