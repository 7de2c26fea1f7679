select set_config('search_path', current_schema() || ', extensions, pg_temp', true);
/*
 * Daily metrics, exact at every commit.
 *
 * Each source table says in one function what a row is worth; the same function feeds the triggers, the
 * drift view and the rebuild, so they cannot disagree. Statement triggers add the difference into one of
 * 16 slots, so that concurrent writers of a busy business do not wait for one row. The day is stamped on
 * the source row in the time zone of the business, so a later change corrects the day that it changed.
 */
create table daily_metric_slots (
  business_id uuid not null,
  metric_date date not null,
  metric text not null,
  channel_id uuid not null default '00000000-0000-0000-0000-000000000000',
  membership_id uuid not null default '00000000-0000-0000-0000-000000000000',
  slot smallint not null,
  value bigint not null default 0,
  primary key (business_id, metric_date, metric, channel_id, membership_id, slot),
  constraint daily_metric_slots_business_fkey foreign key (business_id) references public.businesses on delete cascade
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);
comment on table daily_metric_slots is 'Parts of the daily metrics; daily_metrics adds them up. 16 slots a day, chosen by connection, so writers do not wait for each other.';
comment on column daily_metric_slots.channel_id is 'Channel the value belongs to; the zero uuid for none.';
comment on column daily_metric_slots.membership_id is 'Member the value belongs to; the zero uuid for none.';
call private.protect('daily_metric_slots', reads => 'metrics.read', guard => false);

-- What a row is worth ------------------------------------------------------------------------------------

create function customer_metrics(c customers) returns table (metric text, channel_id uuid, membership_id uuid, value bigint)
language sql immutable
begin atomic
  -- Every column has a name, or a dump prints it otherwise than this does.
  select 'new_customers'::text as metric, null::uuid as channel_id, (c).owner_membership_id as membership_id, 1::bigint as value;
end;
comment on function customer_metrics(customers) is 'new_customers: 1.';

create function conversation_metrics(c conversations) returns table (metric text, channel_id uuid, membership_id uuid, value bigint)
language sql immutable
begin atomic
  select 'conversations_opened'::text as metric, (c).channel_id as channel_id, null::uuid as membership_id, 1::bigint as value;
end;
comment on function conversation_metrics(conversations) is 'conversations_opened: 1.';

create function message_metrics(m messages) returns table (metric text, channel_id uuid, membership_id uuid, value bigint)
language sql immutable
begin atomic
  select v.metric, (m).channel_id, (m).sender_membership_id, v.value
  from (values
    ('messages_inbound', ((m).direction = 'inbound')::integer::bigint),
    ('messages_outbound', ((m).direction = 'outbound')::integer::bigint),
    ('messages_failed', ((m).direction = 'outbound' and (m).read_at is null and (m).delivered_at is null and (m).failed_at is not null)::integer::bigint)
  ) as v(metric, value)
  where v.value <> 0;
end;
comment on function message_metrics(messages) is 'messages_inbound, messages_outbound, messages_failed.';

create function call_metrics(c calls) returns table (metric text, channel_id uuid, membership_id uuid, value bigint)
language sql immutable
begin atomic
  select v.metric, (c).channel_id, (c).handled_by_membership_id, v.value
  from (values
    ('calls_inbound', ((c).direction = 'inbound')::integer::bigint),
    ('calls_outbound', ((c).direction = 'outbound')::integer::bigint),
    ('calls_answered', ((c).answered_at is not null)::integer::bigint),
    ('calls_missed', ((c).direction = 'inbound' and (c).answered_at is null
      and (c).status in ('busy', 'no_answer', 'canceled', 'failed', 'voicemail', 'completed'))::integer::bigint),
    ('call_seconds', coalesce((c).duration_seconds, 0)::bigint)
  ) as v(metric, value)
  where v.value <> 0;
end;
comment on function call_metrics(calls) is 'calls_inbound, calls_outbound, calls_answered, calls_missed (inbound, ended unanswered), call_seconds.';

-- The triggers --------------------------------------------------------------------------------------------

