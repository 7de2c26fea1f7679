/*
 * Work that has to be done in time. What runs inside a transaction is a function here; vacuum, analyze and
 * reindex run outside one, so `tenantry maintenance run` (or a worker of the fleet) executes those.
 *
 * A task is due once per day, week or month (UTC) until it has succeeded, so that a day the server was down
 * is made up for as soon as it is back. A failed task is tried again after an hour.
 */
create table private.maintenance_tasks (
  task name primary key,
  schedule text not null,
  runs_in text not null,
  description text not null,
  is_enabled boolean not null default true,
  constraint maintenance_tasks_schedule check (schedule in ('minutely', 'daily', 'weekly', 'monthly')),
  constraint maintenance_tasks_runs_in check (runs_in in ('database', 'runner'))
);
comment on table private.maintenance_tasks is 'What is done regularly in this database. An operator may disable a task; others are added by migrations.';
comment on column private.maintenance_tasks.runs_in is 'database: run_maintenance_task() does it, from anywhere. runner: needs statements outside a transaction, which the runner executes.';
alter table private.maintenance_tasks enable row level security;
alter table private.maintenance_tasks force row level security;

insert into private.maintenance_tasks (task, schedule, runs_in, description) values
  ('sample_query_statistics', 'minutely', 'database', 'Adds what statements did since the last sample to the query log'),
  ('vacuum_tables', 'daily', 'runner', 'VACUUM ANALYZE of tables that changed'),
  ('report_long_queries', 'daily', 'database', 'Lists transactions open for longer than five minutes'),
  ('report_connections', 'daily', 'database', 'Connections of each database, and of the limit'),
  ('delete_expired_idempotency_keys', 'daily', 'database', 'Deletes idempotency keys older than seven days, in every tenant schema'),
  ('refresh_expired_access', 'daily', 'database', 'Refreshes the access of people whose rights ran out'),
  ('delete_old_query_samples', 'daily', 'database', 'Deletes query samples older than 30 days and maintenance runs older than 400'),
  ('create_audit_partitions', 'daily', 'database', 'Makes the partitions of the audit log three months ahead, in every tenant schema'),
  ('sample_capacity', 'daily', 'database', 'Records size and rows of every tenant'),
  ('reindex_indexes', 'weekly', 'runner', 'Rebuilds indexes that are mostly air, while others write'),
  ('analyze_tables', 'weekly', 'runner', 'ANALYZE of tables that changed since the last time'),
  ('expire_invitations', 'weekly', 'database', 'Marks invitations that ran out and deletes their tokens'),
  ('analyze_database', 'monthly', 'runner', 'ANALYZE of every table'),
  ('review_slow_queries', 'monthly', 'database', 'Lists the statements that took most time'),
  ('report_capacity', 'monthly', 'database', 'Lists how tenants grew');

create table private.maintenance_runs (
  id uuid primary key default private.new_id(),
  task name not null references private.maintenance_tasks on delete cascade,
  started_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz,
  result jsonb,
  error text,
  constraint maintenance_runs_period check (finished_at >= started_at)
);
comment on table private.maintenance_runs is 'Every run of a task; of minutely ones the last and those that failed.';
comment on column private.maintenance_runs.finished_at is 'Null while it runs, and for ever where its runner died.';
comment on column private.maintenance_runs.error is 'Null: it succeeded.';
create index maintenance_runs_task_idx on private.maintenance_runs (task, started_at desc);
alter table private.maintenance_runs enable row level security;
alter table private.maintenance_runs force row level security;

create function private.maintenance_status()
returns table (task name, schedule text, runs_in text, is_enabled boolean, is_due boolean, last_started_at timestamptz, duration_ms bigint, result jsonb, error text, last_success_at timestamptz)
language sql stable
set search_path = ''
as $$
  select t.task, t.schedule, t.runs_in, t.is_enabled,
    t.is_enabled
      and coalesce(s.started_at < case t.schedule
        when 'minutely' then date_trunc('minute', now())
        when 'daily' then date_trunc('day', now() at time zone 'UTC') at time zone 'UTC'
        when 'weekly' then date_trunc('week', now() at time zone 'UTC') at time zone 'UTC'
        else date_trunc('month', now() at time zone 'UTC') at time zone 'UTC' end, true)
      and (t.schedule = 'minutely' or l.error is null or l.started_at < now() - interval '1 hour'),
    l.started_at, (extract(epoch from l.finished_at - l.started_at) * 1000)::bigint, l.result, l.error, s.started_at
  from private.maintenance_tasks t
  left join lateral (select * from private.maintenance_runs r where r.task = t.task order by r.started_at desc limit 1) l on true
  left join lateral (select r.started_at from private.maintenance_runs r
                     where r.task = t.task and r.finished_at is not null and r.error is null order by r.started_at desc limit 1) s on true
  order by array_position(array['minutely', 'daily', 'weekly', 'monthly'], t.schedule), t.task
