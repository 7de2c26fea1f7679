"""Gates about what Citus asks of a schema that is to be distributed by business_id.

Nothing here needs Citus: the rules are those of its documentation and source, which
docs/how-to/scale.md names. What does not hold is an exception here and a line there.
"""

from __future__ import annotations

from .gate import Gate, Plant

_CACHE = "a cache that triggers keep"
_REGISTRY = "the registry: one small table for all tenants"
_CONSTANT = "the same rows for everybody, written by migrations"
_ROLES = "system roles belong to no business, so there is nothing to distribute them by"

#: Each node would have a copy of these.
REFERENCE_TABLES = {
    "organizations": _REGISTRY,
    "organization_memberships": _REGISTRY,
    "organization_placements": _REGISTRY,
    "businesses": _REGISTRY,
    "profiles": _REGISTRY,
    "subscriptions": _REGISTRY,
    "role_permissions": _ROLES,
    "permissions": _CONSTANT,
    "status_transitions": _CONSTANT,
    "subscription_plans": _CONSTANT,
    "private.character_classes": _CONSTANT,
    "private.character_folds": _CONSTANT,
    "private.phone_formats": _CONSTANT,
    "private.phone_ranges": _CONSTANT,
    "private.phone_regions": _CONSTANT,
    "private.record_permissions": _CONSTANT,
    "private.table_permissions": _CONSTANT,
    "private.revoked_sessions": _CACHE,
    "private.user_access": _CACHE,
    "private.user_organization_access": _CACHE,
}
#: These as well, although they have a business_id.
COPIED_TABLES = {
    "roles": _ROLES,
    "permission_templates": _ROLES,
    "private.business_directory": _CACHE,
}

_LIST = ", ".join(f"'{name}'" for name in (*REFERENCE_TABLES, *COPIED_TABLES))
_TABLES = """pg_class c join pg_namespace n on n.oid = c.relnamespace
  and {ours} and c.relkind in ('r', 'p') and not c.relispartition"""
_IS_REFERENCE = f"{{}}::regclass::text in ({_LIST})"
_IS_TENANTS = f"""not {_IS_REFERENCE.format("c.oid")} and exists (select from pg_attribute b
  where b.attrelid = c.oid and b.attname = 'business_id' and not b.attisdropped)"""
_KEY_OF = """(select b.attnum from pg_attribute b where b.attrelid = {}
  and b.attname = 'business_id' and not b.attisdropped)"""
_SECRET = "looked up before the business is known: would become a table of its own, copied to each"
_ACCOUNTS = "accounts are Auth's: no foreign key across, or auth.users copied to each node"
_METRICS = "would become one row trigger, or a sum over changes kept by a job"
_RIGHTS = "rights are computed where the registry is; the registry's writers would call it"
_EMPTIED = "only the column of its own is emptied; would become a row trigger on the target"
_COPIES = "for databases beside the main one: a cluster has one registry and would do without"
_APPLICATION = "a copied table takes no triggers: would become part of the functions that write it"
_ONCE = "asked once per statement today; would be a call without a sub-select"

#: Neither: tables of the operator, which stay on the coordinator as they are.
LOCAL_TABLES = dict.fromkeys(
    (
        "fleet_jobs",
        "migration_targets",
        "private.revocations",
        "private.compatibility",
        "placement_databases",
        "placement_moves",
        "private.capacity_samples",
        "private.maintenance_runs",
        "private.maintenance_tasks",
        "private.performance_benchmarks",
        "private.placement_version",
        "private.query_counters",
        "private.query_samples",
        "private.query_sampling",
        "private.received_registries",
        "private.registry_places",
        "private.registry_tables",
        "private.tenant_tables",
    ),
    "about the installation, not about a business: stays a local table of the coordinator",
)

