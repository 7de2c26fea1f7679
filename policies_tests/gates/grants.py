"""Gates about privileges."""

from __future__ import annotations

from .gate import Gate, Plant

_RELATION_ACL = """
  pg_class c join pg_namespace n on n.oid = c.relnamespace, aclexplode(c.relacl) a where {ours}
"""
_WHO = "case a.grantee when 0 then 'PUBLIC' else a.grantee::regrole::text end"

GATES = (
    Gate(
        "nobody may truncate, reference, attach triggers or maintain",
        "TRUNCATE and references do not ask policies; a trigger is code in somebody else's write.",
        f"""
        select {_WHO} || ' ' || a.privilege_type || ' ' || c.oid::regclass from {_RELATION_ACL}
          and a.grantee <> c.relowner
          and a.privilege_type not in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
        """,
        (
            Plant(
                "grant truncate on public.customers to service_role",
                "service_role TRUNCATE customers",
            ),
            Plant(
                "grant references on public.customers to authenticated",
                "authenticated REFERENCES customers",
            ),
            Plant("grant trigger on public.calls to authenticated", "authenticated TRIGGER calls"),
        ),
    ),
    Gate(
        "members hold columns, not tables",
        "A grant on the table gives ctid and xmin, and every column added later.",
        f"""
        select {_WHO} || ' ' || a.privilege_type || ' ' || c.oid::regclass from {_RELATION_ACL}
          and c.relkind in ('r', 'p') and a.privilege_type <> 'DELETE'
          and (a.grantee = 0 or a.grantee::regrole::text in ('anon', 'authenticated', 'integrator'))
        """,
        (
            Plant(
                "grant select on public.customers to authenticated",
                "authenticated SELECT customers",
            ),
            Plant("grant insert on public.calls to anon", "anon INSERT calls"),
            Plant("grant update on public.calls to public", "PUBLIC UPDATE calls"),
        ),
    ),
    Gate(
        "keys and authorship are in no client's hand",
        "A client that sets business_id on update moves rows; one that sets id probes for others.",
        """
        select r || ' ' || v || ' ' || c.oid::regclass || '.' || t.attname
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        join pg_attribute t on t.attrelid = c.oid and t.attnum > 0 and not t.attisdropped,
          unnest(array['anon', 'authenticated', 'integrator']) r, unnest(array['insert',
            'update']) v
        where {ours} and c.relkind in ('r', 'p') and has_column_privilege(r, c.oid, t.attnum, v)
          and (t.attgenerated <> '' or t.attname in ('id', 'created_at', 'updated_at',
            'created_by', 'updated_by',
                 'metric_date', 'organization_id', 'user_id', 'token_hash')
            or (v = 'update' and t.attname = 'business_id'))
        """,
        (
            Plant(
                "grant update (business_id) on public.customers to authenticated",
                "authenticated update customers.business_id",
            ),
            Plant(
                "grant insert (id) on public.contact_points to authenticated",
                "authenticated insert contact_points.id",
            ),
            Plant(
                "grant insert (created_by) on public.channels to authenticated",
                "authenticated insert channels.created_by",
            ),
        ),
    ),
    Gate(
        "no grant may be passed on",
        "A grant option lets its holder widen access outside every review.",
        f"""
        select {_WHO} || ' ' || c.oid::regclass from {_RELATION_ACL} and a.is_grantable
          and a.grantee <> c.relowner
        union all
        select {_WHO} || ' ' || c.oid::regclass || '.' || t.attname
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        join pg_attribute t on t.attrelid = c.oid, aclexplode(t.attacl) a where {{ours}}
          and a.is_grantable
        union all
        select {_WHO} || ' ' || p.oid::regprocedure from pg_proc p
          join pg_namespace n on n.oid = p.pronamespace,
          aclexplode(p.proacl) a where {{ours}} and a.is_grantable and a.grantee <> p.proowner
        """,
        (
            Plant(
                "grant select (id) on public.calls to authenticated with grant option",
                "authenticated calls.id",
            ),
            Plant(
                "grant execute on function private.new_id() to authenticated with grant option",
                "authenticated private.new_id()",
            ),
        ),
    ),
    Gate(
        "PUBLIC may execute nothing",
        "Functions are executable by everybody unless that is taken away, again after each"
        " re-creation.",
        """
        select p.oid::regprocedure from pg_proc p join pg_namespace n on n.oid = p.pronamespace,
          aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        where {ours} and a.grantee = 0
        """,
        (
            Plant(
                "grant execute on function public.create_customer to public",
                "create_customer(uuid,text,text,text,text,text,text,text,text,text,text[],text,text,"
                "text,text,text,text,jsonb,text)",
            ),
            Plant(
                "create function public.mine() returns int language sql as 'select 1';"
                "grant execute on function public.mine() to public",
                "mine()",
            ),
        ),
    ),
    Gate(
        "only the owner creates in our schemas",
        "Who may create in a schema on a search path decides what a name means.",
        """
        select r || ' ' || n.nspname from pg_namespace n,
          unnest(array['anon', 'authenticated', 'service_role', 'authenticator', 'integrator']) r
        where ({ours} or n.nspname = 'extensions') and has_schema_privilege(r, n.oid, 'create')
        """,
        (
            Plant("grant create on schema public to authenticated", "authenticated public"),
            Plant("grant create on schema private to public", "integrator private"),
        ),
    ),
    Gate(
        "the schema private is reached by members, jobs and webhooks alone",
        "Policies call functions there as the member; nobody else needs a name in it.",
        f"""
        select {_WHO} || ' ' || a.privilege_type from pg_namespace n, aclexplode(n.nspacl) a
        where n.nspname = 'private' and a.grantee <> n.nspowner
        """,
        (Plant("grant usage on schema private to anon", "anon USAGE"),),
        {
            "authenticated USAGE": "policies, defaults and checks call functions there",
            "service_role USAGE": "the same defaults and checks",
            "integrator USAGE": "types of the functions it may execute",
            "app_ro USAGE": "for logins of analytics: five functions that answer with numbers",
        },
    ),
    Gate(
        "nobody makes temporary objects",
        "A temporary table or function can stand in for what a definer function means.",
        """
        select d.datname || ': ' || r from pg_database d,
          unnest(array['anon', 'authenticated', 'service_role', 'authenticator', 'integrator']) r
        where d.datname = current_database() and has_database_privilege(r, d.oid, 'temporary')
        """.replace("select d.datname || ': ' || r", "select r"),
        (Plant("do $$ begin execute format('grant temporary on database %I to public', "
               "current_database()); end $$", "authenticated"),),
    ),
    Gate(
        "nothing is granted by default",
        "Each new table and function starts closed.",
        f"""
        select coalesce(n.nspname, 'everywhere') || ' ' || d.defaclobjtype::text || ' ' || {_WHO}
        from pg_default_acl d left join pg_namespace n on n.oid = d.defaclnamespace,
          aclexplode(d.defaclacl) a
        where a.grantee <> d.defaclrole
        union all
        select 'functions are public by default' where not exists (
          select from pg_default_acl d where d.defaclrole = 'postgres'::regrole
            and d.defaclnamespace = 0 and d.defaclobjtype = 'f')
        """,
        (
            Plant(
                "alter default privileges in schema public grant select on tables to anon",
                "public r anon",
            ),
            Plant(
                "alter default privileges grant execute on functions to public",
                "functions are public by default",
            ),
        ),
    ),
    Gate(
        "the webhook role executes three functions and holds nothing else",
        "It stands at the door to the internet.",
        """
        select 'function ' || p.oid::regprocedure from pg_proc p
          join pg_namespace n on n.oid = p.pronamespace
        where {ours} and has_function_privilege('integrator', p.oid, 'execute')
        union all
        select 'relation ' || c.oid::regclass from pg_class c
          join pg_namespace n on n.oid = c.relnamespace
        where ({ours} or n.nspname in ('auth', 'storage', 'supabase_migrations'))
          and c.relkind in ('r', 'p', 'v', 'm', 'f') and (
            has_any_column_privilege('integrator', c.oid, 'select')
              or has_any_column_privilege('integrator', c.oid, 'insert')
            or has_any_column_privilege('integrator', c.oid, 'update')
              or has_table_privilege('integrator', c.oid, 'delete'))
        """,
        (
            Plant(
                "grant execute on function private.new_id() to integrator",
                "function private.new_id()",
            ),
            Plant("grant select (id) on public.businesses to integrator", "relation businesses"),
        ),
        {
            "function webhook_connection(uuid)": "finds the business and the secrets of a"
                " connection",
            "function webhook_homes()": "says where deliveries may wait",
            "function ingest_webhook(uuid,text,text,jsonb,jsonb)": "stores a verified delivery",
            "function retry_webhook_events(integer)": "applies failed deliveries again",
        },
    ),
    Gate(
        "no role of the API reaches private tables",
        "Caches decide about access; secrets are secrets.",
        """
        select r || ' ' || c.oid::regclass from pg_class c
          join pg_namespace n on n.oid = c.relnamespace,
          unnest(array['anon', 'authenticated', 'service_role', 'integrator']) r
        where n.nspname = 'private' and c.relkind in ('r', 'p', 'v', 'm') and (
          has_any_column_privilege(r, c.oid, 'select') or has_any_column_privilege(r, c.oid,
            'insert')
          or has_any_column_privilege(r, c.oid, 'update') or has_table_privilege(r, c.oid,
            'delete'))
        """,
        (
            Plant(
                "grant select on private.provider_secrets to service_role",
                "service_role private.provider_secrets",
            ),
        ),
        {
            "authenticated private.my_rights": "what policies read: the caller's own rights, in a"
            " schema that is not served",
        },
    ),
)  # fmt: skip
