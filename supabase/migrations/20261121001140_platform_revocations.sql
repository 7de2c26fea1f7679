/*
 * What was taken away in the registry, so that a backup from before does not bring it back: members and their roles,
 * single permissions, API keys, invitations, provider connections, domains.
 *
 * `tenantry backup` copies these rows into a log beside the archives, and `tenantry restore` goes by both.
 */
create table private.revocations (
  id uuid primary key default private.new_id(),
  resource text not null,
  row_key jsonb not null,
  outcome text not null,
  revoked_at timestamptz not null default clock_timestamp()
);
comment on table private.revocations is
  'In the main database: rights and keys that were taken away, and those given again. Append-only, without personal data. Nothing of a business that is removed as a whole is noted: restoring it is what its archive is for.';
comment on column private.revocations.resource is 'Table, with its schema.';
comment on column private.revocations.row_key is 'The primary key of the row.';
comment on column private.revocations.outcome is 'deleted; granted (again, after it was deleted); or the status that the row got: revoked, removed, suspended, active, accepted, expired, pending, disabled.';
create index revocations_row_idx on private.revocations (resource, row_key, revoked_at);
alter table private.revocations enable row level security;
alter table private.revocations force row level security;
create function private.tg_revocations_stay() returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  perform private.fail('42501', 'What was revoked stays noted.', null, 'append_only', 'Give the right again instead.');
  return null;
end $$;
comment on function private.tg_revocations_stay() is 'Makes private.revocations append-only for every role.';
create trigger _020_append_only before update or delete or truncate on private.revocations
  for each statement execute function private.tg_revocations_stay();

create function private.tg_revocation() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  v_table text := tg_table_schema || '.' || tg_table_name;
  v_row jsonb := to_jsonb(coalesce(new, old));
  v_key jsonb := (select jsonb_object_agg(a, v_row -> a) from unnest(tg_argv) a);
  v_outcome text;
begin
  if tg_op = 'DELETE' then
    -- The parts of a business, an organization or a role that goes as a whole are not taken away from anybody.
    if v_row ? 'business_id' and not exists (select 1 from public.businesses b where b.id = (v_row ->> 'business_id')::uuid)
       or v_row ? 'organization_id' and not exists (select 1 from public.organizations o where o.id = (v_row ->> 'organization_id')::uuid)
       or v_row ? 'role_id' and not v_row ? 'business_id' and not exists (select 1 from public.roles r where r.id = (v_row ->> 'role_id')::uuid) then
      return null;
    end if;
    v_outcome := 'deleted';
  elsif tg_op = 'INSERT' then
    if not exists (select 1 from private.revocations r where r.resource = v_table and r.row_key = v_key) then return null; end if;
    v_outcome := 'granted';
  else
    v_outcome := case tg_table_name
      when 'api_keys' then 'revoked'
      when 'provider_connections' then case when (v_row ->> 'is_active')::boolean then 'granted' else 'disabled' end
      else v_row ->> 'status' end;
  end if;
  insert into private.revocations (resource, row_key, outcome) values (v_table, v_key, v_outcome);
  return null;
end $$;
comment on function private.tg_revocation() is 'Notes that a right or key was taken away, or given again. Arguments: the columns of the primary key.';

do $$
declare
  r record;
  v_key text;
begin
  for r in select * from (values
    ('public.business_memberships', 'update of status', 'old.status is distinct from new.status'),
    ('public.organization_memberships', 'update of status', 'old.status is distinct from new.status'),
    ('public.invitations', 'update of status', 'old.status is distinct from new.status'),
    ('public.api_keys', 'update of revoked_at', 'new.revoked_at is not null and old.revoked_at is null'),
    ('public.provider_connections', 'update of is_active', 'old.is_active is distinct from new.is_active'),
    ('public.membership_roles', null, null), ('public.department_roles', null, null), ('public.user_permissions', null, null),
    ('public.roles', null, null), ('public.role_permissions', null, null), ('public.role_hierarchies', null, null),
    ('public.business_domains', null, null)) v(target, change, condition)
  loop
    select string_agg(quote_literal(a.attname), ', ' order by k.place) into v_key
    from pg_catalog.pg_index i cross join unnest(i.indkey) with ordinality k(attnum, place)
    join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where i.indrelid = r.target::regclass and i.indisprimary and k.place <= i.indnkeyatts;
    execute format('create trigger _940_revocation after insert or delete on %s for each row execute function private.tg_revocation(%s)', r.target, v_key);
    if r.change is not null then
      execute format('create trigger _941_revocation after %s on %s for each row when (%s) execute function private.tg_revocation(%s)',
        r.change, r.target, r.condition, v_key);
    end if;
  end loop;
end $$;

-- Access lists are kept and saved with the records they name, so what is taken away there is noted there (see the
-- next file): it moves along.
create function private.tg_unshared() returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  v_schema text := (select d.schema_name from private.business_directory d
    where d.business_id = old.business_id and d.database_name = current_database()
      and exists (select 1 from public.businesses b where b.id = old.business_id));
begin
  -- A home that was not made yet, or was lost, keeps no records either.
  if to_regclass(quote_ident(v_schema) || '.erasures') is not null then
    execute format('insert into %I.erasures (business_id, resource, resource_id) values ($1, $2, $3) on conflict do nothing', v_schema)
    using old.business_id, tg_table_name, old.id;
  end if;
  return null;
end $$;
comment on function private.tg_unshared() is 'Notes that an access list was removed, at the home of its record.';
create trigger _940_unshared after delete on public.access_control_lists for each row execute function private.tg_unshared();
