/*
 * How long statements take, by tenant: pg_stat_statements now, and its past in query_log.
 *
 * pg_stat_statements is an extension that the server must load when it starts. Where it is missing,
 * everything here exists and is empty, and statement_statistics_state() says what to do.
 */
create function private.statement_statistics_state() returns table (state text, remedy text)
language plpgsql stable
set search_path = ''
as $$
declare
  v_schema name := (select n.nspname from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
                    where e.extname = 'pg_stat_statements');
begin
  if v_schema is null then
    return query select 'not_installed', 'As a superuser, or in the dashboard of the hosted database: create extension pg_stat_statements with schema extensions';
    return;
  end if;
  execute format('select from %I.pg_stat_statements limit 1', v_schema);
  if not pg_catalog.pg_has_role('pg_read_all_stats', 'usage') then
    return query select 'own_only', format('Statements of other roles are hidden. As a superuser: grant pg_read_all_stats to %I', current_user);
    return;
  end if;
  return query select 'ready', null;
exception
  when object_not_in_prerequisite_state then
    return query select 'not_loaded', 'Add pg_stat_statements to shared_preload_libraries and restart the server';
  when insufficient_privilege then
    return query select 'not_readable', format('As the owner of the extension: grant select on pg_stat_statements to %I', current_user);
end $$;
comment on function private.statement_statistics_state() is
  'Whether statements are counted here: ready, own_only, not_readable, not_loaded or not_installed, and what to do about it.';

create function private.statement_statistics()
returns table (database_id oid, role_id oid, query_id bigint, query text, calls bigint, total_ms double precision, mean_ms double precision,
  max_ms double precision, row_count bigint, blocks_hit bigint, blocks_read bigint)
language plpgsql stable
set search_path = ''
as $$
declare
  v_state record;
begin
  select * into v_state from private.statement_statistics_state();
  if v_state.state not in ('ready', 'own_only') then
    raise notice 'statements are not counted here (%). %', v_state.state, v_state.remedy;
    return;
  end if;
  -- One row per statement and role: nested and top-level calls of it are counted together.
  return query execute format(
    'select s.dbid, s.userid, s.queryid, min(s.query), sum(s.calls)::bigint, sum(s.total_exec_time), sum(s.total_exec_time) / greatest(sum(s.calls), 1),
       max(s.max_exec_time), sum(s.rows)::bigint, sum(s.shared_blks_hit)::bigint, sum(s.shared_blks_read)::bigint
     from %I.pg_stat_statements s where s.queryid is not null group by 1, 2, 3',
    (select n.nspname from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace where e.extname = 'pg_stat_statements'));
end $$;
comment on function private.statement_statistics() is
  'What pg_stat_statements has counted, for all databases of the cluster. Nothing, with a notice that says why, where it counts nothing. Times in milliseconds.';

create view private.v_query_performance_monitor with (security_invoker = true) as
select d.datname as database_name, coalesce(private.schema_of_text(s.query), 'public') as schema_name, r.rolname as role_name,
  s.query_id, s.query, s.calls, round(s.total_ms::numeric, 3) as total_ms, round(s.mean_ms::numeric, 3) as mean_ms,
  round(s.max_ms::numeric, 3) as max_ms, s.row_count,
  round(s.blocks_hit::numeric / nullif(s.blocks_hit + s.blocks_read, 0), 4) as cache_hit_ratio
from private.statement_statistics() s
left join pg_database d on d.oid = s.database_id
left join pg_roles r on r.oid = s.role_id;
comment on view private.v_query_performance_monitor is
  'Statements since the counters began, with constants taken out, by database and role. Empty where statement_statistics_state() is not ready. For operators.';
comment on column private.v_query_performance_monitor.schema_name is
  'The tenant schema that the statement names. public: it names none, so it is of a pooled tenant or of a tenant with a database of its own.';
comment on column private.v_query_performance_monitor.cache_hit_ratio is 'Share of the blocks it read that were in shared buffers; null when it read none.';

-- The log -----------------------------------------------------------------------------------------

create table private.query_counters (
  role_id oid not null,
  query_id bigint not null,
  calls bigint not null,
  total_ms numeric(20, 3) not null,
  max_ms numeric(20, 3) not null,
  row_count bigint not null,
  primary key (role_id, query_id)
) with (fillfactor = 70);
comment on table private.query_counters is 'The counters of pg_stat_statements at the last sample: what the next one is compared with.';
alter table private.query_counters enable row level security;
alter table private.query_counters force row level security;

create table private.query_sampling (
  is_only boolean primary key default true,
  sampled_at timestamptz not null,
  constraint query_sampling_is_only check (is_only)
);
comment on table private.query_sampling is 'One row: when the last sample was taken.';
alter table private.query_sampling enable row level security;
alter table private.query_sampling force row level security;

create table private.query_samples (
  id uuid primary key default private.new_id(),
  since timestamptz not null,
  taken_at timestamptz not null,
  schema_name name not null,
  role_name name,
  query_id bigint not null,
  query text not null,
  calls bigint not null,
  total_ms numeric(20, 3) not null,
  max_ms numeric(20, 3) not null,
  is_max_exact boolean not null,
  row_count bigint not null,
  constraint query_samples_calls check (calls > 0),
  constraint query_samples_period check (since <= taken_at)
);
comment on table private.query_samples is 'What each statement did between two samples of pg_stat_statements. query_log shows it by execution.';
comment on column private.query_samples.since is 'The sample before: the executions happened after it.';
comment on column private.query_samples.schema_name is
  'The tenant schema that the statement names; several where it names more than one; public where it names none: the tenants that share this database, or the one whose database it is.';
