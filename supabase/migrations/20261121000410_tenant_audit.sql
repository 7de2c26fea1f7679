select set_config('search_path', current_schema() || ', extensions, pg_temp', true);
/*
 * What happened: the audit log and the history of states. Both are append-only for every role.
 *
 * The audit log is a row-level diff, written by a trigger in the transaction of the change, partitioned
 * by month. Events (calls, messages) are not audited when they are inserted: the row is its own record.
 * Personal columns appear as masked: the log must not become a second copy of people's data.
 */
create table audit_logs (
  business_id uuid not null,
  id uuid not null default private.new_id(),
  occurred_at timestamptz not null default now(),
  actor_id uuid,
  actor_role text not null,
  event_type text not null,
  resource text not null,
  resource_id uuid,
  before jsonb,
  after jsonb,
  request_id text,
  primary key (business_id, occurred_at, id),
  constraint audit_logs_event_type check (event_type in ('insert', 'update', 'delete'))
) partition by range (occurred_at);
comment on table audit_logs is 'Who changed what and when. Append-only for every role; monthly partitions.';
comment on column audit_logs.actor_id is 'The signed-in user, or the API key; null for webhooks, jobs and migrations.';
comment on column audit_logs.actor_role is 'Database role that acted: authenticated, service_role, integrator, postgres.';
comment on column audit_logs.resource is 'Table.';
comment on column audit_logs.before is 'Old values of the changed columns; personal ones masked.';
comment on column audit_logs.after is 'New values of the changed columns; personal ones masked.';
create index audit_logs_resource_idx on audit_logs (business_id, resource, resource_id, occurred_at desc);
call private.protect('audit_logs', reads => 'audit.read', guard => false);
call private.append_only('audit_logs');

create function ensure_audit_partitions(months_ahead integer default 3) returns integer
language plpgsql security definer
set search_path from current
as $$
declare
  v_month timestamptz;
  v_name text;
  v_made integer := 0;
begin
  for i in -1 .. months_ahead loop
    v_month := date_trunc('month', now() at time zone 'UTC') at time zone 'UTC';
    v_month := (v_month at time zone 'UTC' + make_interval(months => i)) at time zone 'UTC';
    v_name := 'audit_logs_' || to_char(v_month at time zone 'UTC', 'YYYY_MM');
    if to_regclass(format('%I.%I', current_schema(), v_name)) is null then
      execute format('create table %I partition of audit_logs for values from (%L) to (%L)', v_name, v_month,
        (v_month at time zone 'UTC' + interval '1 month') at time zone 'UTC');
      execute format('alter table %I enable row level security', v_name);
      execute format('alter table %I force row level security', v_name);
      execute format('revoke all on %I from public, anon, authenticated, service_role', v_name);
      v_made := v_made + 1;
    end if;
  end loop;
  return v_made;
end $$;
comment on function ensure_audit_partitions(integer) is 'Makes the monthly partitions of audit_logs up to so many months ahead. Run by maintenance; rows of a month without one go to the default partition.';

-- A month that nobody prepared still has a place: an audit row is never lost.
create table audit_logs_default partition of audit_logs default;
alter table audit_logs_default enable row level security;
alter table audit_logs_default force row level security;
revoke all on audit_logs_default from public, anon, authenticated, service_role;
select ensure_audit_partitions();

create function tg_audit() returns trigger
language plpgsql security definer
set search_path from current
as $$
declare
  -- Arguments: the column that holds the business, then the personal columns to mask.
  v_old jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
  v_new jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
  v_row jsonb := coalesce(v_new, v_old);
  v_business uuid := (v_row ->> tg_argv[0])::uuid;
  v_before jsonb;
  v_after jsonb;
  v_key text;
