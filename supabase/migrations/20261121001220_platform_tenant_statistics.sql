/*
 * Numbers about tenants: people, rows, sizes, growth; and how fast the queries are that everybody uses.
 */
create function private.check_place(schema_name text, field text default 'schema_name') returns void
language plpgsql stable
set search_path = ''
as $$
begin
  if check_place.schema_name is null or not exists (select from private.place_schemas() s where s = check_place.schema_name) then
    perform private.fail('PT404', format('There is no schema of tenants called %s in this database.', coalesce(check_place.schema_name, 'null')),
      check_place.field, 'no_such_schema', 'Those there are: select private.place_schemas().');
  end if;
end $$;
comment on function private.check_place(text, text) is 'Refuses a schema that holds no tables of tenants, with PT404.';

create function private.get_table_count(schema_name text, table_name text) returns bigint
language plpgsql stable
set search_path = ''
as $$
declare
  v_count bigint;
begin
  perform private.check_place(get_table_count.schema_name);
  if not exists (
    select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = get_table_count.schema_name and c.relname = get_table_count.table_name and c.relkind in ('r', 'p')) then
    perform private.fail('PT404', format('There is no table %s in schema %s.', coalesce(get_table_count.table_name, 'null'), get_table_count.schema_name),
      'table_name', 'no_such_table', 'Name a table without its schema, as in customers.');
  end if;
  execute format('select count(*) from %I.%I', get_table_count.schema_name, get_table_count.table_name) into v_count;
  return v_count;
end $$;
comment on function private.get_table_count(text, text) is
  'Exact number of rows of a table, of all tenants that share it. PT404 for a schema or table that is none.';

create function private.tenant_users(tenant text)
returns table (organization_id uuid, organization_slug text, user_id uuid, email text, full_name text, roles text[], businesses integer, status text)
language plpgsql stable
set search_path = ''
as $$
declare
  v_organizations uuid[];
begin
  if exists (select from private.place_schemas() s where s = tenant_users.tenant) then
    v_organizations := array(select p.organization_id from public.organization_placements p
                             where p.database_name = current_database() and p.schema_name = tenant_users.tenant);
  else
    v_organizations := array(select o.id from public.organizations o where tenant_users.tenant in (o.slug::text, o.id::text));
    if v_organizations = '{}' then
      perform private.fail('PT404', format('There is no organization or schema %s here.', coalesce(tenant_users.tenant, 'null')), 'tenant', 'no_such_tenant',
        'Give the slug or id of an organization, or a schema of private.place_schemas().');
    end if;
  end if;
  return query
  with held as (
    select b.organization_id, m.user_id, m.status, m.business_id, r.code as role
    from public.businesses b
    join public.business_memberships m on m.business_id = b.id and m.status <> 'removed'
    left join public.membership_roles mr on (mr.business_id, mr.membership_id) = (m.business_id, m.id)
    left join public.roles r on r.id = mr.role_id
    where b.organization_id = any (v_organizations)
    union all
    select om.organization_id, om.user_id, om.status, null, 'organization ' || om.role
    from public.organization_memberships om where om.organization_id = any (v_organizations) and om.status <> 'removed'
  )
  select h.organization_id, o.slug::text, h.user_id, u.email::text, p.full_name,
    coalesce(array_agg(distinct h.role order by h.role) filter (where h.role is not null), '{}'), count(distinct h.business_id)::integer,
    case when bool_or(h.status = 'active') then 'active' else 'suspended' end
  from held h
  join public.organizations o on o.id = h.organization_id
  left join auth.users u on u.id = h.user_id
  left join public.profiles p on p.user_id = h.user_id
  group by h.organization_id, o.slug, h.user_id, u.email, p.full_name
  order by o.slug, u.email;
end $$;
comment on function private.tenant_users(text) is
  'People of an organization (by slug or id), or of all organizations at home in a schema of this database: once per organization, removed ones left out. PT404 for an unknown tenant. For operators.';

-- Rows and sizes ----------------------------------------------------------------------------------

create function private.tenant_row_counts()
returns table (schema_name name, organization_id uuid, table_name name, row_count bigint)
language plpgsql stable
set search_path = ''
as $$
declare
  v_schema name;
  v_table name;