GATES = (
    Gate(
        "citus: a table has a business or is copied to each node",
        "Every table is distributed by business_id or on the list of reference tables.",
        f"""
        select c.oid::regclass from {_TABLES} where not exists (select from pg_attribute b
          where b.attrelid = c.oid and b.attname = 'business_id' and not b.attisdropped)
        """,
        (Plant("create table public.homeless (id uuid primary key)", "homeless"),),
        REFERENCE_TABLES | LOCAL_TABLES,
    ),
    Gate(
        "citus: business_id is never null",
        "A row is placed by it.",
        f"""
        select c.oid::regclass from {_TABLES} join pg_attribute a on a.attrelid = c.oid
          and a.attname = 'business_id' and not a.attisdropped and not a.attnotnull
        """,
        (Plant("create table public.vague (business_id uuid, id uuid)", "vague"),),
        {"roles": _ROLES, "permission_templates": _ROLES},
    ),
    Gate(
        "citus: clients never move a row to another business",
        "The distribution column of a row cannot be updated.",
        f"""
        select c.oid::regclass from {_TABLES} join pg_attribute a on a.attrelid = c.oid
          and a.attname = 'business_id' and not a.attisdropped
        where has_column_privilege('authenticated', c.oid, a.attnum, 'update')
        """,
        (
            Plant("grant update (business_id) on public.calls to authenticated", "calls"),
            Plant("grant update on public.customers to authenticated", "customers"),
        ),
    ),
    Gate(
        "citus: keys contain business_id",
        "A node can keep only what it can see unique: primary keys, unique and exclusion"
        " constraints and unique indexes need the distribution column.",
        f"""
        select i.indexrelid::regclass from {_TABLES}
          join pg_index i on i.indrelid = c.oid and (i.indisunique or i.indisexclusion)
        where {_IS_TENANTS}
          and {_KEY_OF.format("c.oid")} <> all ((i.indkey::smallint[])[0:i.indnkeyatts - 1])
        """,
        (
            Plant("create unique index everybody on public.calls (id)", "everybody"),
            Plant(
                "create unique index beside on public.calls (id) include (business_id)", "beside"
            ),
            Plant(
                "alter table public.calls add constraint one_at_a_time exclude using gist"
                " (tstzrange(started_at, ended_at) with &&)",
                "one_at_a_time",
            ),
        ),
        dict.fromkeys(
            (
                "api_keys_id_key",
                "private.api_key_secrets_key_hash_key",
                "private.invitation_tokens_token_hash_key",
                "business_domains_verified_key",
                "provider_connections_id_key",
            ),
            _SECRET,
        ),
    ),
    Gate(
        "citus: references stay in the business or lead to a copied table",
        "Both ends of a foreign key must lie on one node: business_id at the same place in both, or"
        " a reference table as its target.",
        f"""
        select k.conname from {_TABLES}
          join pg_constraint k on k.conrelid = c.oid and k.contype = 'f' and k.conparentid = 0
        where {_IS_TENANTS} and not {_IS_REFERENCE.format("k.confrelid")}
          and array_position(k.conkey, {_KEY_OF.format("k.conrelid")})
            is distinct from coalesce(array_position(k.confkey, {_KEY_OF.format("k.confrelid")}), 0)
        """,
        (
            Plant(
                "create unique index customers_id on public.customers (id);"
                "alter table public.calls add constraint calls_loose foreign key (customer_id)"
                " references public.customers (id)",
                "calls_loose",
            ),
            Plant(
                "create unique index turned on public.customers (id, business_id);"
                "alter table public.calls add constraint calls_crossed foreign key (business_id,"
                " customer_id) references public.customers (id, business_id)",
                "calls_crossed",
            ),
        ),
        dict.fromkeys(
            (
                "access_control_lists_granted_by_fkey",
                "business_memberships_user_id_fkey",
                "invitations_accepted_by_fkey",
                "invitations_invited_by_fkey",
                "user_permissions_granted_by_fkey",
            ),
            _ACCOUNTS,
        ),
    ),
    Gate(
        "citus: copied tables refer to copied tables alone",
        "A row on every node cannot depend on a row on one of them.",
        f"""
        select k.conname from {_TABLES}
          join pg_constraint k on k.conrelid = c.oid and k.contype = 'f' and k.conparentid = 0
        where {_IS_REFERENCE.format("c.oid")} and not {_IS_REFERENCE.format("k.confrelid")}
        """,
        (
            Plant(
                "alter table public.businesses add column main uuid, add constraint backwards"
                " foreign key (id, main) references public.channels (business_id, id)",
                "backwards",
            ),
        ),
        dict.fromkeys(
            ("organization_memberships_user_id_fkey", "profiles_user_id_fkey"), _ACCOUNTS
        ),
    ),
    Gate(
        "citus: nothing is set to null by a reference",
        "ON DELETE SET NULL or SET DEFAULT, and any action ON UPDATE, is refused in a foreign key"
        " that contains the distribution column, even where a list spares it.",
        f"""
        select k.conname from {_TABLES}
          join pg_constraint k on k.conrelid = c.oid and k.contype = 'f' and k.conparentid = 0
        where {_IS_TENANTS} and {_KEY_OF.format("c.oid")} = any (k.conkey)
          and (k.confdeltype in ('n', 'd') or k.confupdtype in ('n', 'd', 'c'))
        """,
        (
            Plant(
                "alter table public.calls add constraint calls_emptied foreign key (business_id,"
                " customer_id) references public.customers (business_id, id)"
                " on delete set null (customer_id)",
                "calls_emptied",
            ),
        ),
        dict.fromkeys(
            (
                "calls_conversation_fkey",
                "calls_customer_fkey",
                "calls_department_fkey",
                "calls_handled_by_fkey",
                "calls_owner_fkey",
                "channels_connection_fkey",
                "channels_department_fkey",
                "conversations_assigned_fkey",
                "conversations_customer_fkey",
                "conversations_department_fkey",
                "customers_department_fkey",
                "customers_owner_fkey",
                "departments_manager_fkey",
                "invitations_department_fkey",
                "messages_sender_fkey",
            ),
            _EMPTIED,
        ),
    ),
    Gate(
        "citus: no sequences",
        "Ids that are random or ordered by time need no node to ask another; sequences would have"
        " to be bigint.",
        f"""
        select c.oid::regclass || '.' || a.attname from {_TABLES}
          join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
          left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
        where a.attidentity <> '' or pg_get_expr(d.adbin, d.adrelid) ~ 'nextval\\('
        """,
        (
            Plant("alter table public.calls add column number serial", "calls.number"),
            Plant(
                "alter table public.calls add column number int generated always as identity",
                "calls.number",
            ),
        ),
    ),
    Gate(
        "citus: triggers of a business work on rows",
        "A distributed table takes triggers only with citus.enable_unsafe_triggers, for each shard"
        " by itself: a statement trigger would run for each shard, not for the statement.",
        f"""
        select distinct t.tgfoid::regprocedure::text from {_TABLES}
          join pg_trigger t on t.tgrelid = c.oid and not t.tgisinternal and t.tgparentid = 0
        where {_IS_TENANTS} and t.tgtype & 1 = 0
        """,
        (
            Plant(
                "create function public.tg_planted() returns trigger language plpgsql"
                " as 'begin return null; end';"
                "create trigger planted after insert on public.calls for each statement"
                " execute function public.tg_planted()",
                "tg_planted()",
            ),
        ),
        dict.fromkeys(
            (
                "tg_calls_metrics()",
                "tg_contact_points_primary()",
                "tg_conversations_metrics()",
                "tg_customers_limit()",
                "tg_customers_metrics()",
                "tg_customers_uncount()",
                "tg_forget_access_lists()",
                "tg_messages_conversation()",
                "tg_messages_metrics()",
            ),
            _METRICS,
        )
        | dict.fromkeys(
            (
                "private.tg_access_businesses()",
                "private.tg_access_keys_gone()",
                "private.tg_access_membership_roles()",
                "private.tg_access_records()",
                "private.tg_access_roles()",
                "private.tg_access_users()",
            ),
            _RIGHTS,
        )
        | {
            "private.tg_refuse_change()": "against TRUNCATE, which has no rows; grants refuse it",
            "private.tg_refuse_at_copy()": _COPIES,
        },
    ),
    Gate(
        "citus: copied tables have no triggers",
        "Reference tables take none.",
        f"""
        select distinct t.tgfoid::regprocedure::text from {_TABLES}
          join pg_trigger t on t.tgrelid = c.oid and not t.tgisinternal and t.tgparentid = 0
        where {_IS_REFERENCE.format("c.oid")}
        """,
        (
            Plant(
                "create function public.tg_planted() returns trigger language plpgsql"
                " as 'begin return new; end';"
                "create trigger planted before insert on public.permissions for each row"
                " execute function public.tg_planted()",
                "tg_planted()",
            ),
        ),
        dict.fromkeys(
            (
                "private.tg_access_directory()",
                "private.tg_access_organizations()",
                "private.tg_access_roles()",
                "private.tg_access_sessions()",
                "private.tg_access_users()",
                "private.tg_announce_home()",
                "private.tg_businesses_limit()",
                "private.tg_businesses_timezone()",
                "private.tg_directory_businesses()",
                "private.tg_directory_organizations()",
                "private.tg_guard_registry()",
                "private.tg_permission_scope()",
                "private.tg_permission_templates_known()",
                "private.tg_placement_version()",
                "private.tg_profiles_touch()",
                "private.tg_registry_changed()",
                "private.tg_revocation()",
                "private.tg_roles_code()",
                "private.tg_settle_home()",
                "private.tg_status()",
                "tg_audit()",
            ),
            _APPLICATION,
        )
        | {"private.tg_refuse_at_copy()": _COPIES},
    ),
    Gate(
        "citus: policies read no table",
        "What a policy reads would have to be on the node of the row.",
        """
        select p.polname from pg_policy p join pg_class c on c.oid = p.polrelid
          join pg_namespace n on n.oid = c.relnamespace
          join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid
            and d.refclassid = 'pg_class'::regclass and d.refobjid <> p.polrelid
        -- Which stands among the sub-selects below.
        where {ours} and d.refobjid <> 'private.my_rights'::regclass
        """,
        (
            Plant(
                "create policy nosy on public.calls as restrictive for select to authenticated"
                " using (business_id in (select id from public.businesses))",
                "nosy",
            ),
        ),
    ),
    Gate(
        "citus: policies have no sub-select",
        "Policies on distributed tables may have none at all, even without a table.",
        """
        select distinct m[1] from pg_policy p join pg_class c on c.oid = p.polrelid
          join pg_namespace n on n.oid = c.relnamespace,
          regexp_matches(coalesce(pg_get_expr(p.polqual, p.polrelid), '')
            || coalesce(pg_get_expr(p.polwithcheck, p.polrelid), ''),
            '\\(\\s*SELECT\\s+([a-z_.]+)', 'g') m
        where {ours}
        """,
        (
            Plant(
                "create policy asks on public.calls as restrictive for select to authenticated"
                " using ((select auth.uid()) is not null)",
                "auth.uid",
            ),
        ),
        dict.fromkeys(
            (
                "my_reach",
                "private.current_user_id",
                "private.my_business_ids",
                "private.my_colleague_ids",
                "private.my_organization_ids",
                "private.my_role_ids",
                "r.business_ids",
                "r.is_whole",
            ),
            _ONCE,
        ),
    ),
    Gate(
        "citus: no rules and no materialized views",
        "Rules are not supported; a materialized view would live on the coordinator alone.",
        """
        select c.oid::regclass from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where {ours} and (c.relkind = 'm' or (c.relkind in ('r', 'p') and c.relhasrules))
        """,
        (
            Plant("create rule quiet as on delete to public.calls do instead nothing", "calls"),
            Plant("create materialized view public.stale as select 1 as one", "stale"),
        ),
    ),
    Gate(
        "citus: partitions are one level deep",
        "Partitions of partitions cannot be distributed.",
        """
        select c.oid::regclass from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where {ours} and c.relkind = 'p' and c.relispartition
        """,
        (
            Plant(
                "create table public.deeper partition of public.audit_logs"
                " for values from ('2035-01-01') to ('2035-02-01') partition by list (business_id)",
                "deeper",
            ),
        ),
    ),
)