create procedure meter(source text, worth text)
language plpgsql
set search_path from current
as $procedure$
declare
  v_upsert text := $sql$
    insert into daily_metric_slots as s (business_id, metric_date, metric, channel_id, membership_id, slot, value)
    select r.business_id, r.metric_date, w.metric, coalesce(w.channel_id, '00000000-0000-0000-0000-000000000000'),
      coalesce(w.membership_id, '00000000-0000-0000-0000-000000000000'), (pg_backend_pid() %% 16)::smallint, sum(%s)
    from %s cross join lateral %I(r.row_value) w
    group by 1, 2, 3, 4, 5 having sum(%s) <> 0 order by 1, 2, 3, 4, 5
    on conflict (business_id, metric_date, metric, channel_id, membership_id, slot) do update set value = s.value + excluded.value;
  $sql$;
begin
  execute format($function$
    create function %I() returns trigger language plpgsql security definer set search_path from current as $trigger$
    begin
      if tg_op = 'INSERT' then
        %s
      elsif tg_op = 'DELETE' then
        %s
      else
        %s
      end if;
      return null;
    end $trigger$;
  $function$, 'tg_' || source || '_metrics',
    format(v_upsert, 'w.value', format('(select n.business_id, n.metric_date, n::%I as row_value from new_rows n) r', source), worth, 'w.value'),
    -- Rows that go with their whole business leave no metrics behind.
    format(v_upsert, '-w.value', format('(select o.business_id, o.metric_date, o::%I as row_value from old_rows o
      where exists (select 1 from public.businesses b where b.id = o.business_id)) r', source), worth, '-w.value'),
    format(v_upsert, 'r.sign * w.value', format('(select 1 as sign, n.business_id, n.metric_date, n::%1$I as row_value from new_rows n
      union all select -1, o.business_id, o.metric_date, o::%1$I from old_rows o) r', source), worth, 'r.sign * w.value'));
  execute format('comment on function %I() is %L', 'tg_' || source || '_metrics', 'Adds the metrics of changed ' || source || ' to their day.');
  execute format('create trigger _600_metrics_insert after insert on %I referencing new table as new_rows for each statement execute function %I()', source, 'tg_' || source || '_metrics');
  execute format('create trigger _600_metrics_update after update on %I referencing old table as old_rows new table as new_rows for each statement execute function %I()', source, 'tg_' || source || '_metrics');
  execute format('create trigger _600_metrics_delete after delete on %I referencing old table as old_rows for each statement execute function %I()', source, 'tg_' || source || '_metrics');
end $procedure$;
comment on procedure meter(text, text) is 'Has a table feed the daily metrics by the function that says what a row is worth.';

call meter('customers', 'customer_metrics');
call meter('conversations', 'conversation_metrics');
call meter('messages', 'message_metrics');
call meter('calls', 'call_metrics');

-- Truth, drift, rebuild ------------------------------------------------------------------------------------

create function metric_differences(business_ids uuid[])
returns table (business_id uuid, metric_date date, metric text, channel_id uuid, membership_id uuid, expected bigint, kept bigint)
language sql stable security definer
set search_path from current
as $$
  with truth as (
    select r.business_id, r.metric_date, w.metric, coalesce(w.channel_id, '00000000-0000-0000-0000-000000000000') as channel_id,
      coalesce(w.membership_id, '00000000-0000-0000-0000-000000000000') as membership_id, sum(w.value) as value
    from (
      select c.business_id, c.metric_date, m.* from customers c cross join lateral customer_metrics(c) m where c.business_id = any (metric_differences.business_ids)
      union all
      select c.business_id, c.metric_date, m.* from conversations c cross join lateral conversation_metrics(c) m where c.business_id = any (metric_differences.business_ids)
      union all
      select c.business_id, c.metric_date, m.* from messages c cross join lateral message_metrics(c) m where c.business_id = any (metric_differences.business_ids)
      union all
      select c.business_id, c.metric_date, m.* from calls c cross join lateral call_metrics(c) m where c.business_id = any (metric_differences.business_ids)
    ) r(business_id, metric_date, metric, channel_id, membership_id, value)
    cross join lateral (select r.metric, r.channel_id, r.membership_id, r.value) w
    group by 1, 2, 3, 4, 5
  ), kept as (
    select s.business_id, s.metric_date, s.metric, s.channel_id, s.membership_id, sum(s.value) as value
    from daily_metric_slots s where s.business_id = any (metric_differences.business_ids) group by 1, 2, 3, 4, 5
  )
  select business_id, metric_date, metric, channel_id, membership_id, coalesce(t.value, 0)::bigint, coalesce(k.value, 0)::bigint
  from truth t full join kept k using (business_id, metric_date, metric, channel_id, membership_id)
  where coalesce(t.value, 0) <> coalesce(k.value, 0)
$$;
comment on function metric_differences(uuid[]) is 'Where the kept daily metrics differ from recomputation, in one snapshot. Empty, always.';

create function my_metric_differences() returns table (business_id uuid, metric_date date, metric text, expected bigint, kept bigint)
language plpgsql stable security definer
set search_path from current
as $$
begin
  return query
  select d.business_id, d.metric_date, d.metric, d.expected, d.kept
  from metric_differences(case when private.is_trusted_caller()
    then array(select b.business_id from private.business_directory b where b.database_name = current_database() and b.schema_name = current_schema())
    else my_business_ids('metrics.read') end) d;
end $$;
comment on function my_metric_differences() is 'Differences between kept and recomputed metrics in the caller''s businesses.';

create view metric_drift with (security_invoker = true) as
select d.business_id, d.metric_date, d.metric, d.expected, d.kept from my_metric_differences() d;
comment on view metric_drift is 'Days whose kept metrics differ from recomputation. Must be empty; recomputes everything, so ask rarely.';

create function recompute_metrics(business_id uuid) returns integer
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
declare
  v_home private.business_directory := require_business(recompute_metrics.business_id, 'business.write');
  v_changed integer;
begin
  if not v_home.is_writable then   -- the slots have no guard of their own
    perform private.fail('PT409', 'This business is being moved.', 'business_id', 'not_home', 'Retry when the move is over.');
  end if;
  perform pg_advisory_xact_lock(hashtextextended('recompute_metrics:' || recompute_metrics.business_id::text, 0));
  -- Adds the difference seen in one snapshot: commutes with live writes, so nothing needs to stop.
  insert into daily_metric_slots as s (business_id, metric_date, metric, channel_id, membership_id, slot, value)
  select d.business_id, d.metric_date, d.metric, d.channel_id, d.membership_id, 0, d.expected - d.kept
  from metric_differences(array[recompute_metrics.business_id]) d order by 1, 2, 3, 4, 5
  on conflict (business_id, metric_date, metric, channel_id, membership_id, slot) do update set value = s.value + excluded.value;
  get diagnostics v_changed = row_count;
  return v_changed;
end $$;
comment on function recompute_metrics(uuid) is 'Repairs the daily metrics of a business from its rows while it works; returns how many figures changed. Needs business.write.';

create function compact_metrics(before date default current_date - 2) returns void
language sql security definer
set search_path from current
as $$
  with gone as (
    delete from daily_metric_slots s where s.metric_date < compact_metrics.before and s.slot <> 0 returning *
  ), total as (
    select business_id, metric_date, metric, channel_id, membership_id, sum(value) as value from gone group by 1, 2, 3, 4, 5
  )
  insert into daily_metric_slots as s (business_id, metric_date, metric, channel_id, membership_id, slot, value)
  select business_id, metric_date, metric, channel_id, membership_id, 0, value from total order by 1, 2, 3, 4, 5
  on conflict (business_id, metric_date, metric, channel_id, membership_id, slot) do update set value = s.value + excluded.value
$$;
comment on function compact_metrics(date) is 'Folds the slots of past days into one. For maintenance; metrics stay the same.';

create function restamp_metric_dates(business_id uuid, timezone text) returns void
language plpgsql security definer
set search_path from current
as $$
#variable_conflict use_column
begin
  update customers r set metric_date = (r.created_at at time zone restamp_metric_dates.timezone)::date
  where r.business_id = restamp_metric_dates.business_id and r.metric_date <> (r.created_at at time zone restamp_metric_dates.timezone)::date;
  update conversations r set metric_date = (r.opened_at at time zone restamp_metric_dates.timezone)::date
  where r.business_id = restamp_metric_dates.business_id and r.metric_date <> (r.opened_at at time zone restamp_metric_dates.timezone)::date;
  update messages r set metric_date = (r.occurred_at at time zone restamp_metric_dates.timezone)::date
  where r.business_id = restamp_metric_dates.business_id and r.metric_date <> (r.occurred_at at time zone restamp_metric_dates.timezone)::date;
  update calls r set metric_date = (r.started_at at time zone restamp_metric_dates.timezone)::date
  where r.business_id = restamp_metric_dates.business_id and r.metric_date <> (r.started_at at time zone restamp_metric_dates.timezone)::date;
end $$;
comment on function restamp_metric_dates(uuid, text) is 'Moves rows to their local day in a new time zone; the metrics follow.';

grant execute on function my_metric_differences(), recompute_metrics(uuid) to authenticated, service_role;
