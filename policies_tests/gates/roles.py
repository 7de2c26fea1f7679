"""Gates about roles, their settings, and extensions."""

from __future__ import annotations

from .gate import Gate, Plant

_API = "('anon', 'authenticated', 'service_role', 'authenticator', 'integrator')"

GATES = (
    Gate(
        "the login of the API can become three roles and nothing else",
        "Whatever authenticator is a member of, a token may name as its role.",
        """
        select r.rolname from pg_auth_members m join pg_roles r on r.oid = m.roleid
        where m.member = 'authenticator'::regrole
        """,
        (Plant("grant pg_read_all_data to authenticator", "pg_read_all_data", True),),
        {
            "anon": "visitors",
            "authenticated": "members",
            "service_role": "jobs, with the service key",
        },
    ),
    Gate(
        "roles of the API inherit from nobody",
        "A membership is a grant that no list of grants shows.",
        f"""
        select member.rolname || ' in ' || r.rolname from pg_auth_members m
        join pg_roles r on r.oid = m.roleid join pg_roles member on member.oid = m.member
        where member.rolname in {_API} and member.rolname <> 'authenticator'
        """,
        (
            Plant(
                "grant pg_read_all_data to authenticated", "authenticated in pg_read_all_data", True
            ),
            Plant("grant service_role to integrator", "integrator in service_role", True),
        ),
    ),
    Gate(
        "roles of the API have no special powers",
        "service_role passes row security, as on Supabase, and has no other.",
        f"""
        select r.rolname || ' ' || a.name from pg_roles r,
          lateral (values ('superuser', r.rolsuper), ('createdb', r.rolcreatedb), ('createrole',
            r.rolcreaterole),
            ('replication', r.rolreplication), ('bypassrls', r.rolbypassrls)) a(name, has)
        where r.rolname in {_API} and a.has
        union all
        select 'authenticator inherits' from pg_roles where rolname = 'authenticator' and rolinherit
        """,
        (
            Plant("alter role authenticated bypassrls", "authenticated bypassrls", True),
            Plant("alter role authenticator inherit", "authenticator inherits", True),
        ),
        {"service_role bypassrls": "jobs act for all tenants; the guard and the grants bound them"},
    ),
    Gate(
        "the owner of the database is no superuser",
        "As on hosted Supabase: what works here works there.",
        "select rolname from pg_roles where rolname = 'postgres' and (rolsuper or not"
        " rolbypassrls)",
        (Plant("alter role postgres superuser", "postgres", True),),
    ),
    Gate(
        "roles of the API own nothing",
        "An owner is not asked by policies and may change them.",
        f"""
        select r.rolname || ' owns ' || s.classid::regclass || ' ' || s.objid from pg_shdepend s
        join pg_roles r on r.oid = s.refobjid
        where s.deptype = 'o' and r.rolname in {_API}
          and s.dbid in (0, (select oid from pg_database where datname = current_database()))
        """.replace("|| ' ' || s.objid", ""),
        (
            Plant(
                "create table public.mine (id int); alter table public.mine owner to authenticated",
                "authenticated owns pg_class",
                True,
            ),
        ),
    ),
    Gate(
        "requests end in time",
        "One request that waits for ever holds a connection for ever.",
        """
        select w.role || ' ' || w.setting from (values
          ('anon', 'statement_timeout'), ('authenticated', 'statement_timeout'), ('authenticator',
            'statement_timeout'),
          ('integrator', 'statement_timeout'), ('authenticated', 'lock_timeout'),
            ('authenticator', 'lock_timeout'),
          ('integrator', 'lock_timeout'), ('authenticated', 'idle_in_transaction_session_timeout'),
          ('integrator', 'idle_in_transaction_session_timeout')) w(role, setting)
        join pg_roles r on r.rolname = w.role
        where not exists (select from unnest(r.rolconfig) k where k ~ ('^' || w.setting
          || '=[1-9]'))
        """,
        (
            Plant(
                "alter role authenticated reset statement_timeout",
                "authenticated statement_timeout",
                True,
            ),
            Plant("alter role integrator set lock_timeout = '0'", "integrator lock_timeout", True),
        ),
    ),
    Gate(
        "roles of the API carry no other settings",
        "A search path or row_security set on a role changes what every request means.",
        f"""
        select r.rolname || ' ' || k from pg_roles r, unnest(r.rolconfig) k
        where r.rolname in {_API}
          and k !~ '^(statement|lock|idle_in_transaction_session)_timeout='
          and k !~ '^(plan_cache_mode=|pgrst\\.)'
        """,
        (
            Plant(
                "alter role authenticated set search_path = private",
                "authenticated search_path=private",
                True,
            ),
        ),
    ),
    Gate(
        "extensions stay out of the schemas that are served",
        "Their functions would become functions of the API.",
        """
        select e.extname || ' in ' || n.nspname from pg_extension e
          join pg_namespace n on n.oid = e.extnamespace
        where {ours}
        """,
        (Plant("create extension hstore with schema public", "hstore in public", True),),
    ),
    Gate(
        "extensions are those that hosted Supabase and the embedded server share",
        "Anything else does not install there, or reaches files and other servers.",
        """
        select extname from pg_extension where extname not in (
          'plpgsql', 'citext', 'pg_trgm', 'btree_gist', 'btree_gin', 'unaccent',
            'pg_stat_statements', 'vector',
          'ltree', 'hstore', 'moddatetime', 'pgcrypto', 'uuid-ossp')
        """,
        (Plant("create extension dblink with schema extensions", "dblink", True),),
    ),
)
