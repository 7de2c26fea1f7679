"""Gates about tables and their columns."""

from __future__ import annotations

from .gate import Gate, Plant

_BUSINESS_TABLES = """
  pg_class c join pg_namespace n on n.oid = c.relnamespace
  join pg_attribute b on b.attrelid = c.oid and b.attname = 'business_id' and not b.attisdropped
  where {ours} and c.relkind in ('r', 'p') and not c.relispartition
"""
_NO_SYSTEM_ROLE = "system roles belong to no business; a row without one is theirs"

GATES = (
    Gate(
        "row security is enabled and forced",
        "A table without it is open to whoever has a grant; without FORCE it is open to its owner.",
        """
        select c.oid::regclass from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where {ours} and c.relkind in ('r', 'p') and not (c.relrowsecurity
          and c.relforcerowsecurity)
        """,
        (
            Plant("create table public.forgotten (id uuid primary key)", "forgotten"),
            Plant("alter table public.customers no force row level security", "customers"),
            Plant(
                "alter table private.user_access disable row level security", "private.user_access"
            ),
            Plant(
                "create table public.audit_logs_2035_01 partition of public.audit_logs "
                "for values from ('2035-01-01') to ('2035-02-01')",
                "audit_logs_2035_01",
            ),
        ),
    ),
    Gate(
        "partitions have no grants of their own",
        "Read directly, a partition does not ask the policies of its parent.",
        """
        select c.oid::regclass from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where {ours} and c.relispartition and (
          exists (select from aclexplode(c.relacl) a where a.grantee <> c.relowner)
          or exists (select from pg_attribute t where t.attrelid = c.oid and t.attacl is not null))
        """,
        (
            Plant(
                "grant select on public.audit_logs_default to authenticated", "audit_logs_default"
            ),
            Plant("grant select (id) on public.audit_logs_default to anon", "audit_logs_default"),
        ),
    ),
    Gate(
        "no inheritance except partitions",
        "Children of a table bypass its policies and its keys.",
        """
        select c.oid::regclass from pg_inherits i join pg_class c on c.oid = i.inhrelid
        join pg_namespace n on n.oid = c.relnamespace
        where {ours} and c.relkind in ('r', 'p') and not c.relispartition
        """,
        (Plant("create table public.vip () inherits (public.customers)", "vip"),),
    ),
    Gate(
        "business_id is required and leads the primary key",
        "It is what isolation is about, and every index and reference starts with it.",
        f"""
        select c.oid::regclass from {_BUSINESS_TABLES} and (not b.attnotnull or not exists (
          select from pg_index i where i.indrelid = c.oid and i.indisprimary
            and i.indkey[0] = b.attnum))
        """,
        (
            Plant(
                "create table public.notes (business_id uuid, id uuid primary key)",
                "notes",
            ),
            Plant(
                "create table public.notes (id uuid, business_id uuid, primary key (id,"
                " business_id))",
                "notes",
            ),
        ),
        {"roles": _NO_SYSTEM_ROLE, "permission_templates": "those offered everywhere have none"},
    ),
    Gate(
        "tables that somebody may write are guarded first of all",
        "The guard keeps keys immutable and the place at home, for service_role too; row triggers "
        "run by name, and a later one may not tell a stranger anything.",
        """
        select c.oid::regclass from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where {ours} and c.relkind in ('r', 'p') and not c.relispartition
          and exists (
            select from unnest(array['authenticated', 'service_role', 'anon', 'integrator']) r,
              unnest(array['insert', 'update', 'delete']) p
            where case p when 'delete' then has_table_privilege(r, c.oid, p)
                  else has_any_column_privilege(r, c.oid, p) end)
          and not exists (
            select from pg_trigger t join pg_proc p on p.oid = t.tgfoid
            where t.tgrelid = c.oid and t.tgname = '_010_guard' and t.tgenabled = 'O'
              and t.tgqual is null
              and t.tgtype & 1 = 1 and t.tgtype & 2 = 2 and t.tgtype & 16 = 16
              and p.oid = case when exists (select from pg_attribute k
                join pg_trigger a on a.tgrelid = c.oid
                                            where k.attrelid = c.oid and k.attname = 'created_by')
                          then 'private.tg_guard()'::regprocedure
                            else 'private.tg_guard_registry()'::regprocedure end
              and (p.proname <> 'tg_guard' or t.tgtype & 12 = 12)
              and not exists (select from pg_trigger o where o.tgrelid = c.oid
                and not o.tgisinternal
                              and o.tgtype & 3 = 3 and o.tgname < t.tgname))
        """,
        (
            Plant("drop trigger _010_guard on public.customers", "customers"),
            Plant("alter table public.channels disable trigger _010_guard", "channels"),
            Plant("alter table public.channels enable replica trigger _010_guard", "channels"),
            Plant(
                "create trigger _005_early before insert on public.calls for each row "
                "execute function public.tg_stamp_metric_date('started_at')",
                "calls",
            ),
            Plant("drop trigger _010_guard on public.businesses", "businesses"),
        ),
        {
            "profiles": "belongs to a user, not to a business; user_id is in no update grant",
            "subscription_plans": "reference data that service_role maintains",
        },
    ),
    Gate(
        "append-only tables refuse every change",
        "History that can be changed is no history.",
        """
        select c.oid::regclass from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where {ours} and c.relname in ('audit_logs', 'status_history') and (
          select count(*) from pg_trigger t where t.tgrelid = c.oid and t.tgenabled = 'O'
            and t.tgfoid = 'private.tg_refuse_change()'::regprocedure and t.tgqual is null
            and (t.tgtype & 27 = 27 or t.tgtype & 34 = 34)) <> 2
        """,
        (
            Plant("alter table public.audit_logs disable trigger _020_append_only", "audit_logs"),
            Plant("drop trigger _021_append_only on public.status_history", "status_history"),
        ),
    ),
    Gate(
        "no rewrite rules",
        "A rule changes what a statement means, with the rights of its owner.",
        """
        select r.rulename || ' on ' || c.oid::regclass from pg_rewrite r
        join pg_class c on c.oid = r.ev_class join pg_namespace n on n.oid = c.relnamespace
        where {ours} and r.rulename <> '_RETURN'
        """,
        (
            Plant(
                "create rule quiet as on delete to public.customers do instead nothing",
                "quiet on customers",
            ),
        ),
    ),
    Gate(
        "everything belongs to postgres",
        "An owner may change policies and grants; hosted Supabase runs migrations as postgres.",
        """
        select c.oid::regclass from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where {ours} and c.relowner::regrole::text <> 'postgres'
        union all
        select p.oid::regprocedure from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where {ours} and p.proowner::regrole::text <> 'postgres'
        """.replace("select c.oid::regclass", "select c.oid::regclass::text").replace(
            "select p.oid::regprocedure", "select p.oid::regprocedure::text"
        ),
        (
            Plant("alter table public.customers owner to supabase_admin", "customers", True),
            Plant(
                "create function public.strange() returns int language sql as 'select 1'",
                "strange()",
                True,
            ),
        ),
    ),
    Gate(
        "nothing is published",
        "Row security does not apply to the deletes of a publication, and a full replica identity "
        "sends whole rows.",
        """
        select p.pubname || ': ' || t.schemaname || '.' || t.tablename
        from pg_publication p join pg_publication_tables t on t.pubname = p.pubname
        union all
        select 'replica identity full: ' || c.oid::regclass from pg_class c
        join pg_namespace n on n.oid = c.relnamespace where {ours} and c.relreplident = 'f'
        """,
        (
            Plant(
                "create publication everybody for table public.customers",
                "everybody: public.customers",
            ),
            Plant("alter table public.calls replica identity full", "replica identity full: calls"),
        ),
    ),
    Gate(
        "times carry their zone",
        "A timestamp without one means another moment for each session.",
        """
        select c.oid::regclass || '.' || a.attname from pg_attribute a
        join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
        where {ours} and c.relkind in ('r', 'p') and a.attnum > 0
          and a.atttypid = 'timestamp'::regtype
        """,
        (Plant("alter table public.calls add column at timestamp", "calls.at"),),
    ),
    Gate(
        "amounts are whole minor units or bounded numbers",
        "Floats lose cents; an unbounded numeric takes NaN and Infinity (a sum of it is NaN).",
        """
        select c.oid::regclass || '.' || a.attname from pg_attribute a
        join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
        where {ours} and c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped and (
          a.atttypid in ('real'::regtype, 'double precision'::regtype, 'money'::regtype)
          or (a.atttypid = 'numeric'::regtype and a.atttypmod = -1)
          or (a.attname ~ '_minor$' and a.atttypid <> 'bigint'::regtype))
        """,
        (
            Plant("alter table public.calls add column cost numeric", "calls.cost"),
            Plant("alter table public.calls add column cost double precision", "calls.cost"),
            Plant("alter table public.calls add column cost_minor integer", "calls.cost_minor"),
        ),
    ),
    Gate(
        "no sequences",
        "The next number tells how busy other tenants are.",
        """
        select c.oid::regclass from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where {ours} and c.relkind = 'S'
        """,
        (Plant("alter table public.calls add column number bigserial", "calls_number_seq"),),
    ),
    Gate(
        "no enums, and domains only in the platform plane",
        "A type per tenant schema makes rows of two places incompatible; an enum cannot use an "
        "index under row security.",
        """
        select t.oid::regtype from pg_type t join pg_namespace n on n.oid = t.typnamespace
        where {ours} and (t.typtype = 'e' or (t.typtype = 'd' and n.nspname <> 'private'))
        """,
        (
            Plant("create type public.mood as enum ('good')", "mood"),
            Plant("create domain public.short as text", "short"),
        ),
    ),
    Gate(
        "whoever writes a table may run what its columns run",
        "Defaults, checks, generated columns and index expressions are evaluated as the writer: "
        "without EXECUTE every insert fails.",
        """
        with used as (
          select coalesce(i.indrelid, k.conrelid, d.adrelid) as relation, p.oid as function
          from pg_depend e
          join pg_proc p on e.refclassid = 'pg_proc'::regclass and p.oid = e.refobjid
          left join pg_index i on e.classid = 'pg_class'::regclass and i.indexrelid = e.objid
          left join pg_constraint k on e.classid = 'pg_constraint'::regclass and k.oid = e.objid
          left join pg_attrdef d on e.classid = 'pg_attrdef'::regclass and d.oid = e.objid)
        select r || ': ' || u.function::regprocedure || ' on ' || c.oid::regclass
        from used u join pg_class c on c.oid = u.relation
        join pg_namespace n on n.oid = c.relnamespace, unnest(array['authenticated',
          'service_role']) r
        where {ours} and (has_any_column_privilege(r, c.oid, 'insert')
          or has_any_column_privilege(r, c.oid, 'update'))
          and not has_function_privilege(r, u.function, 'execute')
        """,
        (
            Plant(
                "revoke execute on function private.is_timezone(text) from authenticated",
                "authenticated: private.is_timezone(text) on businesses",
            ),
            Plant(
                "revoke execute on function"
                " private.customer_document(text,text,text,text,text,text,text)"
                " from service_role",
                "service_role: private.customer_document(text,text,text,text,text,text,text) on"
                " customers",
            ),
        ),
    ),
)