comment on column private.query_samples.query is 'Constants are taken out; at most 2,000 characters.';
comment on column private.query_samples.max_ms is 'The longest execution: exact where is_max_exact, otherwise no execution was longer.';
create index query_samples_taken_at_idx on private.query_samples (taken_at);
alter table private.query_samples enable row level security;
alter table private.query_samples force row level security;

create view private.query_log with (security_invoker = true) as
select s.schema_name,
  case when n = 1 then s.max_ms else (s.total_ms - s.max_ms) / (s.calls - 1) end as query_time,
  s.taken_at as "timestamp", s.role_name, s.query_id, s.query
from private.query_samples s cross join lateral generate_series(1, s.calls) as n;
comment on view private.query_log is
  'One row per execution, rebuilt from the samples, so that count, avg and max of query_time by schema are what they should be: number and mean are exact; of each sample one row has the longest time and the others share the rest. For operators. For long periods query_time_by_tenant() is faster.';
comment on column private.query_log.query_time is 'Milliseconds.';
comment on column private.query_log."timestamp" is 'When it was sampled: the execution happened between the sample before and this moment.';

create function private.sample_query_statistics() returns integer
language plpgsql
set search_path = ''
as $$
declare
  v_since timestamptz;
  v_sampled integer;
begin
  perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('sample_query_statistics', 0));
  select q.sampled_at into v_since from private.query_sampling q;
  with counted as materialized (
    select s.role_id, s.query_id, s.query, s.calls, round(s.total_ms::numeric, 3) as total_ms, round(s.max_ms::numeric, 3) as max_ms, s.row_count
    from private.statement_statistics() s
    where s.database_id = (select d.oid from pg_catalog.pg_database d where d.datname = current_database()) and s.calls > 0
  ), compared as (
    -- Fewer calls than before: the counters were reset, or the statement was forgotten and came back.
    select c.*, p.calls is null or c.calls < p.calls as is_new,
      case when c.calls < p.calls then 0 else coalesce(p.calls, 0) end as old_calls,
      case when c.calls < p.calls then 0 else coalesce(p.total_ms, 0) end as old_total_ms,
      case when c.calls < p.calls then 0 else coalesce(p.row_count, 0) end as old_row_count,
      coalesce(p.max_ms, 0) as old_max_ms
    from counted c left join private.query_counters p using (role_id, query_id)
  ), forgotten as (
    delete from private.query_counters q where not exists (select from counted c where (c.role_id, c.query_id) = (q.role_id, q.query_id))
  ), kept as (
    insert into private.query_counters as q (role_id, query_id, calls, total_ms, max_ms, row_count)
    select c.role_id, c.query_id, c.calls, c.total_ms, c.max_ms, c.row_count from compared c where c.is_new or c.calls <> c.old_calls
    on conflict (role_id, query_id) do update
      set calls = excluded.calls, total_ms = excluded.total_ms, max_ms = excluded.max_ms, row_count = excluded.row_count
  ), differences as (
    select c.*, c.calls - c.old_calls as new_calls, greatest(c.total_ms - c.old_total_ms, 0) as new_total_ms from compared c
  )
  insert into private.query_samples (since, taken_at, schema_name, role_name, query_id, query, calls, total_ms, max_ms, is_max_exact, row_count)
  select v_since, clock_timestamp(), coalesce(private.schema_of_text(d.query), 'public'), r.rolname, d.query_id, left(d.query, 2000),
    d.new_calls, d.new_total_ms,
    case when d.new_calls = 1 then d.new_total_ms else least(d.max_ms, d.new_total_ms) end,
    d.new_calls = 1 or d.is_new or d.max_ms > d.old_max_ms,
    d.row_count - d.old_row_count
  from differences d left join pg_catalog.pg_roles r on r.oid = d.role_id
  -- Before the first sample nobody knows when it happened.
  where v_since is not null and d.new_calls > 0;
  get diagnostics v_sampled = row_count;
  insert into private.query_sampling as q (sampled_at) values (clock_timestamp())
  on conflict (is_only) do update set sampled_at = excluded.sampled_at;
  return v_sampled;
end $$;
comment on function private.sample_query_statistics() is
  'Adds what statements of this database did since the last sample to query_samples; returns for how many. The first sample only begins the count. Run every minute by maintenance.';

create function private.query_time_by_tenant(period interval default '1 hour')
returns table (schema_name name, organization_id uuid, query_count bigint, avg_query_time_ms numeric, max_query_time_ms numeric, is_max_exact boolean)
language sql stable
set search_path = ''
as $$
  select s.schema_name,
    (select p.organization_id from public.organization_placements p
     where p.database_name = current_database() and p.schema_name = s.schema_name and p.isolation <> 'pooled'),
    sum(s.calls)::bigint, round(sum(s.total_ms) / sum(s.calls), 3), max(s.max_ms),
    (array_agg(s.is_max_exact order by s.max_ms desc))[1]
  from private.query_samples s
  where s.taken_at >= now() - query_time_by_tenant.period
  group by s.schema_name
  order by 4 desc
$$;
comment on function private.query_time_by_tenant(interval) is
  'Number, mean and longest time of statements by tenant schema in the period until now. public: all tenants that share the tables of this database, which statements do not tell apart.';