begin
  if tg_argv[0] = 'role_id' then   -- what a role may do belongs to whose role it is
    select r.business_id into v_business from public.roles r where r.id = (v_row ->> 'role_id')::uuid;
  end if;
  if v_business is null then return null; end if;   -- a system role, changed by a migration
  if tg_op = 'UPDATE' then
    select jsonb_object_agg(e.key, v_old -> e.key), jsonb_object_agg(e.key, e.value) into v_before, v_after
    from jsonb_each(v_new) e
    where e.key not in ('updated_at', 'updated_by', 'last_used_at', 'shared_id') and v_old -> e.key is distinct from e.value;
    if v_after is null then return null; end if;
  else
    v_before := v_old;
    v_after := v_new;
  end if;
  for i in 1 .. tg_nargs - 1 loop
    v_key := tg_argv[i];
    if jsonb_typeof(v_before -> v_key) <> 'null' then v_before := jsonb_set(v_before, array[v_key], '"[masked]"'); end if;
    if jsonb_typeof(v_after -> v_key) <> 'null' then v_after := jsonb_set(v_after, array[v_key], '"[masked]"'); end if;
  end loop;
  insert into audit_logs (business_id, actor_id, actor_role, event_type, resource, resource_id, before, after, request_id)
  values (v_business, private.current_user_id(),
          case when current_setting('role') = 'none' then session_user::text else current_setting('role') end,
          lower(tg_op), tg_table_name, (v_row ->> 'id')::uuid, v_before, v_after, private.current_request_id());
  return null;
end $$;
comment on function tg_audit() is 'Writes one audit row per changed row. Arguments: the business column, then columns to mask.';

create procedure audit(target regclass, masked_columns text[] default '{}', on_insert boolean default true, business_column text default 'business_id')
language plpgsql
set search_path from current
as $$
declare
  v_arguments text;
begin
  select string_agg(quote_literal(a), ', ') into v_arguments from unnest(business_column || masked_columns) a;
  execute format('create trigger _900_audit after %s delete on %s for each row execute function tg_audit(%s)',
    case when on_insert then 'insert or' else '' end, target, v_arguments);
  execute format('create trigger _900_audit_update after update on %s for each row when (old.* is distinct from new.*) execute function tg_audit(%s)',
    target, v_arguments);
end $$;
comment on procedure audit(regclass, text[], boolean, text) is 'Has every change of a table written to audit_logs.';

-- status_history -------------------------------------------------------------------------------------

create table status_history (
  business_id uuid not null,
  id uuid not null default private.new_id(),
  table_name text not null,
  row_id uuid not null,
  machine text not null,
  from_status text,
  to_status text not null,
  actor_id uuid,
  reason text,
  occurred_at timestamptz not null default now(),
  primary key (business_id, id),
  constraint status_history_business_fkey foreign key (business_id) references public.businesses on delete cascade,
  constraint status_history_reason_length check (char_length(reason) <= 1000)
);
comment on table status_history is 'Every change of a status, with who and when. Append-only.';
comment on column status_history.reason is '@personal free_text';
create index status_history_row_idx on status_history (business_id, table_name, row_id, occurred_at desc);
-- For auditors: it tells of records that others may not reach.
call private.protect('status_history', reads => 'audit.read', guard => false);
call private.append_only('status_history');

create function tg_status_history() returns trigger
language plpgsql security definer
set search_path from current
as $$
begin
  insert into status_history (business_id, table_name, row_id, machine, from_status, to_status, actor_id)
  values (new.business_id, tg_table_name, new.id, tg_table_name || '.status', old.status, new.status, private.current_user_id());
  return null;
end $$;
comment on function tg_status_history() is 'Records a change of status.';

create procedure track_status(target regclass)
language plpgsql
set search_path from current
as $$
begin
  call private.guard_status(target, 'status');
  execute format('create trigger _800_status_history after update of status on %s for each row when (old.status is distinct from new.status) execute function tg_status_history()', target);
end $$;
comment on procedure track_status(regclass) is 'Binds the status column of a table to its machine and records its changes.';
