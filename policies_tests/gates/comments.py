"""Gates about what is said of tables and columns: documentation, personal data, audit, states."""

from __future__ import annotations

from .gate import Gate, Plant

_COLUMNS = """
  pg_class c join pg_namespace n on n.oid = c.relnamespace
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
"""
_PERSONAL = "coalesce(col_description(c.oid, a.attnum), '') ~ '@personal'"
_SOUNDS_PERSONAL = (
    "(name|email|phone|address|peer|notes?|body|subject|text|summary|preview|payload|caller|"
    "recording|avatar|birth|street|city|postal|legs|media|location|reason)"
)
_OWN = "an address or name of the business itself, not of a person"

GATES = (
    Gate(
        "tables, views and functions say what they are",
        "The reference, the SDK and OpenAPI are made from these comments. In private: whatever"
        " runs "
        "with the owner's rights or may be called.",
        """
        select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where {ours} and c.relkind in ('r', 'p', 'v') and not c.relispartition
          and obj_description(c.oid, 'pg_class') is null
        union all
        select p.oid::regprocedure::text from pg_proc p
          join pg_namespace n on n.oid = p.pronamespace
        where {ours} and obj_description(p.oid, 'pg_proc') is null
          and p.prorettype <> 'trigger'::regtype and (n.nspname <> 'private' or p.prosecdef
            or p.prokind = 'p'
            or exists (select from unnest(array['authenticated', 'service_role', 'integrator']) r
                       where has_function_privilege(r, p.oid, 'execute')))
        """,
        (
            Plant("comment on table public.customers is null", "customers"),
            Plant("comment on view public.daily_metrics is null", "daily_metrics"),
            Plant("comment on function public.my_businesses() is null", "my_businesses()"),
            Plant("comment on function private.new_id() is null", "private.new_id()"),
        ),
    ),
    Gate(
        "personal columns carry a known class",
        "Export, erasure, masking and logs are driven by it.",
        f"""
        select c.oid::regclass || '.' || a.attname from {_COLUMNS}
        where {{ours}} and {_PERSONAL}
          and col_description(c.oid,
            a.attnum) !~ '@personal (name|email|phone|address|free_text|financial)\\M'
        """,
        (
            Plant(
                "comment on column public.calls.peer is '@personal telephone'",
                "calls.peer",
            ),
        ),
    ),
    Gate(
        "columns that look personal are classified",
        "A column that nobody classified is exported by nobody and erased by nobody.",
        f"""
        select c.oid::regclass || '.' || a.attname from {_COLUMNS}
        where {{ours}} and c.relkind in ('r', 'p') and not c.relispartition and not {_PERSONAL}
          and a.attname ~ '{_SOUNDS_PERSONAL}'
          and a.atttypid in ('text'::regtype, 'jsonb'::regtype, 'private.email_address'::regtype,
            'date'::regtype)
          and c.oid::regclass::text !~ '^private\\.(phone|character)_'
        """,
        (
            Plant("alter table public.customers add column nickname text", "customers.nickname"),
            Plant("comment on column public.calls.legs is 'Legs.'", "calls.legs"),
        ),
        {
            "organizations.name": _OWN,
            "businesses.name": _OWN,
            "channels.name": _OWN,
            "channels.address": _OWN,
            "channels.address_normalized": _OWN,
            "provider_connections.name": _OWN,
            "roles.name": _OWN,
            "departments.name": _OWN,
            "permission_templates.name": _OWN,
            "api_keys.name": _OWN,
            "private.table_permissions.table_name": "the name of a table",
            "migration_targets.database_name": "generated from ids",
            "migration_targets.schema_name": "generated from ids",
            "subscription_plans.name": "the name of a plan",
            "status_history.table_name": "the name of a table",
            "import_batches.file_name": "the name of a file",
            "organization_placements.database_name": "generated from ids",
            "organization_placements.schema_name": "generated from ids",
            "placement_databases.name": "generated, not about people",
            "private.tenant_tables.table_name": "the name of a table",
            "private.registry_tables.table_name": "the name of a table",
            "private.registry_places.database_name": "generated from ids",
            "private.user_access.subject": "an id",
            "private.business_directory.database_name": "generated from ids",
            "private.business_directory.schema_name": "generated from ids",
        },
    ),
    Gate(
        "the audit log masks what is personal",
        "It must not become a second copy of people's data.",
        f"""
        select distinct c.oid::regclass || '.' || a.attname from {_COLUMNS}
        join pg_trigger t on t.tgrelid = c.oid and t.tgname ~ '^_900_audit'
        where {{ours}} and ({_PERSONAL} or a.attname ~ '(token|secret|hash)')
          and not a.attname = any (string_to_array(encode(t.tgargs, 'escape'), '\\000'))
        """,
        (
            Plant(
                "comment on column public.customers.source is '@personal free_text'",
                "customers.source",
            ),
            Plant("alter table public.provider_connections add column api_secret text",
                  "provider_connections.api_secret"),
        ),
    ),
    Gate(
        "changes are audited",
        "Who changed what must be answerable for every table that members or jobs may change.",
        """
        select c.oid::regclass from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where {ours} and c.relkind in ('r', 'p') and not c.relispartition
          and exists (select from unnest(array['authenticated', 'service_role']) r
            where has_any_column_privilege(r, c.oid, 'insert') or has_any_column_privilege(r,
              c.oid, 'update')
              or has_table_privilege(r, c.oid, 'delete'))
          and (select count(*) from pg_trigger t where t.tgrelid = c.oid and t.tgenabled = 'O'
               and t.tgname in ('_900_audit', '_900_audit_update')) < 2
        """,
        (
            Plant("drop trigger _900_audit_update on public.customers", "customers"),
            Plant("alter table public.channels disable trigger _900_audit", "channels"),
        ),
        {
            "messages": "an event: the row is its own record and no member changes it",
            "call_transcripts": "an event: the row is its own record and no member changes it",
            "webhook_events": "the inbox is its own log: attempts, errors and results are columns",
            "profiles": "a person's own page, in no business",
            "subscription_plans": "reference data of the installation",
            "organizations": "the log belongs to a business; an organization is above it",
            "organization_placements": "the log belongs to a business; the placement has an epoch",
            "subscriptions": "the log belongs to a business; the provider keeps the history",
        },
    ),
    Gate(
        "states obey their machine",
        "An illegal change is refused by every path only if the trigger is there.",
        """
        select distinct s.machine from public.status_transitions s
        where not exists (
          select from pg_trigger t join pg_class c on c.oid = t.tgrelid
          where t.tgfoid = 'private.tg_status()'::regprocedure and t.tgenabled = 'O'
            and c.relnamespace = 'public'::regnamespace
            and c.relname || '.' || rtrim(encode(t.tgargs, 'escape'), '\\000') = s.machine)
        """,
        (
            Plant("drop trigger _200_status on public.calls", "calls.status"),
            Plant(
                "insert into public.status_transitions values ('orders.status', 'a', 'b', null)",
                "orders.status",
            ),
        ),
    ),
)  # fmt: skip