$$;
comment on function private.maintenance_status() is
  'Every task with its last run and whether it is due: not yet succeeded in this minute, day, week (from Monday) or month, UTC, and no failure within the hour.';

create function private.record_maintenance(task name, started_at timestamptz, result jsonb, error text) returns void
language plpgsql
set search_path = ''
as $$
begin
  if exists (select from private.maintenance_tasks t where t.task = record_maintenance.task and t.schedule = 'minutely') then
    delete from private.maintenance_runs r where r.task = record_maintenance.task and r.error is null;
  end if;
  insert into private.maintenance_runs (task, started_at, finished_at, result, error)
  values (record_maintenance.task, record_maintenance.started_at, clock_timestamp(), record_maintenance.result, record_maintenance.error);
end $$;
comment on function private.record_maintenance(name, timestamptz, jsonb, text) is 'Notes a finished run of a task.';

-- Tasks -------------------------------------------------------------------------------------------

create function private.delete_expired_idempotency_keys(older_than interval default '7 days') returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_schema name;
  v_deleted bigint;
  v_total bigint := 0;
begin
  for v_schema in select s from private.place_schemas() s loop
    execute format('delete from %I.idempotency_keys where created_at < now() - $1', v_schema) using older_than;
    get diagnostics v_deleted = row_count;
    v_total := v_total + v_deleted;
  end loop;
  return jsonb_build_object('deleted', v_total);
end $$;
comment on function private.delete_expired_idempotency_keys(interval) is 'Deletes old idempotency keys in every tenant schema: from then on the same key is a new request.';

create function private.create_audit_partitions() returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_schema name;
  v_made integer;
  v_total integer := 0;
begin
  for v_schema in select s from private.place_schemas() s loop
    execute format('select %I.ensure_audit_partitions()', v_schema) into v_made;
    v_total := v_total + v_made;
  end loop;
  return jsonb_build_object('created', v_total);
end $$;
comment on function private.create_audit_partitions() is 'Runs ensure_audit_partitions() of every tenant schema.';

create function private.expire_invitations() returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_expired bigint;
  v_deleted bigint;
begin
  update public.invitations i set status = 'expired' where i.status = 'pending' and i.expires_at <= now();
  get diagnostics v_expired = row_count;
  delete from private.invitation_tokens t using public.invitations i
  where (i.business_id, i.id) = (t.business_id, t.invitation_id) and (i.status <> 'pending' or i.expires_at <= now());
  get diagnostics v_deleted = row_count;
  return jsonb_build_object('expired', v_expired, 'tokens_deleted', v_deleted);
end $$;
comment on function private.expire_invitations() is 'Marks pending invitations that ran out as expired, and deletes the tokens of all that cannot be accepted any more.';

create function private.delete_old_query_samples(older_than interval default '30 days') returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_samples bigint;
  v_runs bigint;
begin
  delete from private.query_samples s where s.taken_at < now() - older_than;
  get diagnostics v_samples = row_count;
  delete from private.maintenance_runs r where r.started_at < now() - interval '400 days';
  get diagnostics v_runs = row_count;
  return jsonb_build_object('samples_deleted', v_samples, 'runs_deleted', v_runs);
end $$;
comment on function private.delete_old_query_samples(interval) is 'Retention of the query log, and of the record of maintenance itself.';

