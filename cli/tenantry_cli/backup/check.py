"""Whether restored tables are protected as they were shipped. What is not stays closed."""

from __future__ import annotations

import re
from typing import LiteralString

from tenantry_cli.fleet.fleet import Connection, Home
from tenantry_gateway.boot_facts import Fact, compare, read_expected

# Everything about one schema that decides who may do what, with the schema's name taken out. Of a
# partitioned table the parts are one thing: each schema has the months that it needs.
_PROTECTION = """
with relations as (
  select c.oid, c.relname, c.relkind, c.relispartition, c.relrowsecurity, c.relforcerowsecurity,
    c.relacl, c.relowner, c.reloptions, n.nspname,
    coalesce((select p.relname || ' partition' from pg_inherits i join pg_class p
              on p.oid = i.inhparent where c.relispartition and i.inhrelid = c.oid),
             c.relname) as name
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = %(schema)s and c.relkind in ('r', 'p', 'v')
    and (c.relname = any (%(tables)s) or c.relkind = 'v' or c.relispartition)
), facts (kind, name, text) as (
  select 'row security', r.name, concat_ws(' ', r.relowner::regrole, r.relkind, r.relrowsecurity,
      r.relforcerowsecurity, r.reloptions)
  from relations r where r.relkind <> 'v'
  union all
  select 'view', r.name, concat_ws(' ', r.relowner::regrole, r.reloptions, pg_get_viewdef(r.oid))
  from relations r where r.relkind = 'v' and r.relname = any (%(views)s)
  union all
  select 'policy', r.name || '.' || p.polname, concat_ws(' ', p.polcmd, p.polpermissive,
      array(select m::regrole::text from unnest(p.polroles) m order by 1),
      pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
  from pg_policy p join relations r on r.oid = p.polrelid
  union all
  select 'grant', r.name, concat_ws(' ', a.grantee::regrole, a.privilege_type, a.is_grantable)
  from relations r, aclexplode(r.relacl) a
  where a.grantee <> r.relowner and (r.relkind <> 'v' or r.relname = any (%(views)s))
  union all
  select 'grant', r.name || '.' || t.attname,
    concat_ws(' ', a.grantee::regrole, a.privilege_type, a.is_grantable)
  from relations r join pg_attribute t on t.attrelid = r.oid and not t.attisdropped,
    aclexplode(t.attacl) a
  union all
  select 'trigger', r.name || '.' || t.tgname, t.tgenabled::text || ' '
    || regexp_replace(pg_get_triggerdef(t.oid), ' ON [^ ]+ ', ' ON it ')
  from pg_trigger t join relations r on r.oid = t.tgrelid
  where not t.tgisinternal and not r.relispartition
  union all
  select 'keys', r.name, 'their triggers are switched off'
  from pg_trigger t join relations r on r.oid = t.tgrelid
  where t.tgisinternal and t.tgenabled <> 'O'
  union all
  select 'constraint', r.name || '.' || k.conname,
    concat_ws(' ', pg_get_constraintdef(k.oid), k.convalidated)
  from pg_constraint k join relations r on r.oid = k.conrelid
  where k.contype in ('p', 'u', 'f', 'x', 'c') and not r.relispartition and k.conparentid = 0
  union all
  select 'function', p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')',
    concat_ws(' ', p.proowner::regrole, p.prosecdef, p.provolatile, p.proconfig, p.prosrc,
      pg_get_function_sqlbody(p.oid),
      array(select concat_ws(' ', a.grantee::regrole, a.privilege_type)
            from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a order by 1))
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace
  where n.nspname = %(schema)s and p.proname = any (%(functions)s)
)
select distinct kind, name, coalesce(text, '') as text from facts
"""
_VIEWS = """
select c.relname::text as name from pg_class c
where c.relnamespace = 'public'::regnamespace and c.relkind = 'v'
  and c.relname in (select name from public.api_planes()
                    where kind = 'relation' and plane = 'tenant')
"""
# Functions of the tenant plane captured their schema.
_FUNCTIONS = r"""
select distinct p.proname::text as name from pg_proc p
where p.pronamespace = 'public'::regnamespace
  and exists (select from unnest(p.proconfig) k where k like 'search\_path=public, %')
"""


def differences(place: Connection, home: Home) -> list[str]:
    """How the database of a home, and its schema, differ from what was shipped; empty when equal.

    The database is compared with the list that the gateway goes by, a tenant's schema with
    `public` beside it, which was compared before.
    """
    found = database_differences(place)
    if home.isolation == "schema" and not found:
        found = schema_differences(place, home.schema)
    return found


def database_differences(place: Connection) -> list[str]:
    """How a database differs from the shipped list, in names."""
    there = place.execute("select to_regprocedure('public.boot_facts(text)') is not null as found")
    row = there.fetchone()
    if not (row and row["found"]):
        return ["functions: public.boot_facts() is missing"]
    rows = place.execute("select section, name, fingerprint, risk from public.boot_facts()")
    facts = [Fact(one["section"], one["name"], one["fingerprint"], one["risk"]) for one in rows]
    return list(compare(read_expected(), facts).differences)


def schema_differences(place: Connection, schema: str) -> list[str]:
    """How a tenant's schema differs from `public` of the same database, in names."""
    own, other = _protection(place, schema), _protection(place, "public")
    changed: dict[str, str] = {}
    for kind, name, _ in own ^ other:
        label = f"{kind} {name}"
        here = any(one[:2] == (kind, name) for one in own)
        there = any(one[:2] == (kind, name) for one in other)
        changed[label] = "differs" if here and there else "is extra" if here else "is missing"
    grants = place.execute(_SCHEMA_GRANTS, (schema,)).fetchall()
    missing = {"authenticated", "service_role", "integrator"} - {one["grantee"] for one in grants}
    found = [f"{label} {what}" for label, what in changed.items()]
    found += [f"grant usage on schema {schema} to {role} is missing" for role in missing]
    return sorted(found)


_SCHEMA_GRANTS = """
select a.grantee::regrole::text as grantee from pg_namespace n, aclexplode(n.nspacl) a
where n.nspname = %s and a.privilege_type = 'USAGE'
"""


def _protection(place: Connection, schema: str) -> set[tuple[str, str, str]]:
    """Facts of one schema, with `@` where it names one of its own objects.

    What a tenant's schema says of the pooled tables stays, so it is not taken for the same.
    """
    tables = _names(place, "select table_name as name from private.tenant_tables")
    views, functions = _names(place, _VIEWS), _names(place, _FUNCTIONS)
    own = "|".join(map(re.escape, [*tables, *views, *functions]))
    objects = re.compile(rf"\b{re.escape(schema)}\.(?=(?:{own})\b)")
    path = re.compile(rf"search_path={re.escape(schema)},")
    rights = f"home_schema = '{schema}'::text"  # in policies: whose rights they ask for

    def plain(text: str) -> str:
        told = path.sub("search_path=@,", objects.sub("@.", text))
        return told.replace(rights, "home_schema = @")

    with place.transaction():
        # Every name is printed with its schema.
        place.execute("set local search_path = ''")
        rows = place.execute(
            _PROTECTION,
            {"schema": schema, "tables": tables, "views": views, "functions": functions},
        ).fetchall()
    return {(one["kind"], plain(one["name"]), plain(one["text"])) for one in rows}


def _names(place: Connection, query: LiteralString) -> list[str]:
    return [one["name"] for one in place.execute(query).fetchall()]
