"""Golden files: what the database grants, decides and sets, as sorted readable text.

Names that carry a month and words that only one version of Postgres has are levelled, so that one
file holds for Postgres 15 to 18.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from .catalog import Connection

#: Months of the partitions come and go.
_MONTH = re.compile(r"_\d{4}_\d{2}\b")
#: Since Postgres 17; grants to others than the owner never hold it (see the gates).
_NEWER = {"MAINTAIN"}

_WHO = "case a.grantee when 0 then 'PUBLIC' else a.grantee::regrole::text end"
_SCHEMAS = "n.nspname in ('public', 'private')"


def _lines(rows: Iterable[tuple[object, ...]], template: str) -> list[str]:
    return sorted({_MONTH.sub("_<month>", template.format(*row)) for row in rows})


def _privileges(connection: Connection, query: str) -> list[str]:
    """`object: grantee privilege, privilege` lines; the owner's own rights are left out."""
    held: dict[tuple[str, str], set[str]] = {}
    for name, grantee, privilege in connection.execute(query.encode()):
        held.setdefault((_MONTH.sub("_<month>", name), grantee), set()).add(privilege)
    return sorted(
        f"{name}: {grantee} {', '.join(sorted(privileges - _NEWER))}"
        for (name, grantee), privileges in held.items()
        if privileges - _NEWER
    )


def tables(connection: Connection) -> list[str]:
    """Grants on tables and views."""
    return _privileges(
        connection,
        f"""
        select n.nspname || '.' || c.relname, {_WHO}, lower(a.privilege_type)
        from pg_class c join pg_namespace n on n.oid = c.relnamespace, aclexplode(c.relacl) a
        where {_SCHEMAS} and c.relkind in ('r', 'p', 'v') and a.grantee <> c.relowner
        """,
    )


def columns(connection: Connection) -> list[str]:
    """Grants on columns, one line per table, grantee and verb."""
    rows = connection.execute(
        f"""
        select n.nspname || '.' || c.relname, {_WHO}, lower(a.privilege_type),
          string_agg(t.attname, ', ' order by t.attname)
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        join pg_attribute t on t.attrelid = c.oid, aclexplode(t.attacl) a
        where {_SCHEMAS} group by 1, 2, 3
        """.encode()
    )
    return _lines(rows, "{0}: {1} {2} ({3})")


def functions(connection: Connection) -> list[str]:
    """Functions with their kind, settings and grants."""
    rows = connection.execute(
        f"""
        select n.nspname || '.' || p.proname || '('
          || pg_get_function_identity_arguments(p.oid) || ')',
          concat_ws(' ', case p.prokind when 'p' then 'procedure' end,
            case p.provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end,
            case when p.prosecdef then 'definer' end, array_to_string(p.proconfig, ' ')),
          coalesce((select string_agg({_WHO}, ', ' order by {_WHO}) from aclexplode(p.proacl) a
                    where a.grantee <> p.proowner), 'nobody')
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace where {_SCHEMAS}
        """.encode()
    )
    return _lines(rows, "{0}: {1}; executable by {2}")


def schemas(connection: Connection) -> list[str]:
    """Grants on schemas and on the database, default privileges."""
    found = _privileges(
        connection,
        f"""
        select 'schema ' || n.nspname, {_WHO}, lower(a.privilege_type)
        from pg_namespace n, aclexplode(n.nspacl) a
        where n.nspname in ('public', 'private', 'extensions') and a.grantee <> n.nspowner
        union all
        select 'database', {_WHO}, lower(a.privilege_type) from pg_database d,
          aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
        where d.datname = current_database() and a.grantee <> d.datdba
        union all
        select 'default for ' || d.defaclobjtype::text || ' in ' || coalesce(n.nspname,
          'every schema'),
          {_WHO}, lower(a.privilege_type)
        from pg_default_acl d left join pg_namespace n on n.oid = d.defaclnamespace,
          aclexplode(d.defaclacl) a
        """,
    )
    return found


