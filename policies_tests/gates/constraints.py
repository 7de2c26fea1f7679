"""Gates about keys, references and indexes."""

from __future__ import annotations

from .gate import Gate, Plant

_HAS = """exists (select from pg_attribute a where a.attrelid = {} and a.attname = 'business_id'
  and not a.attisdropped)"""
_ROLE = (
    "system roles have no business, so a key with one cannot exist; "
    "a trigger (_100_own_role, _100_sound) refuses roles of another business for every role"
)
_CACHE = "a cache that triggers keep; nobody else writes it"
_ITSELF = "a constraint says that it is the id of the row"
_ELSEWHERE = (
    "the record lives at the home of the organization; reached together with its business alone,"
    " so an id of another tenant reaches nothing"
)
_HISTORY = "history outlives what it is about"

GATES = (
    Gate(
        "references between tables of a business carry the business",
        "Then a reference to another tenant's row is impossible, for every role.",
        f"""
        select k.conname from pg_constraint k join pg_class c on c.oid = k.conrelid
        join pg_namespace n on n.oid = c.relnamespace
        where {{ours}} and k.contype = 'f'
          and {_HAS.format("k.conrelid")} and {_HAS.format("k.confrelid")}
          and not exists (
            select from unnest(k.conkey, k.confkey) p(own, target)
            join pg_attribute o on o.attrelid = k.conrelid and o.attnum = p.own
              and o.attname = 'business_id'
            join pg_attribute t on t.attrelid = k.confrelid and t.attnum = p.target
              and t.attname = 'business_id')
        """,
        (
            Plant(
                "create unique index customers_id on public.customers (id);"
                "alter table public.calls add constraint calls_loose foreign key (customer_id)"
                " references public.customers (id)",
                "calls_loose",
            ),
            Plant(
                "alter table public.customers add column x uuid;"
                "alter table public.calls add constraint calls_crossed foreign key (customer_id,"
                " business_id)"
                " references public.customers (business_id, id)",
                "calls_crossed",
            ),
        ),
        dict.fromkeys(
            (
                "membership_roles_role_id_fkey",
                "invitations_role_id_fkey",
                "department_roles_role_id_fkey",
                "role_hierarchies_parent_role_id_fkey",
                "role_hierarchies_child_role_id_fkey",
                "access_control_lists_role_id_fkey",
            ),
            _ROLE,
        ),
    ),
    Gate(
        "columns that name a row have a reference",
        "An id that nothing checks can name another tenant's row, or nothing.",
        f"""
        select c.oid::regclass || '.' || a.attname from pg_attribute a
        join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
        where {{ours}} and c.relkind in ('r', 'p') and not c.relispartition
          and {_HAS.format("c.oid")}
          and a.atttypid = 'uuid'::regtype and a.attname ~ '_id$'
          and not exists (select from pg_constraint k where k.conrelid = c.oid and k.contype = 'f'
                          and a.attnum = any (k.conkey))
        """,
        (Plant("alter table public.calls add column deal_id uuid", "calls.deal_id"),),
        {
            "audit_logs.business_id": _HISTORY,
            "audit_logs.actor_id": _HISTORY,
            "audit_logs.resource_id": _HISTORY,
            "erasures.resource_id": _HISTORY,
            "status_history.row_id": _HISTORY,
            "status_history.actor_id": _HISTORY,
            "daily_metric_slots.channel_id": "the zero uuid stands for none; written by triggers"
            " alone",
            "daily_metric_slots.membership_id": "the zero uuid stands for none; triggers alone",
            "import_rows.customer_id": "may name the customer that the commit will make",
            "import_rows.conversation_id": "may name the conversation that the commit will make",
            "business_memberships.customer_id": _ELSEWHERE,
            "invitations.customer_id": _ELSEWHERE,
            "access_control_lists.resource_id": _ELSEWHERE,
            "customers.shared_id": _ITSELF,
            "conversations.shared_id": _ITSELF,
            "calls.shared_id": _ITSELF,
            "private.business_directory.business_id": _CACHE,
            "private.business_directory.organization_id": _CACHE,
        },
    ),
    Gate(
        "rows go with their business",
        "Deleting a business must leave nothing of it, in any table.",
        f"""
        select c.oid::regclass from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where {{ours}} and c.relkind in ('r', 'p') and not c.relispartition
          and {_HAS.format("c.oid")}
          and not exists (
            select from pg_constraint k join pg_attribute a on a.attrelid = c.oid
              and a.attname = 'business_id'
            where k.conrelid = c.oid and k.contype = 'f' and k.confdeltype = 'c'
              and k.conkey[1] = a.attnum)
        """,
        (Plant("alter table public.calls drop constraint calls_business_fkey", "calls"),),
        {
            "audit_logs": "the log says that the business was deleted; personal values are"
            " masked in it",
            "private.business_directory": _CACHE,
        },
    ),
    Gate(
        "no reference is ON DELETE RESTRICT",
        "It is checked in the middle of a cascade, so a business could not be deleted at all.",
        """
        select k.conname from pg_constraint k join pg_class c on c.oid = k.conrelid
        join pg_namespace n on n.oid = c.relnamespace
        where {ours} and k.contype = 'f' and k.confdeltype = 'r'
        """,
        (
            Plant(
                "alter table public.calls add constraint calls_stuck foreign key (business_id,"
                " customer_id)"
                " references public.customers (business_id, id) on delete restrict",
                "calls_stuck",
            ),
        ),
    ),
    Gate(
        "ON DELETE SET NULL names its column",
        "Otherwise it would set business_id to null as well, and the delete fails.",
        """
        select k.conname from pg_constraint k join pg_class c on c.oid = k.conrelid
        join pg_namespace n on n.oid = c.relnamespace
        where {ours} and k.contype = 'f' and k.confdeltype in ('n', 'd')
          and cardinality(k.conkey) > 1
          and coalesce(cardinality(k.confdelsetcols), 0) <> 1
        """,
        (
            Plant(
                "alter table public.calls add constraint calls_null foreign key (business_id,"
                " customer_id)"
                " references public.customers (business_id, id) on delete set null",
                "calls_null",
            ),
        ),
    ),
    Gate(
        "constraints are validated and enforced",
        "A constraint that old rows may break, or new ones, promises nothing.",
        """
        select k.conname from pg_constraint k join pg_class c on c.oid = k.conrelid
        join pg_namespace n on n.oid = c.relnamespace
        where {ours} and (not k.convalidated
          or not coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true))
        """,
        (
            Plant(
                "alter table public.calls add constraint calls_later check (peer <> '') not valid",
                "calls_later",
            ),
        ),
    ),
    Gate(
        "every reference has an index",
        "Deleting or changing the row it points to would read the whole table.",
        """
        select k.conname from pg_constraint k join pg_class c on c.oid = k.conrelid
        join pg_namespace n on n.oid = c.relnamespace
        where {ours} and k.contype = 'f' and k.conparentid = 0 and not exists (
          select from pg_index i where i.indrelid = k.conrelid and i.indisvalid
            and (select array_agg(key::smallint order by key::smallint)
              from unnest((i.indkey::smallint[])[0:cardinality(k.conkey) - 1]) key)
                = (select array_agg(key order by key) from unnest(k.conkey) key)
            and (i.indpred is null or pg_get_expr(i.indpred,
              i.indrelid) ~ '^\\(\\w+ IS NOT NULL\\)$'))
        """,
        (Plant("drop index public.calls_customer_idx", "calls_customer_fkey"),),
    ),
    Gate(
        "unique keys of a business start with the business",
        "A key that spans tenants tells whether somebody else has a value.",
        f"""
        select i.indexrelid::regclass from pg_index i join pg_class c on c.oid = i.indrelid
        join pg_namespace n on n.oid = c.relnamespace
        where {{ours}} and i.indisunique and not c.relispartition and {_HAS.format("c.oid")}
          and not exists (select from pg_attribute a where a.attrelid = c.oid
                          and a.attname = 'business_id' and a.attnum = i.indkey[0])
        """,
        (
            Plant(
                "create unique index everybody on public.contact_points (kind, normalized)",
                "everybody",
            ),
            Plant(
                "create unique index everybody on public.contact_points (kind, business_id)",
                "everybody",
            ),
        ),
        {
            "roles_pkey": "random ids that no client chooses; system roles have no business",
            "private.invitation_tokens_token_hash_key": "hashes of 244 random bits that no"
            " client chooses",
            "permission_templates_pkey": "random ids that no client chooses; those offered"
            " everywhere have no business",
            "api_keys_id_key": "random ids that no client chooses; tokens know only them",
            "private.api_key_secrets_key_hash_key": "hashes of 244 random bits that no client"
            " chooses",
            "business_domains_verified_key": "a verified host is its owner's alone, as on the"
            " internet; only the operator verifies",
            "provider_connections_id_key": "random ids that no client chooses; webhooks know"
            " only them",
        },
    ),
    Gate(
        "indexes of a business start with the business",
        "A policy compares business_id: any other index reads other tenants' entries, and takes "
        "longer when they exist.",
        f"""
        select i.indexrelid::regclass from pg_index i join pg_class c on c.oid = i.indrelid
        join pg_namespace n on n.oid = c.relnamespace
        where {{ours}} and not i.indisunique and not c.relispartition and {_HAS.format("c.oid")}
          and not exists (select from pg_attribute a where a.attrelid = c.oid
                          and a.attname = 'business_id' and a.attnum = i.indkey[0])
        """,
        (Plant("create index by_peer on public.calls (peer)", "by_peer"),),
        dict.fromkeys(
            (
                "business_memberships_user_id_idx",
                "membership_roles_role_id_idx",
                "invitations_role_id_idx",
                "invitations_invited_by_idx",
                "invitations_accepted_by_idx",
                "department_roles_role_id_idx",
                "role_hierarchies_parent_role_id_idx",
                "role_hierarchies_child_role_id_idx",
                "user_permissions_permission_code_idx",
                "user_permissions_granted_by_idx",
                "access_control_lists_role_id_idx",
                "access_control_lists_granted_by_idx",
            ),
            "for the cascade from a user or role, and for the access cache",
        )
        | {"private.business_directory_organization_id_idx": "for changes of an organization"},
    ),
    Gate(
        "exclusion constraints carry the business",
        "Otherwise one tenant's booking refuses another's, and tells of it.",
        f"""
        select k.conname from pg_constraint k join pg_class c on c.oid = k.conrelid
        join pg_namespace n on n.oid = c.relnamespace
        where {{ours}} and k.contype = 'x' and {_HAS.format("c.oid")}
          and not exists (select from pg_attribute a where a.attrelid = c.oid
                          and a.attname = 'business_id' and a.attnum = any (k.conkey))
        """,
        (
            Plant(
                "alter table public.calls add constraint one_at_a_time exclude using gist"
                " (tstzrange(started_at, ended_at) with &&)",
                "one_at_a_time",
            ),
        ),
    ),
)
