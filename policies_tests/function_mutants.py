"""Single faults in functions: checks left out, clauses left out, grants too many."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .catalog import Connection
from .mutant import Mutant
from .specification import Specification


def _nth(source: str, old: str, new: str, number: int) -> str:
    """`source` with the occurrence of `old` replaced that has this number, from 0."""
    parts = source.split(old)
    return old.join(parts[: number + 1]) + new + old.join(parts[number + 1 :])


def function_mutants(specification: Specification, connection: Connection) -> list[Mutant]:
    """All mutants of functions of the database that `connection` owns."""
    maker = _Maker(specification, connection)
    return [*maker.functions(), *maker.access(), *maker.rights(), *maker.guards()]


class _Maker:
    def __init__(self, specification: Specification, connection: Connection) -> None:
        self._specification = specification
        self._connection = connection
        self._tables = [one for one in specification.tables.values() if one.schema == "public"]
        #: Enough to notice a fault in what all tables share.
        self._tenant_sample = (
            "public.customers",
            "public.audit_logs",
            "public.my_business_ids",
            "private.my_rights",
        )
        self._registry_sample = ("public.businesses", "public.invitations", "public.roles")

    def _source(self, label: str) -> str:
        row = self._connection.execute("select pg_get_functiondef(%s::regproc)", [label]).fetchone()
        assert row is not None
        return str(row[0])

    def _edit(
        self, kind: str, label: str, old: str, new: str, slices: tuple[str, ...], after: str = ""
    ) -> Mutant:
        """A function with one thing in its source replaced."""
        source = self._source(label)
        changed = source.replace(old, new)
        assert changed != source, f"{label} no longer contains {old!r}: adjust the mutant"
        return Mutant(kind, f"{label}: {old} -> {new}"[:120], f"{changed};{after}", slices)

    def _edit_view(
        self, kind: str, label: str, old: str, new: str, slices: tuple[str, ...]
    ) -> Mutant:
        """A view behind a barrier with one thing in its query replaced."""
        query = "select pg_get_viewdef(%s::regclass)"
        row = self._connection.execute(query, [label]).fetchone()
        assert row is not None
        changed = str(row[0]).replace(old, new)
        assert changed != row[0], f"{label} no longer contains {old!r}: adjust the mutant"
        statement = f"create or replace view {label} with (security_barrier) as {changed}"
        return Mutant(kind, f"{label}: {old} -> {new}"[:120], statement, slices)

    def functions(self) -> Iterator[Mutant]:
        """Checks that are gone, or ask for too little; and grants of what is internal."""
        unchecked = (
            "create function public.unchecked(b uuid, p text) returns private.business_directory"
            " language sql stable security definer set search_path = '' as"
            " 'select d from private.business_directory d where d.business_id = b';"
        )
        for label, one in self._specification.functions.items():
            if one.schema != "public" or one.requires in (None, "self"):
                continue
            source = self._source(label)
            slices = (label,)
            if "require_business(" in source:
                without = source.replace("require_business(", "public.unchecked(")
                yield Mutant("check dropped", label, f"{unchecked}{without}", slices)
            for name in ("private.require(", "private.require_organization("):
                if f"perform {name}" in source:
                    without = source.replace(f"perform {name}", "perform concat(", 1)
                    yield Mutant("check dropped", label, without, slices)
            for name in ("require_whole_business(", "require_creator("):
                if name in source:
                    yield Mutant(
                        "check asks for too little", f"{label}: {name}",
                        source.replace(name, "require_business("), slices,
                    )  # fmt: skip
            for number, part in enumerate(re.findall(r"perform require_record\(", source)):
                without = _nth(source, part, "perform concat(", number)
                yield Mutant("record not checked", f"{label} {number}", without, slices)
            if "private.require_user()" in source:
                without = source.replace("private.require_user()", "private.current_user_id()")
                yield Mutant("check dropped", label, without, slices)
            for kind, check in (
                ("rank not checked", "perform private.require_rank("),
                ("grant not checked", "perform private.require_may_grant("),
            ):
                for number in range(source.count(check)):
                    without = _nth(source, check, "perform concat(", number)
                    yield Mutant(kind, f"{label} {number}", without, (label, "ranks"))
            if one.requires and f"'{one.requires}'" in source:
                weaker = source.replace(f"'{one.requires}'", "'business.read'")
                if weaker != source:
                    yield Mutant("check asks for too little", label, weaker, slices)
            yield Mutant(
                "executable by visitors",
                label,
                f"grant execute on function {label} to anon",
                slices,
            )
        for schema, names in self._specification.internal.items():
            for name in sorted(names):
                grant = f"grant execute on routine {schema}.{name} to authenticated"
                yield Mutant("internal function granted", f"{schema}.{name}", grant, ())

    def access(self) -> Iterator[Mutant]:
        """The functions that policies, checks and guards rest on, clause by clause."""
        refresh = "select private.refresh_all_user_access()"
        directory = (
            "select private.refresh_business_directory(array(select id from public.organizations));"
        )
        for old, new in (
            ("a.subject = lower((v_claims ->> 'sub') collate \"C\") and"
             " a.permission = my_access.permission", "true"),
            ("a.home_database = my_access.home_database and a.home_schema = my_access.home_schema",
             "true"),
            ("v_claims ->> 'is_anonymous' = 'true'", "false"),
            ("v_claims ->> 'session_id' = any (v.blocked_session_ids)", "false"),
            ("v_claims ->> 'aal' = 'aal2'", "true"),
        ):  # fmt: skip
            yield self._edit(
                "access clause dropped", "private.my_access", old, new,
                (*self._tenant_sample, *self._registry_sample),
            )  # fmt: skip
        for old in (
            "a.user_id = private.current_user_id()",
            "a.permission = my_business_ids.permission",
        ):
            yield self._edit(
                "access clause dropped", "private.my_business_ids", old, "true",
                self._registry_sample,
            )  # fmt: skip
        for old, new in (
            ("subject = ", "subject is not null or subject = "),
            ("home_database = ", "home_database is not null or home_database = "),
            ("(expires_at IS NULL) AND", ""),
            ("(expires_at IS NULL) THEN", "true THEN"),
            ("mfa_business_ids IS NULL", "true"),
            ("blocked_session_ids IS NULL", "true"),
            ("'is_anonymous'::text", "'is_nobody'::text"),
            ("(limited_business_ids IS NULL)", "true"),
            (").limited_business_ids IS NULL", ").limited_business_ids is null or true"),
        ):
            slices = (*self._tenant_sample, "ends of rights")
            yield self._edit_view("rights view clause", "private.my_rights", old, new, slices)
        # Nobody who could ask past the barrier is served: the golden files notice.
        yield Mutant(
            "view without its barrier", "private.my_rights",
            "alter view private.my_rights reset (security_barrier)", (),
        )  # fmt: skip
        organizations = ("public.organizations", "public.organization_memberships")
        for old in (
            "a.user_id = private.current_user_id()",
            "v_claims ->> 'is_anonymous' = 'true'",
            "coalesce(v_claims ->> 'session_id' = any (v.blocked_session_ids), false)",
            "v_claims ->> 'aal' = 'aal2'",
        ):
            new = "false" if "claims" in old and "aal" not in old else "true"
            yield self._edit(
                "access clause dropped", "private.my_organization_ids", old, new, organizations
            )
        yield self._edit(
            "access clause dropped", "private.my_role_ids",
            "r.business_id = any (private.my_business_ids('members.read'))", "true",
            ("public.role_permissions",),
        )  # fmt: skip
        yield self._edit(
            "access clause dropped", "private.my_colleague_ids",
            "m.business_id = any (private.my_business_ids('members.read'))", "true",
            ("public.profiles",),
        )  # fmt: skip
        both = (*self._tenant_sample, *self._registry_sample)
        for label, old, new in (
            (
                "private.held_roles",
                "m.user_id = any (users) and m.status = 'active'",
                "m.user_id = any (users)",
            ),
            ("private.held_roles", "and om.status = 'active'", ""),
            ("private.held_roles", "and r.code = om.role", ""),
            (
                "private.compute_user_access",
                "d.is_readable and (d.is_writable or r.permission like '%.read')",
                "true",
            ),
            (
                "private.compute_user_access",
                "(d.is_writable or r.permission like '%.read')",
                "true",
            ),
            ("private.compute_user_access", "o.requires_mfa and p.scopes is null", "false"),
        ):
            yield self._edit("access clause dropped", label, old, new, both, refresh)
        for old in ("o.status = 'active' and b.status = 'active' and p.state = 'active'",):
            yield self._edit(
                "access clause dropped", "private.refresh_business_directory", old, "true",
                self._tenant_sample, directory,
            )  # fmt: skip
        for label in ("private.current_user_id", "public.my_business_ids"):
            yield Mutant(
                "access function immutable", label, f"alter function {label} immutable", ()
            )
        yield self._edit(
            "anybody is trusted", "private.is_trusted_caller", "'service_role'",
            "'authenticated', 'service_role'",
            tuple(label for label, one in self._specification.functions.items()
                  if one.schema == "public" and one.requires not in (None, "self")),
        )  # fmt: skip

    def rights(self) -> Iterator[Mutant]:
        """How scopes, departments, lists, single permissions and keys add up."""
        refresh = "select private.refresh_all_user_access()"
        records = ("public.customers", "public.calls", "public.contact_points", "public.messages")
        for label, old, new in (
            ("private.permission_rules",
             "(s.user_id, s.business_id, s.permission) not in", "(s.user_id is null) is not null or"
             " (s.user_id, s.business_id, s.permission) not in"),
            ("private.permission_rules",
             "and rp.scope = 'business' then 'department' else rp.scope end",
             "and false then 'department' else rp.scope end"),
            ("private.permission_rules", "h.department_id is null or p.is_record_scoped", "true"),
            ("private.permission_rules",
             "up.effect = 'allow' and coalesce(up.expires_at > now(), true)",
             "up.effect = 'allow'"),
            ("private.permission_rules", "up.effect = 'allow' and", ""),
            ("private.permission_rules",
             "up.effect = 'deny' and coalesce(up.expires_at > now(), true)",
             "up.effect = 'deny'"),
            ("private.permission_rules",
             "up.effect = 'deny' and coalesce(up.expires_at > now(), true)",
             "false"),
            ("private.permission_rules", "s.scope = 'business' or", "true or"),
            ("private.permission_rules", "r.scope = 'department' and v.business_id is null",
             "r.scope = 'department'"),
            ("private.permission_rules",
             "(s.department_id is null or d.department_id = s.department_id)", "true"),
            ("private.permission_rules", "d.user_id = s.user_id and", ""),
            ("private.permission_rules", "array[s.membership_id, s.customer_id]",
             "array[s.membership_id]"),
            ("private.permission_rules", "array[s.membership_id, s.customer_id]",
             "array[s.customer_id]"),
            ("private.department_keys", "d.parent_id = b.department_id", "d.id = b.department_id"),
            ("private.department_keys", "(values (b.department_id), (dr.membership_id))",
             "(values (b.department_id))"),
            ("private.record_rules",
             "(g.membership_id = a.membership_id or g.role_id = a.role_id or"
             " g.department_id = a.department_id)", "true"),
            ("private.record_rules", "g.department_id = a.department_id", "false"),
            ("private.record_rules", "g.role_id = a.role_id", "false"),
            ("private.record_rules", "and coalesce(a.expires_at > now(), true)", ""),
            ("private.record_rules", "a.effect = 'deny' or not exists", "true or not exists"),
            ("private.record_rules", "p.resource = a.resource and", ""),
            ("private.record_rules", "and p.verb = any (a.verbs)", ""),
            ("private.compute_user_access", "r.permission = any (p.scopes)", "true"),
            ("private.compute_user_access", "c.for_api_keys", "true"),
            ("private.compute_user_access", "h.limited_business_ids is not null",
             "q.business_id = any (h.limited_business_ids)"),
            ("private.compute_user_access", "k.revoked_at is null and", ""),
            ("private.compute_user_access",
             "k.revoked_at is null and coalesce(k.expires_at > now(), true)",
             "k.revoked_at is null"),
            ("private.compute_user_access",
             "array_agg(distinct k.id) filter (where k.kind = 'deny')", "null::uuid[]"),
            ("private.carried_roles",
             "h.parent_role_id = c.carried", "h.child_role_id = c.carried"),
        ):  # fmt: skip
            source = self._source(label)
            if label == "private.permission_rules" and old.startswith("(s.user_id"):
                old, new = old.replace("s.", "r."), "true or " + old.replace("s.", "r.")
            if old == "s.scope = 'business' or":
                old = "r.scope = 'business' or"
            assert old in source, f"{label} no longer contains {old!r}: adjust the mutant"
            slices = (*records, "public.my_business_ids", "public.audit_logs")
            changed = source.replace(old, new)
            yield Mutant("rights clause", f"{label}: {old}"[:120], f"{changed};{refresh}", slices)
        for label, old, new in (
            ("public.record_keys_of", "if v_owners is null then return null; end if;", ""),
            ("private.reaches", "reaches.business_id = any (reach.business_ids)", "true"),
            (
                "private.reaches",
                "(reaches.business_id = any (reach.limited_business_ids)) is not true",
                "true",
            ),
            (
                "private.reaches",
                "(reaches.business_id = any (reach.limited_business_ids)) is not true",
                "false",
            ),
            (
                "private.reaches",
                "and (reaches.record_id = any (reach.denied_ids)) is not true",
                "",
            ),
            ("private.reaches", "reaches.carried && reach.record_keys", "true"),
            ("public.may_create", "may_create.business_id = any (v.business_ids)\n    and", ""),
            ("public.my_limited_business_ids", "b = any (v.limited_business_ids)", "true"),
            ("public.my_limited_business_ids", "b = any (v.limited_business_ids)", "false"),
            ("public.tg_own_record", "if v_membership is not null then", "if false then"),
            ("public.require_record", "not private.is_trusted_caller()", "false"),
            ("public.require_whole_business", "not private.is_trusted_caller() and", "false and"),
            ("public.require_creator", "not private.is_trusted_caller() and", "false and"),
        ):
            asked = (
                *records, "public.create_customer", "public.start_import", "public.record_message",
                "public.may_create", "public.log_call",
            )  # fmt: skip
            yield self._edit("record clause", label, old, new, asked)
        for label, old, new in (
            ("private.set_role_permissions", "coalesce(v_level, 0) < private.scope_level(v.scope)",
             "false"),
            ("private.first_ungrantable", "coalesce(g.level, 0) < private.scope_level(rp.scope)",
             "false"),
            ("private.grantable_permissions", "and rp.grantable", ""),
            ("private.grantable_permissions",
             "h.business_id = grantable_permissions.business_id and", ""),
            ("public.set_member_permission",
             "), 0) < private.scope_level(set_member_permission.scope)", "), 0) < 0"),
            ("public.set_member_permission",
             "private.target_rank(v_membership.business_id, v_membership.id) >= 1000",
             "false"),
            ("public.clear_member_permission", "v_row.effect = 'deny' and", "false and"),
            ("public.transfer_ownership", "v_membership.status <> 'active' or", ""),
            ("public.transfer_ownership", "v_membership.status <> 'active' or"
             " v_membership.customer_id is not null", "false"),
            ("private.set_member_status", "perform private.require_rank(", "perform concat("),
        ):  # fmt: skip
            yield self._edit("granting clause", label, old, new, ("ranks",))

    def guards(self) -> Iterator[Mutant]:
        guarded = tuple(one.label for one in self._tables if one.guarded and one.plane == "tenant")
        for old, new in (
            ("new.business_id is distinct from old.business_id or", ""),
            ("if tg_op = 'INSERT' then", "if false then"),
            ("coalesce(tg_argv[0], 'business.read')", "'business.read'"),
            ("and r.home_schema = tg_table_schema", ""),
            ("tg_nargs > 0 and strpos", "false and strpos"),
            ("and strpos(v_context, e'\\n') = 0", ""),
            ("home.is_writable and", ""),
            ("and home.schema_name = tg_table_schema", ""),
            ("and home.database_name = current_database()", ""),
        ):
            # log_call adds customers for whoever may log calls.
            slices = ("public.log_call", *guarded)
            yield self._edit("guard clause dropped", "private.tg_guard", old, new, slices)
        for label, old, new in (
            ("private.tg_shared", "coalesce(old.shared_id, new.shared_id)", "new.shared_id"),
            ("private.tg_shared", "new.shared_id := new.id;", "null;"),
            ("private.tg_shared", "elsif exists (", "elsif not exists ("),
            ("private.tg_access_control_lists_mark", "and id = $2", ""),
            ("private.tg_access_control_lists_mark", "using new.business_id", "using new.id"),
        ):
            yield self._edit("mark of a shared record", label, old, new, ("shared records",))
        registry = tuple(
            one.label for one in self._tables if one.guarded and one.plane == "platform"
        )
        for column in ("id", "business_id", "organization_id"):
            old = f"to_jsonb(new) -> '{column}' is distinct from to_jsonb(old) -> '{column}'"
            yield self._edit(
                "guard clause dropped", "private.tg_guard_registry", old, "false", registry
            )