create function private.sample_capacity() returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_tenants bigint;
begin
  insert into private.capacity_samples as c (taken_on, organization_id, schema_name, size_bytes, row_count)
  select (now() at time zone 'UTC')::date, s.organization_id, s.schema_name, s.size_bytes, s.customers + s.conversations + s.messages + s.calls
  from private.tenant_statistics() s where s.organization_id is not null
  on conflict (organization_id, taken_on) do update
    set schema_name = excluded.schema_name, size_bytes = excluded.size_bytes, row_count = excluded.row_count;
  get diagnostics v_tenants = row_count;
  return jsonb_build_object('tenants', v_tenants);
end $$;
comment on function private.sample_capacity() is 'Writes today''s row of capacity_samples for every tenant at home here.';

create function private.maintain(task name) returns jsonb
language plpgsql
set search_path = ''
as $$
begin
  case task
    when 'sample_query_statistics' then return jsonb_build_object('statements', private.sample_query_statistics());
    when 'report_long_queries' then
      return jsonb_build_object('transactions', (select coalesce(jsonb_agg(to_jsonb(q)), '[]') from private.long_running_queries('5 minutes') q));
    when 'report_connections' then
      return jsonb_build_object('databases', (select jsonb_agg(to_jsonb(c)) from private.connection_usage() c));
    when 'delete_expired_idempotency_keys' then return private.delete_expired_idempotency_keys();
    when 'refresh_expired_access' then return jsonb_build_object('refreshed', private.refresh_expired_access());
    when 'delete_old_query_samples' then return private.delete_old_query_samples();
    when 'create_audit_partitions' then return private.create_audit_partitions();
    when 'sample_capacity' then return private.sample_capacity();
    when 'expire_invitations' then return private.expire_invitations();
    when 'review_slow_queries' then
      return jsonb_build_object('state', (select s.state from private.statement_statistics_state() s),
        'statements', (select coalesce(jsonb_agg(to_jsonb(q)), '[]') from (
          select v.schema_name, v.role_name, v.calls, v.mean_ms, v.max_ms, v.total_ms, v.cache_hit_ratio, left(v.query, 300) as query
          from private.v_query_performance_monitor v where v.database_name = current_database() order by v.total_ms desc limit 20) q));
    when 'report_capacity' then
      return jsonb_build_object('database_bytes', pg_database_size(current_database()),
        'tenants', (select coalesce(jsonb_agg(to_jsonb(g)), '[]') from private.tenant_growth(31) g));
  end case;
end $$;
comment on function private.maintain(name) is 'Does the work of one task of the database and returns what it found or changed. Raises what went wrong.';

create function private.run_maintenance_task(task name) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_started timestamptz := clock_timestamp();
  v_result jsonb;
  v_error text;
begin
  if not exists (select from private.maintenance_tasks t where t.task = run_maintenance_task.task and t.runs_in = 'database') then
    perform private.fail('22023', format('%s is no task that the database runs itself.', coalesce(run_maintenance_task.task, 'null')), 'task', 'no_such_task',
      'See private.maintenance_status(): those with runs_in = runner need `tenantry maintenance run`.');
  end if;
  -- A failure is recorded, so it must not take the record back with it.
  begin
    v_result := private.maintain(run_maintenance_task.task);
  exception when others then
    v_error := format('%s (%s)', sqlerrm, sqlstate);
  end;
  perform private.record_maintenance(run_maintenance_task.task, v_started, v_result, v_error);
  return jsonb_strip_nulls(jsonb_build_object('task', run_maintenance_task.task, 'result', v_result, 'error', v_error));
end $$;
comment on function private.run_maintenance_task(name) is 'Runs one task of the database now, due or not, and records it. A failure is recorded and returned as error; an unknown task is refused.';

create function private.run_due_tasks() returns setof jsonb
language plpgsql
set search_path = ''
as $$
declare
  v_task name;
begin
  -- The lock of the runner: whoever comes second finds nothing to do. Not the session's, so that it ends with the call.
  if not pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended('tenantry maintenance', 0)) then
    return;
  end if;
  for v_task in select s.task from private.maintenance_status() s where s.is_due and s.runs_in = 'database' loop
    return next private.run_maintenance_task(v_task);
  end loop;
end $$;
comment on function private.run_due_tasks() is
  'Runs the tasks of the database that are due, for pg_cron; nothing while another runner works here. Tasks of the runner are left to `tenantry maintenance run`.';
