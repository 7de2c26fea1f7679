select set_config('search_path', current_schema() || ', extensions, pg_temp', true);
/*
 * Who was erased, without saying who it was: a customer that is deleted for good leaves its id here, so that a
 * backup from before does not bring the person back. The rows move and are saved with the other rows of a
 * business; `tenantry backup` also copies them into a log beside the archives.
 */
create table erasures (
  business_id uuid not null,
  resource text not null,
  resource_id uuid not null,
  erased_at timestamptz not null default clock_timestamp(),
  primary key (business_id, resource, resource_id),
  constraint erasures_business_fkey foreign key (business_id) references public.businesses on delete cascade
);
comment on table erasures is 'Ids of customers that were erased, and of access lists that were removed. A restore removes them again. Append-only.';
comment on column erasures.resource is 'The table that the row was in: customers or access_control_lists.';
comment on column erasures.resource_id is 'The row. No foreign key, because it is gone.';
call private.protect('erasures', guard => false);
call private.append_only('erasures');

create function tg_erasures() returns trigger
language plpgsql security definer
set search_path from current
as $$
begin
  -- A business that goes as a whole is not erased: its archive may bring it back.
  if exists (select 1 from public.businesses b where b.id = old.business_id) then
    insert into erasures (business_id, resource, resource_id) values (old.business_id, tg_table_name, old.id)
    on conflict on constraint erasures_pkey do nothing;
  end if;
  return null;
end $$;
comment on function tg_erasures() is 'Notes the id of a row that was erased.';
create trigger _700_erasures after delete on customers
  for each row execute function tg_erasures();