def policies(connection: Connection) -> list[str]:
    """Row security of every table, and every policy as the database prints it."""
    rows = connection.execute(
        f"""
        select n.nspname || '.' || c.relname, case when c.relrowsecurity then 'enabled'
          else 'OFF' end,
          case when c.relforcerowsecurity then 'forced' else 'NOT FORCED' end
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where {_SCHEMAS} and c.relkind in ('r', 'p')
        """.encode()
    )
    security = _lines(rows, "{0}: row security {1}, {2}")
    rows = connection.execute(
        f"""
        select n.nspname || '.' || c.relname, p.polname,
          case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update'
            when 'd' then 'delete' else 'all' end,
          case when p.polpermissive then '' else ' restrictive' end,
          array_to_string(array(select case r when 0 then 'public' else r::regrole::text end
                                from unnest(p.polroles) r), ', '),
          coalesce('\n    using ' || pg_get_expr(p.polqual, p.polrelid), ''),
          coalesce('\n    check ' || pg_get_expr(p.polwithcheck, p.polrelid), '')
        from pg_policy p join pg_class c on c.oid = p.polrelid
        join pg_namespace n on n.oid = c.relnamespace where {_SCHEMAS}
        """.encode()
    )
    return sorted([*security, *_lines(rows, "{0}: {1} for{3} {2} to {4}{5}{6}")])


def triggers(connection: Connection) -> list[str]:
    """Triggers by table, in the order in which they run."""
    rows = connection.execute(
        f"""
        select n.nspname || '.' || c.relname, t.tgname,
          regexp_replace(pg_get_triggerdef(t.oid), '^CREATE (CONSTRAINT )?TRIGGER \\S+ ', ''),
          case t.tgenabled when 'O' then '' else ' DISABLED ' || t.tgenabled::text end
        from pg_trigger t join pg_class c on c.oid = t.tgrelid
          join pg_namespace n on n.oid = c.relnamespace
        where {_SCHEMAS} and not t.tgisinternal
        """.encode()
    )
    return _lines(rows, "{0} {1}: {2}{3}")


def constraints(connection: Connection) -> list[str]:
    """Keys, references and checks. NOT NULL stands with the columns before Postgres 18."""
    rows = connection.execute(
        f"""
        select n.nspname || '.' || c.relname, k.conname, pg_get_constraintdef(k.oid)
        from pg_constraint k join pg_class c on c.oid = k.conrelid
        join pg_namespace n on n.oid = c.relnamespace
        where {_SCHEMAS} and k.contype in ('p', 'u', 'f', 'x', 'c') and k.conparentid = 0
          and not c.relispartition
        """.encode()
    )
    return _lines(rows, "{0} {1}: {2}")


def roles(connection: Connection) -> list[str]:
    """Attributes, memberships and settings of the roles that Tenantry uses."""
    names = "('postgres', 'anon', 'authenticated', 'service_role', 'authenticator', 'integrator')"
    attributes = connection.execute(
        f"""
        select r.rolname, concat_ws(' ', case when r.rolsuper then 'SUPERUSER' end,
          case when r.rolinherit then 'inherit' else 'noinherit' end,
          case when r.rolcreatedb then 'createdb' end, case when r.rolcreaterole
            then 'createrole' end,
          case when r.rolreplication then 'replication' end, case when r.rolbypassrls
            then 'bypassrls' end)
        from pg_roles r where r.rolname in {names}
        """.encode()
    )
    settings = connection.execute(
        f"select r.rolname, k from pg_roles r, unnest(r.rolconfig) k where r.rolname in"
        f" {names}".encode()
    )
    members = connection.execute(
        f"""
        select m.rolname, r.rolname from pg_auth_members a join pg_roles r on r.oid = a.roleid
        join pg_roles m on m.oid = a.member where m.rolname in {names} and m.rolname <> 'postgres'
        """.encode()
    )
    return sorted(
        [
            *_lines(attributes, "{0}: {1}"),
            *_lines(settings, "{0}: set {1}"),
            *_lines(members, "{0}: member of {1}"),
        ]
    )


SNAPSHOTS: dict[str, Callable[[Connection], list[str]]] = {
    "table_grants": tables,
    "column_grants": columns,
    "functions": functions,
    "schema_grants": schemas,
    "policies": policies,
    "triggers": triggers,
    "constraints": constraints,
    "roles": roles,
}


def snapshot(connection: Connection, name: str) -> str:
    """The text of one golden file."""
    return "\n".join(SNAPSHOTS[name](connection)) + "\n"
