/*
 * A business that changes its time zone moves its past to the days of the new zone, wherever it lives.
 */
create function private.tg_businesses_timezone() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  v_schema text;
begin
  select d.schema_name into v_schema from private.business_directory d
  where d.business_id = new.id and d.database_name = current_database();
  if found then
    execute format('select %I.restamp_metric_dates($1, $2)', v_schema) using new.id, new.timezone;
  end if;
  return null;
end $$;
comment on function private.tg_businesses_timezone() is 'Moves the metrics of a business to the days of its new time zone.';
create trigger _800_timezone after update of timezone on public.businesses
  for each row when (old.timezone is distinct from new.timezone) execute function private.tg_businesses_timezone();
