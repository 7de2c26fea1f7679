"""Single faults in functions: checks left out, clauses left out, grants too many."""

from __future__ import annotations

from collections.abc import Iterator

from .catalog import Connection
from .mutant import Mutant
from .specification import Specification


def function_mutants(specification: Specification, connection: Connection) -> list[Mutant]:
    """All mutants of functions of the database that `connection` owns."""
    maker = _Maker(specification, connection)
    return [*maker.functions(), *maker.access(), *maker.guards()]


class _Maker:
    def __init__(self, specification: Specification, connection: Connection) -> None:
        self._specification = specification
        self._connection = connection
        self._tables = [one for one in specification.tables.values() if one.schema == "public"]
        #: Enough to notice a fault in what all tables share.
        self._tenant_sample = ("public.customers", "public.audit_logs", "public.my_business_ids")
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
                if name in source:
                    without = source.replace(name, "concat(")
                    yield Mutant("check dropped", label, without, slices)
            if "private.require_user()" in source:
                without = source.replace("private.require_user()", "private.current_user_id()")
                yield Mutant("check dropped", label, without, slices)
            if "private.require_rank(" in source:
                without = source.replace("private.require_rank(", "concat(")
                yield Mutant("rank not checked", label, without, ("ranks",))
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
        for label, slices in (
            ("public.my_business_ids", self._tenant_sample),
            ("private.my_business_ids", self._registry_sample),
        ):
            for old, new in (
                ("a.user_id = private.current_user_id()", "true"),
                ("a.permission = my_business_ids.permission", "true"),
            ):
                many = {
                    "a.business_ids from": "array_agg(b) from",
                    " a\n": " a, unnest(a.business_ids) b\n",
                }
                source = self._source(label).replace(old, new)
                if "select a.business_ids" in source:
                    for piece, other in many.items():
                        source = source.replace(piece, other)
                yield Mutant("access clause dropped", f"{label}: {old}", source, slices)
        for old in ("a.home_schema = current_schema()", "a.home_database = current_database()"):
            yield self._edit(
                "access clause dropped", "public.my_business_ids", old, "true", self._tenant_sample
            )
        organizations = ("public.organizations", "public.organization_memberships")
        for old in (
            "a.user_id = private.current_user_id()",
            "a.permission = my_organization_ids.permission",
        ):
            source = self._source("private.my_organization_ids").replace(old, "true")
            source = source.replace("select a.organization_ids from", "select array_agg(o) from")
            source = source.replace(" a\n", " a, unnest(a.organization_ids) o\n")
            name = f"private.my_organization_ids: {old}"
            yield Mutant("access clause dropped", name, source, organizations)
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
        for old, new in (
            ("and m.status = 'active'", ""),
            ("and om.status = 'active'", ""),
            ("d.is_readable and (d.is_writable or rp.permission_code like '%.read')", "true"),
            ("(d.is_writable or rp.permission_code like '%.read')", "true"),
            ("and r.code = om.role", ""),
        ):
            yield self._edit(
                "access clause dropped", "private.compute_user_access", old, new,
                (*self._tenant_sample, *self._registry_sample), refresh,
            )  # fmt: skip
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

    def guards(self) -> Iterator[Mutant]:
        guarded = tuple(one.label for one in self._tables if one.guarded and one.plane == "tenant")
        for old, new in (
            ("new.business_id is distinct from old.business_id or", ""),
            ("tg_op = 'INSERT' and not exists", "false and not exists"),
            ("home.is_writable and", ""),
            ("and home.schema_name = tg_table_schema", ""),
            ("and home.database_name = current_database()", ""),
        ):
            yield self._edit("guard clause dropped", "private.tg_guard", old, new, guarded)
        registry = tuple(
            one.label for one in self._tables if one.guarded and one.plane == "platform"
        )
        for column in ("id", "business_id", "organization_id"):
            old = f"to_jsonb(new) -> '{column}' is distinct from to_jsonb(old) -> '{column}'"
            yield self._edit(
                "guard clause dropped", "private.tg_guard_registry", old, "false", registry
            )