begin
  for v_schema in select s from private.place_schemas() s loop
    foreach v_table in array array['customers', 'conversations', 'messages', 'calls'] loop
      return query execute format(
        'select %L::name, b.organization_id, %L::name, sum(t.row_count)::bigint
         from (select c.business_id, count(*) as row_count from %I.%I c group by 1) t join public.businesses b on b.id = t.business_id
         group by 2', v_schema, v_table, v_schema, v_table);
    end loop;
  end loop;
end $$;
comment on function private.tenant_row_counts() is
  'Exact rows of the main tables by organization and schema. Reads the tables: for reports, not for every request.';

create function private.migration_version(schema_name name) returns text
language plpgsql stable
set search_path = ''
as $$
declare
  v_ledger text := case when migration_version.schema_name = 'public' then 'supabase_migrations.schema_migrations'
                        else format('%I.schema_migrations', migration_version.schema_name) end;
  v_version text;
begin
  if to_regclass(v_ledger) is not null then
    execute format('select max(version)::text from %s', v_ledger::regclass) into v_version;
  end if;
  return v_version;
end $$;
comment on function private.migration_version(name) is
  'The newest migration that the ledger of a place names; null where there is no ledger. public has that of the database.';

create function private.tenant_statistics()
returns table (organization_id uuid, organization_slug text, isolation text, database_name text, schema_name text, state text, migration_version text,
  businesses bigint, users bigint, customers bigint, conversations bigint, messages bigint, calls bigint, size_bytes bigint, is_size_estimated boolean, connections bigint)
language plpgsql stable security definer
set search_path = ''
as $$
begin
  return query
  with counts as materialized (
    select r.organization_id, r.schema_name, r.table_name, r.row_count,
      r.row_count / sum(r.row_count) over (partition by r.schema_name, r.table_name) as share
    from private.tenant_row_counts() r
  ), rows as (
    select c.organization_id, c.schema_name,
      sum(c.row_count) filter (where c.table_name = 'customers') as customers, sum(c.row_count) filter (where c.table_name = 'conversations') as conversations,
      sum(c.row_count) filter (where c.table_name = 'messages') as messages, sum(c.row_count) filter (where c.table_name = 'calls') as calls,
      -- Of shared tables, the share of the rows.
      sum(c.share * pg_total_relation_size(format('%I.%I', c.schema_name, c.table_name)::regclass))::bigint as shared_bytes
    from counts c group by 1, 2
  ), people as (
    select b.organization_id, count(distinct b.id) as businesses, count(distinct m.user_id) filter (where m.status = 'active') as users
    from public.businesses b left join public.business_memberships m on m.business_id = b.id group by 1
  ), schema_sizes as (
    select n.nspname, sum(pg_total_relation_size(c.oid))::bigint as bytes
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname ~ '^tenant_[0-9a-f]{32}$' and c.relkind in ('r', 'm') group by 1
  ), sessions as materialized (
    select v.schema_name, v.total_connections from private.pg_stat_activity_by_schema v where v.database_name = current_database()
  ), places as (
    select p.organization_id, o.slug::text as slug, p.isolation, p.schema_name, p.state
    from public.organization_placements p join public.organizations o on o.id = p.organization_id
    where p.database_name = current_database()
    union all
    -- A schema that nobody registered: left by a move or a failed start. It costs what it costs.
    select null, null, 'schema', s.schema_name, 'unregistered'
    from private.place_schemas() as s(schema_name)
    where s.schema_name <> 'public' and not exists (
      select from public.organization_placements p where p.database_name = current_database() and p.schema_name = s.schema_name)
  )
  select p.organization_id, p.slug, p.isolation, current_database()::text, p.schema_name::text, p.state, private.migration_version(p.schema_name::name),
    coalesce(h.businesses, 0), coalesce(h.users, 0),
    coalesce(r.customers, 0)::bigint, coalesce(r.conversations, 0)::bigint, coalesce(r.messages, 0)::bigint, coalesce(r.calls, 0)::bigint,
    case p.isolation when 'schema' then coalesce(z.bytes, 0) when 'database' then pg_database_size(current_database()) else coalesce(r.shared_bytes, 0) end,
    p.isolation = 'pooled',
    -- Connections to shared tables are nobody's own.
    case when p.isolation <> 'pooled' then coalesce(c.total_connections, 0) end
  from places p
  left join people h on h.organization_id = p.organization_id
  left join rows r on r.organization_id = p.organization_id and r.schema_name = p.schema_name
  left join schema_sizes z on z.nspname = p.schema_name
  left join sessions c on c.schema_name = p.schema_name
  order by p.slug nulls last, p.schema_name;
end $$;
comment on function private.tenant_statistics() is
  'Every tenant at home in this database: people, rows, size, connections, migration, state; and tenant schemas that nobody registered (state unregistered). Of a pooled tenant the size is its share of the four main tables (is_size_estimated) and connections are null. Reads the main tables.';

create function private.system_statistics()
returns table (tenants bigint, businesses bigint, users bigint, customers bigint, conversations bigint, messages bigint, calls bigint, database_bytes bigint, connections bigint)
language sql stable security definer
set search_path = ''
as $$
  select count(s.organization_id), coalesce(sum(s.businesses), 0)::bigint,
    (select count(distinct m.user_id) from public.business_memberships m join public.businesses b on b.id = m.business_id
     join public.organization_placements p on p.organization_id = b.organization_id and p.database_name = current_database()
     where m.status = 'active'),
    coalesce(sum(s.customers), 0)::bigint, coalesce(sum(s.conversations), 0)::bigint, coalesce(sum(s.messages), 0)::bigint, coalesce(sum(s.calls), 0)::bigint,
    pg_database_size(current_database()),
    (select count(*) from pg_catalog.pg_stat_activity a where a.datname = current_database() and a.backend_type = 'client backend')
  from private.tenant_statistics() s
$$;
comment on function private.system_statistics() is 'One row: all tenants at home in this database together. A user in two organizations counts once.';

create function private.database_sizes()
returns table (database_name name, kind text, organization_id uuid, size_bytes bigint, connections bigint)
language sql stable security definer
set search_path = ''
as $$
  select d.datname,
    case when d.datname ~ '^tenantry_[0-9a-f]{32}$' or p.isolation = 'database' then 'tenant'
         when d.datname = current_database() then 'this' when p.database_name is not null then 'home' else 'other' end,
    case when p.isolation = 'database' then p.organization_id end,
    -- Where this role may neither connect nor read statistics, the size is not told.
    case when has_database_privilege(d.oid, 'connect') or pg_has_role('pg_read_all_stats', 'usage') then pg_database_size(d.oid) end,
    (select count(*) from pg_catalog.pg_stat_activity a where a.datid = d.oid and a.backend_type = 'client backend')
  from pg_catalog.pg_database d
  left join lateral (select * from public.organization_placements o where o.database_name = d.datname order by o.isolation = 'database' desc limit 1) p on true
  where not d.datistemplate
  order by 4 desc nulls last, 1
$$;
comment on function private.database_sizes() is
  'Every database of the cluster: size and connections. kind: this, tenant (one organization''s own), home (tenants are at home there), other.';

-- Growth ------------------------------------------------------------------------------------------

create table private.capacity_samples (
  taken_on date not null,
  organization_id uuid not null references public.organizations on delete cascade,
  schema_name name not null,
  size_bytes bigint not null,
  row_count bigint not null,
  primary key (organization_id, taken_on)
);
comment on table private.capacity_samples is 'Size and rows of every tenant at home here, once a day: what growth is reckoned from.';
comment on column private.capacity_samples.row_count is 'Customers, conversations, messages and calls together.';
alter table private.capacity_samples enable row level security;
alter table private.capacity_samples force row level security;

create function private.tenant_growth(days integer default 30)
returns table (organization_id uuid, organization_slug text, since date, size_bytes bigint, growth_bytes bigint, growth_rows bigint, growth_percent numeric, bytes_in_a_year bigint)
language sql stable security definer
set search_path = ''
as $$
  select o.id, o.slug::text, f.taken_on, l.size_bytes, l.size_bytes - f.size_bytes, l.row_count - f.row_count,
    round(100.0 * (l.size_bytes - f.size_bytes) / nullif(f.size_bytes, 0), 1),
    l.size_bytes + (l.size_bytes - f.size_bytes) * 365 / nullif(l.taken_on - f.taken_on, 0)
  from public.organizations o
  join lateral (select * from private.capacity_samples c where c.organization_id = o.id order by c.taken_on desc limit 1) l on true
  join lateral (select * from private.capacity_samples c where c.organization_id = o.id and c.taken_on >= l.taken_on - days order by c.taken_on limit 1) f on true
  order by 5 desc, 2
$$;
comment on function private.tenant_growth(integer) is
  'How each tenant grew over so many days, or since the first sample within them, and its size a year on at that pace (null with one sample).';

-- Benchmarks --------------------------------------------------------------------------------------

create table private.performance_benchmarks (
  id uuid primary key default private.new_id(),
  run_id uuid not null,
  name name not null,
  role name not null,
  with_rls boolean not null,
  schema_name name not null,
  row_count bigint not null,
  executions integer not null,
  p50_ms numeric(12, 3) not null,
  p95_ms numeric(12, 3) not null,
  plan_hash text not null,
  server_version text not null,
  taken_at timestamptz not null default now(),
  constraint performance_benchmarks_once unique (run_id, name, with_rls),
  constraint performance_benchmarks_times check (0 <= p50_ms and p50_ms <= p95_ms)
);
comment on table private.performance_benchmarks is 'How long each named query took when `tenantry monitor benchmark` ran it: as a member under row security and as the owner past it.';
comment on column private.performance_benchmarks.run_id is 'The run: all queries of it were measured in turn, so their ratios mean more than their times.';
comment on column private.performance_benchmarks.row_count is 'Rows of the table it reads, of all tenants in it.';
comment on column private.performance_benchmarks.plan_hash is 'Fingerprint of the shape of the plan: nodes, tables and indexes, no costs or values.';
create index performance_benchmarks_taken_at_idx on private.performance_benchmarks (taken_at);
alter table private.performance_benchmarks enable row level security;
alter table private.performance_benchmarks force row level security;
