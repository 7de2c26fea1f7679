-- What one would write first: one wide row per business and day, counted up by a row trigger.
drop trigger _600_metrics_insert on calls;
drop trigger _600_metrics_update on calls;
drop trigger _600_metrics_delete on calls;
create table bench.daily_calls (
  business_id uuid not null,
  metric_date date not null,
  calls_inbound bigint not null,
  calls_outbound bigint not null,
  calls_answered bigint not null,
  calls_missed bigint not null,
  call_seconds bigint not null,
  primary key (business_id, metric_date)
) with (fillfactor = 50);
create function bench.count_call() returns trigger language plpgsql security definer set search_path = ''
as $$
begin
  insert into bench.daily_calls as d
  values (new.business_id, new.metric_date, (new.direction = 'inbound')::int, (new.direction = 'outbound')::int,
    (new.answered_at is not null)::int, (new.direction = 'inbound' and new.answered_at is null)::int,
    coalesce(new.duration_seconds, 0))
  on conflict (business_id, metric_date) do update set
    calls_inbound = d.calls_inbound + excluded.calls_inbound,
    calls_outbound = d.calls_outbound + excluded.calls_outbound,
    calls_answered = d.calls_answered + excluded.calls_answered,
    calls_missed = d.calls_missed + excluded.calls_missed,
    call_seconds = d.call_seconds + excluded.call_seconds;
  return null;
end $$;
create trigger _600_metrics_insert after insert on calls for each row execute function bench.count_call();
